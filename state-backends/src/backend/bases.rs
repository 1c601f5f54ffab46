//! The checkpoints that later ones may build on: what of them lies where.
//!
//! The task's thread freezes, other threads store; both come here. Which checkpoint serves as a base is not decided here:
//! whoever asks for the freeze says so, and guarantees that its files are kept. So it does not matter in which order
//! checkpoints are stored, complete or are given up, nor whether anybody is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::snapshot::Placement;

/// Of checkpoints above the base so many are remembered: those under way, and those given up that nobody speaks of.
const MAX_CANDIDATES: usize = 8;

/// A stored checkpoint.
#[derive(Clone, Debug)]
struct Stored {
    /// The number of its freeze.
    freeze: u64,
    placement: Arc<Placement>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Bases {
    stored: Arc<Mutex<BTreeMap<u64, Stored>>>,
    /// Freezes so far.
    freezes: u64,
}

impl Bases {
    /// Begins a freeze that nothing builds on, and returns its number.
    pub(super) fn freeze(&mut self) -> u64 {
        self.freezes += 1;
        self.freezes
    }

    /// Begins a freeze for `checkpoint` that builds on `base`, if that was stored by this backend.
    pub(super) fn freeze_on(&mut self, checkpoint: u64, base: Option<u64>) -> Registration {
        let freeze = self.freeze();
        let mut stored = lock(&self.stored);
        let base = base.and_then(|base| {
            *stored = stored.split_off(&base);
            stored.get(&base).cloned()
        });
        while stored.len() > MAX_CANDIDATES {
            let oldest =
                stored.keys().find(|id| base.as_ref().is_none_or(|b| b.placement.checkpoint != **id));
            let Some(oldest) = oldest.copied() else { break };
            stored.remove(&oldest);
        }
        Registration { stored: Arc::clone(&self.stored), checkpoint, freeze, base }
    }
}

/// One freeze on its way into files.
#[derive(Debug)]
pub(super) struct Registration {
    stored: Arc<Mutex<BTreeMap<u64, Stored>>>,
    checkpoint: u64,
    freeze: u64,
    base: Option<Stored>,
}

impl Registration {
    /// The number of the freeze, and that of the base.
    pub(super) fn freezes(&self) -> (u64, Option<u64>) {
        (self.freeze, self.base.as_ref().map(|base| base.freeze))
    }

    pub(super) fn checkpoint(&self) -> u64 {
        self.checkpoint
    }

    pub(super) fn base(&self) -> Option<&Placement> {
        self.base.as_ref().map(|base| &*base.placement)
    }

    /// Everything is stored: from now on the checkpoint can serve as a base.
    pub(super) fn stored(self, placement: Placement) {
        let stored = Stored { freeze: self.freeze, placement: Arc::new(placement) };
        lock(&self.stored).insert(self.checkpoint, stored);
    }
}

fn lock(stored: &Mutex<BTreeMap<u64, Stored>>) -> MutexGuard<'_, BTreeMap<u64, Stored>> {
    stored.lock().unwrap_or_else(PoisonError::into_inner)
}

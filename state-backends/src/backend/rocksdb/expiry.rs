//! Compactions leave out rows that have expired.
//!
//! Filters of RocksDB do not respect its snapshots. So what a filter may drop never moves on while an image of the
//! database is there: then whatever a compaction drops had expired before the freeze, and is not missed by the image
//! nor by a checkpoint of the files. After a restore time goes on from the freeze, so what is gone stays expired.
//!
//! A dropped row leaves a tombstone where there may be older ones. Appended operands are never dropped: elements
//! that were appended to a list whose older part has gone are the list.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rocksdb::compaction_filter::CompactionFilter;
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};
use rocksdb::{CompactionDecision, Options};

use crate::descriptor::StateKind;
use crate::ttl::Horizon;

const NAME: &CStr = c"tidegate.expired";

/// What may be dropped of one state; nothing until it is known what its values look like.
type Limit = Arc<Mutex<Option<(StateKind, Horizon)>>>;

/// What may be dropped of every state.
#[derive(Debug, Default)]
pub(super) struct Limits {
    by_state: Mutex<BTreeMap<String, Limit>>,
    /// Shared with every image.
    images: Arc<()>,
}

impl Limits {
    /// Options of the column family of a state.
    pub(super) fn options(&self, state: &str, database: &Options) -> Options {
        let mut options = database.clone();
        options.set_compaction_filter_factory(Factory(Arc::clone(
            lock(&self.by_state).entry(state.to_owned()).or_default(),
        )));
        options
    }

    /// Nothing more may be dropped while the token is there.
    pub(super) fn hold(&self) -> Arc<()> {
        Arc::clone(&self.images)
    }

    /// Lets compactions that start from now on drop what has expired, unless there is an image. On the thread that
    /// freezes.
    pub(super) fn move_to(&self, state: &str, kind: StateKind, horizon: Horizon) {
        if Arc::strong_count(&self.images) == 1
            && let Some(limit) = lock(&self.by_state).get(state)
        {
            *lock(limit) = Some((kind, horizon));
        }
    }
}

struct Factory(Limit);

impl CompactionFilterFactory for Factory {
    type Filter = Filter;

    fn create(&mut self, _: CompactionFilterContext) -> Filter {
        Filter(*lock(&self.0))
    }

    fn name(&self) -> &CStr {
        NAME
    }
}

struct Filter(Option<(StateKind, Horizon)>);

impl CompactionFilter for Filter {
    fn filter(&mut self, _: u32, _: &[u8], value: &[u8]) -> CompactionDecision {
        match self.0 {
            // What cannot be read is for the reader to complain about.
            Some((kind, horizon)) if horizon.is_dead(kind, value).unwrap_or(false) => {
                CompactionDecision::Remove
            }
            _ => CompactionDecision::Keep,
        }
    }

    fn name(&self) -> &CStr {
        NAME
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

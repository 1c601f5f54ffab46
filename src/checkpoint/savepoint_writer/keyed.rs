//! The keyed state of one operator of a savepoint that is being built.

use super::SavepointWriter;
use crate::error::Result;
use crate::function::{KeyedOpenContext, OperatorStates, SubtaskInfo, TimerQueues, Timestamp};
use crate::id::OperatorUid;
use crate::operator::OperatorSnapshot;
use std::collections::BTreeMap;
use std::fmt;
use tidegate_state::{BackendScope, Key, KeyGroupRange, KeyedBackend, SnapshotMode};

/// Writes the keyed state of one operator of a [`SavepointWriter`], key by key in any order.
pub struct KeyedStateWriter<'a, K: Key, S> {
    savepoint: &'a mut SavepointWriter,
    uid: OperatorUid,
    backend: KeyedBackend<K>,
    operator_states: OperatorStates,
    timers: TimerQueues<K>,
    states: S,
}

impl<'a, K: Key, S> KeyedStateWriter<'a, K, S> {
    pub(super) fn open(
        savepoint: &'a mut SavepointWriter,
        uid: OperatorUid,
        subtask: &SubtaskInfo,
        open: impl FnOnce(&mut KeyedOpenContext<'_, K>) -> Result<S>,
    ) -> Result<Self> {
        let max_parallelism = savepoint.max_parallelism;
        let scope = BackendScope {
            operator: uid.to_string(),
            subtask: 0,
            max_parallelism,
            range: KeyGroupRange::all(max_parallelism),
            local_dir: None,
        };
        let mut backend = KeyedBackend::open(&savepoint.backend, scope, &[])?;
        backend.set_processing_time(savepoint.clock.now().wall_ms);
        let timers = TimerQueues::register(&mut backend)?;
        let mut operator_states = OperatorStates::new(BTreeMap::new(), true);
        let states = open(&mut KeyedOpenContext {
            subtask,
            backend: &mut backend,
            operator_states: &mut operator_states,
        })?;
        savepoint.unfinished = Some(uid.clone());
        Ok(Self { savepoint, uid, backend, operator_states, timers, states })
    }

    /// Makes `key` the current one, and returns the handles, which act on it.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn key(&mut self, key: K) -> Result<&mut S> {
        let hash = key.hash64();
        self.backend.set_current_key(key, hash)?;
        Ok(&mut self.states)
    }

    /// Registers an event-time timer, in milliseconds, of the current key.
    ///
    /// # Errors
    /// A config error if there is no current key; those of the backend.
    pub fn register_event_timer(&mut self, time: Timestamp) -> Result<()> {
        self.timers.event.register(time)
    }

    /// Registers a processing-time timer, in milliseconds since the Unix epoch, of the current key.
    ///
    /// # Errors
    /// As [`register_event_timer`](Self::register_event_timer).
    pub fn register_processing_timer(&mut self, time: i64) -> Result<()> {
        self.timers.processing.register(time)
    }

    /// What the clock says, in milliseconds since the Unix epoch, to states that expire by processing time: what is
    /// written from now on counts as written then. The time of the machine, if nothing else is said.
    pub fn set_processing_time(&mut self, now: i64) {
        self.backend.set_processing_time(now);
    }

    /// The same for states that expire by event time.
    pub fn set_watermark(&mut self, watermark: Timestamp) {
        self.backend.set_watermark(watermark);
    }

    /// Stores the state in the savepoint.
    ///
    /// # Errors
    /// Those of the backend and of the store.
    pub fn finish(mut self) -> Result<()> {
        let checkpoint = self.savepoint.checkpoint.0;
        let place = format!("operator {}", self.uid);
        let mut snapshot = OperatorSnapshot::new(self.uid, Default::default());
        snapshot.keyed =
            Some(self.backend.freeze(checkpoint, SnapshotMode::Canonical).map_err(|e| e.at(&place))?);
        snapshot.lists = self.operator_states.freeze()?;
        self.savepoint.store(snapshot).map_err(|e| e.at(&place))?;
        self.savepoint.unfinished = None;
        Ok(())
    }
}

impl<K: Key, S> fmt::Debug for KeyedStateWriter<'_, K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedStateWriter").field("uid", &self.uid).finish_non_exhaustive()
    }
}

//! Counts records and drops them: the cheapest end of a pipeline, for measuring the rest.

use super::single_phase::NothingToCommit;
use crate::error::Result;
use crate::function::{Committer, Data, Sink, SinkContext, SinkWriter, Timestamp};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A sink that drops every record and counts it. Records that arrive again after a restart are counted again.
pub struct DiscardSink<T> {
    counters: DiscardCounters,
    record: PhantomData<fn(T)>,
}

/// What the subtasks of a [`DiscardSink`] in this process have counted.
#[derive(Clone, Debug, Default)]
pub struct DiscardCounters {
    /// By subtask. Locked when a subtask starts and when somebody looks, never per record.
    subtasks: Arc<Mutex<Vec<Arc<Counter>>>>,
}

/// Alone on its cache lines: counting on one core must not slow down another.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counter(AtomicU64);

impl<T> DiscardSink<T> {
    /// A sink and the counters to watch it by.
    pub fn new() -> (Self, DiscardCounters) {
        let counters = DiscardCounters::default();
        (Self { counters: counters.clone(), record: PhantomData }, counters)
    }
}

impl<T> std::fmt::Debug for DiscardSink<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DiscardSink").field("counters", &self.counters).finish()
    }
}

impl DiscardCounters {
    /// Records dropped by all subtasks so far.
    pub fn total(&self) -> u64 {
        self.per_subtask().into_iter().sum()
    }

    /// Records dropped so far, by subtask.
    pub fn per_subtask(&self) -> Vec<u64> {
        let subtasks = self.subtasks.lock().unwrap_or_else(PoisonError::into_inner);
        subtasks.iter().map(|counter| counter.0.load(Ordering::Relaxed)).collect()
    }

    fn of(&self, subtask: u32) -> Arc<Counter> {
        let mut subtasks = self.subtasks.lock().unwrap_or_else(PoisonError::into_inner);
        let index = subtask as usize;
        if subtasks.len() <= index {
            subtasks.resize_with(index + 1, Arc::default);
        }
        Arc::clone(&subtasks[index])
    }
}

impl<T: Data> Sink for DiscardSink<T> {
    type Record = T;
    type Committable = ();

    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter<Record = T, Committable = ()>>> {
        let counter = self.counters.of(context.subtask.index);
        let count = counter.0.load(Ordering::Relaxed);
        Ok(Box::new(DiscardWriter { counter, count, record: PhantomData }))
    }

    fn committer(&self, _context: &SinkContext) -> Result<Box<dyn Committer<()>>> {
        Ok(Box::new(NothingToCommit))
    }
}

struct DiscardWriter<T> {
    counter: Arc<Counter>,
    count: u64,
    record: PhantomData<fn(T)>,
}

impl<T> SinkWriter for DiscardWriter<T> {
    type Record = T;
    type Committable = ();

    #[inline]
    fn write(&mut self, _value: T, _timestamp: Timestamp) -> Result<()> {
        self.count += 1;
        // The only writer: a store is enough, and cheaper than an addition in memory.
        self.counter.0.store(self.count, Ordering::Relaxed);
        Ok(())
    }

    fn prepare_commit(&mut self) -> Result<Vec<()>> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_context::context;
    use super::*;

    #[test]
    fn counts_by_subtask_and_goes_on_after_a_restart() {
        let (sink, counters) = DiscardSink::<u64>::new();
        assert_eq!(counters.total(), 0);
        for (attempt, subtask, records) in [(1, 1, 5), (1, 0, 2), (2, 1, 3)] {
            let mut writer = sink.writer(&context("job", attempt, subtask)).unwrap();
            (0..records).for_each(|n| writer.write(n, 0).unwrap());
            assert!(writer.prepare_commit().unwrap().is_empty());
        }
        assert_eq!(counters.per_subtask(), [2, 8]);
        assert_eq!(counters.total(), 10);
    }
}

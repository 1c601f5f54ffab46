//! Records into a vector of this process, exactly once: for tests, and programs that go on with the result.

use crate::error::Result;
use crate::function::{Committer, Data, Sink, SinkContext, SinkWriter, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A sink that collects records in memory. They become visible when the checkpoint that covers them has completed.
///
/// Sink and handle belong together within one process, so a cluster of processes refuses this sink.
pub struct CollectSink<T> {
    shared: Shared<T>,
}

/// Where the records of a [`CollectSink`] arrive.
pub struct CollectHandle<T> {
    shared: Shared<T>,
}

type Shared<T> = Arc<Mutex<Collected<T>>>;

struct Collected<T> {
    values: Vec<T>,
    /// What was committed already: after a restart it is committed again.
    committed: BTreeSet<BatchId>,
}

/// Names a batch for ever: job, attempt, subtask, number.
type BatchId = (String, u64, u32, u64);

/// The records of one subtask between two checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectedValues<T> {
    id: BatchId,
    values: Vec<T>,
}

impl<T> CollectSink<T> {
    /// A sink and the handle to its records.
    pub fn new() -> (Self, CollectHandle<T>) {
        let shared = Arc::new(Mutex::new(Collected { values: Vec::new(), committed: BTreeSet::new() }));
        (Self { shared: Arc::clone(&shared) }, CollectHandle { shared })
    }
}

impl<T> CollectHandle<T> {
    /// How many records have been committed and not been taken.
    pub fn len(&self) -> usize {
        lock(&self.shared).values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the records committed since the last call, those of each subtask in their order.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut lock(&self.shared).values)
    }
}

impl<T: Clone> CollectHandle<T> {
    /// A copy of the records committed so far, those of each subtask in their order.
    pub fn values(&self) -> Vec<T> {
        lock(&self.shared).values.clone()
    }
}

impl<T> Clone for CollectHandle<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> std::fmt::Debug for CollectHandle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CollectHandle").field("len", &self.len()).finish()
    }
}

impl<T> std::fmt::Debug for CollectSink<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CollectSink").finish_non_exhaustive()
    }
}

/// A panic elsewhere leaves the values whole: they are only ever extended.
fn lock<T>(shared: &Shared<T>) -> MutexGuard<'_, Collected<T>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Data> Sink for CollectSink<T> {
    type Record = T;
    type Committable = CollectedValues<T>;

    fn is_of_one_process(&self) -> bool {
        true
    }

    fn writer(
        &self,
        context: &SinkContext,
    ) -> Result<Box<dyn SinkWriter<Record = T, Committable = CollectedValues<T>>>> {
        let next_id = (context.job.as_str().to_owned(), context.attempt.0, context.subtask.index, 0);
        Ok(Box::new(CollectWriter { next_id, values: Vec::new() }))
    }

    fn committer(&self, _context: &SinkContext) -> Result<Box<dyn Committer<CollectedValues<T>>>> {
        Ok(Box::new(CollectCommitter { shared: Arc::clone(&self.shared) }))
    }
}

struct CollectWriter<T> {
    next_id: BatchId,
    values: Vec<T>,
}

impl<T> SinkWriter for CollectWriter<T> {
    type Record = T;
    type Committable = CollectedValues<T>;

    fn write(&mut self, value: T, _timestamp: Timestamp) -> Result<()> {
        self.values.push(value);
        Ok(())
    }

    fn prepare_commit(&mut self) -> Result<Vec<CollectedValues<T>>> {
        if self.values.is_empty() {
            return Ok(Vec::new());
        }
        let id = self.next_id.clone();
        self.next_id.3 += 1;
        Ok(vec![CollectedValues { id, values: std::mem::take(&mut self.values) }])
    }
}

struct CollectCommitter<T> {
    shared: Shared<T>,
}

impl<T: Data> Committer<CollectedValues<T>> for CollectCommitter<T> {
    fn clean_up(&mut self, _kept: &[CollectedValues<T>]) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self, batch: &CollectedValues<T>) -> Result<()> {
        let values = batch.values.clone();
        let mut shared = lock(&self.shared);
        if shared.committed.insert(batch.id.clone()) {
            shared.values.extend(values);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_context::context;
    use super::*;

    #[test]
    fn values_appear_once_and_only_when_committed() {
        let (sink, handle) = CollectSink::<u32>::new();
        let start = |job, attempt| {
            let context = context(job, attempt, 0);
            (sink.writer(&context).unwrap(), sink.committer(&context).unwrap())
        };
        let (mut writer, mut committer) = start("job", 1);
        writer.write(1, 0).unwrap();
        let first = writer.prepare_commit().unwrap();
        writer.write(2, 0).unwrap();
        assert!(handle.is_empty());
        committer.commit(&first[0]).unwrap();
        assert_eq!(handle.values(), [1]);

        // A restart from the checkpoint that `first` belongs to.
        let (mut writer, mut committer) = start("job", 2);
        committer.commit(&first[0]).unwrap();
        committer.clean_up(&first).unwrap();
        writer.write(2, 0).unwrap();
        let second = writer.prepare_commit().unwrap();
        committer.commit(&second[0]).unwrap();
        assert_eq!(handle.values(), [1, 2]);
        assert!(writer.prepare_commit().unwrap().is_empty());

        // The first batch of another job that uses the same sink is another one.
        let (mut writer, mut committer) = start("other", 1);
        for n in [3, 4] {
            writer.write(n, 0).unwrap();
            committer.commit(&writer.prepare_commit().unwrap()[0]).unwrap();
        }
        assert_eq!(handle.take(), [1, 2, 3, 4]);
        assert_eq!(handle.len(), 0);
        committer.commit(&second[0]).unwrap();
        assert!(handle.is_empty(), "taken values do not come back");
    }
}

//! Sinks: writers on every subtask, and a committer that publishes what a completed checkpoint covers.

use crate::error::Result;
use crate::function::{Data, SubtaskInfo, Timestamp};
use crate::id::{Attempt, JobId, OperatorUid};

/// A place for records, written in two phases.
///
/// Between two checkpoints the writer writes what nobody outside can see. At a barrier it hands over
/// *committables*: descriptions of what is complete, which become part of the checkpoint. When that checkpoint is
/// durable, the committer publishes them; after a crash, those of the restored checkpoint are committed again
/// before anything else happens. A sink without a second phase has no committables and publishes as it writes: it is
/// at-least-once.
pub trait Sink: Send + Sync + 'static {
    /// What it takes.
    type Record: Data;
    /// A finished piece of output, ready to be published.
    type Committable: Data;

    /// Whether what it publishes is seen only in the process that publishes it. A cluster of processes refuses such a sink:
    /// its subtasks are elsewhere.
    fn is_of_one_process(&self) -> bool {
        false
    }

    /// Makes the writer of one subtask; called on the subtask's own thread at every start.
    ///
    /// # Errors
    /// What keeps the writer from starting.
    fn writer(
        &self,
        context: &SinkContext,
    ) -> Result<Box<dyn SinkWriter<Record = Self::Record, Committable = Self::Committable>>>;

    /// Makes the committer of one subtask, on the same thread.
    ///
    /// # Errors
    /// What keeps the committer from starting.
    fn committer(&self, context: &SinkContext) -> Result<Box<dyn Committer<Self::Committable>>>;
}

/// What a sink knows of its job.
#[derive(Clone, Debug)]
pub struct SinkContext {
    /// The job.
    pub job: JobId,
    /// Identity of the sink in the program.
    pub operator: OperatorUid,
    /// Which try at running the job this is.
    pub attempt: Attempt,
    /// Which subtask.
    pub subtask: SubtaskInfo,
}

/// Writes records of one subtask.
pub trait SinkWriter {
    /// What it takes.
    type Record;
    /// A finished piece of output.
    type Committable;

    /// Takes one record.
    ///
    /// # Errors
    /// Fails the task.
    fn write(&mut self, value: Self::Record, timestamp: Timestamp) -> Result<()>;

    /// Called at a barrier: makes everything written so far durable, though invisible, and describes it.
    ///
    /// # Errors
    /// Fails the task.
    fn prepare_commit(&mut self) -> Result<Vec<Self::Committable>>;
}

/// Publishes committables.
pub trait Committer<C> {
    /// Called once at every start, after the restored committables of this subtask were committed and before the
    /// first record. `kept` holds the committables of *all* subtasks in the restored checkpoint: whatever else
    /// earlier attempts left behind belongs to no checkpoint and may be removed.
    ///
    /// # Errors
    /// Fails the task.
    fn clean_up(&mut self, kept: &[C]) -> Result<()>;

    /// Publishes. Called again with the same committable after a crash, so it must be idempotent: already
    /// published is success, an outcome it cannot know is an error.
    ///
    /// # Errors
    /// Fails the task; the commit is repeated after the restart.
    fn commit(&mut self, committable: &C) -> Result<()>;
}

//! Sources: an enumerator on the jobmanager hands out splits, readers on the taskmanagers read them.

use crate::error::Result;
use crate::function::{Collector, Data, SubtaskInfo};

/// A source of records, divided into splits.
///
/// A *split* is a self-contained description of work left to do, its position included: snapshotting a reader
/// means asking it for its splits as they stand, and restoring means giving it those.
pub trait Source: Send + Sync + 'static {
    /// What it reads.
    type Record: Data;
    /// A piece of work with its position.
    type Split: Data;

    /// Whether it ends by itself. A job whose sources all end ends too.
    fn is_bounded(&self) -> bool;

    /// Whether a reader given an earlier position delivers the same records again. A job with a source that
    /// cannot is only as exactly-once as that source, and says so when it starts.
    fn is_replayable(&self) -> bool {
        true
    }

    /// Makes the enumerator; called on the jobmanager at the start and at every restore, with the bytes of
    /// [`SplitEnumerator::snapshot`] in the latter case.
    ///
    /// # Errors
    /// An [`ErrorKind::Config`](crate::error::ErrorKind::Config) error if what is to be read does not exist.
    fn enumerator(
        &self,
        context: &EnumeratorContext,
        restored: Option<&[u8]>,
    ) -> Result<Box<dyn SplitEnumerator<Self::Split>>>;

    /// Makes a reader; called on the subtask's own thread at every start.
    ///
    /// # Errors
    /// What keeps the reader from starting.
    fn reader(
        &self,
        context: &ReaderContext,
    ) -> Result<Box<dyn SourceReader<Record = Self::Record, Split = Self::Split>>>;
}

/// What an enumerator knows of its job.
#[derive(Clone, Debug)]
pub struct EnumeratorContext {
    /// Number of readers.
    pub parallelism: u32,
}

/// Hands out splits, one at a time, to readers that ask. All of its state is in every checkpoint.
pub trait SplitEnumerator<S>: Send {
    /// A reader has nothing left to read and asks for more.
    ///
    /// # Errors
    /// Fails the job.
    fn next_split(&mut self, subtask: u32) -> Result<NextSplit<S>>;

    /// Everything not handed out yet, encoded. Called at the very moment a checkpoint is triggered.
    ///
    /// # Errors
    /// Fails the checkpoint.
    fn snapshot(&self) -> Result<Vec<u8>>;
}

/// Answer to a reader that asks for a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextSplit<S> {
    /// Read this.
    Split(S),
    /// Nothing now; ask again later.
    Wait,
    /// Nothing any more.
    NoMore,
}

/// What a reader knows of its surroundings.
#[derive(Clone, Debug)]
pub struct ReaderContext {
    /// Which subtask it belongs to.
    pub subtask: SubtaskInfo,
}

/// Reads splits. Lives on one thread; never blocks for long, since checkpoints wait for it.
pub trait SourceReader {
    /// What it reads.
    type Record;
    /// A piece of work with its position.
    type Split;

    /// Takes a split to read, fresh or restored.
    ///
    /// # Errors
    /// Fails the task.
    fn add_split(&mut self, split: Self::Split) -> Result<()>;

    /// Reads a bounded number of records (some hundreds) into `out`. `now_ms` is processing time in milliseconds
    /// since the Unix epoch, from the task's clock; a reader asks no other clock.
    ///
    /// # Errors
    /// Fails the task; records collected before stay counted in the positions.
    fn poll(&mut self, now_ms: i64, out: &mut Collector<'_, Self::Record>) -> Result<ReaderStatus>;

    /// The splits as they stand after the last [`SourceReader::poll`], positions included; finished ones left out.
    ///
    /// # Errors
    /// Fails the checkpoint.
    fn snapshot(&self) -> Result<Vec<Self::Split>>;
}

/// How a reader goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReaderStatus {
    /// There is more to read at once.
    More,
    /// Nothing before this processing time (milliseconds since the Unix epoch).
    WaitUntil(i64),
    /// All splits are read; give another.
    NeedSplit,
}

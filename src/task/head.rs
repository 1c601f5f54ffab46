//! What is in front of a chain: a gate over channels, or a source reader.

use crate::checkpoint::Barrier;
use crate::error::Result;
use crate::id::CheckpointId;
use crate::operator::{ChainSnapshot, Control};

/// Feeds a chain, a bounded amount at a time.
pub(crate) trait Head {
    /// Processes a bounded amount of input.
    fn step(&mut self, now_ms: i64) -> Result<Progress>;

    /// Looks for barriers that have overtaken what is in front of them, also while the subtask can process nothing. Idle
    /// means that there are none, until the time said.
    fn look_ahead(&mut self, _now_ms: i64) -> Result<Progress> {
        Ok(Progress::Idle(None))
    }

    /// Tells the chain.
    fn control(&mut self, control: &mut Control<'_>) -> Result<()>;

    /// Takes the cut: adds the head's own state to the snapshot, then sends the barrier down the chain.
    fn barrier(&mut self, barrier: Barrier, snapshot: &mut ChainSnapshot) -> Result<()>;

    /// What was in flight for the checkpoint that [`Progress::Collected`] has named, into its snapshot.
    fn put_in_flight(&mut self, _snapshot: &mut ChainSnapshot) {}

    /// Something from outside. Heads ignore what is not for them.
    fn event(&mut self, event: HeadEvent) -> Result<()>;
}

/// Events for heads.
#[derive(Debug)]
pub(crate) enum HeadEvent {
    /// For sources: a split, or word that there is none left.
    Split(Option<Vec<u8>>),
    /// For sources: end now, whatever is left to read.
    Drain,
    /// For gates: the checkpoint was given up.
    Aborted(CheckpointId),
}

/// What a step has done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Processed something; there may be more.
    Worked,
    /// Nothing to do until woken, or until this processing time (milliseconds since the Unix epoch).
    Idle(Option<i64>),
    /// A source needs a split.
    NeedSplit,
    /// The first barrier of a checkpoint has arrived.
    Aligning,
    /// The last barrier of a checkpoint has arrived: take the cut now.
    Aligned(Barrier),
    /// A barrier has overtaken records: take the cut now, they follow.
    Overtaken(Barrier),
    /// Everything in flight for the checkpoint is known.
    Collected(CheckpointId),
    /// The input has ended and the chain knows.
    Ended,
}

//! What travels down a chain beside records and watermarks.

use crate::checkpoint::Barrier;
use crate::error::Result;
use crate::function::FrozenLists;
use crate::id::{CheckpointId, OperatorUid};
use crate::operator::OperatorState;
use crate::task::InFlight;
use tidegate_state::FrozenState;

/// A call that visits every operator of a chain, upstream first.
#[derive(Debug)]
pub enum Control<'a> {
    /// The stream has become idle (or active again) and does not hold back event time downstream.
    Idle(bool),
    /// The cut of a checkpoint: freeze state into `snapshot`; exchanges forward the barrier.
    Barrier {
        /// Which checkpoint.
        barrier: Barrier,
        /// Collects what operators keep.
        snapshot: &'a mut ChainSnapshot,
    },
    /// A checkpoint is durable: sinks publish what it covers.
    Completed(CheckpointId),
    /// Processing time is `now_ms`: fire what is due, and lower `next_ms` to what will be due next.
    Time {
        /// Milliseconds since the Unix epoch.
        now_ms: i64,
        /// Earliest time at which the chain wants to be called again.
        next_ms: &'a mut Option<i64>,
    },
    /// The input has ended: emit what is left; exchanges tell their consumers.
    EndOfInput,
    /// Exchanges hand on partly filled batches.
    Flush,
    /// Exchanges retry what did not fit before and set this if something still does not fit.
    Drain(&'a mut bool),
}

/// Frozen state of a whole chain.
#[derive(Debug, Default)]
pub struct ChainSnapshot {
    /// One entry per operator that has something to keep.
    pub operators: Vec<OperatorSnapshot>,
}

/// Frozen state of one operator of one subtask.
#[derive(Debug)]
pub struct OperatorSnapshot {
    /// Whose.
    pub uid: OperatorUid,
    /// Keyed state and timers, to be serialised off the task's thread.
    pub keyed: Option<FrozenState>,
    /// Operator state of the function, to be serialised off the task's thread, too.
    pub lists: FrozenLists,
    /// Records in flight to it, or why they cannot be written down.
    pub(crate) in_flight: Option<Result<InFlight>>,
    /// Everything else.
    pub state: OperatorState,
}

impl OperatorSnapshot {
    /// A snapshot of what is small.
    pub(crate) fn new(uid: OperatorUid, state: OperatorState) -> Self {
        Self { uid, keyed: None, lists: FrozenLists::default(), in_flight: None, state }
    }

    /// The operator state, all of it encoded. Takes time proportional to it.
    ///
    /// # Errors
    /// A data error if an element cannot be encoded.
    pub(crate) fn encode_state(&mut self) -> Result<OperatorState> {
        let mut state = std::mem::take(&mut self.state);
        std::mem::take(&mut self.lists).encode_into(&mut state.lists)?;
        Ok(state)
    }
}

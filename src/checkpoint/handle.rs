//! Handles to state files, and what a subtask reports when it has snapshotted.

use crate::id::OperatorUid;
use serde::{Deserialize, Serialize};

/// Which kind of state a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateFileKind {
    /// Keyed state and timers, indexed by key group.
    Keyed,
    /// Operator state: source positions, pending commits, watermarks, finished flags.
    Operator,
}

/// One immutable file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHandle {
    /// What it holds.
    pub kind: StateFileKind,
    /// Path below the job's directory. Never reused.
    pub path: String,
    /// Length in bytes.
    pub length: u64,
    /// CRC32 of the whole file.
    pub crc32: u32,
}

/// State of one operator of one subtask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorHandles {
    /// Whose state it is.
    pub operator: OperatorUid,
    /// Its files; empty if the operator had nothing to keep.
    pub files: Vec<StateHandle>,
}

/// What a subtask hands over for a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskSnapshot {
    /// State per operator of the chain.
    pub operators: Vec<OperatorHandles>,
    /// Where the time went.
    pub timings: SubtaskTimings,
}

/// The four times of a subtask's checkpoint, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskTimings {
    /// From trigger to the first barrier.
    pub start_delay_us: u64,
    /// From the first barrier to the last.
    pub alignment_us: u64,
    /// Freezing state on the task's thread.
    pub sync_us: u64,
    /// Serialising and uploading elsewhere.
    pub async_us: u64,
}

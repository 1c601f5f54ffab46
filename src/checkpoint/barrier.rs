//! What travels with a checkpoint through the data plane.

use crate::id::CheckpointId;
use serde::{Deserialize, Serialize};

/// Marks the cut: everything before it belongs to the checkpoint, everything after it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barrier {
    /// Which checkpoint.
    pub checkpoint: CheckpointId,
    /// When the coordinator triggered it, in milliseconds of its clock.
    pub triggered_at_ms: u64,
    /// How it is to be taken.
    pub kind: CheckpointKind,
}

/// Why a checkpoint is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckpointKind {
    /// Periodic.
    Periodic,
    /// The last one of a bounded job: publishes the last output.
    Final,
    /// Asked for by a person, self-contained.
    Savepoint,
}

//! What travels with a checkpoint through the data plane.

use crate::id::CheckpointId;
use serde::{Deserialize, Serialize};
use tidegate_state::SnapshotMode;

/// Marks the cut: everything before it belongs to the checkpoint, everything after it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barrier {
    /// Which checkpoint.
    pub checkpoint: CheckpointId,
    /// When the coordinator triggered it, in milliseconds of its clock.
    pub triggered_at_ms: u64,
    /// How it is to be taken.
    pub kind: CheckpointKind,
    /// For a periodic one: the newest completed periodic checkpoint when it was triggered. What that one refers to is
    /// kept until this one has completed or is given up, so this one may refer to it too.
    pub base: Option<CheckpointId>,
}

impl Barrier {
    /// How keyed state is to be snapshotted: what has to serve for more than a restart is canonical.
    pub(crate) fn snapshot_mode(&self) -> SnapshotMode {
        match self.kind {
            CheckpointKind::Periodic => SnapshotMode::Native { base: self.base.map(|id| id.0) },
            CheckpointKind::Final | CheckpointKind::Savepoint => SnapshotMode::Canonical,
        }
    }
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

//! What travels with a checkpoint through the data plane.

use crate::id::CheckpointId;
use serde::{Deserialize, Serialize};
use tidegate_state::SnapshotMode;

/// Marks the cut: everything before it belongs to the checkpoint, everything after it does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barrier {
    /// Which checkpoint.
    pub checkpoint: CheckpointId,
    /// When the coordinator triggered it, in milliseconds of its clock.
    pub triggered_at_ms: u64,
    /// Why it is taken, and so how.
    pub kind: CheckpointKind,
    /// For a periodic one: the newest completed periodic checkpoint when it was triggered. What that one refers to is
    /// kept until this one has completed or is given up, so this one may refer to it too.
    pub base: Option<CheckpointId>,
    /// Whether inputs that have delivered it wait for those that have not: exactly-once. Otherwise at-least-once.
    pub blocking: bool,
    /// How long after the trigger, in milliseconds, it overtakes the records in front of it, which then are part of the
    /// checkpoint; `None`: never. Zero is at once.
    pub unaligned_after_ms: Option<u64>,
    /// Where its files go if not into the job's own directory: the directory of a savepoint, as
    /// [`JobStore::location`](crate::checkpoint::JobStore::location) names it.
    pub location: Option<Box<str>>,
}

impl Barrier {
    /// The barrier of an exactly-once checkpoint in the job's own directory that refers to no other.
    pub fn new(checkpoint: CheckpointId, kind: CheckpointKind, triggered_at_ms: u64) -> Self {
        Self {
            checkpoint,
            triggered_at_ms,
            kind,
            base: None,
            blocking: true,
            unaligned_after_ms: None,
            location: None,
        }
    }

    /// When it overtakes the records in front of it, in milliseconds of the coordinator's clock; `None`: never.
    pub(crate) fn overtakes_at_ms(&self) -> Option<u64> {
        self.unaligned_after_ms.map(|after_ms| self.triggered_at_ms.saturating_add(after_ms))
    }

    /// How keyed state is to be snapshotted: what has to serve for more than a restart is canonical.
    pub(crate) fn snapshot_mode(&self) -> SnapshotMode {
        match self.kind {
            CheckpointKind::Periodic => SnapshotMode::Native { base: self.base.map(|id| id.0) },
            CheckpointKind::Final
            | CheckpointKind::Savepoint
            | CheckpointKind::Stop
            | CheckpointKind::Drain => SnapshotMode::Canonical,
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
    /// Asked for by a person, self-contained. The job never goes back to it by itself and publishes nothing for it.
    Savepoint,
    /// A savepoint with which the job ends: no subtask processes anything after the cut.
    Stop,
    /// As [`CheckpointKind::Stop`], taken after all event time has ended.
    Drain,
}

impl CheckpointKind {
    /// Whether it is written into a directory of its own, for a person.
    pub fn is_savepoint(self) -> bool {
        matches!(self, Self::Savepoint | Self::Stop | Self::Drain)
    }

    /// Whether the job stops with it, though its input has not ended by itself: subtasks hold after the cut.
    pub fn is_stop(self) -> bool {
        matches!(self, Self::Stop | Self::Drain)
    }

    /// Whether the job ends once it is complete.
    pub fn ends_job(self) -> bool {
        self == Self::Final || self.is_stop()
    }
}

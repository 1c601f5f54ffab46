//! Notices as people read them.

use crate::cluster::jobmaster::JobNotice;
use std::fmt;

impl JobNotice {
    /// Whether a person should hear of it even if they asked for nothing.
    pub fn is_trouble(&self) -> bool {
        matches!(
            self,
            Self::Warning(_)
                | Self::CheckpointAborted { quiet: false, .. }
                | Self::StoreAway { .. }
                | Self::StoreBack { .. }
                | Self::Rescaled { .. }
                | Self::Failed { .. }
                | Self::WorkerLost { .. }
                | Self::Restarting { .. }
                | Self::NotRestarting { .. }
                | Self::StoreTrouble { .. }
        )
    }
}

impl fmt::Display for JobNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { from, to } => write!(f, "{from:?} -> {to:?}"),
            Self::WaitingForSlots { available, needed } => {
                write!(f, "waiting for slots: {available} of {needed} there")
            }
            Self::Deployed { attempt, placement } => {
                write!(f, "attempt {attempt}: {} subtasks deployed", placement.len())
            }
            Self::Restored { checkpoint, base } if base.is_empty() => {
                write!(f, "restored from checkpoint {checkpoint}")
            }
            Self::Restored { checkpoint, base } => {
                write!(f, "restored from checkpoint {checkpoint} of {base}")
            }
            Self::Inherited { checkpoint } => {
                write!(f, "what was restored is checkpoint {checkpoint} of this job")
            }
            Self::Warning(text) => write!(f, "warning: {text}"),
            Self::CheckpointTriggered { checkpoint, .. } => write!(f, "checkpoint {checkpoint} triggered"),
            Self::CheckpointCompleted(done) => write!(f, "checkpoint {} completed", done.checkpoint),
            Self::StoreAway { why } => {
                write!(f, "checkpoint store: {why}; the job goes on, without checkpoints until it is back")
            }
            Self::StoreBack { after_ms, missed } => {
                let seconds = after_ms / 1_000;
                write!(f, "checkpoint store: back after {seconds} s, {missed} checkpoints were missed")
            }
            Self::CheckpointAborted { checkpoint, why, .. } => {
                write!(f, "checkpoint {checkpoint} aborted: {why}")
            }
            Self::SavepointCompleted { savepoint, .. } => {
                write!(f, "savepoint {} completed: {}", savepoint.checkpoint, savepoint.location)
            }
            Self::SavepointFailed { failure, .. } => write!(f, "savepoint failed: {}", failure.message),
            Self::Rescaled { parallelism, .. } => write!(f, "goes on at parallelism {parallelism}"),
            Self::RescaleFailed { failure, .. } => write!(f, "not rescaled: {}", failure.message),
            Self::CheckpointStalled { checkpoint, why } => {
                write!(f, "checkpoint {checkpoint} is not confirmed by the store: {why}")
            }
            Self::Failed { failure, worker, .. } => {
                write!(f, "failure")?;
                if let Some(worker) = worker {
                    write!(f, " on taskmanager {worker}")?;
                }
                write!(f, ": {}", failure.message)
            }
            Self::WorkerLost { worker, why } => write!(f, "taskmanager {worker} is gone: {why}"),
            Self::Restarting { after_ms, region } if region.is_empty() => {
                write!(f, "restarting in {after_ms} ms")
            }
            Self::Restarting { after_ms, region } => {
                write!(f, "restarting '{}' in {after_ms} ms; the rest goes on", region.join("', '"))
            }
            Self::NotRestarting { why } => write!(f, "not restarting: {why}"),
            Self::StoreTrouble { what, why } => write!(f, "checkpoint store: {what}: {why}"),
        }
    }
}

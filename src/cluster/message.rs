//! Messages between the jobmanager and its taskmanagers.
//!
//! Every message names the attempt it belongs to; a receiver drops and counts what is not of its current one.
//! Messages to one worker arrive in the order sent: split assignment relies on it, because a split handed out
//! after the enumerator was snapshotted must reach its reader after that checkpoint's trigger.

use crate::checkpoint::{Barrier, OperatorHandles, SubtaskSnapshot};
use crate::error::{Error, ErrorKind};
use crate::id::{Attempt, CheckpointId, JobId, OperatorUid, SubtaskId, WorkerId};
use serde::{Deserialize, Serialize};

/// From the jobmanager to one worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Restore these subtasks, all of the job or those of a region of it; answer `Ready` or `Failed` for each. They process nothing before `Start`.
    Deploy {
        /// The attempt all of them belong to.
        attempt: Attempt,
        /// What to run.
        subtasks: Vec<SubtaskDeployment>,
        /// Operators whose number of key groups comes from the restored checkpoint and not from the program; it
        /// holds for the operator itself and for every hash exchange that leads to it.
        key_groups: Vec<(OperatorUid, u16)>,
        /// Where every subtask of the job runs, those that go on with an older attempt included.
        placement: Vec<(SubtaskId, WorkerId)>,
        /// The oldest attempt that still has subtasks, on whichever worker; what is older is over.
        oldest: Attempt,
    },
    /// Every subtask of the attempt is ready, on whichever worker: process.
    ///
    /// So no user code sees a record before all state of the job has been read and found whole.
    Start {
        /// The attempt to start.
        attempt: Attempt,
    },
    /// Stop these subtasks of the attempt and drop what they hold; answer `Canceled` for each.
    Cancel {
        /// Their attempt.
        attempt: Attempt,
        /// Which.
        subtasks: Vec<SubtaskId>,
    },
    /// Start a checkpoint at a source subtask.
    TriggerCheckpoint {
        /// The attempt.
        attempt: Attempt,
        /// A subtask whose vertex starts with a source.
        subtask: SubtaskId,
        /// The barrier to emit.
        barrier: Barrier,
    },
    /// The checkpoint is durable; sinks commit. Sent to every subtask of the worker.
    CheckpointCompleted {
        /// The attempt.
        attempt: Attempt,
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// The checkpoint was given up; alignment for it ends.
    CheckpointAborted {
        /// The attempt.
        attempt: Attempt,
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// Hands a split to a source reader.
    AssignSplit {
        /// The attempt.
        attempt: Attempt,
        /// Which subtask.
        subtask: SubtaskId,
        /// Which source inside the subtask's chain.
        operator: OperatorUid,
        /// The encoded split; `None` means there will be no more.
        split: Option<Vec<u8>>,
    },
    /// The job is stopping: sources end as if their input had ended. Sent to every subtask of the worker.
    Drain {
        /// The attempt.
        attempt: Attempt,
    },
    /// The final checkpoint is complete and committed: end all subtasks of the attempt. Without a `Start` before it,
    /// the job had stopped at the checkpoint restored: what that one covers is published, nothing is processed.
    Finish {
        /// The attempt.
        attempt: Attempt,
    },
}

impl ToWorker {
    /// The crash point before it is sent, if there is one: of many that belong together each is a visit.
    pub(crate) fn crash_point(&self) -> Option<&'static str> {
        match self {
            Self::TriggerCheckpoint { .. } => Some("trigger.sent_k_of_n"),
            Self::CheckpointCompleted { .. } => Some("notify.k_of_n"),
            Self::CheckpointAborted { .. } => Some("abort.k_of_n"),
            Self::Cancel { .. } => Some("restart.cancel_k_of_n"),
            Self::Deploy { .. } => Some("restart.deploy_k_of_n"),
            Self::Start { .. } | Self::AssignSplit { .. } | Self::Drain { .. } | Self::Finish { .. } => None,
        }
    }
}

/// One subtask to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskDeployment {
    /// Which.
    pub subtask: SubtaskId,
    /// The state to start from.
    pub restore: Option<SubtaskRestore>,
}

/// The state a subtask starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskRestore {
    /// The checkpoint restored.
    pub checkpoint: CheckpointId,
    /// The job that wrote it: part of the identity inside its files.
    pub written_by: JobId,
    /// Path of the checkpoint's job directory in the store, to which the handles' paths are relative; empty for
    /// this job's own directory.
    pub base: String,
    /// The checkpoint of this job that names the same files, so that one based on it need not store them again.
    pub shared_as: Option<CheckpointId>,
    /// Per operator of the chain that has state: the parallelism it was written with and the files of every old
    /// subtask, in subtask order. The new subtask picks its key groups and its share of list state.
    pub operators: Vec<OperatorRestore>,
}

/// One operator's stored state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorRestore {
    /// Whose.
    pub operator: OperatorUid,
    /// Key groups the state was written with.
    pub max_parallelism: u16,
    /// Index = old subtask.
    pub subtasks: Vec<OperatorHandles>,
}

/// From a worker to the jobmanager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FromWorker {
    /// Who says it.
    pub worker: WorkerId,
    /// The attempt it is about.
    pub attempt: Attempt,
    /// The subtask it is about.
    pub subtask: SubtaskId,
    /// What happened.
    pub event: SubtaskEvent,
}

/// What can happen to a subtask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SubtaskEvent {
    /// State is restored; the subtask waits for `Start`.
    Ready,
    /// A source reader wants a split.
    SplitRequest {
        /// The source.
        operator: OperatorUid,
    },
    /// The subtask's part of a checkpoint is stored.
    Acknowledge {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Its files.
        snapshot: SubtaskSnapshot,
    },
    /// The subtask could not take part in a checkpoint; the subtask itself goes on.
    Decline {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why.
        reason: Failure,
    },
    /// All input is processed; only the final checkpoint is outstanding.
    Drained,
    /// Ended after `Finish`.
    Finished,
    /// Stopped after `Cancel`.
    Canceled,
    /// Died.
    Failed(Failure),
}

/// An error in a form that travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What it asks for.
    pub kind: ErrorKind,
    /// The whole text.
    pub message: String,
}

impl From<&Error> for Failure {
    fn from(e: &Error) -> Self {
        Self { kind: e.kind(), message: e.to_string() }
    }
}

impl From<Failure> for Error {
    fn from(f: Failure) -> Self {
        Self::new(f.kind, f.message)
    }
}

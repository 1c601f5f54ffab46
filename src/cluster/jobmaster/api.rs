//! What goes into a jobmaster and what comes out: the whole vocabulary between it and its shell.

use crate::checkpoint::{
    CheckpointConfig, CheckpointKind, CompletedCheckpoint, RequestId, RestoreFrom, Savepoint,
    SavepointRequest, StoreReply, StoreRequest,
};
use crate::cluster::RestartStrategyConfig;
use crate::cluster::message::{Failure, FromWorker, SubtaskEvent, ToWorker};
use crate::error::Result;
use crate::graph::JobGraph;
use crate::id::{Attempt, CheckpointId, JobId, LeaderEpoch, SubtaskId, WorkerId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What a jobmaster is told at the start.
#[derive(Clone, Debug)]
pub struct JobMasterConfig {
    /// The job.
    pub job: JobId,
    /// The term of this leader, already claimed in the store.
    pub leader_epoch: LeaderEpoch,
    /// The program.
    pub graph: JobGraph,
    /// When and how checkpoints are taken.
    pub checkpoint: CheckpointConfig,
    /// What happens after a failure.
    pub restart: RestartStrategyConfig,
    /// Whether state that no operator takes may be left behind.
    pub allow_non_restored: bool,
    /// A checkpoint of another job, or an older one, to start from if this job has completed none of its own.
    pub restore: Option<RestoreFrom>,
    /// Whether the workers that are there at the first [`JobEvent::Tick`] are all there will ever be: too few
    /// slots are then an error and not a reason to wait.
    pub fixed_slots: bool,
    /// With fewer slots than the parallelism needs, the job runs on those there are, if they are at least so many.
    pub min_parallelism: Option<u32>,
    /// How long the number of slots must have stayed the same before a job with a minimum adapts to it.
    pub settle_ms: u64,
    /// How long a cancelled subtask may take before its worker is abandoned.
    pub cancel_timeout_ms: u64,
    /// Seed of all random choices; must differ between leaders.
    pub seed: u64,
}

impl JobMasterConfig {
    /// A configuration with the defaults of a job without periodic checkpoints.
    pub fn new(job: JobId, leader_epoch: LeaderEpoch, graph: JobGraph) -> Self {
        Self {
            job,
            leader_epoch,
            graph,
            checkpoint: CheckpointConfig::default(),
            restart: RestartStrategyConfig::None,
            allow_non_restored: false,
            restore: None,
            fixed_slots: false,
            min_parallelism: None,
            settle_ms: 0,
            cancel_timeout_ms: 180_000,
            seed: 0,
        }
    }
}

/// What can happen to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// A worker offers slots.
    WorkerJoined {
        /// The worker.
        worker: WorkerId,
        /// How many subtasks of each vertex it can run.
        slots: u32,
    },
    /// A worker is gone with everything on it.
    WorkerLost {
        /// The worker.
        worker: WorkerId,
        /// How that was noticed.
        why: String,
    },
    /// A worker reports.
    Worker(FromWorker),
    /// The answer to a [`JobAction::Store`].
    Store {
        /// The request.
        request: RequestId,
        /// The answer.
        reply: StoreReply,
    },
    /// Time has passed; see [`JobMaster::next_deadline_ms`](super::JobMaster::next_deadline_ms).
    Tick,
    /// A person cancels the job.
    Cancel,
    /// A person asks for a savepoint. The answer is a notice that names the request.
    Savepoint(SavepointRequest),
    /// A person asks for another parallelism. The answer is a notice that names the request.
    Rescale {
        /// To be named in the answer.
        request: u64,
        /// What for.
        parallelism: u32,
    },
}

impl JobEvent {
    /// The crash point before it is looked at, if there is one.
    pub(crate) fn crash_point(&self) -> Option<&'static str> {
        let Self::Worker(FromWorker { event: SubtaskEvent::Acknowledge { .. }, .. }) = self else {
            return None;
        };
        Some("ack.k_of_n")
    }
}

/// What a jobmaster wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobAction {
    /// Send a message; messages to one worker keep their order.
    Send {
        /// To whom.
        worker: WorkerId,
        /// What.
        message: ToWorker,
    },
    /// Run a request against the store and report the reply as [`JobEvent::Store`].
    Store {
        /// To be named in the reply.
        request: RequestId,
        /// What to do.
        body: StoreRequest,
    },
    /// Close the connection to a worker that does not obey; it may register again under a new id.
    Abandon {
        /// The worker.
        worker: WorkerId,
        /// What it did not do.
        why: String,
    },
    /// Something happened that observers want to know.
    Event(JobNotice),
    /// The job is over; nothing follows.
    Done(JobResult),
}

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobStatus {
    /// Waiting for slots.
    Waiting,
    /// Reading the newest checkpoint.
    Restoring,
    /// Subtasks are starting.
    Deploying,
    /// All subtasks run.
    Running,
    /// The final checkpoint is complete, subtasks end.
    Finishing,
    /// Cleaning up after a failure, or waiting out the pause before the next attempt.
    Restarting,
    /// Cleaning up after a failure that is final.
    Failing,
    /// Cleaning up after a cancellation.
    Canceling,
    /// Over: all input processed, all output published.
    Finished,
    /// Over: failed.
    Failed,
    /// Over: cancelled.
    Canceled,
    /// Over for this leader: another one has taken over.
    Fenced,
}

/// Slots of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// Those that taskmanagers have.
    pub available: u32,
    /// Those that the job needs for the parallelism asked for.
    pub needed: u32,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobResult {
    /// All input is processed and all output published.
    Finished,
    /// Given up.
    Failed(Failure),
    /// Stopped by a person.
    Canceled,
    /// Another leader has the job; this one has stopped without touching anything.
    Fenced(Failure),
}

impl JobResult {
    pub(super) fn status(&self) -> JobStatus {
        match self {
            Self::Finished => JobStatus::Finished,
            Self::Failed(_) => JobStatus::Failed,
            Self::Canceled => JobStatus::Canceled,
            Self::Fenced(_) => JobStatus::Fenced,
        }
    }
}

/// News of a job, for logs, metrics and the web interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobNotice {
    /// The job's status changed.
    Status {
        /// Before.
        from: JobStatus,
        /// Now.
        to: JobStatus,
    },
    /// Too few slots; the job waits.
    WaitingForSlots {
        /// How many there are.
        available: u32,
        /// How many it takes.
        needed: u32,
    },
    /// An attempt is being deployed.
    Deployed {
        /// The attempt.
        attempt: Attempt,
        /// Where each subtask runs.
        placement: BTreeMap<SubtaskId, WorkerId>,
    },
    /// The attempt starts from a checkpoint.
    Restored {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Its job directory; empty for this job's own.
        base: String,
    },
    /// The checkpoint that the job was restored from is its own now, under a number of its own.
    Inherited {
        /// The number.
        checkpoint: CheckpointId,
    },
    /// Something a person should know.
    Warning(String),
    /// A checkpoint was triggered.
    CheckpointTriggered {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why it is taken.
        kind: CheckpointKind,
    },
    /// A checkpoint is durable.
    CheckpointCompleted(CompletedCheckpoint),
    /// A checkpoint was given up.
    CheckpointAborted {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why.
        why: String,
        /// The store is away, which is said once by `StoreAway`.
        quiet: bool,
    },
    /// The checkpoint store fails. The job goes on without checkpoints; this is said once, until `StoreBack`.
    StoreAway {
        /// What it said.
        why: String,
    },
    /// A checkpoint has completed again.
    StoreBack {
        /// How long the store was away, in milliseconds.
        after_ms: u64,
        /// Checkpoints given up meanwhile.
        missed: u64,
    },
    /// A savepoint that was asked for is complete.
    SavepointCompleted {
        /// The [`SavepointRequest::id`].
        request: u64,
        /// What came of it.
        savepoint: Savepoint,
    },
    /// A savepoint that was asked for will not come. The job goes on, if it has not ended.
    SavepointFailed {
        /// The [`SavepointRequest::id`].
        request: u64,
        /// Why.
        failure: Failure,
    },
    /// The job goes on at another parallelism, from the checkpoint just completed.
    Rescaled {
        /// The request, if a person asked; otherwise the slots did.
        request: Option<u64>,
        /// The highest parallelism of its vertices from now on.
        parallelism: u32,
    },
    /// The job keeps its parallelism.
    RescaleFailed {
        /// The request.
        request: u64,
        /// Why.
        failure: Failure,
    },
    /// The store does not confirm a checkpoint.
    CheckpointStalled {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// What the store said last.
        why: String,
    },
    /// Something failed.
    Failed {
        /// The attempt.
        attempt: Attempt,
        /// The subtask, if it was one.
        subtask: Option<SubtaskId>,
        /// Name of the subtask's vertex.
        vertex: Option<String>,
        /// Where it ran.
        worker: Option<WorkerId>,
        /// What failed.
        failure: Failure,
    },
    /// A taskmanager is gone, with its slots and whatever ran in them.
    WorkerLost {
        /// Which.
        worker: WorkerId,
        /// How that was noticed.
        why: String,
    },
    /// The job will be started again.
    Restarting {
        /// After this pause.
        after_ms: u64,
        /// The names of the vertices, if only some of the job's; the rest goes on.
        region: Vec<String>,
    },
    /// No restart follows.
    NotRestarting {
        /// Why.
        why: String,
    },
    /// The store did not do something that is not vital, or not yet.
    StoreTrouble {
        /// What was asked.
        what: &'static str,
        /// What it said.
        why: String,
    },
}

/// Answer to a source reader that asks for work; the split is encoded.
pub type NextSplit = crate::function::NextSplit<Vec<u8>>;

/// Hands out the splits of one source. Lives on the jobmanager; its state is in every checkpoint.
pub trait EnumeratorDriver: Send {
    /// A split for the reader in `subtask`.
    fn next(&mut self, subtask: u32) -> Result<NextSplit>;

    /// The splits not yet handed out, encoded.
    fn snapshot(&self) -> Result<Vec<u8>>;

    /// Goes back to a snapshot, or to the beginning without one, for that many readers. Called before every attempt.
    fn restore(&mut self, state: Option<&[u8]>, parallelism: u32) -> Result<()>;
}

impl fmt::Debug for dyn EnumeratorDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnumeratorDriver")
    }
}

/// Messages that had no effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCounters {
    /// Attempts after the first so far, those at another parallelism included.
    pub restarts: u64,
    /// Worker messages of another attempt.
    pub stale_attempt: u64,
    /// Worker messages about subtasks that are not that worker's.
    pub wrong_worker: u64,
    /// Worker messages that make no sense in the job's state.
    pub unexpected: u64,
    /// Store replies nobody waits for any more.
    pub stale_reply: u64,
}

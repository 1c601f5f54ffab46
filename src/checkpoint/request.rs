//! What the control plane asks of the checkpoint store, as data: the pure jobmaster emits a [`StoreRequest`], a
//! shell runs [`execute`](crate::checkpoint::execute) and feeds the [`StoreReply`] back.

use crate::checkpoint::{CheckpointHistory, Inherit, Manifest};
use crate::cluster::message::Failure;
use crate::error::Error;
use crate::id::{CheckpointId, JobId, LeaderEpoch};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Links a reply to its request; unique within a jobmaster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// One thing to do in the job's directory. Every request may be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreRequest {
    /// Read the newest completed checkpoint, and take the next place of the commit log so that nothing written
    /// before can be committed after.
    LoadLatest {
        /// The leader that asks.
        leader_epoch: LeaderEpoch,
        /// Unique to this request.
        nonce: String,
        /// The parallelism that a person has asked for; if there is none here, what was recorded before stays.
        rescaled: Option<Rescaled>,
    },
    /// Find out whether there is a later leader.
    CheckLeader {
        /// The leader that asks.
        leader_epoch: LeaderEpoch,
    },
    /// Make a checkpoint the newest completed one.
    Commit(Box<Commit>),
    /// Copy the files of a checkpoint of another job, to make it one of this job.
    Inherit(Inherit),
    /// Make a savepoint complete that the job itself does not go back to.
    WriteSavepoint(Box<Manifest>),
    /// Delete what a savepoint that was given up has left in its directory. Touches nothing if it is complete.
    DiscardSavepoint {
        /// The leader that asks.
        leader_epoch: LeaderEpoch,
        /// Its number.
        checkpoint: CheckpointId,
        /// Its directory.
        location: String,
    },
    /// Write down what became of the last checkpoints.
    WriteHistory {
        /// The leader that asks.
        leader_epoch: LeaderEpoch,
        /// What became of them.
        history: CheckpointHistory,
    },
    /// Delete what no retained checkpoint needs.
    Sweep(Sweep),
    /// Write down how the job ended.
    WriteStatus(TerminalRecord),
    /// Delete the checkpoints of a job that has ended.
    Dispose(Dispose),
}

/// A checkpoint to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The checkpoint.
    pub manifest: Manifest,
    /// Its place in the commit log: one above the last record known.
    pub record: u64,
    /// The checkpoints to keep from then on, this one included.
    pub retained: Vec<CheckpointId>,
    /// The parallelism that a person has asked for, which every record repeats.
    pub rescaled: Option<Rescaled>,
}

/// A parallelism that a person has asked for. It holds as long as the program is started with the one it had then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rescaled {
    /// The highest parallelism of the program as it was started.
    pub from: u32,
    /// What was asked for.
    pub to: u32,
}

/// What may be deleted: directories of checkpoints older than the newest completed one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// The leader that asks.
    pub leader_epoch: LeaderEpoch,
    /// The newest completed checkpoint; only older ones are looked at.
    pub newest: CheckpointId,
    /// Its place in the commit log.
    pub record: u64,
    /// Checkpoints that stay whole, completed or under way.
    pub keep: BTreeSet<CheckpointId>,
    /// Files that stay although they lie in the directory of another checkpoint: everything a retained manifest
    /// names.
    pub keep_files: BTreeSet<String>,
    /// Unique to the leader; given if what the job has claimed is no longer needed and goes, too.
    pub release: Option<String>,
}

/// What to delete once a job has ended: all its checkpoints, and what it has claimed. Its savepoints lie elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispose {
    /// The leader that asks.
    pub leader_epoch: LeaderEpoch,
    /// Unique to the leader.
    pub nonce: String,
}

/// How a job ended: `status.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalRecord {
    /// The job.
    pub job: JobId,
    /// Who says so.
    pub leader_epoch: LeaderEpoch,
    /// How.
    pub status: TerminalStatus,
    /// Why, if it failed.
    pub failure: Option<Failure>,
    /// The newest completed checkpoint, if there is one.
    pub last_checkpoint: Option<CheckpointId>,
    /// Directory of the savepoint with which the job was stopped.
    pub savepoint: Option<String>,
    /// Whether its checkpoints outlive it. If not, those still there are what an interrupted deletion has left.
    pub keeps_checkpoints: bool,
}

/// The ways a job can end for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TerminalStatus {
    /// All input is processed and all output published.
    Finished,
    /// Given up after a failure.
    Failed,
    /// Stopped by a person.
    Canceled,
}

impl fmt::Display for TerminalStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        })
    }
}

/// The answer to a [`StoreRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreReply {
    /// To `LoadLatest`.
    Loaded(Box<Loaded>),
    /// To `CheckLeader`: there is none.
    Leads,
    /// To `Commit`: the record is durable.
    Committed,
    /// To `Commit`: this checkpoint can never be committed, and was not; others can.
    Refused(Failure),
    /// To `Inherit`: the files are there.
    Inherited,
    /// To `WriteSavepoint`: it is durable.
    SavepointWritten,
    /// To `Sweep`, `DiscardSavepoint` and `Dispose`: how many objects went.
    Deleted(u64),
    /// To a `Sweep` that releases: how many objects went, those claimed included.
    Released(u64),
    /// To `WriteStatus`.
    StatusWritten,
    /// To `WriteHistory`.
    HistoryWritten,
    /// The request failed; of kind `Retry` when repeating it can help.
    Failed(Failure),
}

impl From<&Error> for StoreReply {
    fn from(e: &Error) -> Self {
        Self::Failed(Failure::from(e))
    }
}

/// What the store knows of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The newest completed checkpoint; `None` if the job never completed one.
    pub latest: Option<Manifest>,
    /// Number of the last record in the commit log, now taken by the leader that asked.
    pub record: u64,
    /// The parallelism that a person has asked for.
    pub rescaled: Option<Rescaled>,
    /// The highest checkpoint id ever seen in the job's directory.
    pub highest: CheckpointId,
    /// The other retained checkpoints, oldest first; a manifest is `None` if it cannot be read.
    pub older: Vec<(CheckpointId, Option<Manifest>)>,
    /// Whether the job has claimed what it was restored from, and not yet deleted it.
    pub claims: bool,
    /// What became of the last checkpoints, as far as it was written down.
    pub history: CheckpointHistory,
}

//! What is said between a jobmanager and its taskmanagers.

use crate::cluster::message::{Failure, FromWorker, ToWorker};
use crate::id::{JobId, LeaderEpoch, WorkerId};
use serde::{Deserialize, Serialize};

/// Version of everything said here. Members of a cluster have the same. It stands in the head of the call, outside of the
/// messages: those of another version could not be read.
pub(super) const VERSION: u32 = 2;
/// Where in the head of the call.
pub(super) const VERSION_KEY: &str = "tidegate-version";

/// From a taskmanager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToJobManager {
    /// First, and once.
    Register(Register),
    /// It is alive.
    Heartbeat,
    /// What became of a subtask.
    Report(FromWorker),
}

/// Who wants to join, and what it brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Register {
    /// The job that it is of, if it knows that.
    pub(crate) job: Option<String>,
    /// The text that the members of the cluster know; empty if there is none.
    pub(crate) token: String,
    /// Fingerprint of the program: see [`Program::fingerprint`](crate::graph::Program::fingerprint).
    pub(crate) program: String,
    /// Name of the state backend.
    pub(crate) backend: String,
    /// How many subtasks of each vertex it can run.
    pub(crate) slots: u32,
    /// Where it takes records.
    pub(crate) data_address: String,
    /// Its process id, for people.
    pub(crate) pid: u32,
}

/// Who answers at an address. In JSON, as jobmanagers of different releases may ask each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Who {
    /// The nonce with which it leads, or wants to.
    pub(super) nonce: String,
}

/// From the jobmanager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ToTaskManager {
    /// The taskmanager is a member.
    Registered(Registered),
    /// It is not, and why.
    Refused(Failure),
    /// The jobmanager is alive.
    Heartbeat,
    /// What to do.
    Command {
        /// What.
        message: ToWorker,
        /// With a deployment: where the other taskmanagers take records.
        peers: Vec<(WorkerId, String)>,
    },
    /// Its subtasks do not stop: the process is to end at once.
    Abandon {
        /// What did not stop.
        why: String,
    },
    /// The job is over.
    End {
        /// Why it failed, if it did.
        failure: Option<Failure>,
    },
}

/// What a new member has to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Registered {
    /// Its number.
    pub(crate) worker: WorkerId,
    /// The leader it obeys.
    pub(crate) leader_epoch: LeaderEpoch,
    /// The same for all members.
    pub(crate) settings: Settings,
}

/// What all members have to agree on; the jobmanager's word counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) job: JobId,
    /// Random for this life of the jobmanager: what earlier ones commanded cannot send records to what this one does.
    pub(crate) secret: String,
    /// The directory that holds the job's.
    pub(crate) checkpoint_dir: String,
    pub(crate) storage_timeout_ms: u64,
    /// Whether checkpoint files are compressed with zstd.
    pub(crate) zstd: bool,
    pub(crate) heartbeat_interval_ms: u64,
    pub(crate) heartbeat_timeout_ms: u64,
    pub(crate) cancel_timeout_ms: u64,
}

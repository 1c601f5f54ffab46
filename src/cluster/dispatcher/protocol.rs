//! What a person's command and a standing cluster say to each other: one request, one reply, in JSON.

use super::hash::ProgramHash;
use crate::cluster::message::Failure;
use serde::{Deserialize, Serialize};

/// Version of [`ClusterCall`] and of what is in it.
pub(crate) const CLUSTER_VERSION: u32 = 1;

/// What is asked of a standing cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum ClusterRequest {
    /// To run a program: `Job`.
    Submit(Submission),
    /// What there is: `Cluster`.
    List,
    /// To forget a job that does not run: `Job`. One that runs is left alone, and its jobmanager has to be asked.
    Withdraw {
        /// Its id.
        job: String,
    },
}

/// A program to be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// Its name in the allow-list.
    pub program: String,
    /// The hash that it must have.
    pub sha256: Option<ProgramHash>,
    /// The job's id.
    pub job: String,
    /// The program's command line.
    pub arguments: Vec<String>,
    /// Slots, in all; as many as the job needs if absent.
    pub slots: Option<u32>,
    /// Taskmanagers over which the slots are spread.
    pub taskmanagers: u32,
}

/// What a standing cluster answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum ClusterReply {
    /// What it knows of a job.
    Job(ClusterJob),
    /// What there is.
    Cluster(ClusterReport),
    /// What was asked for did not happen.
    Failed(Failure),
}

/// What a standing cluster says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterReport {
    /// All slots.
    pub slots: u32,
    /// Those that no job has.
    pub free_slots: u32,
    /// Its jobs, in the order of their submission; only the last of those that have ended.
    pub jobs: Vec<ClusterJob>,
}

/// What a standing cluster says of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterJob {
    /// Its id.
    pub job: String,
    /// The program's name in the allow-list.
    pub program: String,
    /// The hash of what runs.
    pub sha256: ProgramHash,
    /// `checking`, `queued`, `running`, `restarting`, `ending`; `finished`, `failed`, `canceled`, `withdrawn`.
    pub status: String,
    /// More about that.
    pub why: Option<String>,
    /// `host:port` of its jobmanager, if one runs.
    pub jobmanager: Option<String>,
    /// Slots, in all.
    pub slots: u32,
    /// Taskmanagers.
    pub taskmanagers: u32,
    /// How often one of its processes was started again by this process of the cluster.
    pub restarts: u64,
    /// When it was submitted, in milliseconds since the Unix epoch.
    pub submitted_at_ms: u64,
    /// The directory or URL below which its checkpoints are, in a directory called after its id.
    pub checkpoint_dir: String,
}

/// A request over the network: first the caller says who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterCall {
    /// [`CLUSTER_VERSION`].
    pub(crate) version: u32,
    /// The text that the members of the cluster know; empty if there is none.
    pub(crate) token: String,
    pub(crate) request: ClusterRequest,
}

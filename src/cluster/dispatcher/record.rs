//! What a standing cluster has written down of a job.

use super::hash::ProgramHash;
use crate::checkpoint::{TerminalRecord, TerminalStatus};
use crate::id::JobId;
use serde::{Deserialize, Serialize};

/// A job that was submitted: `jobs/<job id>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JobRecord {
    /// Rises with every job: the order of the queue.
    pub(super) number: u64,
    pub(super) job: JobId,
    /// The program's name in the allow-list.
    pub(super) program: String,
    /// What runs is the copy of this hash.
    pub(super) sha256: ProgramHash,
    /// What its processes are given, but for what makes them members of this cluster.
    pub(super) arguments: Vec<String>,
    /// Slots of each taskmanager.
    pub(super) taskmanagers: Vec<u32>,
    /// The directory or URL below which its directory is.
    pub(super) checkpoint_dir: String,
    /// When, in milliseconds since the Unix epoch.
    pub(super) submitted_at_ms: u64,
    /// How it ended; absent as long as that is not known.
    pub(super) outcome: Option<Outcome>,
}

/// How a job has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) status: EndStatus,
    /// Why, if it failed.
    pub(super) why: Option<String>,
}

/// The ways in which a cluster can be done with a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum EndStatus {
    /// So says its status in the store; so do the next two.
    Finished,
    Failed,
    Canceled,
    /// A person has taken it from the cluster while it did not run. In the store it has not ended.
    Withdrawn,
}

impl EndStatus {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl From<TerminalRecord> for Outcome {
    fn from(record: TerminalRecord) -> Self {
        let status = match record.status {
            TerminalStatus::Finished => EndStatus::Finished,
            TerminalStatus::Failed => EndStatus::Failed,
            TerminalStatus::Canceled => EndStatus::Canceled,
        };
        Self { status, why: record.failure.map(|failure| failure.message) }
    }
}

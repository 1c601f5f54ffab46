//! Handles to state files, and what a subtask reports when it has snapshotted.

use crate::id::{CheckpointId, JobId, OperatorUid};
use serde::{Deserialize, Serialize};
use tidegate_state::{FileForm, SnapshotFile};

/// Which kind of state a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateFileKind {
    /// Keyed state and timers.
    Keyed,
    /// A local file of a keyed backend: a table file of RocksDB.
    Table,
    /// Operator state: source positions, pending commits, watermarks, finished flags.
    Operator,
    /// Records in flight to a subtask, under the first operator of its chain.
    InFlight,
}

impl StateFileKind {
    /// Its number in the envelope of a file.
    pub(crate) fn envelope_kind(self) -> u8 {
        match self {
            Self::Keyed => 1,
            Self::Operator => 2,
            Self::Table => 3,
            Self::InFlight => 4,
        }
    }
}

/// One immutable file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHandle {
    /// What it holds.
    pub kind: StateFileKind,
    /// Unique for ever; part of the identity inside the file.
    pub id: String,
    /// Path below the job's directory. Never reused.
    pub path: String,
    /// Length in bytes.
    pub length: u64,
    /// CRC32 of the whole file, envelope included.
    pub crc32: u32,
    /// The checkpoint that brought it: this one, or an earlier one of its writer.
    pub checkpoint: CheckpointId,
    /// The job that wrote it, if it was another one, from which this job has inherited it. Files of older builds do not
    /// say: they have none of others.
    #[serde(default)]
    pub written_by: Option<JobId>,
}

/// What the envelope of a state file says it is: the right file in the wrong place is found by it.
pub(crate) fn file_identity(
    job: &JobId,
    operator: &OperatorUid,
    subtask: u32,
    checkpoint: CheckpointId,
    id: &str,
) -> String {
    format!("{job}/{operator}/{subtask}/{checkpoint}/{id}")
}

impl StateHandle {
    /// What the envelope of the file has to say if it is one of this operator of this subtask in a checkpoint of `job`. Table
    /// files go from subtask to subtask when the parallelism changes, and inherited ones from job to job; both keep the
    /// identity that their first writer gave them.
    pub(crate) fn identity(&self, job: &JobId, operator: &OperatorUid, subtask: u32) -> String {
        let job = self.written_by.as_ref().unwrap_or(job);
        let writer = match self.kind {
            StateFileKind::Table => writer(&self.id),
            StateFileKind::Keyed | StateFileKind::Operator | StateFileKind::InFlight => None,
        };
        file_identity(job, operator, writer.unwrap_or(subtask), self.checkpoint, &self.id)
    }

    /// The handle of a file of keyed state.
    pub(crate) fn of_keyed(file: &SnapshotFile) -> Self {
        Self {
            kind: match file.form {
                FileForm::Written => StateFileKind::Keyed,
                FileForm::Copied => StateFileKind::Table,
            },
            id: file.id.to_string(),
            path: file.path.to_string(),
            length: file.length,
            crc32: file.crc32,
            checkpoint: CheckpointId(file.checkpoint),
            // Of one that is shared the base knows it.
            written_by: None,
        }
    }

    /// The file of keyed state that the handle is of; none if it is of another kind.
    pub(crate) fn keyed_file(&self) -> Option<SnapshotFile> {
        let form = match self.kind {
            StateFileKind::Keyed => FileForm::Written,
            StateFileKind::Table => FileForm::Copied,
            StateFileKind::Operator | StateFileKind::InFlight => return None,
        };
        Some(SnapshotFile {
            id: self.id.as_str().into(),
            path: self.path.as_str().into(),
            length: self.length,
            crc32: self.crc32,
            checkpoint: self.checkpoint.0,
            form,
        })
    }
}

/// The index of the subtask in the id of a file, which begins with `<vertex>.<subtask>-`.
fn writer(id: &str) -> Option<u32> {
    id.split_once('-')?.0.split_once('.')?.1.parse().ok()
}

/// State of one operator of one subtask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorHandles {
    /// Whose state it is.
    pub operator: OperatorUid,
    /// Names of its states, for people. Files of older builds do not say.
    #[serde(default)]
    pub states: Vec<String>,
    /// Its files; empty if the operator had nothing to keep. Those of keyed state stand in the order in which the
    /// backend named them.
    pub files: Vec<StateHandle>,
}

/// What a subtask hands over for a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskSnapshot {
    /// State per operator of the chain.
    pub operators: Vec<OperatorHandles>,
    /// Where the time went.
    pub timings: SubtaskTimings,
}

/// The four times of a subtask's checkpoint, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskTimings {
    /// From trigger to the first barrier.
    pub start_delay_us: u64,
    /// From the first barrier to the last.
    pub alignment_us: u64,
    /// Freezing state on the task's thread.
    pub sync_us: u64,
    /// Serialising and uploading elsewhere.
    pub async_us: u64,
}

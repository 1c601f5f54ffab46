//! What a jobmanager tells people of its job beyond the report: its taskmanagers, its last checkpoints, its last failures.

use crate::checkpoint::HistoryEntry;
use crate::cluster::jobmanager::JobReport;
use crate::cluster::jobmaster::{JobMaster, JobNotice};
use crate::error::ErrorKind;
use crate::id::{Attempt, LeaderEpoch, SubtaskId, WorkerId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Failures remembered.
const MOST_FAILURES: usize = 64;
/// Longest text of a failure that is kept, in characters.
const LONGEST_MESSAGE: usize = 4_000;
/// Checkpoints told of.
const LAST_CHECKPOINTS: usize = 10;

/// What a job says of itself at length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobInfo {
    /// The short form.
    #[serde(flatten)]
    pub report: JobReport,
    /// Fingerprint of the plan, as 16 hexadecimal digits: members of a cluster have the same.
    pub plan: String,
    /// The term of the jobmanager.
    pub leader_epoch: LeaderEpoch,
    /// `host:port` of the jobmanager, if its taskmanagers are other processes.
    pub jobmanager: Option<String>,
    /// The taskmanagers that are there.
    pub taskmanagers: Vec<TaskManagerInfo>,
    /// What became of the last checkpoints, oldest first.
    pub checkpoints: Vec<HistoryEntry>,
}

/// A taskmanager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskManagerInfo {
    /// Its number in this life of the jobmanager.
    pub id: WorkerId,
    /// How many subtasks of each vertex it can run.
    pub slots: u32,
    /// The process, if it is one of its own.
    pub process: Option<TaskManagerAddress>,
    /// The subtasks that have not ended there.
    pub subtasks: Vec<RunningSubtask>,
}

/// The process of a taskmanager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskManagerAddress {
    /// `host:port` at which it takes records.
    pub address: String,
    /// Its process id on its machine.
    pub pid: u32,
}

/// A subtask on a taskmanager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningSubtask {
    /// Its number, counted from 0.
    pub index: u32,
    /// Number of the vertex in the plan.
    pub vertex: u32,
    /// The vertex' name.
    pub name: String,
}

/// A failure of the job and what followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobException {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The attempt that failed.
    pub attempt: Attempt,
    /// The subtask that failed, in words, if it was one.
    pub subtask: Option<String>,
    /// The taskmanager on which it failed, if it was one.
    pub taskmanager: Option<WorkerId>,
    /// What it asked for.
    pub kind: ErrorKind,
    /// What was wrong.
    pub message: String,
    /// The pause before the next attempt, in milliseconds; `None` if there was none.
    pub restarting_after_ms: Option<u64>,
}

/// The last failures.
#[derive(Debug, Default)]
pub(super) struct Failures(VecDeque<JobException>);

impl Failures {
    pub(super) fn note(&mut self, notice: &JobNotice, master: &JobMaster, now_ms: u64) {
        match notice {
            JobNotice::Failed { attempt, subtask, worker, failure, .. } => {
                if self.0.len() == MOST_FAILURES {
                    self.0.pop_front();
                }
                self.0.push_back(JobException {
                    at_ms: now_ms,
                    attempt: *attempt,
                    subtask: subtask.map(|subtask| master.graph().place(subtask)),
                    taskmanager: *worker,
                    kind: failure.kind,
                    message: failure.message.chars().take(LONGEST_MESSAGE).collect(),
                    restarting_after_ms: None,
                });
            }
            JobNotice::Restarting { after_ms, .. } => {
                if let Some(last) = self.0.back_mut() {
                    last.restarting_after_ms = Some(*after_ms);
                }
            }
            _ => {}
        }
    }

    /// Oldest first.
    pub(super) fn all(&self) -> Vec<JobException> {
        self.0.iter().cloned().collect()
    }
}

/// The taskmanagers with what runs on them.
pub(super) fn taskmanagers(
    master: &JobMaster,
    addresses: &BTreeMap<WorkerId, TaskManagerAddress>,
) -> Vec<TaskManagerInfo> {
    let subtask = |SubtaskId { vertex, index }: SubtaskId| RunningSubtask {
        index,
        vertex: vertex.0,
        name: master.graph().vertex(vertex).map_or_else(String::new, |v| v.name.clone()),
    };
    let on = |worker| master.live().filter(move |(_, at)| *at == worker).map(|(s, _)| subtask(s)).collect();
    let info = |(id, slots): (&WorkerId, &u32)| TaskManagerInfo {
        id: *id,
        slots: *slots,
        process: addresses.get(id).cloned(),
        subtasks: on(*id),
    };
    master.taskmanagers().iter().map(info).collect()
}

/// The last checkpoints.
pub(super) fn last_checkpoints(master: &JobMaster) -> Vec<HistoryEntry> {
    let history = master.checkpoint_history();
    let skipped = history.entries().count().saturating_sub(LAST_CHECKPOINTS);
    history.entries().skip(skipped).cloned().collect()
}

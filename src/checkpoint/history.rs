//! What became of the last checkpoints of a job: kept by the coordinator, written to `history.json` for people.
//!
//! Bounded, best effort and never read by the protocol: the truth about completed checkpoints is in the commit log.

use crate::checkpoint::{Barrier, CheckpointKind, JobStore, Manifest, SubtaskTimes, envelope};
use crate::error::Result;
use crate::id::CheckpointId;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

const HISTORY: &str = "tidegate-history";
pub(crate) const HISTORY_PATH: &str = "history.json";

/// Checkpoints remembered.
const MOST: usize = 64;
/// Times of subtasks remembered, over all checkpoints; those of the newest checkpoint always are.
const MOST_TIMES: usize = 4_096;
/// Longest reason kept, in characters.
const LONGEST_WHY: usize = 1_000;
/// Completed checkpoints after which the history is written although nothing has failed.
const WRITE_EVERY: u32 = 16;

/// One checkpoint and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Which.
    pub checkpoint: CheckpointId,
    /// Why it was taken.
    pub kind: CheckpointKind,
    /// When it was triggered, in milliseconds since the Unix epoch.
    pub triggered_at_ms: u64,
    /// When it was complete or given up.
    pub ended_at_ms: u64,
    /// Bytes of state, if it is complete.
    pub state_bytes: Option<u64>,
    /// Bytes of the files that it brought: all of them, or, if it was given up, those of the subtasks that had
    /// acknowledged it. 0 in histories of older builds.
    #[serde(default)]
    pub uploaded_bytes: u64,
    /// The four times of every subtask; if it was given up, of those that had acknowledged it. Empty in old entries of jobs
    /// with many subtasks, and in histories of older builds.
    #[serde(default)]
    pub subtasks: Vec<SubtaskTimes>,
    /// Its directory, if it is a savepoint.
    pub location: Option<String>,
    /// Why it was given up; `None` if it is complete.
    pub failure: Option<String>,
}

/// The last checkpoints, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointHistory {
    entries: VecDeque<HistoryEntry>,
}

impl CheckpointHistory {
    /// What became of the last checkpoints, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &HistoryEntry> {
        self.entries.iter()
    }
}

/// What subtasks have brought to a checkpoint, complete or not.
#[derive(Clone, Debug, Default)]
pub(super) struct Brought {
    pub(super) uploaded_bytes: u64,
    pub(super) subtasks: Vec<SubtaskTimes>,
}

impl Brought {
    pub(super) fn by_all(manifest: &Manifest) -> Self {
        Self { uploaded_bytes: manifest.uploaded_bytes(), subtasks: manifest.subtasks.clone() }
    }
}

/// A history that knows whether it is worth writing.
#[derive(Debug, Default)]
pub(super) struct HistoryKeeper {
    history: CheckpointHistory,
    unwritten: u32,
    failed: bool,
}

impl HistoryKeeper {
    /// Takes over what an earlier leader wrote, unless there is something already.
    pub(super) fn load(&mut self, written: &CheckpointHistory) {
        if self.history.entries.is_empty() {
            self.history = written.clone();
        }
    }

    pub(super) fn history(&self) -> &CheckpointHistory {
        &self.history
    }

    pub(super) fn completed(&mut self, manifest: &Manifest, now_ms: u64) {
        let Brought { uploaded_bytes, subtasks } = Brought::by_all(manifest);
        self.push(HistoryEntry {
            checkpoint: manifest.checkpoint,
            kind: manifest.kind,
            triggered_at_ms: manifest.triggered_at_ms,
            ended_at_ms: now_ms,
            state_bytes: Some(manifest.state_bytes()),
            uploaded_bytes,
            subtasks,
            location: manifest.location.clone(),
            failure: None,
        });
    }

    pub(super) fn gave_up(&mut self, barrier: &Barrier, brought: Brought, why: &str, now_ms: u64) {
        self.failed = true;
        self.push(HistoryEntry {
            checkpoint: barrier.checkpoint,
            kind: barrier.kind,
            triggered_at_ms: barrier.triggered_at_ms,
            ended_at_ms: now_ms,
            state_bytes: None,
            uploaded_bytes: brought.uploaded_bytes,
            subtasks: brought.subtasks,
            location: barrier.location.as_deref().map(str::to_owned),
            failure: Some(why.chars().take(LONGEST_WHY).collect()),
        });
    }

    fn push(&mut self, entry: HistoryEntry) {
        if self.history.entries.len() == MOST {
            self.history.entries.pop_front();
        }
        let mut room = MOST_TIMES.saturating_sub(entry.subtasks.len());
        for older in self.history.entries.iter_mut().rev() {
            if older.subtasks.len() > room {
                older.subtasks = Vec::new();
                room = 0;
            }
            room -= older.subtasks.len();
        }
        self.history.entries.push_back(entry);
        self.unwritten = self.unwritten.saturating_add(1);
    }

    /// The history, if it is time to write it; `ending` if there will be no other time.
    pub(super) fn take_due(&mut self, ending: bool) -> Option<CheckpointHistory> {
        if !self.failed && self.unwritten < WRITE_EVERY && !(ending && self.unwritten > 0) {
            return None;
        }
        (self.failed, self.unwritten) = (false, 0);
        Some(self.history.clone())
    }
}

pub(crate) fn encode_history(history: &CheckpointHistory) -> Result<Vec<u8>> {
    envelope::seal(HISTORY, history)
}

/// The last checkpoints of a job and what became of them; empty if nothing was written.
///
/// # Errors
/// The store's, or a data error that names the file if it is damaged.
pub async fn read_history(store: &JobStore) -> Result<CheckpointHistory> {
    match store.get(HISTORY_PATH).await? {
        Some(bytes) => envelope::open(HISTORY, &bytes, &store.shown(HISTORY_PATH)),
        None => Ok(CheckpointHistory::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With so many subtasks.
    fn manifest(id: u64, subtasks: u32) -> Manifest {
        let times = |index| SubtaskTimes { vertex: "v".into(), index, timings: Default::default() };
        Manifest {
            subtasks: (0..subtasks).map(times).collect(),
            ..crate::checkpoint::store_tests::manifest(id, 1, "n")
        }
    }

    #[test]
    fn is_bounded_and_written_at_once_after_a_failure_else_now_and_then() {
        let mut keeper = HistoryKeeper::default();
        for id in 1..u64::from(WRITE_EVERY) {
            keeper.completed(&manifest(id, 1), id);
            assert_eq!(keeper.take_due(false), None);
        }
        keeper.completed(&manifest(16, 1), 16);
        assert_eq!(keeper.take_due(false).unwrap().entries.len(), 16);
        let barrier = Barrier::new(CheckpointId(17), CheckpointKind::Periodic, 5);
        keeper.gave_up(&barrier, Brought::default(), &"x".repeat(5_000), 9);
        let written = keeper.take_due(false).unwrap();
        assert_eq!(written.entries.back().unwrap().failure.as_ref().unwrap().len(), LONGEST_WHY);
        assert_eq!(keeper.take_due(true), None, "nothing new");
        for id in 18..200 {
            keeper.completed(&manifest(id, 1), id);
        }
        let written = keeper.take_due(true).unwrap();
        assert_eq!(written.entries.len(), MOST);
        assert_eq!(written.entries.back().unwrap().checkpoint, CheckpointId(199));
    }
    #[test]
    fn times_of_subtasks_are_bounded_over_all_checkpoints_and_the_newest_has_them() {
        let mut keeper = HistoryKeeper::default();
        for id in 1..=5 {
            keeper.completed(&manifest(id, 1_500), id);
        }
        let times = |keeper: &HistoryKeeper| -> Vec<usize> {
            keeper.history().entries().map(|e| e.subtasks.len()).collect()
        };
        assert_eq!(times(&keeper), [0, 0, 0, 1_500, 1_500]);
        keeper.completed(&manifest(6, 5_000), 6);
        assert_eq!(times(&keeper), [0, 0, 0, 0, 0, 5_000]);
        keeper.completed(&manifest(7, 1), 7);
        assert_eq!(times(&keeper), [0, 0, 0, 0, 0, 0, 1]);
    }
}

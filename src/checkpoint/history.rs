//! What became of the last checkpoints of a job: kept by the coordinator, written to `history.json` for people.
//!
//! Bounded, best effort and never read by the protocol: the truth about completed checkpoints is in the commit log.

use crate::checkpoint::{Barrier, CheckpointKind, JobStore, envelope};
use crate::error::Result;
use crate::id::CheckpointId;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

const HISTORY: &str = "tidegate-history";
pub(crate) const HISTORY_PATH: &str = "history.json";

/// Checkpoints remembered.
const MOST: usize = 64;
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

    pub(super) fn completed(&mut self, entry: HistoryEntry) {
        self.push(entry);
    }

    pub(super) fn gave_up(&mut self, barrier: &Barrier, why: &str, now_ms: u64) {
        self.failed = true;
        self.push(HistoryEntry {
            checkpoint: barrier.checkpoint,
            kind: barrier.kind,
            triggered_at_ms: barrier.triggered_at_ms,
            ended_at_ms: now_ms,
            state_bytes: None,
            location: barrier.location.as_deref().map(str::to_owned),
            failure: Some(why.chars().take(LONGEST_WHY).collect()),
        });
    }

    fn push(&mut self, entry: HistoryEntry) {
        if self.history.entries.len() == MOST {
            self.history.entries.pop_front();
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

    fn entry(id: u64) -> HistoryEntry {
        HistoryEntry {
            checkpoint: CheckpointId(id),
            kind: CheckpointKind::Periodic,
            triggered_at_ms: id,
            ended_at_ms: id + 1,
            state_bytes: Some(1),
            location: None,
            failure: None,
        }
    }

    #[test]
    fn is_bounded_and_written_at_once_after_a_failure_else_now_and_then() {
        let mut keeper = HistoryKeeper::default();
        for id in 1..u64::from(WRITE_EVERY) {
            keeper.completed(entry(id));
            assert_eq!(keeper.take_due(false), None);
        }
        keeper.completed(entry(16));
        assert_eq!(keeper.take_due(false).unwrap().entries.len(), 16);
        let barrier = Barrier::new(CheckpointId(17), CheckpointKind::Periodic, 5);
        keeper.gave_up(&barrier, &"x".repeat(5_000), 9);
        let written = keeper.take_due(false).unwrap();
        assert_eq!(written.entries.back().unwrap().failure.as_ref().unwrap().len(), LONGEST_WHY);
        assert_eq!(keeper.take_due(true), None, "nothing new");
        for id in 18..200 {
            keeper.completed(entry(id));
        }
        let written = keeper.take_due(true).unwrap();
        assert_eq!(written.entries.len(), MOST);
        assert_eq!(written.entries.back().unwrap().checkpoint, CheckpointId(199));
    }
}

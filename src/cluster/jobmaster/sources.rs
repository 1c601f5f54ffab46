//! Handing out splits.
//!
//! Invariant: an enumerator is snapshotted in the same step that sends a checkpoint's triggers. A split handed out
//! before is in a reader's state, one handed out after is in the enumerator's; none is in both or neither.

use super::{JobAction, JobMaster, NextSplit, Phase, Placed, SPLIT_RETRY_MS};
use crate::checkpoint::EnumeratorState;
use crate::cluster::message::{Failure, ToWorker};
use crate::error::Result;
use crate::id::{OperatorUid, SubtaskId};

impl JobMaster {
    /// A source reader wants a split.
    pub(super) fn split_requested(&mut self, subtask: SubtaskId, operator: OperatorUid, now_ms: u64) {
        let belongs =
            self.graph.vertex(subtask.vertex).is_some_and(|v| v.operators.iter().any(|o| o.uid == operator));
        if !belongs || !self.takes_splits(subtask) {
            self.counters.unexpected += 1;
            return;
        }
        self.hand_out(subtask, operator, now_ms);
    }

    /// Repeats requests that found nothing.
    pub(super) fn retry_splits(&mut self, now_ms: u64) {
        if self.split_retry_ms.is_some_and(|at| at <= now_ms) {
            self.split_retry_ms = None;
            for (subtask, operator) in std::mem::take(&mut self.waiting_splits) {
                if self.takes_splits(subtask) {
                    self.hand_out(subtask, operator, now_ms);
                }
            }
        }
    }

    fn takes_splits(&self, subtask: SubtaskId) -> bool {
        match self.phase {
            Phase::Running => true,
            Phase::Closing { .. } | Phase::Ended { .. } => false,
            _ => self.goes_on(subtask),
        }
    }

    /// Forgets what those that restart have asked for.
    pub(super) fn forget_splits(&mut self) {
        let scope = &self.scope;
        self.waiting_splits.retain(|(subtask, _)| !scope.has(*subtask));
        if self.waiting_splits.is_empty() {
            self.split_retry_ms = None;
        }
    }

    fn hand_out(&mut self, subtask: SubtaskId, operator: OperatorUid, now_ms: u64) {
        let Some(enumerator) = self.enumerators.get_mut(&operator) else {
            self.counters.unexpected += 1;
            return;
        };
        let split = match enumerator.next(subtask.index) {
            Ok(NextSplit::Split(split)) => Some(split),
            Ok(NextSplit::NoMore) => None,
            Ok(NextSplit::Wait) => {
                self.waiting_splits.insert((subtask, operator));
                self.split_retry_ms.get_or_insert(now_ms.saturating_add(SPLIT_RETRY_MS));
                return;
            }
            Err(e) => {
                let e = e.at(format!("enumerator of source '{operator}'"));
                return self.fail(Failure::from(&e), &[], now_ms);
            }
        };
        if let Some(Placed { worker, attempt }) = self.placement.get(&subtask).copied() {
            let message = ToWorker::AssignSplit { attempt, subtask, operator, split };
            self.out.push(JobAction::Send { worker, message });
        }
    }

    pub(super) fn snapshot_enumerators(&self) -> Result<Vec<EnumeratorState>> {
        self.enumerators
            .iter()
            .map(|(uid, enumerator)| {
                let state =
                    enumerator.snapshot().map_err(|e| e.at(format!("enumerator of source '{uid}'")))?;
                Ok(EnumeratorState { operator: uid.clone(), state })
            })
            .collect()
    }
}

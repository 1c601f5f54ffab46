//! Checkpoints of a running job: between the coordinator, the workers and the store.

use super::{JobAction, JobMaster, JobNotice, Phase, Purpose};
use crate::checkpoint::{CheckpointAction, CheckpointKind, StoreReply, StoreRequest, SubtaskSnapshot};
use crate::cluster::message::{Failure, ToWorker};
use crate::error::ErrorKind;
use crate::graph::OperatorKind;
use crate::id::{CheckpointId, SubtaskId};

impl JobMaster {
    /// Triggers what is due.
    pub(super) fn trigger_due(&mut self, now_ms: u64) {
        while let Some(kind) = self.coordinator.due(now_ms) {
            let enumerators = match self.snapshot_enumerators() {
                Ok(states) => states,
                Err(e) => return self.fail(Failure::from(&e), None, now_ms),
            };
            let barrier = self.coordinator.trigger(kind, enumerators, now_ms);
            self.notice(JobNotice::CheckpointTriggered { checkpoint: barrier.checkpoint, kind });
            let sources = self
                .graph
                .vertices
                .iter()
                .filter(|v| v.operators.first().is_some_and(|o| o.kind == OperatorKind::Source));
            for subtask in
                sources.flat_map(|v| (0..v.parallelism).map(|index| SubtaskId { vertex: v.id, index }))
            {
                if let Some(worker) = self.placement.get(&subtask).copied() {
                    let message = ToWorker::TriggerCheckpoint { attempt: self.attempt, subtask, barrier };
                    self.out.push(JobAction::Send { worker, message });
                }
            }
        }
    }

    /// A subtask has processed all its input; with the last one the final checkpoint is due.
    pub(super) fn subtask_drained(&mut self, subtask: SubtaskId) {
        match &mut self.phase {
            Phase::Running { drained } => {
                drained.insert(subtask);
                if drained.len() == self.placement.len() {
                    self.coordinator.request_final();
                }
            }
            // The other subtasks still start: `Running` comes before `Drained`, so it is kept for later.
            Phase::Deploying { .. } => {
                self.early_drained.insert(subtask);
            }
            _ => self.counters.unexpected += 1,
        }
    }

    pub(super) fn acknowledged(
        &mut self,
        checkpoint: CheckpointId,
        subtask: SubtaskId,
        snapshot: SubtaskSnapshot,
        now_ms: u64,
    ) {
        if !matches!(self.phase, Phase::Running { .. }) {
            self.counters.unexpected += 1;
            return;
        }
        let nonce = self.nonce();
        let actions = self.coordinator.on_ack(checkpoint, subtask, snapshot, || nonce, now_ms);
        self.follow(actions, now_ms);
    }

    pub(super) fn declined(
        &mut self,
        checkpoint: CheckpointId,
        subtask: SubtaskId,
        reason: &Failure,
        now_ms: u64,
    ) {
        if !matches!(self.phase, Phase::Running { .. }) {
            self.counters.unexpected += 1;
            return;
        }
        let message = format!("declined by {}: {}", self.graph.place(subtask), reason.message);
        let actions =
            self.coordinator.on_decline(checkpoint, &Failure { kind: reason.kind, message }, now_ms);
        self.follow(actions, now_ms);
    }

    pub(super) fn commit_answered(&mut self, reply: &StoreReply, now_ms: u64) {
        if !matches!(self.phase, Phase::Running { .. }) {
            self.counters.stale_reply += 1;
            return;
        }
        let actions = match reply {
            StoreReply::Committed => self.coordinator.on_committed(now_ms),
            StoreReply::Refused(failure) => self.coordinator.on_commit_refused(failure, now_ms),
            StoreReply::Failed(failure) => {
                self.notice(JobNotice::StoreTrouble {
                    what: "commit a checkpoint",
                    why: failure.message.clone(),
                });
                self.coordinator.on_commit_failed(failure, now_ms)
            }
            other => {
                self.counters.unexpected += 1;
                let message = format!("unexpected reply to a commit: {other:?}");
                self.coordinator.on_commit_failed(&Failure { kind: ErrorKind::Retry, message }, now_ms)
            }
        };
        self.follow(actions, now_ms);
    }

    /// Does what the coordinator wants.
    pub(super) fn follow(&mut self, actions: Vec<CheckpointAction>, now_ms: u64) {
        for action in actions {
            match action {
                CheckpointAction::Abort { checkpoint, why } => {
                    self.broadcast(|attempt| ToWorker::CheckpointAborted { attempt, checkpoint });
                    self.notice(JobNotice::CheckpointAborted { checkpoint, why });
                }
                CheckpointAction::Commit(commit) => {
                    self.request(Purpose::Commit, StoreRequest::Commit(Box::new(commit)));
                }
                CheckpointAction::Completed(completed) => {
                    let (checkpoint, kind) = (completed.checkpoint, completed.kind);
                    self.broadcast(|attempt| ToWorker::CheckpointCompleted { attempt, checkpoint });
                    self.notice(JobNotice::CheckpointCompleted(completed));
                    if kind == CheckpointKind::Final {
                        self.broadcast(|attempt| ToWorker::Finish { attempt });
                        self.enter(Phase::Finishing);
                    }
                }
                // One at a time: a store that is slow to delete must not pile requests up.
                CheckpointAction::Sweep(sweep) => {
                    if !self.requests.values().any(|p| *p == Purpose::Sweep) {
                        self.request(Purpose::Sweep, StoreRequest::Sweep(sweep));
                    }
                }
                CheckpointAction::Stalled { checkpoint, why } => {
                    self.notice(JobNotice::CheckpointStalled { checkpoint, why });
                }
                // The attempt ends here; what follows in the list is void.
                CheckpointAction::Fail(failure) => return self.fail(failure, None, now_ms),
            }
        }
    }

    /// Finishing: a subtask has ended.
    pub(super) fn subtask_finished(&mut self, subtask: SubtaskId, now_ms: u64) {
        match self.phase {
            Phase::Finishing | Phase::Stopping { .. } => {
                self.live.remove(&subtask);
            }
            _ => {
                self.live.remove(&subtask);
                let failure =
                    Failure { kind: ErrorKind::Bug, message: "finished before the final checkpoint".into() };
                self.fail(failure, Some(subtask), now_ms);
            }
        }
    }
}

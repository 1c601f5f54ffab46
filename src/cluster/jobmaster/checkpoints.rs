//! Checkpoints of a running job: between the coordinator, the workers and the store.

use super::failure::Then;
use super::{JobAction, JobMaster, JobNotice, Phase, Placed, Purpose};
use crate::checkpoint::{
    CheckpointAction, CheckpointKind, Due, SavepointRequest, StoreReply, StoreRequest, SubtaskSnapshot,
};
use crate::cluster::message::{Failure, ToWorker};
use crate::error::ErrorKind;
use crate::graph::{OperatorKind, Vertex};
use crate::id::{CheckpointId, SubtaskId};

impl JobMaster {
    /// Triggers what is due.
    pub(super) fn trigger_due(&mut self, now_ms: u64) {
        while let Some(due) = self.coordinator.due(now_ms) {
            let kind = match due {
                Due::Checkpoint(kind) => kind,
                Due::Drain => {
                    self.coordinator.drain_sent();
                    self.broadcast(|attempt| ToWorker::Drain { attempt });
                    continue;
                }
            };
            let enumerators = match self.snapshot_enumerators() {
                Ok(states) => states,
                Err(e) => return self.fail(Failure::from(&e), &[], now_ms),
            };
            let nonce = self.nonce();
            let barrier = self.coordinator.trigger(kind, enumerators, || nonce, now_ms);
            if kind == CheckpointKind::Periodic {
                self.rescale_triggered(barrier.checkpoint);
            }
            self.notice(JobNotice::CheckpointTriggered { checkpoint: barrier.checkpoint, kind });
            let sources = self
                .graph
                .vertices
                .iter()
                .filter(|v| v.operators.first().is_some_and(|o| o.kind == OperatorKind::Source));
            for subtask in sources.flat_map(Vertex::subtasks) {
                if let Some(Placed { worker, attempt }) = self.placement.get(&subtask).copied() {
                    let barrier = barrier.clone();
                    let message = ToWorker::TriggerCheckpoint { attempt, subtask, barrier };
                    self.out.push(JobAction::Send { worker, message });
                }
            }
        }
    }

    /// A person wants a savepoint: it is queued until the job runs, or refused if it will not run again.
    pub(super) fn savepoint_requested(&mut self, request: SavepointRequest, now_ms: u64) {
        let mut actions = self.coordinator.request_savepoint(request);
        if self.is_ending() {
            actions.extend(self.coordinator.refuse_savepoints());
        }
        self.follow(actions, now_ms);
    }

    /// Whether no attempt will run (again) to take a checkpoint.
    fn is_ending(&self) -> bool {
        match &self.phase {
            Phase::Finishing | Phase::Closing { .. } | Phase::Ended { .. } => true,
            Phase::Stopping { then, .. } => !matches!(then, Then::Restart { .. } | Then::Rescale),
            _ => self.stopped_with.is_some(),
        }
    }

    /// A subtask has processed all its input; with the last one the final checkpoint is due.
    pub(super) fn subtask_drained(&mut self, subtask: SubtaskId) {
        if !matches!(self.phase, Phase::Running) && !self.goes_on(subtask) {
            self.counters.unexpected += 1;
            return;
        }
        self.drained.insert(subtask);
        self.finish_if_drained();
    }

    /// Asks for the final checkpoint, if nothing is left to process.
    pub(super) fn finish_if_drained(&mut self) {
        if matches!(self.phase, Phase::Running) && self.drained.len() == self.placement.len() {
            self.coordinator.request_final();
        }
    }

    pub(super) fn acknowledged(
        &mut self,
        checkpoint: CheckpointId,
        subtask: SubtaskId,
        snapshot: SubtaskSnapshot,
        now_ms: u64,
    ) {
        if !matches!(self.phase, Phase::Running) {
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
        if !matches!(self.phase, Phase::Running) {
            self.counters.unexpected += 1;
            return;
        }
        let message = format!("declined by {}: {}", self.graph.place(subtask), reason.message);
        let actions =
            self.coordinator.on_decline(checkpoint, &Failure { kind: reason.kind, message }, now_ms);
        self.follow(actions, now_ms);
    }

    pub(super) fn commit_answered(&mut self, reply: &StoreReply, now_ms: u64) {
        if !matches!(self.phase, Phase::Running) {
            self.counters.stale_reply += 1;
            return;
        }
        let actions = match reply {
            StoreReply::Committed | StoreReply::SavepointWritten => self.coordinator.on_committed(now_ms),
            StoreReply::Refused(failure) => self.coordinator.on_commit_refused(failure, now_ms),
            StoreReply::Failed(failure) => self.coordinator.on_commit_failed(failure, now_ms),
            other => {
                self.counters.unexpected += 1;
                let message = format!("unexpected reply to a commit: {other:?}");
                self.coordinator.on_commit_failed(&Failure { kind: ErrorKind::Retry, message }, now_ms)
            }
        };
        self.follow(actions, now_ms);
    }

    /// The checkpoint that was restored becomes the job's own, if the store can do that.
    pub(super) fn inherit(&mut self, now_ms: u64) {
        let nonce = self.nonce();
        let Some(from) = &self.config.restore else { return };
        let action = self.coordinator.inherit(from, || nonce, now_ms);
        self.follow(action.into_iter().collect(), now_ms);
    }

    pub(super) fn inherit_answered(&mut self, reply: StoreReply, now_ms: u64) {
        let failure = match reply {
            StoreReply::Inherited => {
                let action = self.coordinator.on_inherited(now_ms);
                return self.follow(action.into_iter().collect(), now_ms);
            }
            StoreReply::Failed(failure) => failure,
            other => {
                Failure { kind: ErrorKind::Bug, message: format!("unexpected reply to a copy: {other:?}") }
            }
        };
        self.coordinator.on_inherit_failed(&failure, now_ms);
        let what = "copy the files of the checkpoint that was restored, so the first checkpoint is full";
        self.notice(JobNotice::StoreTrouble { what, why: failure.message });
    }

    /// Writes down what became of the last checkpoints, if it is time, one at a time.
    pub(super) fn write_history(&mut self, ending: bool) {
        if !self.requests.values().any(|p| *p == Purpose::History)
            && let Some(history) = self.coordinator.history_due(ending)
        {
            let leader_epoch = self.config.leader_epoch;
            self.request(Purpose::History, StoreRequest::WriteHistory { leader_epoch, history });
        }
    }

    /// Does what the coordinator wants.
    pub(super) fn follow(&mut self, actions: Vec<CheckpointAction>, now_ms: u64) {
        for action in actions {
            match action {
                CheckpointAction::StoreAway { why } => self.notice(JobNotice::StoreAway { why }),
                CheckpointAction::StoreBack { after_ms, missed } => {
                    self.notice(JobNotice::StoreBack { after_ms, missed });
                }
                CheckpointAction::Abort { checkpoint, why, quiet } => {
                    self.broadcast(|attempt| ToWorker::CheckpointAborted { attempt, checkpoint });
                    self.rescale_aborted(checkpoint, &why);
                    self.notice(JobNotice::CheckpointAborted { checkpoint, why, quiet });
                }
                CheckpointAction::Commit(commit) => {
                    self.request(Purpose::Commit, StoreRequest::Commit(Box::new(commit)));
                }
                CheckpointAction::Inherit(request) => {
                    self.request(Purpose::Inherit, StoreRequest::Inherit(request));
                }
                CheckpointAction::Inherited(checkpoint) => {
                    self.notice(JobNotice::Inherited { checkpoint });
                }
                CheckpointAction::Completed(completed) => {
                    let (checkpoint, kind) = (completed.checkpoint, completed.kind);
                    // What a plain savepoint covers is not published for it: the job may go back behind it.
                    if kind != CheckpointKind::Savepoint {
                        self.broadcast(|attempt| ToWorker::CheckpointCompleted { attempt, checkpoint });
                    }
                    if kind.is_stop() {
                        self.stopped_with.clone_from(&completed.location);
                    }
                    self.notice(JobNotice::CheckpointCompleted(completed));
                    if kind.ends_job() {
                        self.finish();
                    }
                    // It ends the attempt; what follows in the list is void.
                    if self.rescale_checkpointed(checkpoint, now_ms) {
                        return;
                    }
                }
                CheckpointAction::WriteSavepoint(manifest) => {
                    self.request(Purpose::Commit, StoreRequest::WriteSavepoint(Box::new(manifest)));
                }
                CheckpointAction::SavepointDone { request, savepoint } => {
                    self.notice(JobNotice::SavepointCompleted { request, savepoint });
                }
                CheckpointAction::SavepointFailed { request, failure } => {
                    self.notice(JobNotice::SavepointFailed { request, failure });
                }
                CheckpointAction::Discard { checkpoint, location } => {
                    let leader_epoch = self.config.leader_epoch;
                    let body = StoreRequest::DiscardSavepoint { leader_epoch, checkpoint, location };
                    self.request(Purpose::Discard, body);
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
                CheckpointAction::Fail(failure) => return self.fail(failure, &[], now_ms),
            }
        }
        self.write_history(false);
    }

    /// Deploying or Running -> Finishing: everything is covered by a completed checkpoint.
    pub(super) fn finish(&mut self) {
        self.broadcast(|attempt| ToWorker::Finish { attempt });
        self.enter(Phase::Finishing);
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
                self.fail(failure, &[subtask], now_ms);
            }
        }
    }
}

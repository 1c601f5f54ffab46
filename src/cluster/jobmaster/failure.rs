//! Failure, cancellation, restart: the way from any state with live subtasks to one without.

use super::{JobAction, JobMaster, JobNotice, JobResult, JobStatus, Phase, Purpose, Scope};
use crate::cluster::RestartDecision;
use crate::cluster::message::{Failure, ToWorker};
use crate::error::ErrorKind;
use crate::id::{SubtaskId, WorkerId};
use std::collections::BTreeMap;

/// What follows once every subtask has ended.
#[derive(Clone, Debug)]
pub(super) enum Then {
    Restart {
        at_ms: u64,
    },
    /// The next attempt follows at once, at another parallelism.
    Rescale,
    Fail(Failure),
    Cancel,
}

impl From<JobResult> for Then {
    fn from(result: JobResult) -> Self {
        match result {
            JobResult::Failed(failure) | JobResult::Fenced(failure) => Self::Fail(failure),
            JobResult::Finished | JobResult::Canceled => Self::Cancel,
        }
    }
}

impl Then {
    pub(super) fn status(&self) -> JobStatus {
        match self {
            Self::Restart { .. } | Self::Rescale => JobStatus::Restarting,
            Self::Fail(_) => JobStatus::Failing,
            Self::Cancel => JobStatus::Canceling,
        }
    }
}

impl JobMaster {
    /// A worker is gone and with it its slots and subtasks.
    pub(super) fn worker_lost(&mut self, worker: WorkerId, why: &str, now_ms: u64) {
        if self.workers.remove(&worker).is_some() {
            self.notice(JobNotice::WorkerLost { worker, why: why.to_owned() });
        }
        let is_on = |s: &&SubtaskId| self.placement.get(s).is_some_and(|placed| placed.worker == worker);
        let gone: Vec<SubtaskId> = self.live.iter().filter(is_on).copied().collect();
        for subtask in &gone {
            self.live.remove(subtask);
        }
        if !gone.is_empty() {
            let message = format!("taskmanager {worker} is gone with {}: {why}", self.graph.places(&gone));
            self.fail(Failure { kind: ErrorKind::RestartJob, message }, &gone, now_ms);
        }
    }

    /// Loading, Deploying, Running, Finishing -> Stopping, for what these subtasks take with them, or for the whole job if
    /// there are none. In any other state the failure is a consequence of an earlier one, unless it is one of a subtask
    /// that goes on.
    pub(super) fn fail(&mut self, failure: Failure, failed: &[SubtaskId], now_ms: u64) {
        let fallible = match self.phase {
            Phase::Loading { .. } | Phase::Deploying { .. } | Phase::Running | Phase::Finishing => true,
            Phase::Waiting { .. }
            | Phase::Pausing { .. }
            | Phase::Stopping { then: Then::Restart { .. }, .. } => {
                failed.iter().any(|subtask| self.goes_on(*subtask))
                    || failed.is_empty() && !self.live.is_empty()
            }
            _ => false,
        };
        if !fallible {
            return;
        }
        let subtask = if let [subtask] = failed { Some(*subtask) } else { None };
        self.notice(JobNotice::Failed {
            attempt: self.attempt,
            subtask,
            vertex: subtask.and_then(|s| self.graph.vertex(s.vertex)).map(|v| v.name.clone()),
            worker: subtask.and_then(|s| self.placement.get(&s)).map(|placed| placed.worker),
            failure: failure.clone(),
        });
        let random = (self.next_random() >> 11) as f64 / (1u64 << 53) as f64;
        match self.strategy.on_failure(failure.kind, now_ms, random) {
            RestartDecision::Restart { after_ms } => {
                let scope = self.scope_of(failed);
                self.notice(JobNotice::Restarting { after_ms, region: scope.names(&self.graph) });
                self.stop(Then::Restart { at_ms: now_ms.saturating_add(after_ms) }, scope, now_ms);
            }
            RestartDecision::Fail { why } => {
                self.notice(JobNotice::NotRestarting { why });
                self.stop(Then::Fail(failure), Scope::Whole, now_ms);
            }
        }
    }

    /// A person cancels.
    pub(super) fn cancel(&mut self, now_ms: u64) {
        match &self.phase {
            Phase::Waiting { .. } | Phase::Loading { .. } | Phase::Pausing { .. } => {
                self.forget(Purpose::Load);
                self.close(JobResult::Canceled, now_ms);
            }
            Phase::Deploying { .. }
            | Phase::Running
            | Phase::Finishing
            | Phase::Stopping { then: Then::Restart { .. } | Then::Rescale, .. } => {
                self.stop(Then::Cancel, Scope::Whole, now_ms)
            }
            Phase::Stopping { .. } | Phase::Closing { .. } | Phase::Ended { .. } => {}
        }
    }

    /// Ends what is in the scope.
    pub(super) fn stop(&mut self, then: Then, scope: Scope, now_ms: u64) {
        let deadline_ms = match self.phase {
            Phase::Stopping { deadline_ms, .. } if self.scope == scope => deadline_ms,
            _ => now_ms.saturating_add(self.config.cancel_timeout_ms),
        };
        self.scope = scope;
        self.forget(Purpose::Load);
        self.end_checkpoints(now_ms);
        self.cancel_scope();
        self.enter(Phase::Stopping { then, deadline_ms });
    }

    fn end_checkpoints(&mut self, now_ms: u64) {
        self.drop_rescale();
        let stopped = self.coordinator.stop(now_ms);
        for checkpoint in stopped.checkpoints {
            if self.live.iter().any(|subtask| self.goes_on(*subtask)) {
                self.broadcast(|attempt| ToWorker::CheckpointAborted { attempt, checkpoint });
            }
            self.notice(JobNotice::CheckpointAborted {
                checkpoint,
                why: "the attempt ended".into(),
                quiet: false,
            });
        }
        self.follow(stopped.actions, now_ms);
        // Whether a commit under way happened is found out by the next read.
        self.forget(Purpose::Commit);
        self.forget(Purpose::Inherit);
        self.forget_splits();
    }

    /// Stopping -> Pausing or Closing: every subtask has ended.
    pub(super) fn stopped(&mut self, now_ms: u64) {
        let Phase::Stopping { then, .. } = &self.phase else { return };
        match then.clone() {
            Then::Restart { at_ms } => {
                self.enter(Phase::Pausing { until_ms: at_ms });
                self.advance(now_ms);
            }
            Then::Rescale => self.start_or_wait(now_ms),
            Then::Fail(failure) => self.close(JobResult::Failed(failure), now_ms),
            Then::Cancel => self.close(JobResult::Canceled, now_ms),
        }
    }

    /// Workers that did not stop their subtasks in time are treated as lost, with all they have.
    pub(super) fn abandon_the_deaf(&mut self, now_ms: u64) {
        let mut deaf: BTreeMap<WorkerId, Vec<SubtaskId>> = BTreeMap::new();
        for subtask in self.live.iter().filter(|subtask| self.scope.has(**subtask)) {
            if let Some(placed) = self.placement.get(subtask) {
                deaf.entry(placed.worker).or_default().push(*subtask);
            }
        }
        for (worker, subtasks) in deaf {
            self.workers.remove(&worker);
            subtasks.iter().for_each(|subtask| _ = self.live.remove(subtask));
            let why = format!(
                "not stopped within {} ms: {}",
                self.config.cancel_timeout_ms,
                self.graph.places(&subtasks)
            );
            self.notice(JobNotice::Warning(format!("taskmanager {worker} is given up: {why}")));
            self.out.push(JobAction::Abandon { worker, why: why.clone() });
            self.worker_lost(worker, &why, now_ms);
        }
    }

    /// Any state -> Ended: another leader has the job. Our subtasks are stopped, the store is not touched.
    pub(super) fn fenced(&mut self, failure: Failure, now_ms: u64) {
        self.end_checkpoints(now_ms);
        let refused = self.coordinator.refuse_savepoints();
        self.follow(refused, now_ms);
        self.scope = Scope::Whole;
        self.cancel_scope();
        self.live.clear();
        self.requests.clear();
        self.enter(Phase::Ended { status: JobStatus::Fenced });
        self.out.push(JobAction::Done(JobResult::Fenced(failure)));
    }
}

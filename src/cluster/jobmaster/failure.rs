//! Failure, cancellation, restart: the way from any state with live subtasks to one without.

use super::{JobAction, JobMaster, JobNotice, JobResult, JobStatus, Phase, Purpose};
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
        let gone: Vec<SubtaskId> =
            self.live.iter().filter(|s| self.placement.get(s) == Some(&worker)).copied().collect();
        for subtask in &gone {
            self.live.remove(subtask);
        }
        if !gone.is_empty() {
            let message = format!("taskmanager {worker} is gone with {}: {why}", self.graph.places(&gone));
            self.fail(Failure { kind: ErrorKind::RestartJob, message }, None, now_ms);
        }
    }

    /// Loading, Deploying, Running, Finishing -> Stopping. In any other state the failure is a consequence of an earlier one.
    pub(super) fn fail(&mut self, failure: Failure, subtask: Option<SubtaskId>, now_ms: u64) {
        let fallible = matches!(
            self.phase,
            Phase::Loading { .. } | Phase::Deploying { .. } | Phase::Running { .. } | Phase::Finishing
        );
        if !fallible {
            return;
        }
        self.notice(JobNotice::Failed {
            attempt: self.attempt,
            subtask,
            vertex: subtask.and_then(|s| self.graph.vertex(s.vertex)).map(|v| v.name.clone()),
            worker: subtask.and_then(|s| self.placement.get(&s)).copied(),
            failure: failure.clone(),
        });
        let random = (self.next_random() >> 11) as f64 / (1u64 << 53) as f64;
        let then = match self.strategy.on_failure(failure.kind, now_ms, random) {
            RestartDecision::Restart { after_ms } => {
                self.notice(JobNotice::Restarting { after_ms });
                Then::Restart { at_ms: now_ms.saturating_add(after_ms) }
            }
            RestartDecision::Fail { why } => {
                self.notice(JobNotice::NotRestarting { why });
                Then::Fail(failure)
            }
        };
        self.stop(then, now_ms);
    }

    /// A person cancels.
    pub(super) fn cancel(&mut self, now_ms: u64) {
        match &self.phase {
            Phase::Waiting { .. } | Phase::Loading { .. } | Phase::Pausing { .. } => {
                self.forget(Purpose::Load);
                self.close(JobResult::Canceled, now_ms);
            }
            Phase::Deploying { .. } | Phase::Running { .. } | Phase::Finishing => {
                self.stop(Then::Cancel, now_ms)
            }
            Phase::Stopping { then: Then::Restart { .. } | Then::Rescale, deadline_ms } => {
                let deadline_ms = *deadline_ms;
                self.enter(Phase::Stopping { then: Then::Cancel, deadline_ms });
            }
            Phase::Stopping { .. } | Phase::Closing { .. } | Phase::Ended { .. } => {}
        }
    }

    /// Ends the attempt everywhere.
    pub(super) fn stop(&mut self, then: Then, now_ms: u64) {
        self.end_checkpoints(now_ms);
        self.broadcast(|attempt| ToWorker::Cancel { attempt });
        let deadline_ms = now_ms.saturating_add(self.config.cancel_timeout_ms);
        self.enter(Phase::Stopping { then, deadline_ms });
    }

    fn end_checkpoints(&mut self, now_ms: u64) {
        self.drop_rescale();
        let stopped = self.coordinator.stop(now_ms);
        for checkpoint in stopped.checkpoints {
            self.notice(JobNotice::CheckpointAborted {
                checkpoint,
                why: "the attempt ended".into(),
                quiet: false,
            });
        }
        self.follow(stopped.actions, now_ms);
        // Whether a commit under way happened is found out by the next read.
        self.forget(Purpose::Commit);
        self.waiting_splits.clear();
        self.split_retry_ms = None;
    }

    /// Stopping -> Pausing or Closing: every subtask has ended.
    pub(super) fn stopped(&mut self, now_ms: u64) {
        let Phase::Stopping { then, .. } = &self.phase else { return };
        match then.clone() {
            Then::Restart { at_ms } => {
                self.enter(Phase::Pausing { until_ms: at_ms });
                self.advance(now_ms);
            }
            Then::Rescale => {
                self.await_slots(now_ms);
                self.start_if_slots(now_ms);
            }
            Then::Fail(failure) => self.close(JobResult::Failed(failure), now_ms),
            Then::Cancel => self.close(JobResult::Canceled, now_ms),
        }
    }

    /// Workers that did not stop their subtasks in time are treated as lost.
    pub(super) fn abandon_the_deaf(&mut self) {
        let mut deaf: BTreeMap<WorkerId, Vec<SubtaskId>> = BTreeMap::new();
        for subtask in std::mem::take(&mut self.live) {
            if let Some(worker) = self.placement.get(&subtask) {
                deaf.entry(*worker).or_default().push(subtask);
            }
        }
        for (worker, subtasks) in deaf {
            self.workers.remove(&worker);
            let why = format!(
                "not stopped within {} ms: {}",
                self.config.cancel_timeout_ms,
                self.graph.places(&subtasks)
            );
            self.notice(JobNotice::Warning(format!("taskmanager {worker} is given up: {why}")));
            self.out.push(JobAction::Abandon { worker, why });
        }
    }

    /// Any state -> Ended: another leader has the job. Our subtasks are stopped, the store is not touched.
    pub(super) fn fenced(&mut self, failure: Failure, now_ms: u64) {
        self.end_checkpoints(now_ms);
        let refused = self.coordinator.refuse_savepoints();
        self.follow(refused, now_ms);
        self.broadcast(|attempt| ToWorker::Cancel { attempt });
        self.live.clear();
        self.requests.clear();
        self.enter(Phase::Ended { status: JobStatus::Fenced });
        self.out.push(JobAction::Done(JobResult::Fenced(failure)));
    }
}

//! The end: a durable terminal record first, then cleanup, then `Done`.

use super::failure::Then;
use super::{JobAction, JobMaster, JobNotice, JobResult, Phase, Purpose, Scope};
use crate::checkpoint::{Retention, StoreReply, StoreRequest, TerminalRecord, TerminalStatus};
use crate::cluster::message::Failure;
use crate::error::ErrorKind;

/// Tries of each closing step before the job ends without it.
const TRIES: u32 = 8;
const FIRST_RETRY_MS: u64 = 250;

/// How far closing has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum ClosingStep {
    /// The terminal record is being written; `retry_at_ms` after a failure.
    Recording { tries: u32, retry_at_ms: Option<u64> },
    /// Checkpoints are being deleted.
    Disposing { tries: u32, retry_at_ms: Option<u64> },
}

impl ClosingStep {
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        match self {
            Self::Recording { retry_at_ms, .. } | Self::Disposing { retry_at_ms, .. } => *retry_at_ms,
        }
    }
}

impl JobMaster {
    /// Any state without live subtasks -> Closing; with some -> Stopping first.
    pub(super) fn close(&mut self, result: JobResult, now_ms: u64) {
        if !self.live.is_empty() {
            return self.stop(Then::from(result), Scope::Whole, now_ms);
        }
        self.drop_rescale();
        let refused = self.coordinator.refuse_savepoints();
        self.follow(refused, now_ms);
        self.requests.clear();
        self.write_history(true);
        self.enter(Phase::Closing { result, step: ClosingStep::Recording { tries: 0, retry_at_ms: None } });
        self.run_step();
    }

    /// Sends the request of the current step.
    fn run_step(&mut self) {
        let Phase::Closing { result, step } = &self.phase else { return };
        let body = match step {
            ClosingStep::Recording { .. } => {
                let (status, failure) = match result {
                    JobResult::Finished => (TerminalStatus::Finished, None),
                    JobResult::Canceled => (TerminalStatus::Canceled, None),
                    JobResult::Failed(failure) | JobResult::Fenced(failure) => {
                        (TerminalStatus::Failed, Some(failure.clone()))
                    }
                };
                StoreRequest::WriteStatus(TerminalRecord {
                    job: self.config.job.clone(),
                    leader_epoch: self.config.leader_epoch,
                    status,
                    failure,
                    last_checkpoint: self.coordinator.newest_completed(),
                    savepoint: self.stopped_with.clone(),
                    keeps_checkpoints: !self.disposes(result),
                })
            }
            ClosingStep::Disposing { .. } => StoreRequest::Dispose(self.coordinator.dispose()),
        };
        self.request(Purpose::Close, body);
    }

    /// Whether the checkpoints are deleted with a job that ends like this.
    fn disposes(&self, result: &JobResult) -> bool {
        matches!(
            (result, self.config.checkpoint.retention),
            (JobResult::Finished, Retention::OnFailure | Retention::Never)
                | (JobResult::Canceled, Retention::Never)
        )
    }

    /// Repeats a step whose pause is over.
    pub(super) fn close_again(&mut self, now_ms: u64) {
        let Phase::Closing { step, .. } = &mut self.phase else { return };
        let (ClosingStep::Recording { retry_at_ms, .. } | ClosingStep::Disposing { retry_at_ms, .. }) = step;
        if retry_at_ms.is_some_and(|at| at <= now_ms) {
            *retry_at_ms = None;
            self.run_step();
        }
    }

    /// Closing -> Closing (next step) or Ended.
    pub(super) fn close_answered(&mut self, reply: StoreReply, now_ms: u64) {
        let dispose = match &self.phase {
            Phase::Closing { result, .. } => self.disposes(result),
            _ => return,
        };
        let Phase::Closing { step, .. } = &mut self.phase else { return };
        match (reply, &mut *step) {
            (StoreReply::StatusWritten, ClosingStep::Recording { .. }) => {
                if dispose {
                    *step = ClosingStep::Disposing { tries: 0, retry_at_ms: None };
                    self.run_step();
                } else {
                    self.end();
                }
            }
            (StoreReply::Deleted(_), ClosingStep::Disposing { .. }) => self.end(),
            (
                reply,
                ClosingStep::Recording { tries, retry_at_ms } | ClosingStep::Disposing { tries, retry_at_ms },
            ) => {
                let failure = match reply {
                    StoreReply::Failed(failure) => failure,
                    other => {
                        Failure { kind: ErrorKind::Retry, message: format!("unexpected reply: {other:?}") }
                    }
                };
                *tries += 1;
                let give_up = failure.kind != ErrorKind::Retry || *tries >= TRIES;
                *retry_at_ms = Some(now_ms.saturating_add(FIRST_RETRY_MS << (*tries).min(8)));
                let what = match step {
                    ClosingStep::Recording { .. } => "write the terminal record",
                    ClosingStep::Disposing { .. } => "delete the checkpoints of the finished job",
                };
                let recording = matches!(step, ClosingStep::Recording { .. });
                self.notice(JobNotice::StoreTrouble { what, why: failure.message.clone() });
                if give_up {
                    self.give_up_closing(failure, recording);
                }
            }
        }
    }

    /// A job whose end cannot be recorded did not end well: a jobmanager that is started again goes on with it. Leftover
    /// checkpoints harm nobody.
    fn give_up_closing(&mut self, failure: Failure, recording: bool) {
        if recording && let Phase::Closing { result, .. } = &mut self.phase {
            let (kind, how) = match &*result {
                JobResult::Finished => (failure.kind, "the job has finished".to_owned()),
                JobResult::Canceled => (failure.kind, "the job was canceled".to_owned()),
                JobResult::Failed(first) | JobResult::Fenced(first) => (first.kind, first.message.clone()),
            };
            let message = format!(
                "{how}; that is not recorded, so that the job goes on if it is started again: the terminal record cannot be \
                 written: {}",
                failure.message
            );
            *result = JobResult::Failed(Failure { kind, message });
        }
        self.end();
    }

    /// Closing -> Ended.
    fn end(&mut self) {
        let Phase::Closing { result, .. } = &self.phase else { return };
        let result = result.clone();
        self.enter(Phase::Ended { status: result.status() });
        self.out.push(JobAction::Done(result));
    }
}

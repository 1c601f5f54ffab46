//! The last step: fully acknowledged checkpoints on their way to a durable record.
//!
//! `waiting -> sent -> (committed | refused | unknown -> pause -> sent)`, one at a time.

use super::inherited::Inheriting;
use super::savepoints::savepoint_of;
use super::{CheckpointAction, Coordinator, barrier_of};
use crate::checkpoint::history::Brought;
use crate::checkpoint::{CheckpointKind, Commit, Manifest, SavepointRequest, SubtaskTimings};
use crate::cluster::message::Failure;
use crate::error::ErrorKind;
use crate::id::CheckpointId;
use std::collections::VecDeque;

const FIRST_RETRY_MS: u64 = 200;
const LONGEST_RETRY_MS: u64 = 10_000;

#[derive(Debug)]
struct Queued {
    manifest: Manifest,
    base: Option<CheckpointId>,
    timings: SubtaskTimings,
    /// The savepoint that was asked for.
    request: Option<SavepointRequest>,
    deadline_ms: u64,
}

#[derive(Debug, Default)]
enum Front {
    /// Not sent yet.
    #[default]
    Waiting,
    /// Sent, no answer.
    Sent,
    /// The answer was an error that does not tell whether it happened.
    Unknown { retry_at_ms: u64 },
}

/// Checkpoints to commit, oldest first, with the state of the first.
#[derive(Debug, Default)]
pub(super) struct CommitQueue {
    queue: VecDeque<Queued>,
    front: Front,
    retries: u32,
    last_error: Option<String>,
}

impl CommitQueue {
    pub(super) fn push(
        &mut self,
        manifest: Manifest,
        base: Option<CheckpointId>,
        timings: SubtaskTimings,
        request: Option<SavepointRequest>,
        deadline_ms: u64,
    ) {
        self.queue.push_back(Queued { manifest, base, timings, request, deadline_ms });
    }

    /// The checkpoints that those in the queue share files with.
    pub(super) fn bases(&self) -> impl Iterator<Item = CheckpointId> {
        self.queue.iter().filter_map(|q| q.base)
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn runs_alone(&self) -> bool {
        self.queue.iter().any(|q| q.manifest.kind != CheckpointKind::Periodic)
    }

    /// Forgets everything; with the requests, and whether a commit may have happened.
    pub(super) fn clear(&mut self) -> Vec<(Manifest, Option<SavepointRequest>, bool)> {
        let mut sent = !matches!(self.front, Front::Waiting);
        let queue = std::mem::take(self).queue;
        queue.into_iter().map(|q| (q.manifest, q.request, std::mem::take(&mut sent))).collect()
    }

    /// Whether the first is a savepoint that the job does not end with.
    pub(super) fn front_is_plain_savepoint(&self) -> bool {
        self.queue.front().is_some_and(|q| q.manifest.kind == CheckpointKind::Savepoint)
    }

    /// Whether an answer to the first is outstanding.
    pub(super) fn front_is_sent(&self) -> bool {
        matches!(self.front, Front::Sent)
    }

    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        let front = self.queue.front()?;
        match self.front {
            Front::Waiting => Some(0),
            Front::Sent => Some(front.deadline_ms),
            Front::Unknown { retry_at_ms } => Some(retry_at_ms.min(front.deadline_ms)),
        }
    }

    /// The first commit, if its time is over; it gets another timeout.
    pub(super) fn overdue(&mut self, now_ms: u64, timeout_ms: u64) -> Option<(CheckpointId, String)> {
        let front = self.queue.front_mut().filter(|f| f.deadline_ms <= now_ms)?;
        front.deadline_ms = now_ms.saturating_add(timeout_ms);
        let why = self.last_error.clone().unwrap_or_else(|| "the store does not answer".into());
        Some((front.manifest.checkpoint, why))
    }

    fn pop(&mut self) -> Option<Queued> {
        self.front = Front::Waiting;
        self.retries = 0;
        self.last_error = None;
        self.queue.pop_front()
    }
}

impl Coordinator {
    /// Sends the first commit of the queue, if it is its time.
    pub(super) fn next_commit(&mut self, now_ms: u64) -> Option<CheckpointAction> {
        let manifest = &self.commits.queue.front()?.manifest;
        let ready = match self.commits.front {
            Front::Waiting => true,
            Front::Sent => false,
            Front::Unknown { retry_at_ms } => retry_at_ms <= now_ms,
        };
        if !ready {
            return None;
        }
        let action = if manifest.kind == CheckpointKind::Savepoint {
            CheckpointAction::WriteSavepoint(manifest.clone())
        } else {
            let retained = self.retained.ids_with(manifest.checkpoint, manifest.kind, self.config.retained);
            let commit = Commit {
                manifest: manifest.clone(),
                record: self.last_record + 1,
                retained,
                rescaled: self.rescaled,
            };
            CheckpointAction::Commit(commit)
        };
        self.commits.front = Front::Sent;
        Some(action)
    }

    /// What was last sent, a commit or a savepoint, is durable.
    pub fn on_committed(&mut self, now_ms: u64) -> Vec<CheckpointAction> {
        let Some(done) = self.commits.pop() else { return Vec::new() };
        let completed = self.completed(&done.manifest, done.timings, now_ms);
        let is_inherited = self.inheriting.is_committing(completed.checkpoint);
        let mut actions = Vec::new();
        if let Some(request) = done.request {
            let savepoint = savepoint_of(&done.manifest);
            actions.push(CheckpointAction::SavepointDone { request: request.id, savepoint });
        }
        let newest = completed.checkpoint;
        if is_inherited {
            self.inheriting = Inheriting::Not;
            actions.push(CheckpointAction::Inherited(newest));
        } else {
            actions.push(CheckpointAction::Completed(completed));
        }
        if done.manifest.kind != CheckpointKind::Savepoint {
            self.last_record += 1;
            let back = self.outage.over(now_ms);
            actions.extend(back.map(|(after_ms, missed)| CheckpointAction::StoreBack { after_ms, missed }));
            actions.extend(self.sweep(newest).map(CheckpointAction::Sweep));
        }
        actions.extend(self.next_commit(now_ms));
        actions
    }

    /// The commit last sent can never happen; the checkpoint is given up.
    pub fn on_commit_refused(&mut self, failure: &Failure, now_ms: u64) -> Vec<CheckpointAction> {
        let mut actions = self.give_up_commit(failure, now_ms);
        actions.extend(self.next_commit(now_ms));
        actions
    }

    pub(super) fn give_up_commit(&mut self, failure: &Failure, now_ms: u64) -> Vec<CheckpointAction> {
        let Some(gone) = self.commits.pop() else { return Vec::new() };
        let brought = Brought::by_all(&gone.manifest);
        if self.inheriting.is_committing(gone.manifest.checkpoint) {
            self.inheriting = Inheriting::Not;
        }
        self.given_up(barrier_of(&gone.manifest), brought, gone.request, failure, now_ms)
    }

    /// The commit last sent failed. Unless the error is final for the job, nobody knows whether it happened, so
    /// it is repeated.
    pub fn on_commit_failed(&mut self, failure: &Failure, now_ms: u64) -> Vec<CheckpointAction> {
        if failure.kind != ErrorKind::Retry {
            if self.commits.front_is_plain_savepoint() {
                return self.on_commit_refused(failure, now_ms);
            }
            return vec![CheckpointAction::Fail(failure.clone())];
        }
        // So that a store that is back is used within one interval.
        let longest = LONGEST_RETRY_MS.min(self.config.interval_ms.unwrap_or(u64::MAX)).max(FIRST_RETRY_MS);
        let pause = (FIRST_RETRY_MS << self.commits.retries.min(10)).min(longest);
        self.commits.retries = self.commits.retries.saturating_add(1);
        self.commits.last_error = Some(failure.message.clone());
        self.commits.front = Front::Unknown { retry_at_ms: now_ms.saturating_add(pause) };
        self.store_failed(&failure.message, now_ms).into_iter().collect()
    }
}

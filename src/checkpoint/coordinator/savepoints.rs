//! Savepoints that people have asked for: queued, under way, and how each ends.
//!
//! Invariant: every request is answered once, with [`CheckpointAction::SavepointDone`] or
//! [`CheckpointAction::SavepointFailed`], at the latest when the job ends. A request not yet triggered survives the
//! end of an attempt; one under way does not, unless its commit may have happened: then the next load decides.

use super::{CheckpointAction, Coordinator};
use crate::checkpoint::{CheckpointKind, Manifest, Savepoint, SavepointMode, SavepointRequest};
use crate::cluster::message::Failure;
use crate::error::{Error, ErrorKind};
use crate::id::CheckpointId;
use std::collections::VecDeque;

/// Requests that may wait at once.
const MOST_WAITING: usize = 100;

/// Requests not answered and not under way.
#[derive(Debug, Default)]
pub(super) struct SavepointQueue {
    waiting: VecDeque<SavepointRequest>,
    /// The sources were told to end, for the first request.
    draining: bool,
    /// A stop whose commit was on its way when the attempt ended.
    undecided: Option<Undecided>,
}

#[derive(Debug)]
struct Undecided {
    request: u64,
    savepoint: Savepoint,
    nonce: String,
}

/// What the first request of the queue waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// For its turn.
    Checkpoint(CheckpointKind),
    /// For the sources to be told.
    Drain,
    /// For all subtasks to have drained.
    Drained,
}

impl SavepointQueue {
    pub(super) fn wanted(&self) -> Option<Wanted> {
        Some(match self.waiting.front()?.mode {
            SavepointMode::Continue => Wanted::Checkpoint(CheckpointKind::Savepoint),
            SavepointMode::Stop => Wanted::Checkpoint(CheckpointKind::Stop),
            SavepointMode::Drain if self.draining => Wanted::Drained,
            SavepointMode::Drain => Wanted::Drain,
        })
    }

    pub(super) fn take(&mut self) -> Option<SavepointRequest> {
        self.waiting.pop_front()
    }
}

/// A complete savepoint, as people are told of it.
pub(super) fn savepoint_of(manifest: &Manifest) -> Savepoint {
    Savepoint {
        checkpoint: manifest.checkpoint,
        location: manifest.location.clone().unwrap_or_default(),
        state_bytes: manifest.state_bytes(),
    }
}

impl Coordinator {
    /// Asks for a savepoint, taken as soon as nothing else is under way.
    pub fn request_savepoint(&mut self, request: SavepointRequest) -> Vec<CheckpointAction> {
        if self.savepoints.waiting.len() >= MOST_WAITING {
            let e = Error::retry(format!("{MOST_WAITING} savepoints are waiting already"));
            return vec![failed(request.id, Failure::from(&e))];
        }
        self.savepoints.waiting.push_back(request);
        Vec::new()
    }

    /// The sources have been told to end.
    pub fn drain_sent(&mut self) {
        self.savepoints.draining = true;
    }

    /// Answers a request whose savepoint was given up. One that drains cannot be undone, so it is tried again.
    pub(super) fn savepoint_aborted(
        &mut self,
        checkpoint: CheckpointId,
        location: &str,
        request: SavepointRequest,
        reason: &Failure,
        now_ms: u64,
    ) -> Vec<CheckpointAction> {
        let mut actions = vec![CheckpointAction::Discard { checkpoint, location: location.to_owned() }];
        if request.mode == SavepointMode::Drain {
            self.savepoints.waiting.push_front(request);
            actions.extend(self.count_failure(checkpoint, reason, now_ms));
        } else {
            actions.push(failed(request.id, reason.clone()));
        }
        actions
    }

    /// The attempt has ended: what was under way is lost, what waits begins anew.
    pub(super) fn savepoints_stopped(&mut self) {
        self.savepoints.draining = false;
    }

    /// Keeps a stop whose commit may have happened until the store is read.
    pub(super) fn undecided(&mut self, request: u64, manifest: &Manifest) {
        let (savepoint, nonce) = (savepoint_of(manifest), manifest.nonce.clone());
        self.savepoints.undecided = Some(Undecided { request, savepoint, nonce });
    }

    /// Decides a stop whose commit had no answer.
    pub(super) fn decide(&mut self, latest: Option<&Manifest>) -> Option<CheckpointAction> {
        let Undecided { request, savepoint, nonce } = self.savepoints.undecided.take()?;
        Some(if latest.is_some_and(|m| m.nonce == nonce) {
            CheckpointAction::SavepointDone { request, savepoint }
        } else {
            let e = Error::restart_job("the job failed before the savepoint was complete, and goes on");
            failed(request, Failure::from(&e))
        })
    }

    /// The job ends: nothing that was asked for will come.
    pub fn refuse_savepoints(&mut self) -> Vec<CheckpointAction> {
        let queue = std::mem::take(&mut self.savepoints);
        let ended = Failure::from(&Error::config("the job ended before it could take the savepoint"));
        let mut actions: Vec<_> =
            queue.waiting.into_iter().map(|request| failed(request.id, ended.clone())).collect();
        if let Some(undecided) = queue.undecided {
            let e = Error::retry("the job ended while the savepoint was being completed")
                .hint(format!("if there is a manifest, it is complete: {}", undecided.savepoint.location));
            actions.push(failed(undecided.request, Failure::from(&e)));
        }
        actions
    }
}

pub(super) fn failed(request: u64, failure: Failure) -> CheckpointAction {
    CheckpointAction::SavepointFailed { request, failure }
}

/// Why a savepoint under way is lost with its attempt.
pub(super) fn lost_with_attempt() -> Failure {
    Failure { kind: ErrorKind::RestartJob, message: "the job failed while the savepoint was taken".into() }
}

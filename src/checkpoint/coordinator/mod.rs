//! The checkpoint coordinator: when to trigger, who has acknowledged, what is complete, what is given up.
//!
//! Pure: events and the time in, [`CheckpointAction`]s out. A checkpoint goes
//! `triggered -> (all acknowledged) committing -> (record durable) completed`, or from `triggered` to `aborted`.
//!
//! Invariants:
//! - Ids rise strictly, also across restarts and leaders.
//! - A checkpoint is complete when the store says its record is durable, not before; at most once.
//! - Commits go out one at a time, in the order of their ids: a fully acknowledged checkpoint gives up the older
//!   ones still under way. Final checkpoints and savepoints run alone.
//! - A savepoint subsumes nothing, and the job does not go back to it; but the one it stops with is its newest
//!   checkpoint.
//! - A commit of unknown outcome is repeated, never given up, until the store settles it or the job restarts.
//! - A store that is away does not count against the job.
//! - Deleting never holds up a checkpoint.

mod commit;
mod inherited;
#[cfg(test)]
mod inherited_tests;
mod outage;
mod pending;
mod retained;
#[cfg(test)]
mod savepoint_tests;
mod savepoints;
#[cfg(test)]
mod shared_tests;
#[cfg(test)]
mod tests;

use crate::checkpoint::history::{Brought, HistoryKeeper};
use crate::checkpoint::{
    Barrier, CheckpointConfig, CheckpointHistory, CheckpointKind, CheckpointMode, Commit, Dispose,
    EnumeratorState, Inherit, Loaded, Manifest, Rescaled, Savepoint, SavepointRequest, StateHandle,
    SubtaskSnapshot, SubtaskTimings, Sweep,
};
use crate::cluster::message::Failure;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::JobGraph;
use crate::id::{Attempt, CheckpointId, JobId, LeaderEpoch, SubtaskId};
use commit::CommitQueue;
use inherited::Inheriting;
use outage::Outage;
use pending::{AckOutcome, Identity, Pending};
use retained::RetainedSet;
use savepoints::{SavepointQueue, Wanted};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Pause before a final checkpoint that failed is tried again.
const FINAL_RETRY_MS: u64 = 1_000;

/// What the coordinator wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointAction {
    /// Tell all subtasks that the checkpoint was given up.
    Abort {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why, for people.
        why: String,
        /// The store is away, which is said by `StoreAway`.
        quiet: bool,
    },
    /// Have the store make this the newest completed checkpoint, and report the outcome.
    Commit(Commit),
    /// Have the store copy the files of the checkpoint that the job was restored from, and report the outcome.
    Inherit(Inherit),
    /// The checkpoint that the job was restored from is its own now. Subtasks have no part in it.
    Inherited(CheckpointId),
    /// Have the store complete a savepoint, and report the outcome.
    WriteSavepoint(Manifest),
    /// A savepoint that was asked for is complete.
    SavepointDone {
        /// What was asked for.
        request: u64,
        /// What came of it.
        savepoint: Savepoint,
    },
    /// A savepoint that was asked for will not come.
    SavepointFailed {
        /// What was asked for.
        request: u64,
        /// Why.
        failure: Failure,
    },
    /// Have the store delete what a savepoint that was given up has left; failure is harmless.
    Discard {
        /// Its number.
        checkpoint: CheckpointId,
        /// Its directory.
        location: String,
    },
    /// The checkpoint is durable: tell all subtasks.
    Completed(CompletedCheckpoint),
    /// Have the store delete what is no longer needed; failure is harmless.
    Sweep(Sweep),
    /// The store fails. Said once, until `StoreBack`.
    StoreAway {
        /// What it said.
        why: String,
    },
    /// A checkpoint has completed again.
    StoreBack {
        /// How long the store was away.
        after_ms: u64,
        /// Checkpoints given up meanwhile.
        missed: u64,
    },
    /// The store has not confirmed a commit for a whole timeout.
    Stalled {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// What the store said last.
        why: String,
    },
    /// Too many checkpoints failed in a row: fail the job.
    Fail(Failure),
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A checkpoint is to be triggered.
    Checkpoint(CheckpointKind),
    /// All sources are to be told to end.
    Drain,
}

/// What the end of an attempt has made void.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Checkpoints given up.
    pub checkpoints: Vec<CheckpointId>,
    /// What follows: answers to people, and deleting.
    pub actions: Vec<CheckpointAction>,
}

/// What there is to say about a completed checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedCheckpoint {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// Why it was taken.
    pub kind: CheckpointKind,
    /// From trigger until it was durable.
    pub duration_ms: u64,
    /// Bytes of all files it refers to.
    pub state_bytes: u64,
    /// Bytes of the files it brought; it shares the others with earlier checkpoints.
    pub uploaded_bytes: u64,
    /// Its directory, if it is a savepoint.
    pub location: Option<String>,
    /// The slowest subtask's times, each on its own.
    pub timings: SubtaskTimings,
}

impl CompletedCheckpoint {
    /// It as a savepoint; `None` if it is none.
    pub fn savepoint(&self) -> Option<Savepoint> {
        let location = self.location.clone()?;
        Some(Savepoint { checkpoint: self.checkpoint, location, state_bytes: self.state_bytes })
    }
}

/// Messages that had no effect, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointCounters {
    /// Checkpoints triggered.
    pub triggered: u64,
    /// Checkpoints completed.
    pub completed: u64,
    /// Checkpoints given up.
    pub aborted: u64,
    /// Acknowledgements and declines of checkpoints no longer, or never, under way.
    pub late: u64,
    /// Acknowledgements repeated.
    pub duplicate: u64,
    /// Acknowledgements of subtasks without part in the checkpoint.
    pub foreign: u64,
}

/// See the module's text.
#[derive(Debug)]
pub struct Coordinator {
    config: CheckpointConfig,
    graph: JobGraph,
    job: JobId,
    leader_epoch: LeaderEpoch,
    /// Of the running attempt; `None` while nothing runs.
    attempt: Option<Attempt>,
    last_id: CheckpointId,
    /// When the next periodic checkpoint is due.
    due_ms: u64,
    /// End of the last checkpoint, for the pause.
    ended_ms: Option<u64>,
    pending: BTreeMap<CheckpointId, Pending>,
    commits: CommitQueue,
    retained: RetainedSet,
    last_record: u64,
    /// What every record of the commit log repeats.
    rescaled: Option<Rescaled>,
    /// A checkpoint is wanted now.
    wanted_now: bool,
    /// What the job was restored from is its own, and not yet deleted.
    claims: bool,
    inheriting: Inheriting,
    failures_in_a_row: u32,
    final_wanted: bool,
    final_not_before_ms: u64,
    savepoints: SavepointQueue,
    history: HistoryKeeper,
    outage: Outage,
    counters: CheckpointCounters,
}

impl Coordinator {
    /// A coordinator with nothing running; refuses senseless options.
    pub fn new(
        config: CheckpointConfig,
        graph: JobGraph,
        job: JobId,
        leader_epoch: LeaderEpoch,
    ) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            config,
            graph,
            job,
            leader_epoch,
            attempt: None,
            last_id: CheckpointId(0),
            due_ms: 0,
            ended_ms: None,
            pending: BTreeMap::new(),
            commits: CommitQueue::default(),
            retained: RetainedSet::default(),
            last_record: 0,
            rescaled: None,
            wanted_now: false,
            claims: false,
            inheriting: Inheriting::default(),
            failures_in_a_row: 0,
            final_wanted: false,
            final_not_before_ms: 0,
            savepoints: SavepointQueue::default(),
            history: HistoryKeeper::default(),
            outage: Outage::default(),
            counters: CheckpointCounters::default(),
        })
    }

    /// Takes over what the store knows. Call it before every [`Coordinator::start`].
    pub fn load(&mut self, loaded: &Loaded) -> Vec<CheckpointAction> {
        self.retained.load(&loaded.older, loaded.latest.as_ref());
        self.last_record = loaded.record;
        self.rescaled = loaded.rescaled;
        self.claims = loaded.claims;
        self.raise_last_id(loaded.highest);
        self.history.load(&loaded.history);
        self.decide(loaded.latest.as_ref()).into_iter().collect()
    }

    /// Ids given out from now on are above `id`.
    pub fn raise_last_id(&mut self, id: CheckpointId) {
        self.last_id = self.last_id.max(id);
    }

    /// The parallelism that a person has asked for, as the commit log has it.
    pub fn rescaled(&self) -> Option<Rescaled> {
        self.rescaled
    }

    /// A person has asked for another parallelism: every record of the commit log says so from now on.
    pub fn set_rescaled(&mut self, rescaled: Rescaled) {
        self.rescaled = Some(rescaled);
    }

    /// Takes over numbers of key groups adopted from a restored checkpoint.
    pub fn set_graph(&mut self, graph: JobGraph) {
        self.graph = graph;
    }

    /// All subtasks of `attempt` run: checkpoints may be taken.
    pub fn start(&mut self, attempt: Attempt, now_ms: u64) {
        self.attempt = Some(attempt);
        self.due_ms = now_ms.saturating_add(self.config.interval_ms.unwrap_or(0));
        self.ended_ms = None;
        self.failures_in_a_row = 0;
        self.final_wanted = false;
        self.final_not_before_ms = 0;
        self.wanted_now = false;
    }

    /// The attempt ends. Gives up everything under way; a commit already sent may still land, which the next load
    /// finds out.
    pub fn stop(&mut self, now_ms: u64) -> Stopped {
        const WHY: &str = "the attempt ended";
        self.attempt = None;
        self.final_wanted = false;
        self.inheriting = Inheriting::Not;
        self.savepoints_stopped();
        let mut stopped = Stopped::default();
        for (checkpoint, pending) in std::mem::take(&mut self.pending) {
            stopped.checkpoints.push(checkpoint);
            self.history.gave_up(&pending.barrier, pending.brought(&self.graph), WHY, now_ms);
            if let (Some(request), Some(location)) = (pending.request, pending.barrier.location) {
                stopped.actions.push(savepoints::failed(request.id, savepoints::lost_with_attempt()));
                stopped.actions.push(CheckpointAction::Discard { checkpoint, location: location.into() });
            }
        }
        for (manifest, request, sent) in self.commits.clear() {
            stopped.checkpoints.push(manifest.checkpoint);
            self.history.gave_up(&barrier_of(&manifest), Brought::by_all(&manifest), WHY, now_ms);
            match request {
                Some(request) if sent && manifest.kind.is_stop() => self.undecided(request.id, &manifest),
                Some(request) => {
                    stopped.actions.push(savepoints::failed(request.id, savepoints::lost_with_attempt()));
                }
                None => {}
            }
        }
        self.counters.aborted += stopped.checkpoints.len() as u64;
        stopped
    }

    /// Whether a checkpoint has all acknowledgements, and its record is not known to be durable.
    pub fn is_committing(&self) -> bool {
        self.commits.len() > 0
    }

    /// Asks for the job's last checkpoint.
    pub fn request_final(&mut self) {
        self.final_wanted = self.attempt.is_some();
    }

    /// Asks for a checkpoint as soon as nothing else is under way, whatever the interval.
    pub fn request_checkpoint(&mut self) {
        self.wanted_now = self.attempt.is_some();
    }

    /// Counters since the coordinator was made.
    pub fn counters(&self) -> CheckpointCounters {
        self.counters
    }

    /// The newest completed checkpoint.
    pub fn newest_completed(&self) -> Option<CheckpointId> {
        self.retained.newest()
    }

    /// What, if anything, is to be done at `now_ms`.
    pub fn due(&self, now_ms: u64) -> Option<Due> {
        self.next_trigger().filter(|&(at, _)| at <= now_ms).map(|(_, due)| due)
    }

    /// Triggers a checkpoint. The enumerators must have been snapshotted just now, and the barrier must be sent
    /// before anything else. `nonce` names the directory of a savepoint.
    pub fn trigger(
        &mut self,
        kind: CheckpointKind,
        enumerators: Vec<EnumeratorState>,
        nonce: impl FnOnce() -> String,
        now_ms: u64,
    ) -> Barrier {
        self.last_id = CheckpointId(self.last_id.0 + 1);
        let mut barrier = Barrier::new(self.last_id, kind, now_ms);
        barrier.base = self.retained.base().filter(|_| kind == CheckpointKind::Periodic);
        barrier.blocking = self.config.mode == CheckpointMode::ExactlyOnce || kind.is_savepoint();
        barrier.unaligned_after_ms =
            self.config.unaligned_after_ms().filter(|_| kind == CheckpointKind::Periodic);
        let request = if kind.is_savepoint() { self.savepoints.take() } else { None };
        if let Some(request) = &request {
            let target = request.target.trim_end_matches('/');
            barrier.location = Some(format!("{target}/savepoint-{}-{}", self.job, nonce()).into());
        }
        let participants = self.graph.subtasks().collect();
        let deadline = now_ms.saturating_add(self.config.timeout_ms);
        let pending = Pending::new(barrier.clone(), deadline, participants, enumerators, request);
        self.pending.insert(self.last_id, pending);
        if kind == CheckpointKind::Periodic {
            self.wanted_now = false;
        }
        if !kind.is_savepoint() {
            self.due_ms = now_ms.saturating_add(self.config.interval_ms.unwrap_or(0));
        }
        self.counters.triggered += 1;
        barrier
    }

    /// A subtask has stored its part. `nonce` is used if this makes the checkpoint complete.
    pub fn on_ack(
        &mut self,
        checkpoint: CheckpointId,
        subtask: SubtaskId,
        mut snapshot: SubtaskSnapshot,
        nonce: impl FnOnce() -> String,
        now_ms: u64,
    ) -> Vec<CheckpointAction> {
        let (Some(pending), Some(attempt)) = (self.pending.get_mut(&checkpoint), self.attempt) else {
            self.counters.late += 1;
            return Vec::new();
        };
        if let Some(why) = self.graph.vertex(subtask.vertex).and_then(|v| pending::misfit(v, &snapshot)) {
            return self.abort(checkpoint, &Failure { kind: ErrorKind::Bug, message: why }, now_ms);
        }
        if let Some(why) = attribute_files(&self.retained, &pending.barrier, &mut snapshot) {
            return self.abort(checkpoint, &Failure { kind: ErrorKind::Bug, message: why }, now_ms);
        }
        match pending.ack(subtask, snapshot) {
            AckOutcome::Counted => return Vec::new(),
            AckOutcome::Duplicate => self.counters.duplicate += 1,
            AckOutcome::Foreign => self.counters.foreign += 1,
            AckOutcome::Last => {
                let Some(pending) = self.pending.remove(&checkpoint) else { return Vec::new() };
                let older: Vec<_> = self.pending.range(..checkpoint).map(|(id, _)| *id).collect();
                let mut actions = Vec::new();
                for id in older {
                    let Some(overtaken) = self.pending.remove(&id) else { continue };
                    self.counters.aborted += 1;
                    let why = format!("checkpoint {checkpoint} was acknowledged before it");
                    let brought = overtaken.brought(&self.graph);
                    self.history.gave_up(&overtaken.barrier, brought, &why, now_ms);
                    actions.push(CheckpointAction::Abort { checkpoint: id, why, quiet: false });
                }
                let identity = Identity {
                    job: self.job.clone(),
                    leader_epoch: self.leader_epoch,
                    attempt,
                    nonce: nonce(),
                };
                let (timings, request) = (pending.timings(), pending.request.clone());
                let base = pending.barrier.base;
                let manifest = pending.into_manifest(&self.graph, identity, now_ms);
                let deadline_ms = now_ms.saturating_add(self.config.timeout_ms);
                self.commits.push(manifest, base, timings, request, deadline_ms);
                actions.extend(self.next_commit(now_ms));
                return actions;
            }
        }
        Vec::new()
    }

    /// A subtask cannot take part.
    pub fn on_decline(
        &mut self,
        checkpoint: CheckpointId,
        reason: &Failure,
        now_ms: u64,
    ) -> Vec<CheckpointAction> {
        if !self.pending.contains_key(&checkpoint) {
            self.counters.late += 1;
            return Vec::new();
        }
        self.abort(checkpoint, reason, now_ms)
    }

    /// Gives up what has timed out and repeats commits.
    pub fn on_tick(&mut self, now_ms: u64) -> Vec<CheckpointAction> {
        let late: Vec<_> =
            self.pending.iter().filter(|(_, p)| p.deadline_ms <= now_ms).map(|(id, _)| *id).collect();
        let mut actions = Vec::new();
        for id in late {
            let Some(p) = self.pending.get(&id) else { continue };
            let why = format!(
                "timed out after {} ms, not acknowledged by {}",
                self.config.timeout_ms,
                self.graph.places(p.outstanding())
            );
            actions.extend(self.abort(id, &Failure { kind: ErrorKind::RestartJob, message: why }, now_ms));
        }
        if let Some((checkpoint, why)) = self.commits.overdue(now_ms, self.config.timeout_ms) {
            actions.push(CheckpointAction::Stalled { checkpoint, why: why.clone() });
            actions.extend(self.store_failed(&why, now_ms));
            if self.commits.front_is_plain_savepoint() && !self.commits.front_is_sent() {
                // Nobody goes back to it: it may be given up whatever became of it.
                let failure = Failure { kind: ErrorKind::Retry, message: why };
                actions.extend(self.give_up_commit(&failure, now_ms));
            }
        }
        actions.extend(self.next_commit(now_ms));
        actions
    }

    /// When [`Coordinator::due`] or [`Coordinator::on_tick`] has something to do next.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let timeouts = self.pending.values().map(|p| p.deadline_ms);
        timeouts.chain(self.commits.next_deadline_ms()).chain(self.next_trigger().map(|(at, _)| at)).min()
    }

    /// What became of the last checkpoints.
    pub(crate) fn history(&self) -> &CheckpointHistory {
        self.history.history()
    }

    /// What became of the last checkpoints, if it is time to write that down; `ending` if there is no later time.
    pub fn history_due(&mut self, ending: bool) -> Option<CheckpointHistory> {
        self.history.take_due(ending)
    }

    /// What to delete when the job has ended.
    pub fn dispose(&self) -> Dispose {
        Dispose { leader_epoch: self.leader_epoch, nonce: self.claim_nonce() }
    }

    /// What the job had claimed is deleted.
    pub fn on_released(&mut self) {
        self.claims = false;
    }

    /// Names this leader in the leadership of a job that is claimed.
    fn claim_nonce(&self) -> String {
        format!("{}-{}", self.job, self.leader_epoch)
    }

    fn next_trigger(&self) -> Option<(u64, Due)> {
        self.attempt?;
        if self.inheriting.is_under_way() {
            return None;
        }
        let under_way = self.pending.len() + self.commits.len();
        if under_way > 0 && self.runs_alone() || under_way >= self.config.max_concurrent as usize {
            return None;
        }
        if let Some(wanted) = self.savepoints.wanted() {
            let next = match wanted {
                Wanted::Checkpoint(kind) => (0, Due::Checkpoint(kind)),
                Wanted::Drain => (0, Due::Drain),
                // Until then nothing is taken: a checkpoint of half-drained operators could not be resumed from.
                Wanted::Drained if !self.final_wanted => return None,
                Wanted::Drained => (self.final_not_before_ms, Due::Checkpoint(CheckpointKind::Drain)),
            };
            return (under_way == 0).then_some(next);
        }
        if self.final_wanted {
            let next = (self.final_not_before_ms, Due::Checkpoint(CheckpointKind::Final));
            return (under_way == 0).then_some(next);
        }
        if self.wanted_now {
            return (under_way == 0).then_some((0, Due::Checkpoint(CheckpointKind::Periodic)));
        }
        self.config.interval_ms?;
        let pause_over = self.ended_ms.map_or(0, |t| t.saturating_add(self.config.min_pause_ms));
        Some((self.due_ms.max(pause_over), Due::Checkpoint(CheckpointKind::Periodic)))
    }

    /// Whether something is under way beside which nothing else may be.
    fn runs_alone(&self) -> bool {
        self.commits.runs_alone() || self.pending.values().any(|p| p.barrier.kind != CheckpointKind::Periodic)
    }

    fn abort(&mut self, checkpoint: CheckpointId, reason: &Failure, now_ms: u64) -> Vec<CheckpointAction> {
        match self.pending.remove(&checkpoint) {
            Some(pending) => {
                let brought = pending.brought(&self.graph);
                self.given_up(pending.barrier, brought, pending.request, reason, now_ms)
            }
            None => Vec::new(),
        }
    }

    fn given_up(
        &mut self,
        barrier: Barrier,
        brought: Brought,
        request: Option<SavepointRequest>,
        reason: &Failure,
        now_ms: u64,
    ) -> Vec<CheckpointAction> {
        self.history.gave_up(&barrier, brought, &reason.message, now_ms);
        self.ended(now_ms);
        // A final checkpoint that fails is not tried again at once, whatever the pause between checkpoints.
        self.final_not_before_ms = self.final_not_before_ms.max(now_ms.saturating_add(FINAL_RETRY_MS));
        self.counters.aborted += 1;
        let checkpoint = barrier.checkpoint;
        let quiet = reason.kind == ErrorKind::Retry;
        let mut actions = vec![CheckpointAction::Abort { checkpoint, why: reason.message.clone(), quiet }];
        match barrier.location.zip(request) {
            Some((location, request)) => {
                actions.extend(self.savepoint_aborted(checkpoint, &location, request, reason, now_ms));
            }
            None => actions.extend(self.count_failure(checkpoint, reason, now_ms)),
        }
        actions
    }

    /// The end of a checkpoint, for pauses.
    fn ended(&mut self, now_ms: u64) {
        self.ended_ms = Some(now_ms);
        self.final_not_before_ms = now_ms.saturating_add(self.config.min_pause_ms);
    }

    /// The store has failed: an alarm, if it is the first time.
    fn store_failed(&mut self, why: &str, now_ms: u64) -> Option<CheckpointAction> {
        self.outage.failed(now_ms).then(|| CheckpointAction::StoreAway { why: why.to_owned() })
    }

    /// Counts a failed checkpoint against the job, unless it failed because the store is away.
    fn count_failure(
        &mut self,
        checkpoint: CheckpointId,
        reason: &Failure,
        now_ms: u64,
    ) -> Option<CheckpointAction> {
        if reason.kind == ErrorKind::Retry {
            self.outage.missed();
            return self.store_failed(&reason.message, now_ms);
        }
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        (self.failures_in_a_row > self.config.tolerable_failures).then(|| {
            let error =
                Error::restart_job(&reason.message).at(format!("checkpoint {checkpoint}")).at(format!(
                    "{} checkpoints failed in a row, {} tolerated",
                    self.failures_in_a_row, self.config.tolerable_failures
                ));
            CheckpointAction::Fail(Failure::from(&error))
        })
    }

    fn sweep(&mut self, newest: CheckpointId) -> Option<Sweep> {
        let pending = self.pending.values().filter_map(|p| p.barrier.base);
        let bases = pending.chain(self.commits.bases()).collect();
        let (mut keep, keep_files) = self.retained.keep(&bases)?;
        keep.extend(self.pending.keys().copied());
        // What was restored counts as the oldest of those that are kept.
        let release = self.claims && self.retained.ids().count() >= self.config.retained as usize;
        let release = release.then(|| self.claim_nonce());
        let (leader_epoch, record) = (self.leader_epoch, self.last_record);
        Some(Sweep { leader_epoch, newest, record, keep, keep_files, release })
    }

    fn completed(
        &mut self,
        manifest: &Manifest,
        timings: SubtaskTimings,
        now_ms: u64,
    ) -> CompletedCheckpoint {
        if manifest.kind != CheckpointKind::Savepoint {
            self.retained.add(manifest, self.config.retained);
            self.failures_in_a_row = 0;
            self.ended(now_ms);
        }
        self.counters.completed += 1;
        self.history.completed(manifest, now_ms);
        if manifest.kind == CheckpointKind::Final {
            self.final_wanted = false;
        }
        CompletedCheckpoint {
            checkpoint: manifest.checkpoint,
            kind: manifest.kind,
            duration_ms: now_ms.saturating_sub(manifest.triggered_at_ms),
            state_bytes: manifest.state_bytes(),
            uploaded_bytes: manifest.uploaded_bytes(),
            location: manifest.location.clone(),
            timings,
        }
    }
}

/// Has a snapshot say who wrote the files that it shares with the base. Returns, in words, a file that neither its checkpoint
/// nor the base brought, if there is one: it may be deleted at any time.
fn attribute_files(
    retained: &RetainedSet,
    barrier: &Barrier,
    snapshot: &mut SubtaskSnapshot,
) -> Option<String> {
    let is_known = |file: &mut StateHandle| {
        if file.checkpoint == barrier.checkpoint {
            return true;
        }
        let Some(base) = barrier.base.and_then(|base| retained.file(base, &file.path)) else { return false };
        file.written_by.clone_from(base);
        true
    };
    let mut files = snapshot.operators.iter_mut().flat_map(|o| &mut o.files);
    let foreign = files.find_map(|file| (!is_known(file)).then_some(&*file))?;
    let base = barrier.base.map_or("none".to_owned(), |base| base.to_string());
    Some(format!(
        "{} of checkpoint {} is not part of the base, which is {base}",
        foreign.path, foreign.checkpoint
    ))
}

/// The barrier a manifest came of.
fn barrier_of(manifest: &Manifest) -> Barrier {
    Barrier {
        location: manifest.location.as_deref().map(Box::from),
        ..Barrier::new(manifest.checkpoint, manifest.kind, manifest.triggered_at_ms)
    }
}

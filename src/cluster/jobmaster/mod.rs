//! The jobmaster: the life of one job. Pure: [`JobMaster::handle`] takes an event and the time and returns actions.
//!
//! ```text
//! Waiting -> Loading -> Deploying -> Running -> Finishing -> Closing -> Ended
//!    ^          |           |           |           |          ^
//!    |          |           +-----------+-----------+          |
//!    |          |                 v                            |
//!    +--------- | ---- Pausing <- Stopping --------------------+
//!    |          |                 |                            |
//!    +--------- | ----------------+ (rescaled)                 |
//!               +----------------------------------------------+   (unreadable, failed, cancelled)
//! ```
//!
//! Every edge is one function. Invariants:
//! - A restart begins by reading the newest completed checkpoint back from the store; if that fails the job fails.
//! - A subtask is deployed only after the one before it has ended or its worker is gone. So it is for its whole region;
//!   what is not of the region may go on beside it.
//! - Nothing is processed before every subtask of the attempt has restored its state.
//! - Messages of another attempt are counted and have no other effect.
//! - Output of the end of a bounded job is published by a final checkpoint; subtasks end only after it.
//! - A job is over when its terminal record is durable.

mod api;
mod checkpoints;
mod closing;
mod deploy;
mod failure;
#[cfg(test)]
mod fuzz;
mod notice;
mod region;
#[cfg(test)]
mod region_tests;
mod rescale;
#[cfg(test)]
mod rescale_tests;
mod sources;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trouble_tests;

pub use api::{
    EnumeratorDriver, JobAction, JobCounters, JobEvent, JobMasterConfig, JobNotice, JobResult, JobStatus,
    NextSplit, Slots,
};

use crate::checkpoint::{
    CheckpointCounters, CheckpointHistory, Coordinator, RequestId, StoreReply, StoreRequest,
};
use crate::cluster::RestartStrategy;
use crate::cluster::message::{Failure, FromWorker, SubtaskEvent, ToWorker};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{JobGraph, OperatorKind};
use crate::id::{Attempt, CheckpointId, OperatorUid, SubtaskId, WorkerId};
use closing::ClosingStep;
use failure::Then;
use region::{Placed, Scope};
use rescale::PendingRescale;
use std::collections::{BTreeMap, BTreeSet};

/// How often a source reader's request is repeated while its enumerator has nothing.
const SPLIT_RETRY_MS: u64 = 100;

/// How often a job without slots looks whether it has another leader: nothing else would tell it.
const CHECK_LEADER_MS: u64 = 5_000;

/// Where the job is; what each state must remember and nothing else.
#[derive(Debug)]
enum Phase {
    /// Too few slots.
    Waiting { announced: Option<u32>, settled_ms: u64, check_leader_ms: u64 },
    /// The newest checkpoint is being read; after a failed try `retry_at_ms` is set.
    Loading { request: RequestId, tries: u32, retry_at_ms: Option<u64> },
    /// Deployed; these subtasks do not have their state yet.
    Deploying { starting: BTreeSet<SubtaskId> },
    /// All subtasks run.
    Running,
    /// `Finish` is sent.
    Finishing,
    /// `Cancel` is sent.
    Stopping { then: Then, deadline_ms: u64 },
    /// Between two attempts.
    Pausing { until_ms: u64 },
    /// The terminal record is being written, then checkpoints are disposed of.
    Closing { result: JobResult, step: ClosingStep },
    /// Over.
    Ended { status: JobStatus },
}

/// What an outstanding store request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    CheckLeader,
    Load,
    Commit,
    /// Copying the files of the checkpoint that was restored.
    Inherit,
    Sweep,
    /// Deleting what a failed savepoint left.
    Discard,
    History,
    Close,
}

/// The life of one job; see the module's text.
#[derive(Debug)]
pub struct JobMaster {
    config: JobMasterConfig,
    /// The program, with numbers of key groups adopted from the restored checkpoint.
    graph: JobGraph,
    phase: Phase,
    attempt: Attempt,
    workers: BTreeMap<WorkerId, u32>,
    /// Where the subtasks are.
    placement: BTreeMap<SubtaskId, Placed>,
    /// Those of them that have not ended.
    live: BTreeSet<SubtaskId>,
    /// Those that have processed all their input.
    drained: BTreeSet<SubtaskId>,
    /// What the phases before `Running` are about. The rest goes on.
    scope: Scope,
    /// The job has stopped with this savepoint: all that is left is to publish what it covers.
    stopped_with: Option<String>,
    pending_rescale: Option<PendingRescale>,
    /// When an adaptive job takes more slots, and how many.
    grow_at_ms: Option<(u32, u64)>,
    coordinator: Coordinator,
    strategy: RestartStrategy,
    enumerators: BTreeMap<OperatorUid, Box<dyn EnumeratorDriver>>,
    /// Split requests that found nothing.
    waiting_splits: BTreeSet<(SubtaskId, OperatorUid)>,
    split_retry_ms: Option<u64>,
    requests: BTreeMap<RequestId, Purpose>,
    next_request: u64,
    random: u64,
    counters: JobCounters,
    out: Vec<JobAction>,
}

impl JobMaster {
    /// A jobmaster that waits for workers. `enumerators` has one entry per source.
    pub fn new(
        config: JobMasterConfig,
        enumerators: BTreeMap<OperatorUid, Box<dyn EnumeratorDriver>>,
    ) -> Result<Self> {
        check_graph(&config.graph, &enumerators)?;
        let strategy = RestartStrategy::new(config.restart.clone())?;
        let coordinator = Coordinator::new(
            config.checkpoint.clone(),
            config.graph.clone(),
            config.job.clone(),
            config.leader_epoch,
        )?;
        Ok(Self {
            graph: config.graph.clone(),
            phase: Phase::Waiting { announced: None, settled_ms: 0, check_leader_ms: 0 },
            attempt: Attempt::before_first_of(config.leader_epoch),
            workers: BTreeMap::new(),
            placement: BTreeMap::new(),
            live: BTreeSet::new(),
            drained: BTreeSet::new(),
            scope: Scope::Whole,
            stopped_with: None,
            pending_rescale: None,
            grow_at_ms: None,
            coordinator,
            strategy,
            enumerators,
            waiting_splits: BTreeSet::new(),
            split_retry_ms: None,
            requests: BTreeMap::new(),
            next_request: 0,
            random: config.seed,
            counters: JobCounters::default(),
            out: Vec::new(),
            config,
        })
    }

    /// Takes one event and says what to do about it. Never panics, whatever the event.
    pub fn handle(&mut self, event: JobEvent, now_ms: u64) -> Vec<JobAction> {
        if !matches!(self.phase, Phase::Ended { .. }) {
            self.dispatch(event, now_ms);
            self.advance(now_ms);
        }
        std::mem::take(&mut self.out)
    }

    /// When the next [`JobEvent::Tick`] is worth sending; earlier ones do no harm.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let own = match &self.phase {
            Phase::Loading { retry_at_ms, .. } => *retry_at_ms,
            Phase::Stopping { deadline_ms, .. } => Some(*deadline_ms),
            Phase::Pausing { until_ms } => Some(*until_ms),
            Phase::Closing { step, .. } => step.deadline_ms(),
            Phase::Running => self.grow_at_ms.map(|(_, at_ms)| at_ms),
            Phase::Waiting { settled_ms, check_leader_ms, .. } => {
                let adapts = self.config.min_parallelism.is_some() && self.fitting_graph().is_some();
                Some((*check_leader_ms).min(if adapts { *settled_ms } else { u64::MAX }))
            }
            Phase::Deploying { .. } | Phase::Finishing | Phase::Ended { .. } => None,
        };
        let checkpoints = matches!(self.phase, Phase::Running).then(|| self.coordinator.next_deadline_ms());
        own.into_iter().chain(checkpoints.flatten()).chain(self.split_retry_ms).min()
    }

    /// Where the job is.
    pub fn status(&self) -> JobStatus {
        match &self.phase {
            Phase::Waiting { .. } => JobStatus::Waiting,
            Phase::Loading { .. } => JobStatus::Restoring,
            Phase::Deploying { .. } => JobStatus::Deploying,
            Phase::Running => JobStatus::Running,
            Phase::Finishing => JobStatus::Finishing,
            Phase::Stopping { then, .. } => then.status(),
            Phase::Pausing { .. } => JobStatus::Restarting,
            Phase::Closing { result, .. } => match result {
                JobResult::Finished => JobStatus::Finishing,
                JobResult::Failed(_) => JobStatus::Failing,
                JobResult::Canceled => JobStatus::Canceling,
                JobResult::Fenced(_) => JobStatus::Fenced,
            },
            Phase::Ended { status } => *status,
        }
    }

    /// The current attempt; 0 before the first.
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// The newest completed checkpoint, as far as this jobmaster knows.
    pub fn last_checkpoint(&self) -> Option<CheckpointId> {
        self.coordinator.newest_completed()
    }

    /// Messages without effect, and restarts.
    pub fn counters(&self) -> JobCounters {
        self.counters
    }

    /// The program, with numbers of key groups adopted from the restored checkpoint.
    pub(crate) fn graph(&self) -> &JobGraph {
        &self.graph
    }

    /// The taskmanagers that are there, with their slots.
    pub(crate) fn taskmanagers(&self) -> &BTreeMap<WorkerId, u32> {
        &self.workers
    }

    /// The slots there are, and those that the job needs for the parallelism asked for.
    pub(crate) fn slots(&self) -> Slots {
        Slots { available: self.slots_available(), needed: self.wanted_graph().slots_needed() }
    }

    /// The subtasks that have not ended, and where they are.
    pub(crate) fn live(&self) -> impl Iterator<Item = (SubtaskId, WorkerId)> {
        self.live.iter().filter_map(|subtask| Some((*subtask, self.placement.get(subtask)?.worker)))
    }

    /// What became of the last checkpoints.
    pub(crate) fn checkpoint_history(&self) -> &CheckpointHistory {
        self.coordinator.history()
    }

    /// Counters of checkpoints.
    pub fn checkpoint_counters(&self) -> CheckpointCounters {
        self.coordinator.counters()
    }

    fn dispatch(&mut self, event: JobEvent, now_ms: u64) {
        match event {
            JobEvent::WorkerJoined { worker, slots } => {
                self.workers.insert(worker, slots);
            }
            JobEvent::WorkerLost { worker, why } => self.worker_lost(worker, &why, now_ms),
            JobEvent::Worker(message) => self.worker_says(message, now_ms),
            JobEvent::Store { request, reply } => self.store_says(request, reply, now_ms),
            JobEvent::Tick => self.tick(now_ms),
            JobEvent::Cancel => self.cancel(now_ms),
            JobEvent::Rescale { request, parallelism } => {
                self.rescale_requested(request, parallelism, now_ms)
            }
            JobEvent::Savepoint(request) => self.savepoint_requested(request, now_ms),
        }
    }

    /// Follows the edges that need no event of their own.
    fn advance(&mut self, now_ms: u64) {
        match self.phase {
            Phase::Waiting { .. } => self.start_if_slots(now_ms),
            Phase::Stopping { .. } if !self.is_stopping() => self.stopped(now_ms),
            Phase::Pausing { until_ms } if until_ms <= now_ms => self.start_or_wait(now_ms),
            Phase::Running => {
                self.grow(now_ms);
                self.trigger_due(now_ms);
            }
            Phase::Finishing if self.live.is_empty() => self.close(JobResult::Finished, now_ms),
            _ => {}
        }
    }

    fn tick(&mut self, now_ms: u64) {
        self.retry_splits(now_ms);
        match &self.phase {
            Phase::Waiting { .. } if self.config.fixed_slots => self.refuse_too_few_slots(now_ms),
            Phase::Waiting { check_leader_ms, .. } if *check_leader_ms <= now_ms => self.check_leader(now_ms),
            Phase::Loading { retry_at_ms: Some(at), .. } if *at <= now_ms => self.load_again(),
            Phase::Running => {
                let actions = self.coordinator.on_tick(now_ms);
                self.follow(actions, now_ms);
            }
            Phase::Stopping { deadline_ms, .. } if *deadline_ms <= now_ms => self.abandon_the_deaf(now_ms),
            Phase::Closing { .. } => self.close_again(now_ms),
            _ => {}
        }
    }

    fn worker_says(&mut self, message: FromWorker, now_ms: u64) {
        let FromWorker { worker, attempt, subtask, event } = message;
        let placed = self.placement.get(&subtask).copied();
        if placed.map_or(self.attempt, |placed| placed.attempt) != attempt {
            self.counters.stale_attempt += 1;
            return;
        }
        if placed.map(|placed| placed.worker) != Some(worker) || !self.live.contains(&subtask) {
            self.counters.wrong_worker += 1;
            return;
        }
        let is_stopping = matches!(self.phase, Phase::Stopping { .. }) && self.scope.has(subtask);
        match event {
            SubtaskEvent::Canceled | SubtaskEvent::Failed(_) if is_stopping => {
                self.live.remove(&subtask);
            }
            SubtaskEvent::Failed(failure) => {
                self.live.remove(&subtask);
                self.fail(failure, &[subtask], now_ms);
            }
            SubtaskEvent::Canceled => {
                self.live.remove(&subtask);
                let failure =
                    Failure { kind: ErrorKind::Bug, message: "stopped without being told to".into() };
                self.fail(failure, &[subtask], now_ms);
            }
            SubtaskEvent::Finished => self.subtask_finished(subtask, now_ms),
            SubtaskEvent::Ready => self.subtask_ready(subtask, now_ms),
            SubtaskEvent::Drained => self.subtask_drained(subtask),
            SubtaskEvent::SplitRequest { operator } => self.split_requested(subtask, operator, now_ms),
            SubtaskEvent::Acknowledge { checkpoint, snapshot } => {
                self.acknowledged(checkpoint, subtask, snapshot, now_ms);
            }
            SubtaskEvent::Decline { checkpoint, reason } => {
                self.declined(checkpoint, subtask, &reason, now_ms)
            }
        }
    }

    fn store_says(&mut self, request: RequestId, reply: StoreReply, now_ms: u64) {
        let Some(purpose) = self.requests.remove(&request) else {
            self.counters.stale_reply += 1;
            return;
        };
        if let StoreReply::Failed(failure) = &reply
            && failure.kind == ErrorKind::Fenced
        {
            return self.fenced(failure.clone(), now_ms);
        }
        match purpose {
            // A store that is away says nothing about it.
            Purpose::CheckLeader => {}
            Purpose::Load => self.loaded(reply, now_ms),
            Purpose::Commit => self.commit_answered(&reply, now_ms),
            Purpose::Inherit => self.inherit_answered(reply, now_ms),
            Purpose::Sweep => match reply {
                StoreReply::Released(_) => self.coordinator.on_released(),
                StoreReply::Failed(failure) => self
                    .notice(JobNotice::StoreTrouble { what: "delete old checkpoints", why: failure.message }),
                _ => {}
            },
            // For people only; the next one says more.
            Purpose::History => {}
            Purpose::Discard => {
                if let StoreReply::Failed(failure) = reply {
                    self.notice(JobNotice::StoreTrouble {
                        what: "delete what a failed savepoint left",
                        why: failure.message,
                    });
                }
            }
            Purpose::Close => self.close_answered(reply, now_ms),
        }
    }

    fn enter(&mut self, phase: Phase) {
        let from = self.status();
        self.phase = phase;
        let to = self.status();
        if from != to {
            self.notice(JobNotice::Status { from, to });
        }
    }

    fn notice(&mut self, notice: JobNotice) {
        self.out.push(JobAction::Event(notice));
    }

    fn request(&mut self, purpose: Purpose, body: StoreRequest) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.requests.insert(request, purpose);
        self.out.push(JobAction::Store { request, body });
        request
    }

    /// Forgets outstanding requests of one purpose; their replies will be counted and dropped.
    fn forget(&mut self, purpose: Purpose) {
        self.requests.retain(|_, p| *p != purpose);
    }

    fn send(&mut self, worker: WorkerId, message: ToWorker) {
        self.out.push(JobAction::Send { worker, message });
    }

    /// Sends a message to every worker that has live subtasks, for each attempt they are of.
    fn broadcast(&mut self, message: impl Fn(Attempt) -> ToWorker) {
        let deployments: BTreeSet<Placed> =
            self.live.iter().filter_map(|s| self.placement.get(s)).copied().collect();
        for Placed { worker, attempt } in deployments {
            self.send(worker, message(attempt));
        }
    }

    /// The next number of the seeded sequence.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A name nobody else uses.
    fn nonce(&mut self) -> String {
        let random = self.next_random();
        format!("{}-{random:016x}", self.config.leader_epoch)
    }
}

/// Refuses graphs that cannot be run.
fn check_graph(
    graph: &JobGraph,
    enumerators: &BTreeMap<OperatorUid, Box<dyn EnumeratorDriver>>,
) -> Result<()> {
    let refuse = |what: String| Err(Error::config(what).at(format!("job {}", graph.name)));
    if graph.vertices.is_empty() {
        return refuse("the program has no operators".into());
    }
    for (index, vertex) in graph.vertices.iter().enumerate() {
        if vertex.id.0 as usize != index || vertex.operators.is_empty() {
            return Err(Error::bug(format!("vertex {} is malformed", vertex.name)));
        }
        if vertex.parallelism == 0 {
            return refuse(format!("{} has parallelism 0", vertex.name));
        }
    }
    let mut uids = BTreeSet::new();
    for (vertex, operator) in graph.operators() {
        if !uids.insert(&operator.uid) {
            return refuse(format!("two operators have the uid {}", operator.uid));
        }
        if vertex.parallelism > u32::from(operator.max_parallelism) {
            return refuse(format!(
                "{} has parallelism {} and at most {} key groups",
                operator.name, vertex.parallelism, operator.max_parallelism
            ));
        }
        if operator.kind == OperatorKind::Source && !enumerators.contains_key(&operator.uid) {
            return Err(Error::bug(format!("source {} has no enumerator", operator.uid)));
        }
    }
    Ok(())
}

//! A taskmanager in this process: takes the jobmanager's messages, owns the threads of its subtasks.

use crate::checkpoint::{CrashPoints, JobStore};
use crate::cluster::message::{Failure, FromWorker, SubtaskEvent, ToWorker};
use crate::cluster::taskmanager::UploadScope;
use crate::cluster::taskmanager::runner::{AttemptPlan, Runner};
use crate::graph::Program;
use crate::id::{Attempt, JobId, SubtaskId, WorkerId};
use crate::task::hub::{Network, Routes};
use crate::task::{ExchangeHub, TaskMessage};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tidegate_state::BackendOptions;
use tokio::runtime::Handle;

/// A moment, as tasks see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Milliseconds since the Unix epoch; moves with the monotonic clock, so it never jumps while a job runs.
    pub(crate) wall_ms: i64,
    /// Microseconds since the clock was made.
    pub(crate) elapsed_us: u64,
}

/// The clock of a process: wall time at its start, monotonic from there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessClock {
    wall_start_ms: i64,
    start: Instant,
}

impl ProcessClock {
    /// The one place that reads the clocks of the machine.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that is handed in everywhere else")]
    pub(crate) fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall_start_ms: since_epoch.as_millis() as i64, start: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        let elapsed_us = self.start.elapsed().as_micros() as u64;
        Now { wall_ms: self.wall_start_ms.saturating_add_unsigned(elapsed_us / 1000), elapsed_us }
    }
}

/// What a taskmanager is made of.
pub(crate) struct TaskManagerParts {
    pub(crate) id: WorkerId,
    pub(crate) program: Arc<Program>,
    pub(crate) job: JobId,
    pub(crate) store: JobStore,
    pub(crate) runtime: Handle,
    pub(crate) backend: BackendOptions,
    pub(crate) local_dir: Option<PathBuf>,
    pub(crate) crash_points: CrashPoints,
    pub(crate) clock: ProcessClock,
    pub(crate) upload: UploadScope,
    /// The exchange of each attempt, shared by all taskmanagers of the process.
    pub(crate) hubs: Arc<Hubs>,
    /// How subtasks of other processes are reached; none if there are none.
    pub(crate) network: Option<Arc<dyn Network>>,
    /// Where reports go.
    pub(crate) report: Box<dyn Fn(FromWorker) + Send + Sync>,
}

/// What a taskmanager shares with its task threads.
pub(crate) struct WorkerShared {
    parts: TaskManagerParts,
    dead: AtomicBool,
}

impl WorkerShared {
    pub(super) fn program(&self) -> &Program {
        &self.parts.program
    }

    pub(super) fn store(&self) -> &JobStore {
        &self.parts.store
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.parts.runtime
    }

    pub(super) fn backend(&self) -> &BackendOptions {
        &self.parts.backend
    }

    pub(super) fn local_dir(&self) -> Option<PathBuf> {
        self.parts.local_dir.clone()
    }

    pub(super) fn crash_points(&self) -> &CrashPoints {
        &self.parts.crash_points
    }

    pub(super) fn upload_scope(&self) -> &UploadScope {
        &self.parts.upload
    }

    pub(super) fn job(&self) -> &JobId {
        &self.parts.job
    }

    pub(super) fn now(&self) -> Now {
        self.parts.clock.now()
    }

    /// Whether the taskmanager is dead: its threads stop and nothing they do leaves the process.
    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed) || self.parts.crash_points.killed().is_some()
    }

    pub(super) fn report(&self, attempt: Attempt, subtask: SubtaskId, event: SubtaskEvent) {
        if !self.is_dead() {
            (self.parts.report)(FromWorker { worker: self.parts.id, attempt, subtask, event });
        }
    }
}

#[derive(Debug, Default)]
struct Attempts {
    hubs: BTreeMap<Attempt, Arc<ExchangeHub>>,
    /// Older ones are over, everywhere.
    oldest: Option<Attempt>,
}

/// The exchanges of the attempts of one job within one process.
#[derive(Debug, Default)]
pub(crate) struct Hubs {
    attempts: Mutex<Attempts>,
    /// How many bytes a channel holds, if not as many as usual.
    channel_bytes: Option<usize>,
}

impl Hubs {
    /// With channels of another size.
    #[cfg(feature = "testing")]
    pub(crate) fn with_channels_of(channel_bytes: Option<usize>) -> Self {
        Self { channel_bytes, ..Self::default() }
    }

    /// The exchange of an attempt. Those of attempts before `oldest` are forgotten; their tasks keep their own channels.
    pub(crate) fn of(&self, attempt: Attempt, oldest: Attempt) -> Arc<ExchangeHub> {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.oldest = attempts.oldest.max(Some(oldest));
        attempts.hubs.retain(|of, _| *of >= oldest);
        attempts.hubs.entry(attempt).or_insert_with(|| self.make()).clone()
    }

    fn make(&self) -> Arc<ExchangeHub> {
        Arc::new(self.channel_bytes.map_or_else(ExchangeHub::default, ExchangeHub::with_channels_of))
    }

    /// The exchange of an attempt for what arrives from elsewhere, which may be before the attempt is deployed here;
    /// none if the attempt is over.
    pub(crate) fn for_arrival(&self, attempt: Attempt) -> Option<Arc<ExchangeHub>> {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = attempts.oldest.is_some_and(|oldest| attempt < oldest);
        (!is_over).then(|| attempts.hubs.entry(attempt).or_insert_with(|| self.make()).clone())
    }
}

/// A taskmanager: a group of slots that lives and dies together.
pub(crate) struct TaskManager {
    shared: Arc<WorkerShared>,
    runners: Vec<Runner>,
    /// Where the taskmanagers of other processes take records.
    peers: BTreeMap<WorkerId, Arc<str>>,
    deployed: Deployed,
}

/// The newest attempt that was deployed here.
#[derive(Debug, Default)]
struct Deployed(Option<Attempt>);

impl Deployed {
    /// Whether an attempt is to be deployed. Each comes once, later ones with higher numbers; what comes again, or late, would
    /// start subtasks a second time.
    fn is_next(&mut self, attempt: Attempt) -> bool {
        let is_next = self.0.is_none_or(|newest| attempt > newest);
        if is_next {
            self.0 = Some(attempt);
        }
        is_next
    }
}

impl TaskManager {
    pub(crate) fn new(parts: TaskManagerParts) -> Self {
        let shared = Arc::new(WorkerShared { parts, dead: AtomicBool::new(false) });
        Self { shared, runners: Vec::new(), peers: BTreeMap::new(), deployed: Deployed::default() }
    }

    /// Says where the taskmanagers of the cluster take records, before a deployment.
    pub(crate) fn set_peers(&mut self, peers: impl Iterator<Item = (WorkerId, Arc<str>)>) {
        let own = self.shared.parts.id;
        self.peers = peers.filter(|(worker, _)| *worker != own).collect();
    }

    /// The exchange of an attempt, with the ways to subtasks elsewhere.
    fn hub(
        &self,
        attempt: Attempt,
        oldest: Attempt,
        placement: Vec<(SubtaskId, WorkerId)>,
    ) -> Arc<ExchangeHub> {
        let hub = self.shared.parts.hubs.of(attempt, oldest);
        if let Some(network) = &self.shared.parts.network {
            let elsewhere = placement
                .into_iter()
                .filter_map(|(subtask, worker)| Some((subtask, self.peers.get(&worker)?.clone())));
            let elsewhere = elsewhere.collect();
            hub.set_routes(Routes { attempt, elsewhere, network: network.clone() });
        }
        hub
    }

    /// Takes a message of the jobmanager. Never blocks.
    pub(crate) fn handle(&mut self, message: ToWorker) {
        match message {
            ToWorker::Deploy { attempt, .. } if !self.deployed.is_next(attempt) => {}
            ToWorker::Deploy { attempt, subtasks, key_groups, placement, oldest } => {
                self.runners.retain(|r| r.attempt() >= oldest && r.is_running());
                let program = &self.shared.program().job_graph;
                let graph = program.of_attempt(placement.iter().map(|(subtask, _)| subtask), &key_groups);
                let (graph, hub) = (Arc::new(graph), self.hub(attempt, oldest, placement));
                let plan = AttemptPlan { attempt, graph, hub };
                for deployment in subtasks {
                    let subtask = deployment.subtask;
                    match Runner::start(self.shared.clone(), plan.clone(), deployment) {
                        Ok(runner) => self.runners.push(runner),
                        Err(e) => {
                            self.shared.report(attempt, subtask, SubtaskEvent::Failed(Failure::from(&e)))
                        }
                    }
                }
            }
            ToWorker::Start { attempt } => self.send_to_all(attempt, &TaskMessage::Start),
            ToWorker::Cancel { attempt, subtasks } => {
                let meant = |r: &&Runner| r.attempt() == attempt && subtasks.contains(&r.subtask());
                self.runners.iter().filter(meant).for_each(Runner::cancel)
            }
            ToWorker::TriggerCheckpoint { attempt, subtask, barrier } => {
                self.send_to(attempt, subtask, TaskMessage::Trigger(barrier));
            }
            ToWorker::CheckpointCompleted { attempt, checkpoint } => {
                self.send_to_all(attempt, &TaskMessage::Completed(checkpoint));
            }
            ToWorker::CheckpointAborted { attempt, checkpoint } => {
                self.send_to_all(attempt, &TaskMessage::Aborted(checkpoint));
            }
            ToWorker::AssignSplit { attempt, subtask, operator: _, split } => {
                self.send_to(attempt, subtask, TaskMessage::Split(split));
            }
            ToWorker::Drain { attempt } => self.send_to_all(attempt, &TaskMessage::Drain),
            ToWorker::Finish { attempt } => self.send_to_all(attempt, &TaskMessage::Finish),
        }
    }

    fn send_to(&self, attempt: Attempt, subtask: SubtaskId, message: TaskMessage) {
        let runner = self.runners.iter().find(|r| r.attempt() == attempt && r.subtask() == subtask);
        if let Some(runner) = runner {
            runner.send(message);
        }
    }

    fn send_to_all(&self, attempt: Attempt, message: &TaskMessage) {
        for runner in self.runners.iter().filter(|r| r.attempt() == attempt) {
            runner.send(message.clone());
        }
    }

    /// Dies on the spot: threads stop without a word, reports and acknowledgements under way are lost, everything the
    /// subtasks held is dropped.
    pub(crate) fn crash(&self) {
        self.shared.dead.store(true, Ordering::Relaxed);
        self.runners.iter().for_each(Runner::cancel);
    }

    /// Whether threads of its subtasks are still there.
    pub(crate) fn is_busy(&self) -> bool {
        self.runners.iter().any(Runner::is_running)
    }

    /// Whether a crash point has killed it.
    pub(crate) fn was_killed(&self) -> bool {
        self.shared.parts.crash_points.killed().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_is_deployed_once_and_none_after_a_newer_one() {
        let mut deployed = Deployed::default();
        let told: Vec<bool> = [3, 3, 2, 4, 3, 4, 7].map(|n| deployed.is_next(Attempt(n))).into();
        assert_eq!(told, [true, false, false, true, false, false, true]);
    }

    /// Or ends of channels that an attempt left behind, having died half built, would be met by those of the next one.
    #[test]
    fn every_attempt_has_an_exchange_of_its_own_whichever_taskmanager_asks() {
        let hubs = Hubs::default();
        let first = hubs.of(Attempt(1), Attempt(1));
        assert!(Arc::ptr_eq(&first, &hubs.of(Attempt(1), Attempt(1))));
        let second = hubs.of(Attempt(2), Attempt(2));
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&second, &hubs.of(Attempt(2), Attempt(2))));
    }

    /// A connection may be slow: the channel it opens can be one of a region that goes on beside a newer attempt.
    #[test]
    fn what_arrives_for_an_attempt_that_goes_on_is_taken_and_for_one_that_is_over_is_not() {
        let hubs = Hubs::default();
        let first = hubs.of(Attempt(1), Attempt(1));
        hubs.of(Attempt(3), Attempt(1));
        assert!(Arc::ptr_eq(&first, &hubs.for_arrival(Attempt(1)).unwrap()));
        hubs.of(Attempt(4), Attempt(3));
        assert!(hubs.for_arrival(Attempt(1)).is_none());
        assert!(hubs.for_arrival(Attempt(3)).is_some() && hubs.for_arrival(Attempt(5)).is_some());
    }
}

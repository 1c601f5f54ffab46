//! The thread around the pure jobmaster: feeds it events, carries out its actions.

use crate::checkpoint::{
    CheckpointConfig, CrashPoints, JobStore, RestoreFrom, Savepoint, SavepointMode, SavepointRequest,
    StoreReply, execute,
};
use crate::cluster::RestartStrategyConfig;
use crate::cluster::jobmaster::{JobAction, JobEvent, JobMaster, JobMasterConfig, JobNotice, JobResult};
use crate::cluster::local::handle::{End, Reply};
use crate::cluster::local::{JobController, JobHandle, JobReport};
use crate::cluster::message::{Failure, FromWorker};
use crate::cluster::taskmanager::{
    Hubs, LocalCopies, ProcessClock, TaskManager, TaskManagerParts, UploadScope,
};
use crate::error::{Error, Result};
use crate::graph::Program;
use crate::id::{JobId, LeaderEpoch, WorkerId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tidegate_state::BackendOptions;
use tokio::runtime::Runtime;

/// How long one request of the jobmanager to the checkpoint store may take before it counts as failed.
const STORE_TIMEOUT: Duration = Duration::from_secs(120);

/// How a cluster in one process is set up.
pub(crate) struct LocalClusterOptions {
    pub(crate) taskmanagers: u32,
    /// Slots of each taskmanager.
    pub(crate) slots: u32,
    pub(crate) cancel_timeout_ms: u64,
    pub(crate) backend: BackendOptions,
    pub(crate) local_dir: Option<PathBuf>,
    pub(crate) checkpoint: CheckpointConfig,
    pub(crate) restart: RestartStrategyConfig,
    pub(crate) restore: Option<RestoreFrom>,
    pub(crate) allow_non_restored: bool,
    /// Where savepoints go that name no place.
    pub(crate) savepoint_dir: Option<String>,
    /// Crash points of the jobmanager.
    pub(crate) crash_points: CrashPoints,
    /// Crash points of the taskmanager with this index, for its first life.
    pub(crate) worker_crash_points: BTreeMap<u32, CrashPoints>,
    /// Random for this process.
    pub(crate) seed: u64,
}

/// What the jobmanager's thread waits for.
#[derive(Debug)]
pub(super) enum ShellEvent {
    Job(JobEvent),
    Cancel,
    CrashTaskManager(u32),
    Savepoint { target: String, mode: SavepointMode, reply: Reply<Result<Savepoint>> },
    Report(Reply<JobReport>),
}

/// A jobmanager with its taskmanagers, in this process.
pub(crate) struct LocalCluster {
    job: JobId,
    master: JobMaster,
    program: Arc<Program>,
    store: JobStore,
    options: LocalClusterOptions,
    runtime: Runtime,
    clock: ProcessClock,
    hubs: Arc<Hubs>,
    workers: BTreeMap<WorkerId, (u32, TaskManager)>,
    next_worker: u32,
    events: Sender<ShellEvent>,
    inbox: Receiver<ShellEvent>,
    /// Who waits for which savepoint.
    asked: BTreeMap<u64, Reply<Result<Savepoint>>>,
    next_asked: u64,
    started_at_ms: u64,
}

impl LocalCluster {
    /// Starts a job.
    ///
    /// # Errors
    /// What keeps it from starting; nothing runs then.
    pub(crate) fn start(
        job: JobId,
        leader_epoch: LeaderEpoch,
        program: Arc<Program>,
        store: JobStore,
        runtime: Runtime,
        mut options: LocalClusterOptions,
    ) -> Result<JobHandle> {
        let mut config = JobMasterConfig::new(job.clone(), leader_epoch, program.job_graph.clone());
        config.checkpoint = options.checkpoint.clone();
        config.restart = options.restart.clone();
        config.allow_non_restored = options.allow_non_restored;
        config.restore = options.restore.take();
        config.seed = options.seed;
        config.cancel_timeout_ms = options.cancel_timeout_ms;
        let master = JobMaster::new(config, program.enumerators())?;
        #[expect(
            clippy::disallowed_methods,
            reason = "a handful of reports and replies per subtask and checkpoint"
        )]
        let (events, inbox) = channel();
        #[expect(
            clippy::disallowed_methods,
            reason = "a handful of notices per checkpoint, and none may be lost"
        )]
        let (notices, notices_out) = channel();
        let end = Arc::new(End::default());
        let controller = JobController::new(events.clone(), options.savepoint_dir.as_deref(), end.clone());
        let clock = ProcessClock::start();
        let cluster = Self {
            job: job.clone(),
            master,
            program,
            store,
            options,
            runtime,
            clock,
            hubs: Arc::default(),
            workers: BTreeMap::new(),
            next_worker: 0,
            events,
            inbox,
            asked: BTreeMap::new(),
            next_asked: 0,
            started_at_ms: clock.now().wall_ms.max(0).unsigned_abs(),
        };
        let thread = std::thread::Builder::new()
            .name("jobmanager".to_owned())
            .spawn(move || {
                let result = cluster.run(&notices);
                end.set(result.clone());
                result
            })
            .map_err(|e| Error::restart_job("no thread for the jobmanager").with_source(e))?;
        Ok(JobHandle::new(job, controller, notices_out, thread))
    }

    fn run(mut self, notices: &Sender<JobNotice>) -> JobResult {
        for index in 0..self.options.taskmanagers {
            let crash_points = self.options.worker_crash_points.remove(&index).unwrap_or_default();
            self.add_worker(index, crash_points);
        }
        loop {
            let event = match self.wait() {
                Some(ShellEvent::Job(event)) => event,
                Some(ShellEvent::Cancel) => JobEvent::Cancel,
                Some(ShellEvent::CrashTaskManager(index)) => {
                    self.crash_worker(index);
                    continue;
                }
                Some(ShellEvent::Savepoint { target, mode, reply }) => {
                    self.next_asked += 1;
                    self.asked.insert(self.next_asked, reply);
                    JobEvent::Savepoint(SavepointRequest { id: self.next_asked, target, mode })
                }
                Some(ShellEvent::Report(reply)) => {
                    _ = reply.send(self.report());
                    continue;
                }
                None => JobEvent::Tick,
            };
            if let Some(result) = self.feed(event, notices) {
                self.workers.into_values().for_each(|(_, worker)| worker.crash());
                self.runtime.shutdown_timeout(Duration::from_secs(10));
                return result;
            }
            self.bury_killed_workers();
        }
    }

    /// The next event; `None` when the jobmaster's deadline has come.
    fn wait(&self) -> Option<ShellEvent> {
        let now_ms = self.now_ms();
        let until_ms = self.master.next_deadline_ms().unwrap_or(now_ms + 1000);
        self.inbox.recv_timeout(Duration::from_millis(until_ms.saturating_sub(now_ms).min(1000))).ok()
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().wall_ms.max(0).unsigned_abs()
    }

    /// Hands an event to the jobmaster and carries out what it says; the result if the job is over.
    fn feed(&mut self, event: JobEvent, notices: &Sender<JobNotice>) -> Option<JobResult> {
        let now_ms = self.now_ms();
        let mut result = None;
        for action in self.master.handle(event, now_ms) {
            match action {
                JobAction::Send { worker, message } => {
                    if let Some((_, manager)) = self.workers.get_mut(&worker) {
                        manager.handle(message);
                    }
                }
                JobAction::Store { request, body } => {
                    let (store, crash_points) = (self.store.clone(), self.options.crash_points.clone());
                    let events = self.events.clone();
                    self.runtime.spawn(async move {
                        let reply =
                            match tokio::time::timeout(STORE_TIMEOUT, execute(&store, &crash_points, body))
                                .await
                            {
                                Ok(reply) => reply,
                                Err(_) => StoreReply::Failed(Failure::from(&Error::retry(format!(
                                    "the checkpoint store did not answer within {} s",
                                    STORE_TIMEOUT.as_secs()
                                )))),
                            };
                        _ = events.send(ShellEvent::Job(JobEvent::Store { request, reply }));
                    });
                }
                JobAction::Abandon { worker, .. } => {
                    // Its threads cannot be stopped: another one takes its place, so that the slots are back.
                    if let Some((index, manager)) = self.workers.remove(&worker) {
                        manager.crash();
                        self.add_worker(index, CrashPoints::none());
                    }
                }
                JobAction::Event(notice) => {
                    self.answer(&notice);
                    _ = notices.send(notice);
                }
                JobAction::Done(done) => result = Some(done),
            }
        }
        result
    }

    /// Tells those who wait for a savepoint.
    fn answer(&mut self, notice: &JobNotice) {
        let (request, answer) = match notice {
            JobNotice::SavepointCompleted { request, savepoint } => (request, Ok(savepoint.clone())),
            JobNotice::SavepointFailed { request, failure } => (request, Err(Error::from(failure.clone()))),
            _ => return,
        };
        if let Some(reply) = self.asked.remove(request) {
            _ = reply.send(answer);
        }
    }

    fn report(&self) -> JobReport {
        let counters = self.master.checkpoint_counters();
        JobReport {
            job: self.job.clone(),
            name: self.program.job_graph.name.clone(),
            status: self.master.status(),
            attempt: self.master.attempt(),
            restarts: self.master.counters().restarts,
            started_at_ms: self.started_at_ms,
            last_checkpoint: self.master.last_checkpoint(),
            completed: counters.completed,
            aborted: counters.aborted,
            directory: self.store.location(),
        }
    }

    fn add_worker(&mut self, index: u32, crash_points: CrashPoints) {
        let id = WorkerId(self.next_worker);
        self.next_worker += 1;
        let events = self.events.clone();
        let parts = TaskManagerParts {
            id,
            job: self.job.clone(),
            program: self.program.clone(),
            store: self.store.clone(),
            runtime: self.runtime.handle().clone(),
            backend: self.options.backend.clone(),
            local_dir: self.options.local_dir.clone(),
            crash_points: crash_points.clone(),
            clock: self.clock,
            upload: UploadScope::new(
                self.options.seed.wrapping_add(u64::from(id.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                crash_points,
            )
            .with_copies(LocalCopies::below(self.options.local_dir.clone()))
            .with_compression(self.options.checkpoint.compression),
            hubs: self.hubs.clone(),
            report: Box::new(move |message: FromWorker| {
                _ = events.send(ShellEvent::Job(JobEvent::Worker(message)))
            }),
        };
        self.workers.insert(id, (index, TaskManager::new(parts)));
        let joined = JobEvent::WorkerJoined { worker: id, slots: self.options.slots };
        _ = self.events.send(ShellEvent::Job(joined));
    }

    /// Kills the taskmanager and starts another in its place.
    fn crash_worker(&mut self, index: u32) {
        let found = self.workers.iter().find(|(_, (i, _))| *i == index).map(|(id, _)| *id);
        let Some((id, (index, manager))) = found.and_then(|id| self.workers.remove_entry(&id)) else {
            return;
        };
        manager.crash();
        let lost = JobEvent::WorkerLost { worker: id, why: "it crashed".to_owned() };
        _ = self.events.send(ShellEvent::Job(lost));
        self.add_worker(index, CrashPoints::none());
    }

    fn bury_killed_workers(&mut self) {
        let killed: Vec<u32> =
            self.workers.values().filter(|(_, w)| w.was_killed()).map(|(index, _)| *index).collect();
        killed.into_iter().for_each(|index| self.crash_worker(index));
    }
}

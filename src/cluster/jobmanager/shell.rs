//! The thread around the pure jobmaster: feeds it events, carries out its actions.

use crate::checkpoint::{
    CheckpointConfig, CrashPoints, JobStore, RestoreFrom, Savepoint, SavepointMode, SavepointRequest,
    StoreReply, execute,
};
use crate::cluster::RestartStrategyConfig;
use crate::cluster::jobmanager::handle::{End, Reply};
use crate::cluster::jobmanager::observed::{Failures, last_checkpoints, taskmanagers};
use crate::cluster::jobmanager::{
    JobController, JobException, JobHandle, JobInfo, JobReport, TaskManagerAddress,
};
use crate::cluster::jobmaster::{JobAction, JobEvent, JobMaster, JobMasterConfig, JobNotice, JobResult};
use crate::cluster::message::{Failure, ToWorker};
use crate::cluster::taskmanager::ProcessClock;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{JobGraph, Program};
use crate::id::{JobId, LeaderEpoch, WorkerId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long one request of the jobmanager to the checkpoint store may take before it counts as failed.
const STORE_TIMEOUT: Duration = Duration::from_secs(120);

/// What the jobmanager of a job is told at the start.
pub(crate) struct JobManagerOptions {
    pub(crate) job: JobId,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) cancel_timeout_ms: u64,
    pub(crate) min_parallelism: Option<u32>,
    pub(crate) settle_ms: u64,
    pub(crate) checkpoint: CheckpointConfig,
    pub(crate) restart: RestartStrategyConfig,
    pub(crate) restore: Option<RestoreFrom>,
    pub(crate) allow_non_restored: bool,
    /// Where savepoints go that name no place.
    pub(crate) savepoint_dir: Option<String>,
    pub(crate) crash_points: CrashPoints,
    /// `host:port` of this jobmanager, if it has one.
    pub(crate) address: Option<String>,
    /// Random for this process.
    pub(crate) seed: u64,
}

/// The taskmanagers, as the jobmanager's thread sees them. What they have to say they send into its inbox.
pub(crate) trait TaskManagers: Send {
    /// Hands a message on, in the order of the calls. One to a taskmanager that is gone is nobody's loss.
    fn send(&mut self, worker: WorkerId, message: ToWorker);

    /// Gives up a taskmanager whose subtasks do not stop: nothing that it still does may reach the job.
    fn abandon(&mut self, worker: WorkerId, why: &str);

    /// Crashes the one with this index, if they are in this process.
    fn crash(&mut self, index: u32);

    /// Called after every event.
    fn look_round(&mut self) {}

    /// The processes of those that have one of their own.
    fn processes(&self) -> BTreeMap<WorkerId, TaskManagerAddress> {
        BTreeMap::new()
    }

    /// The job is over.
    fn end(&mut self, result: &JobResult);

    /// Those who wait for the job's end can be told of it; returns when they have been, or after a moment.
    fn farewell(self: Box<Self>) {}
}

/// What the jobmanager's thread waits for.
#[derive(Debug)]
pub(crate) enum ShellEvent {
    Job(JobEvent),
    Cancel,
    CrashTaskManager(u32),
    Savepoint { target: String, mode: SavepointMode, reply: Reply<Result<Savepoint>> },
    Rescale { parallelism: u32, reply: Reply<Result<u32>> },
    Report(Reply<JobReport>),
    Info(Reply<JobInfo>),
    Plan(Reply<JobGraph>),
    Exceptions(Reply<Vec<JobException>>),
}

/// The way into the jobmanager's thread.
pub(crate) struct Inbox {
    pub(crate) events: Sender<ShellEvent>,
    inbox: Receiver<ShellEvent>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "a handful of reports and replies per subtask and checkpoint"
        )]
        let (events, inbox) = channel();
        Self { events, inbox }
    }
}

/// The thread of a job.
pub(crate) struct JobManager {
    job: JobId,
    name: String,
    master: JobMaster,
    store: JobStore,
    crash_points: CrashPoints,
    runtime: Runtime,
    clock: ProcessClock,
    workers: Box<dyn TaskManagers>,
    events: Sender<ShellEvent>,
    inbox: Receiver<ShellEvent>,
    /// Who waits for which savepoint.
    asked: BTreeMap<u64, Reply<Result<Savepoint>>>,
    /// Who waits for which other parallelism.
    rescales: BTreeMap<u64, Reply<Result<u32>>>,
    next_asked: u64,
    started_at_ms: u64,
    failures: Failures,
    leader_epoch: LeaderEpoch,
    /// Fingerprint of the plan.
    plan: String,
    address: Option<String>,
    end: Arc<End>,
}

impl JobManager {
    /// Starts a job.
    ///
    /// # Errors
    /// What keeps it from starting; nothing runs then.
    pub(crate) fn start(
        program: &Program,
        store: JobStore,
        runtime: Runtime,
        clock: ProcessClock,
        inbox: Inbox,
        workers: Box<dyn TaskManagers>,
        options: JobManagerOptions,
    ) -> Result<JobHandle> {
        let job = options.job.clone();
        let mut config = JobMasterConfig::new(job.clone(), options.leader_epoch, program.job_graph.clone());
        config.checkpoint = options.checkpoint;
        config.restart = options.restart;
        config.allow_non_restored = options.allow_non_restored;
        config.restore = options.restore;
        config.seed = options.seed;
        config.cancel_timeout_ms = options.cancel_timeout_ms;
        config.min_parallelism = options.min_parallelism;
        config.settle_ms = options.settle_ms;
        let master = JobMaster::new(config, program.enumerators())?;
        #[expect(
            clippy::disallowed_methods,
            reason = "a handful of notices per checkpoint, and none may be lost"
        )]
        let (notices, notices_out) = channel();
        let end = Arc::new(End::default());
        let controller =
            JobController::new(inbox.events.clone(), options.savepoint_dir.as_deref(), end.clone());
        let plan = program.fingerprint()?;
        let jobmanager = Self {
            job: job.clone(),
            name: program.job_graph.name.clone(),
            master,
            store,
            crash_points: options.crash_points,
            runtime,
            clock,
            workers,
            events: inbox.events,
            inbox: inbox.inbox,
            asked: BTreeMap::new(),
            rescales: BTreeMap::new(),
            next_asked: 0,
            started_at_ms: clock.now().wall_ms.max(0).unsigned_abs(),
            failures: Failures::default(),
            leader_epoch: options.leader_epoch,
            plan,
            address: options.address,
            end,
        };
        let thread = std::thread::Builder::new()
            .name("jobmanager".to_owned())
            .spawn(move || jobmanager.run(&notices))
            .map_err(|e| Error::restart_job("no thread for the jobmanager").with_source(e))?;
        Ok(JobHandle::new(job, controller, notices_out, thread))
    }

    fn run(mut self, notices: &Sender<JobNotice>) -> JobResult {
        loop {
            let event = match self.wait() {
                Some(ShellEvent::Job(event)) => event,
                Some(ShellEvent::Cancel) => JobEvent::Cancel,
                Some(ShellEvent::CrashTaskManager(index)) => {
                    self.workers.crash(index);
                    continue;
                }
                Some(ShellEvent::Savepoint { target, mode, reply }) => {
                    self.next_asked += 1;
                    self.asked.insert(self.next_asked, reply);
                    JobEvent::Savepoint(SavepointRequest { id: self.next_asked, target, mode })
                }
                Some(ShellEvent::Rescale { parallelism, reply }) => {
                    self.next_asked += 1;
                    self.rescales.insert(self.next_asked, reply);
                    JobEvent::Rescale { request: self.next_asked, parallelism }
                }
                Some(ShellEvent::Report(reply)) => {
                    _ = reply.send(self.report());
                    continue;
                }
                Some(ShellEvent::Info(reply)) => {
                    _ = reply.send(self.info());
                    continue;
                }
                Some(ShellEvent::Plan(reply)) => {
                    _ = reply.send(self.master.graph().clone());
                    continue;
                }
                Some(ShellEvent::Exceptions(reply)) => {
                    _ = reply.send(self.failures.all());
                    continue;
                }
                None => JobEvent::Tick,
            };
            if let Some(result) = self.feed(event, notices) {
                self.workers.end(&result);
                self.end.set(result.clone());
                self.workers.farewell();
                self.runtime.shutdown_timeout(Duration::from_secs(10));
                return result;
            }
            self.workers.look_round();
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
        if let Some(point) = event.crash_point()
            && let Err(e) = self.crash_points.reach_sync(point)
        {
            // As if it had died, or as if it had not heard it.
            return (e.kind() == ErrorKind::Fenced).then(|| JobResult::Fenced(Failure::from(&e)));
        }
        for action in self.master.handle(event, now_ms) {
            match action {
                JobAction::Send { worker, message } => self.send(worker, message),
                JobAction::Store { request, body } => {
                    let (store, crash_points) = (self.store.clone(), self.crash_points.clone());
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
                JobAction::Abandon { worker, why } => self.workers.abandon(worker, &why),
                JobAction::Event(notice) => {
                    self.answer(&notice);
                    self.failures.note(&notice, &self.master, now_ms);
                    _ = notices.send(notice);
                }
                JobAction::Done(done) => result = Some(done),
            }
        }
        result
    }

    fn send(&mut self, worker: WorkerId, message: ToWorker) {
        match message.crash_point().map_or(Ok(()), |point| self.crash_points.reach_sync(point)) {
            Ok(()) => self.workers.send(worker, message),
            // A message that cannot be sent is the end of a connection.
            Err(e) => {
                self.workers.abandon(worker, &e.to_string());
                let lost = JobEvent::WorkerLost { worker, why: e.to_string() };
                _ = self.events.send(ShellEvent::Job(lost));
            }
        }
    }

    /// Tells those who wait for a savepoint, or for another parallelism.
    fn answer(&mut self, notice: &JobNotice) {
        let (request, answer) = match notice {
            JobNotice::SavepointCompleted { request, savepoint } => (request, Ok(savepoint.clone())),
            JobNotice::SavepointFailed { request, failure } => (request, Err(Error::from(failure.clone()))),
            JobNotice::Rescaled { request: Some(request), parallelism } => {
                return self.answer_rescale(*request, Ok(*parallelism));
            }
            JobNotice::RescaleFailed { request, failure } => {
                return self.answer_rescale(*request, Err(Error::from(failure.clone())));
            }
            _ => return,
        };
        if let Some(reply) = self.asked.remove(request) {
            _ = reply.send(answer);
        }
    }

    fn answer_rescale(&mut self, request: u64, answer: Result<u32>) {
        if let Some(reply) = self.rescales.remove(&request) {
            _ = reply.send(answer);
        }
    }

    fn info(&self) -> JobInfo {
        JobInfo {
            report: self.report(),
            plan: self.plan.clone(),
            leader_epoch: self.leader_epoch,
            jobmanager: self.address.clone(),
            taskmanagers: taskmanagers(&self.master, &self.workers.processes()),
            checkpoints: last_checkpoints(&self.master),
        }
    }

    fn report(&self) -> JobReport {
        let counters = self.master.checkpoint_counters();
        JobReport {
            job: self.job.clone(),
            name: self.name.clone(),
            status: self.master.status(),
            attempt: self.master.attempt(),
            restarts: self.master.counters().restarts,
            started_at_ms: self.started_at_ms,
            last_checkpoint: self.master.last_checkpoint(),
            completed: counters.completed,
            aborted: counters.aborted,
            directory: self.store.location(),
            slots: self.master.slots(),
        }
    }
}

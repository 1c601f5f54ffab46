//! The simulated world: one queue of events in virtual time, one jobmanager, its taskmanagers, the store.

use crate::checkpoint::fault_store::FaultStore;
use crate::checkpoint::{
    CheckpointStore, CompletedCheckpoint, CrashPoints, JobStore, RestoreMode, Savepoint, SavepointRequest,
    StoredCheckpoint, TerminalStatus, claim, claim_leadership, execute, latest_completed, names_checkpoint,
    read_status, resolve_restore_path,
};
use crate::cluster::jobmaster::{JobAction, JobEvent, JobMaster, JobMasterConfig, JobNotice, JobResult};
use crate::cluster::message::{Failure, ToWorker};
use crate::cluster::taskmanager::Hubs;
use crate::config::Config;
use crate::environment::{CrashSite, Environment, slots_per_taskmanager};
use crate::error::{Error, Result};
use crate::graph::Program;
use crate::id::{Attempt, JobId, SubtaskId, WorkerId};
use crate::task::TaskOutput;
use crate::testing::simulation::worker::{SimulatedWorker, Woken};
use crate::testing::simulation::{
    EventLog, Inspect, SIMULATED_STORE, SeededRng, Simulation, SimulationReport,
};
use frozen::{Frozen, poll_once};
use futures::FutureExt;
use futures::executor::block_on;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Poll;

mod frozen;
mod tasks;

/// Virtual time begins here: a moment like any other, in milliseconds since the Unix epoch.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// Something that will happen.
enum Event {
    Master {
        generation: u32,
        event: JobEvent,
    },
    MasterDeadline {
        generation: u32,
    },
    Worker {
        worker: WorkerId,
        message: ToWorker,
    },
    Step {
        worker: WorkerId,
        attempt: Attempt,
        subtask: SubtaskId,
    },
    Store {
        generation: u32,
        request: crate::checkpoint::RequestId,
        body: Box<crate::checkpoint::StoreRequest>,
    },
    Upload {
        worker: WorkerId,
        attempt: Attempt,
        subtask: SubtaskId,
        snapshot: Box<TaskOutput>,
    },
    AskSavepoint(SavepointRequest),
    AskRescale {
        request: u64,
        parallelism: u32,
    },
    /// The store fails always, or is as it was.
    StoreOutage(bool),
    CrashRandomWorker,
    WorkerReturns {
        index: u32,
    },
    MasterReturns,
    MasterThaws,
    HeartbeatsMissed {
        worker: WorkerId,
    },
}

/// What has completed, as its files say.
async fn stored(job: &JobStore, done: &CompletedCheckpoint) -> Result<StoredCheckpoint> {
    match &done.location {
        Some(savepoint) => job.for_base(savepoint, &[])?.savepoint().await,
        None => job.stored(done.checkpoint).await,
    }
}

/// One end of a link between two processes; messages of one link keep their order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Link {
    ToWorker(WorkerId),
    ToMaster(WorkerId),
}

pub(super) struct World {
    settings: Simulation,
    config: Config,
    job: JobId,
    program: Arc<Program>,
    slots: u32,
    root: CheckpointStore,
    store: JobStore,
    store_faults: FaultStore,
    /// The job's directory as it is, without faults.
    sound: JobStore,
    now_us: u64,
    next_event: u64,
    queue: BTreeMap<(u64, u64), Event>,
    links: BTreeMap<Link, u64>,
    /// Chance of scheduling, of the network, and of faults: apart, so that one more draw here shifts nothing there.
    schedule: SeededRng,
    network: SeededRng,
    chaos: SeededRng,
    /// How long slow subtasks need for their steps.
    slowness: SeededRng,
    slow_vertices: u64,
    master: Option<JobMaster>,
    master_points: CrashPoints,
    generation: u32,
    workers: BTreeMap<WorkerId, SimulatedWorker>,
    next_worker: u32,
    hubs: Hubs,
    woken: Woken,
    log: EventLog,
    notices: Vec<JobNotice>,
    reached: BTreeMap<String, u64>,
    acted: BTreeSet<String>,
    kills: u64,
    hangs: u64,
    /// Jobmanagers that hang.
    frozen: Vec<Frozen>,
    /// Savepoints asked for and not answered.
    asked: BTreeMap<u64, SavepointRequest>,
    savepoints: Vec<Savepoint>,
}

impl World {
    pub(super) fn new(settings: Simulation, env: Environment, job_name: &str) -> Result<Self> {
        let (program, config, _) = env.compile(job_name)?;
        let slots = slots_per_taskmanager(&config, program.job_graph.slots_needed())?;
        let mut rng = SeededRng::new(settings.seed);
        let inner = settings.store.clone();
        let inner = inner.unwrap_or_else(|| Arc::new(object_store::memory::InMemory::new()));
        let job = JobId::new(job_name, settings.seed as u32);
        let sound = CheckpointStore::over(Arc::clone(&inner), "", SIMULATED_STORE).job(&job)?;
        let store_faults = FaultStore::new(inner);
        let store_seed = rng.fork(4).next_u64();
        store_faults.stale_listings(settings.faults.stale_listings);
        if settings.faults.store_failures_per_mille > 0 {
            store_faults.fail_randomly(store_seed, settings.faults.store_failures_per_mille);
        }
        let root = CheckpointStore::over(Arc::new(store_faults.clone()), "", SIMULATED_STORE);
        let store = root.job(&job)?;
        Ok(Self {
            job,
            root,
            program: Arc::new(program),
            slots,
            store,
            store_faults,
            sound,
            now_us: EPOCH_MS * 1000,
            next_event: 0,
            queue: BTreeMap::new(),
            links: BTreeMap::new(),
            schedule: rng.fork(1),
            network: rng.fork(2),
            chaos: rng.fork(3),
            slowness: rng.fork(5),
            slow_vertices: rng.next_u64(),
            master: None,
            master_points: CrashPoints::thawing(),
            generation: 0,
            workers: BTreeMap::new(),
            next_worker: 0,
            hubs: Hubs::with_channels_of(settings.channel_bytes),
            woken: Woken::default(),
            log: EventLog::default(),
            notices: Vec::new(),
            reached: BTreeMap::new(),
            acted: BTreeSet::new(),
            kills: 0,
            hangs: 0,
            frozen: Vec::new(),
            asked: BTreeMap::new(),
            savepoints: Vec::new(),
            config,
            settings,
        })
    }

    pub(super) fn run(mut self, inspect: Inspect<'_>) -> Result<SimulationReport> {
        self.arm(CrashSite::JobManager, &self.master_points.clone())?;
        self.start_master()?;
        for index in 0..self.config.cluster.taskmanagers {
            let points = CrashPoints::armable();
            self.arm(CrashSite::TaskManager(index), &points)?;
            self.add_worker(index, points);
        }
        self.plan_crash();
        for (id, asked) in (1..).zip(self.settings.savepoints.clone()) {
            let target = format!("{SIMULATED_STORE}/savepoints");
            let request = SavepointRequest { id, target, mode: asked.mode };
            self.at((EPOCH_MS + asked.at_ms) * 1000, Event::AskSavepoint(request));
        }
        for (request, (at_ms, parallelism)) in (1..).zip(self.settings.rescales.clone()) {
            self.at((EPOCH_MS + at_ms) * 1000, Event::AskRescale { request, parallelism });
        }
        if let Some((from_ms, to_ms)) = self.settings.faults.store_outage_ms {
            self.at((EPOCH_MS + from_ms) * 1000, Event::StoreOutage(true));
            self.at((EPOCH_MS + to_ms) * 1000, Event::StoreOutage(false));
        }
        let mut result = None;
        let mut inspected = 0;
        while let Some(((at_us, _), event)) = self.queue.pop_first() {
            self.now_us = at_us;
            if self.virtual_ms() > self.settings.max_virtual_ms {
                break;
            }
            if self.healed() {
                self.store_faults.heal();
            }
            result = self.happen(event)?;
            for notice in self.notices.iter().skip(inspected) {
                match notice {
                    JobNotice::CheckpointCompleted(done) => inspect(block_on(stored(&self.sound, done))?)?,
                    // One whose completion nobody has heard of, perhaps.
                    JobNotice::Restored { checkpoint, base } if base.is_empty() => {
                        inspect(block_on(self.sound.stored(*checkpoint))?)?;
                    }
                    _ => {}
                }
            }
            inspected = self.notices.len();
            if result.is_some() {
                break;
            }
            self.bury_the_killed()?;
            self.schedule_woken();
        }
        let points =
            self.workers.values().map(|w| w.crash_points.clone()).chain([self.master_points.clone()]);
        for points in points.collect::<Vec<_>>() {
            self.count_reached(&points);
        }
        self.store_faults.heal();
        // Also what wakes up when all is over must do no harm.
        while !self.frozen.is_empty() {
            self.thaw_master();
        }
        // What somebody would start from now.
        let kept = block_on(self.sound.inspect())?;
        for (id, stored) in kept.checkpoints {
            if Some(id) == kept.newest {
                inspect(stored?)?;
            }
        }
        let status = block_on(read_status(&self.store))?;
        Ok(SimulationReport {
            job: self.job.clone(),
            savepoints: std::mem::take(&mut self.savepoints),
            stopped_with: status.and_then(|status| status.savepoint),
            virtual_ms: self.virtual_ms(),
            result,
            log: self.log,
            notices: self.notices,
            reached: self.reached,
            acted: self.acted,
            kills: self.kills,
            hangs: self.hangs,
        })
    }

    fn virtual_ms(&self) -> u64 {
        self.now_us / 1000 - EPOCH_MS
    }

    fn now_ms(&self) -> u64 {
        self.now_us / 1000
    }

    fn healed(&self) -> bool {
        self.virtual_ms() >= self.settings.faults.heal_after_ms
    }

    fn arm(&self, site: CrashSite, points: &CrashPoints) -> Result<()> {
        self.settings
            .faults
            .armed
            .iter()
            .filter(|armed| armed.site == site)
            .try_for_each(|armed| points.arm(&armed.name, armed.nth, armed.action))
    }

    fn count_reached(&mut self, points: &CrashPoints) {
        for (name, visits) in points.reached() {
            *self.reached.entry(name).or_default() += visits;
        }
        self.acted.extend(points.acted());
    }

    fn at(&mut self, at_us: u64, event: Event) {
        self.next_event += 1;
        self.queue.insert((at_us.max(self.now_us), self.next_event), event);
    }

    fn after(&mut self, delay_us: u64, event: Event) {
        self.at(self.now_us + delay_us, event);
    }

    /// Sends over a link: any delay, but never past an earlier message.
    fn send(&mut self, link: Link, event: Event) {
        let delay = self.network.between(10, self.settings.faults.message_delay_us.max(11));
        let at_us = (self.now_us + delay).max(self.links.get(&link).map_or(0, |last| last + 1));
        self.links.insert(link, at_us);
        self.at(at_us, event);
    }

    fn happen(&mut self, event: Event) -> Result<Option<JobResult>> {
        match event {
            Event::Master { generation, event } if generation == self.generation => {
                return Ok(self.feed(event));
            }
            Event::MasterDeadline { generation } if generation == self.generation => {
                let due = self.master.as_ref().and_then(JobMaster::next_deadline_ms);
                if due.is_some_and(|due| due <= self.now_ms()) {
                    return Ok(self.feed(JobEvent::Tick));
                }
            }
            Event::Store { generation, request, body } if generation == self.generation => {
                let (store, points) = (self.store.clone(), self.master_points.clone());
                let mut work = async move { execute(&store, &points, *body).await }.boxed_local();
                let Poll::Ready(reply) = poll_once(&mut work) else {
                    self.freeze_master(work.map(drop).boxed_local());
                    return Ok(None);
                };
                self.log.add(self.now_us, format_args!("store replies {reply:?}"));
                let delay = self.network.between(1, self.settings.faults.store_delay_us.max(2));
                self.after(delay, Event::Master { generation, event: JobEvent::Store { request, reply } });
            }
            Event::Master { .. } | Event::MasterDeadline { .. } | Event::Store { .. } => {}
            Event::Worker { worker, .. } | Event::Step { worker, .. } | Event::Upload { worker, .. }
                if self.is_frozen(worker) => {}
            Event::Worker { worker, message } => self.on_worker_message(worker, message)?,
            Event::Step { worker, attempt, subtask } => self.step(worker, attempt, subtask),
            Event::Upload { worker, attempt, subtask, snapshot } => {
                self.upload(worker, attempt, subtask, *snapshot)
            }
            Event::AskSavepoint(request) => {
                self.asked.insert(request.id, request.clone());
                return Ok(self.feed(JobEvent::Savepoint(request)));
            }
            Event::AskRescale { request, parallelism } => {
                return Ok(self.feed(JobEvent::Rescale { request, parallelism }));
            }
            Event::StoreOutage(begins) => {
                self.log
                    .add(self.now_us, format_args!("store {}", if begins { "is away" } else { "is back" }));
                let rate = if begins { 1_000 } else { self.settings.faults.store_failures_per_mille };
                self.store_faults.fail_randomly(self.settings.seed, rate);
            }
            Event::CrashRandomWorker => {
                if !self.healed() {
                    let indexes: Vec<u32> = self.workers.values().map(|w| w.index).collect();
                    if let Some(index) = self.chaos.pick(&indexes).copied() {
                        self.crash_worker(index, "at random");
                    }
                    self.plan_crash();
                }
            }
            Event::WorkerReturns { index } => self.add_worker(index, CrashPoints::armable()),
            Event::MasterReturns => return self.start_master(),
            Event::MasterThaws => self.thaw_master(),
            Event::HeartbeatsMissed { worker } => self.heartbeats_missed(worker)?,
        }
        Ok(None)
    }

    fn plan_crash(&mut self) {
        if let Some(mean_ms) = self.settings.faults.crash_taskmanager_every_ms {
            let delay = self.chaos.between(1, mean_ms * 2000);
            self.after(delay, Event::CrashRandomWorker);
        }
    }

    /// A jobmanager process starts: it claims the leadership and goes on with the job, unless the job has ended.
    fn start_master(&mut self) -> Result<Option<JobResult>> {
        self.generation += 1;
        let (root, store, points) = (self.root.clone(), self.store.clone(), self.master_points.clone());
        let from = self.config.restore.clone();
        let nonce = format!("{}-jobmanager-{}", self.job, self.generation);
        let opening = async move {
            // What was restored may be gone when the job has checkpoints of its own.
            let path = match &from.path {
                Some(path) if matches!(latest_completed(&store).await, Ok(None)) => Some(path.as_str()),
                _ => None,
            };
            let mut restore = match path {
                Some(path) => Some(resolve_restore_path(&root, path, &[]).await?),
                None => None,
            };
            let epoch = claim_leadership(&store, &points, &nonce).await?;
            if from.mode == RestoreMode::Claim
                && let (Some(found), Some(path)) = (restore.take(), path)
            {
                let exact = names_checkpoint(path);
                restore = Some(claim(&store, &points, epoch, found, exact, &nonce).await?);
            }
            Ok::<_, Error>((restore, epoch, read_status(&store).await?))
        };
        let mut opening = opening.boxed_local();
        let (restore, epoch, ended) = match poll_once(&mut opening) {
            Poll::Ready(Ok(opened)) => opened,
            Poll::Ready(Err(e)) => {
                // A jobmanager that cannot start is started again by whoever watches it.
                self.log.add(self.now_us, format_args!("jobmanager does not start: {e}"));
                self.bury_master();
                return Ok(None);
            }
            Poll::Pending => {
                self.freeze_master(opening.map(drop).boxed_local());
                return Ok(None);
            }
        };
        if let Some(record) = ended {
            self.log.add(self.now_us, format_args!("jobmanager finds the job ended: {:?}", record.status));
            let failure = || {
                record.failure.clone().unwrap_or_else(|| Failure::from(&Error::bug("no failure recorded")))
            };
            return Ok(Some(match record.status {
                TerminalStatus::Finished => JobResult::Finished,
                TerminalStatus::Canceled => JobResult::Canceled,
                TerminalStatus::Failed => JobResult::Failed(failure()),
            }));
        }
        let mut config = JobMasterConfig::new(self.job.clone(), epoch, self.program.job_graph.clone());
        config.checkpoint = self.config.checkpoint.clone();
        config.restart = self.config.restart_strategy();
        config.restore = restore;
        config.allow_non_restored = self.config.restore.allow_non_restored_state;
        config.min_parallelism = self.config.min_parallelism;
        config.settle_ms = self.config.cluster.settle_time_ms;
        config.seed = self.settings.seed ^ u64::from(self.generation);
        self.master = Some(JobMaster::new(config, self.program.enumerators())?);
        self.log.add(self.now_us, format_args!("jobmanager starts as leader of epoch {epoch}"));
        let generation = self.generation;
        self.after(1, Event::Master { generation, event: JobEvent::Tick });
        for request in self.asked.clone().into_values() {
            self.after(1_000, Event::Master { generation, event: JobEvent::Savepoint(request) });
        }
        let joined: Vec<JobEvent> =
            self.workers.keys().map(|id| JobEvent::WorkerJoined { worker: *id, slots: self.slots }).collect();
        for event in joined {
            self.after(1, Event::Master { generation, event });
        }
        Ok(None)
    }

    fn add_worker(&mut self, index: u32, points: CrashPoints) {
        let id = WorkerId(self.next_worker);
        self.next_worker += 1;
        let compression = self.config.checkpoint.compression;
        self.workers.insert(id, SimulatedWorker::new(index, id, points, compression));
        self.log.add(self.now_us, format_args!("taskmanager {id} starts as number {index}"));
        let (generation, slots) = (self.generation, self.slots);
        self.send(
            Link::ToMaster(id),
            Event::Master { generation, event: JobEvent::WorkerJoined { worker: id, slots } },
        );
    }

    fn crash_worker(&mut self, index: u32, how: &str) {
        let found = self.workers.iter().find(|(_, w)| w.index == index).map(|(id, _)| *id);
        let Some((id, worker)) = found.and_then(|id| self.workers.remove_entry(&id)) else { return };
        self.kills += 1;
        self.log.add(self.now_us, format_args!("taskmanager {id} dies {how}"));
        self.count_reached(&worker.crash_points);
        let lost = JobEvent::WorkerLost { worker: id, why: "connection closed".to_owned() };
        let generation = self.generation;
        self.send(Link::ToMaster(id), Event::Master { generation, event: lost });
        let delay = self.network.between(1_000, 500_000);
        self.after(delay, Event::WorkerReturns { index });
    }

    /// Processes that reached a crash point armed to kill are taken away.
    fn bury_the_killed(&mut self) -> Result<()> {
        if self.master_points.killed().is_some() {
            self.bury_master();
        }
        self.freeze_workers();
        let killed: Vec<(u32, String)> = self
            .workers
            .values()
            .filter(|w| w.crash_points.hung().is_none())
            .filter_map(|w| w.crash_points.killed().map(|point| (w.index, point)))
            .collect();
        for (index, point) in killed {
            self.crash_worker(index, &format!("at {point}"));
        }
        Ok(())
    }

    /// The jobmanager is gone.
    fn bury_master(&mut self) {
        self.kills += 1;
        self.log.add(self.now_us, format_args!("jobmanager dies at {:?}", self.master_points.killed()));
        self.replace_master();
    }

    /// Taskmanagers drop what they run and register with the next jobmanager.
    fn replace_master(&mut self) {
        let points = std::mem::replace(&mut self.master_points, CrashPoints::thawing());
        self.count_reached(&points);
        self.master = None;
        self.generation += 1;
        for worker in self.workers.values_mut() {
            worker.tasks.clear();
        }
        self.hubs = Hubs::default();
        let delay = self.network.between(1_000, 500_000);
        self.after(delay, Event::MasterReturns);
    }

    fn feed(&mut self, event: JobEvent) -> Option<JobResult> {
        let now_ms = self.now_ms();
        if !self.master_reaches(event.crash_point()) {
            return None;
        }
        let mut master = self.master.take()?;
        self.log.add(self.now_us, format_args!("jobmanager gets {event:?}"));
        let actions = master.handle(event, now_ms);
        let deadline = master.next_deadline_ms();
        self.master = Some(master);
        let generation = self.generation;
        let (mut result, mut fenced) = (None, None);
        for action in actions {
            match action {
                JobAction::Send { worker, message } => {
                    if self.master_reaches(message.crash_point()) {
                        self.send(Link::ToWorker(worker), Event::Worker { worker, message });
                    } else if self.master.is_none() || self.master_points.killed().is_some() {
                        return None;
                    } else if let Some(index) = self.workers.get(&worker).map(|w| w.index) {
                        // A message that cannot be sent is the end of a connection.
                        self.crash_worker(index, "cut off");
                    }
                }
                JobAction::Store { request, body } => {
                    let delay = self.network.between(1, self.settings.faults.store_delay_us.max(2));
                    self.after(delay, Event::Store { generation, request, body: Box::new(body) });
                }
                JobAction::Abandon { worker, .. } => {
                    if let Some(index) = self.workers.get(&worker).map(|w| w.index) {
                        self.crash_worker(index, "abandoned");
                    }
                }
                JobAction::Event(notice) => {
                    self.log.add(self.now_us, format_args!("notice: {notice}"));
                    match &notice {
                        JobNotice::SavepointCompleted { request, savepoint } => {
                            self.asked.remove(request);
                            self.savepoints.push(savepoint.clone());
                        }
                        JobNotice::SavepointFailed { request, .. } => _ = self.asked.remove(request),
                        _ => {}
                    }
                    self.notices.push(notice);
                }
                JobAction::Done(JobResult::Fenced(failure)) => fenced = Some(failure),
                JobAction::Done(done) => result = Some(done),
            }
        }
        if let Some(failure) = fenced {
            // Whoever watches it starts it again: it may be that the job has ended.
            self.log.add(self.now_us, format_args!("jobmanager is fenced: {}", failure.message));
            self.replace_master();
            return None;
        }
        if let Some(deadline) = deadline {
            self.at(deadline * 1000, Event::MasterDeadline { generation });
        }
        result
    }
}

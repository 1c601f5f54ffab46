//! From a compiled program to a running job: the whole cluster in this process, or its jobmanager.

use super::CrashSite;
use super::this_host::this_host;
use crate::checkpoint::{
    CheckpointStore, CrashPoints, JobStore, LeaderRecord, RestoreFrom, RestoreMode, claim, claim_term, head,
    names_checkpoint, newest_leader, read_status, resolve_restore_path,
};
use crate::cluster::taskmanager::ProcessClock;
use crate::cluster::tls::{CONTROL_PLANE, Tls};
use crate::cluster::{
    Admission, InProcess, InProcessOptions, Inbox, JobHandle, JobManager, JobManagerOptions, Remote,
    RpcServer, Sessions, Settings, Standing, read_token, who,
};
use crate::config::{Config, Role, advertised, is_of_this_machine, is_unspecified};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::Program;
use crate::id::{JobId, LeaderEpoch};
use crate::say::say;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tidegate_state::BackendOptions;
use tidegate_state::envelope::Compression;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// How long a jobmanager that is there may take to say so.
const LEADER_ANSWERS_WITHIN: Duration = Duration::from_secs(2);
/// Pause of a standby between two looks at the leader.
const STANDBY_PAUSE: Duration = Duration::from_millis(200);

/// Pause between two looks for signs of life of a leader that cannot be asked.
const LIFE_PAUSE: Duration = Duration::from_millis(500);

/// Everything a job is launched from.
pub(super) struct Launch {
    pub(super) program: Arc<Program>,
    pub(super) config: Config,
    pub(super) crash_points: BTreeMap<CrashSite, CrashPoints>,
    /// Of each taskmanager in this process.
    pub(super) slots: u32,
}

/// What a job needs of the store before it starts.
struct Opened {
    root: CheckpointStore,
    store: JobStore,
    restore: Option<RestoreFrom>,
    leader_epoch: LeaderEpoch,
}

/// The port of a jobmanager that is a process of its own.
struct Host {
    address: String,
    tls: Option<Arc<Tls>>,
    standing: Standing,
    workers: Remote,
}

impl Launch {
    /// Starts the job's jobmanager, with its taskmanagers if they are in this process.
    pub(super) fn jobmanager(mut self, name: &str) -> Result<(JobHandle, Config)> {
        let (runtime, seed, clock) = (io_runtime()?, process_seed(), ProcessClock::start());
        let job = match &self.config.job_id {
            Some(id) => JobId::from(id.clone()),
            None => JobId::new(name, seed as u32),
        };
        let crash_points = self.crash_points.remove(&CrashSite::JobManager).unwrap_or_default();
        let is_process = self.config.cluster.role == Role::JobManager;
        let port =
            is_process.then(|| runtime.block_on(RpcServer::bind(self.config.cluster.listen_address())));
        let inbox = Inbox::new();
        let nonce = format!("{seed:016x}");
        let host = match port.transpose()? {
            Some((port, bound)) => {
                let address = advertised(bound, self.config.cluster.advertise.as_deref());
                Some(self.host(port, address, &nonce, &inbox, &runtime)?)
            }
            None => None,
        };
        let opened = match runtime.block_on(self.open(&job, &crash_points, &nonce, host.as_ref())) {
            Ok(opened) => opened,
            Err(e) => {
                // A thread that waits for a store that hangs must not keep the error back.
                runtime.shutdown_background();
                return Err(e);
            }
        };
        let address = host.as_ref().map(|host| host.address.clone());
        let mut door = None;
        let workers: Box<dyn crate::cluster::TaskManagers> = match host {
            Some(host) => {
                door = Some((host.standing, self.admission(&job, &opened)?));
                Box::new(host.workers)
            }
            None => Box::new(self.in_process(&job, &opened, seed, clock, &inbox, &runtime)),
        };
        let config = self.config;
        let options = JobManagerOptions {
            job,
            leader_epoch: opened.leader_epoch,
            cancel_timeout_ms: config.cluster.cancel_timeout_ms,
            min_parallelism: config.min_parallelism,
            settle_ms: config.cluster.settle_time_ms,
            checkpoint: config.checkpoint.clone(),
            restart: config.restart_strategy(),
            restore: opened.restore,
            allow_non_restored: config.restore.allow_non_restored_state,
            savepoint_dir: config.savepoint_dir(),
            crash_points,
            address,
            seed,
        };
        if let Some(address) = &options.address {
            say(format_args!("jobmanager of job {} at {address}", options.job));
        }
        let handle = JobManager::start(&self.program, opened.store, runtime, clock, inbox, workers, options)?;
        if let Some((standing, admission)) = door {
            standing.leads(admission, handle.controller());
        }
        Ok((handle, config))
    }

    async fn open(
        &self,
        job: &JobId,
        crash_points: &CrashPoints,
        nonce: &str,
        host: Option<&Host>,
    ) -> Result<Opened> {
        let location = self.config.checkpoint_dir.as_deref().unwrap_or("memory:///");
        let limit = Duration::from_millis(self.config.checkpoint.storage_timeout_ms);
        let root = CheckpointStore::open(location, &[])?.with_call_timeout(limit);
        root.probe().await?;
        let store = root.job(job)?;
        // A job that has checkpoints of its own goes on from those, and what it once started from may be gone: it was its to
        // delete if it had claimed it.
        let goes_on = self.config.job_id.is_some()
            && head(&store).await?.is_some_and(|record| record.checkpoint.is_some());
        let restore: Option<RestoreFrom> = match &self.config.restore.path {
            Some(path) if !goes_on => Some(resolve_restore_path(&root, path, &[]).await?),
            _ => None,
        };
        let address = host.map(|host| host.address.clone());
        let leader_epoch = loop {
            let newest = match self.config.job_id {
                Some(_) => self.wait_for_leadership(job, &store, host).await?,
                None => LeaderEpoch(0),
            };
            let leader = LeaderRecord {
                epoch: LeaderEpoch(newest.0 + 1),
                nonce: nonce.to_owned(),
                address: address.clone(),
                host: address.is_some().then(this_host).flatten(),
            };
            match claim_term(&store, crash_points, &leader).await {
                // Another one was quicker: whether that one is there is seen in the next round.
                Err(e) if e.kind() == ErrorKind::Fenced && host.is_some() => {}
                claimed => break claimed?,
            }
        };
        let restore = match (restore, &self.config.restore.path) {
            (Some(restore), Some(path)) if self.config.restore.mode == RestoreMode::Claim => {
                Some(claim(&store, crash_points, leader_epoch, restore, names_checkpoint(path), nonce).await?)
            }
            (restore, _) => restore,
        };
        Ok(Opened { root, store, restore, leader_epoch })
    }

    /// Returns when the job has not ended and nobody leads it, with the newest term there was; 0 for none.
    async fn wait_for_leadership(
        &self,
        job: &JobId,
        store: &JobStore,
        host: Option<&Host>,
    ) -> Result<LeaderEpoch> {
        let mut announced = false;
        loop {
            if let Some(status) = read_status(store).await? {
                return Err(Error::config(format!("job {job} has ended: {}", status.status))
                    .hint("to run the program again choose another job.id; to go on from its state set restore.path"));
            }
            let Some(leader) = newest_leader(store).await? else { return Ok(LeaderEpoch(0)) };
            let Some(address) = &leader.address else { return Ok(leader.epoch) };
            let tls = host.and_then(|host| host.tls.as_deref());
            let is_there = match look_for(&leader, address, tls).await {
                Found::There => true,
                Found::Gone => false,
                Found::Elsewhere => self.shows_life(store, &leader, address).await?,
            };
            if !is_there {
                host.inspect(|host| host.standing.starts());
                return Ok(leader.epoch);
            }
            if !self.config.cluster.standby {
                return Err(Error::config(format!("job {job} has a jobmanager, at {address}"))
                    .hint("stop that one, or start this one with --standby to have it take over when that one is gone"));
            }
            host.inspect(|host| host.standing.stands_by(job.as_str(), address));
            if !announced {
                say(format_args!("standing by for the jobmanager of job {job} at {address}"));
                announced = true;
            }
            tokio::time::sleep(STANDBY_PAUSE).await;
        }
    }

    /// Whether a leader that cannot be asked from here does anything within the time in which it would have to be heard.
    async fn shows_life(&self, store: &JobStore, leader: &LeaderRecord, address: &str) -> Result<bool> {
        let place = async || head(store).await.map(|record| record.map(|record| record.number));
        let limit = Duration::from_millis(self.config.cluster.heartbeat_timeout_ms);
        say(format_args!(
            "the jobmanager of term {} says that it is at {address}, on another machine or in another container: \
             looking {} s for signs of life; give jobmanagers addresses that others reach, with cluster.listen or \
             cluster.advertise",
            leader.epoch,
            limit.as_secs_f64()
        ));
        let (before, start) = (place().await?, tokio::time::Instant::now());
        while start.elapsed() < limit {
            tokio::time::sleep(LIFE_PAUSE.min(limit)).await;
            if place().await? != before {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn in_process(
        &mut self,
        job: &JobId,
        opened: &Opened,
        seed: u64,
        clock: ProcessClock,
        inbox: &Inbox,
        runtime: &Runtime,
    ) -> InProcess {
        let crash_points = std::mem::take(&mut self.crash_points);
        let of_taskmanager = |(site, points)| match site {
            CrashSite::TaskManager(index) => Some((index, points)),
            CrashSite::JobManager => None,
        };
        let options = InProcessOptions {
            job: job.clone(),
            program: self.program.clone(),
            store: opened.store.clone(),
            runtime: runtime.handle().clone(),
            clock,
            taskmanagers: self.config.cluster.taskmanagers,
            slots: self.slots,
            backend: self.config.state.backend.clone(),
            local_dir: self.config.state.local_dir.clone(),
            compression: self.config.checkpoint.compression,
            crash_points: crash_points.into_iter().filter_map(of_taskmanager).collect(),
            seed,
        };
        InProcess::start(options, inbox.events.clone())
    }

    /// Answers at the port, long before the job is there.
    fn host(
        &self,
        port: TcpListener,
        address: String,
        nonce: &str,
        inbox: &Inbox,
        runtime: &Runtime,
    ) -> Result<Host> {
        let (standing, sessions) = (Standing::new(nonce), Sessions::default());
        let tls = self.config.cluster.tls();
        let tls = tls.map(|files| Tls::load(&files, CONTROL_PLANE)).transpose()?.map(Arc::new);
        let server = RpcServer::start(
            port,
            tls.clone(),
            token(self.config.cluster.token_file.as_deref())?,
            standing.clone(),
            sessions.clone(),
            inbox.events.clone(),
            runtime.handle(),
        );
        Ok(Host { address, tls, standing, workers: Remote::new(sessions, server) })
    }

    /// Whom this jobmanager admits.
    fn admission(&self, job: &JobId, opened: &Opened) -> Result<Admission> {
        let cluster = &self.config.cluster;
        Ok(Admission {
            program: self.program.fingerprint()?,
            backend: backend_name(&self.config.state.backend).to_owned(),
            leader_epoch: opened.leader_epoch,
            settings: Settings {
                job: job.clone(),
                secret: format!("{:016x}{:016x}", process_seed(), process_seed()),
                checkpoint_dir: opened.root.location().to_owned(),
                storage_timeout_ms: self.config.checkpoint.storage_timeout_ms,
                zstd: self.config.checkpoint.compression == Compression::Zstd,
                heartbeat_interval_ms: cluster.heartbeat_interval_ms,
                heartbeat_timeout_ms: cluster.heartbeat_timeout_ms,
                cancel_timeout_ms: cluster.cancel_timeout_ms,
            },
        })
    }
}

/// What has become of a leader.
enum Found {
    There,
    /// Nobody, or somebody else, is at its address.
    Gone,
    /// Its address means another place here than where it is.
    Elsewhere,
}

/// Asks at the address of a leader who is there.
async fn look_for(leader: &LeaderRecord, address: &str, tls: Option<&Tls>) -> Found {
    match who(address, tls, LEADER_ANSWERS_WITHIN).await {
        Ok(nonce) if nonce == leader.nonce => return Found::There,
        // Whoever refuses to say is one of ours, and alive.
        Err(e) if e.kind() != ErrorKind::Retry => return Found::There,
        _ => {}
    }
    let is_private = is_of_this_machine(address) || is_unspecified(address);
    match (&leader.host, this_host()) {
        (Some(its), Some(own)) if is_private && *its != own => Found::Elsewhere,
        _ => Found::Gone,
    }
}

/// Threads for what waits: files, sockets, timers.
pub(super) fn io_runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("tidegate-io")
        .enable_all()
        .build()
        .map_err(|e| Error::restart_job("no threads for input and output").with_source(e))
}

/// What all members know; nothing if there is no file.
pub(super) fn token(file: Option<&Path>) -> Result<String> {
    read_token(file).map_err(|e| e.at("cluster.token-file"))
}

pub(super) fn backend_name(backend: &BackendOptions) -> &'static str {
    match backend {
        BackendOptions::Memory => "memory",
        BackendOptions::RocksDb(_) => "rocksdb",
        _ => "custom",
    }
}

/// A number no other process is likely to have.
#[expect(clippy::disallowed_methods, reason = "the one source of randomness of a real process")]
pub(crate) fn process_seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

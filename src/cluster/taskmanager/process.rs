//! A taskmanager as a process of its own: joins a jobmanager, obeys it, and joins again when the two have lost each other.

use crate::checkpoint::{CheckpointStore, CrashPoints};
use crate::cluster::TlsFiles;
use crate::cluster::data_plane::{DataListener, DataPlane, DataPlaneConfig, Nonces};
use crate::cluster::message::FromWorker;
use crate::cluster::rpc::{Joined, Register, Registered, ToJobManager, ToTaskManager, join};
use crate::cluster::taskmanager::{
    Hubs, LocalCopies, ProcessClock, TaskManager, TaskManagerParts, UploadScope,
};
use crate::cluster::tls::{CONTROL_PLANE, DATA_PLANE, Tls};
use crate::config::advertised;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::Program;
use crate::id::LeaderEpoch;
use crate::say::say;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tidegate_state::BackendOptions;
use tidegate_state::envelope::Compression;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// Pause between two rounds of looking for a jobmanager.
const SEARCH_PAUSE: Duration = Duration::from_millis(100);
/// How long one jobmanager may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What a taskmanager's process is told at the start.
pub(crate) struct TaskManagerProcess {
    pub(crate) program: Arc<Program>,
    /// Where jobmanagers may be: `host:port`. The first that answers is obeyed.
    pub(crate) jobmanagers: Vec<String>,
    /// `host:port` to take records at; with port 0 any that is free.
    pub(crate) listen: String,
    /// What others are told of that, if not what it has come to.
    pub(crate) advertise: Option<String>,
    /// The job that it is of, if it was told; once it was a member it knows.
    pub(crate) job: Option<String>,
    pub(crate) token: String,
    /// If connections are encrypted, with what.
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) slots: u32,
    pub(crate) backend: BackendOptions,
    pub(crate) backend_name: &'static str,
    pub(crate) local_dir: Option<PathBuf>,
    pub(crate) crash_points: CrashPoints,
    /// How long it looks for a jobmanager before it gives up.
    pub(crate) patience: Duration,
    pub(crate) seed: u64,
    pub(crate) clock: ProcessClock,
}

/// How a membership has ended.
enum End {
    /// The job is over.
    Job(Result<()>),
    /// The two have lost each other.
    Lost(Error),
}

impl TaskManagerProcess {
    /// Takes part until the job is over.
    ///
    /// # Errors
    /// Why the job has failed; why the taskmanager cannot join, or is not to go on.
    pub(crate) async fn run(mut self, runtime: &Handle) -> Result<()> {
        // Kept from one membership to the next: files are known by ids that are unique for ever.
        let copies = LocalCopies::below(self.local_dir.clone());
        let control = self.tls(CONTROL_PLANE)?;
        let mut newest = LeaderEpoch(0);
        loop {
            let port = DataListener::bind(&self.listen).await?;
            let data_address = advertised(port.local_addr()?, self.advertise.as_deref());
            let joined = self.search(&data_address, control.as_ref(), newest).await?;
            newest = joined.registered.leader_epoch;
            self.job = Some(joined.registered.settings.job.to_string());
            say(format_args!(
                "taskmanager {} of job {}, {} slots, takes records at {data_address}",
                joined.registered.worker, joined.registered.settings.job, self.slots
            ));
            match self.obey(joined, port, &copies, runtime).await? {
                End::Job(outcome) => return outcome,
                End::Lost(e) => say(format_args!("lost the jobmanager, looking for one: {e}")),
            }
            self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn tls(&self, protocol: &[u8]) -> Result<Option<Tls>> {
        self.tls.as_ref().map(|files| Tls::load(files, protocol)).transpose()
    }

    /// Finds a jobmanager that takes it.
    async fn search(&self, data_address: &str, tls: Option<&Tls>, newest: LeaderEpoch) -> Result<Joined> {
        let start = Instant::now();
        let register = Register {
            job: self.job.clone(),
            token: self.token.clone(),
            program: self.program.fingerprint()?,
            backend: self.backend_name.to_owned(),
            slots: self.slots,
            data_address: data_address.to_owned(),
            pid: std::process::id(),
        };
        loop {
            let mut last =
                Error::config("no address of a jobmanager is given").hint("set cluster.jobmanager");
            for address in &self.jobmanagers {
                match join(address, tls, register.clone(), ANSWER_WITHIN).await {
                    // One that has been asleep while another one took over.
                    Ok(joined) if joined.registered.leader_epoch < newest => {
                        last = Error::retry(format!(
                            "the jobmanager at {address} leads in term {}, and there was one of term {newest}",
                            joined.registered.leader_epoch
                        ));
                    }
                    Ok(joined) => return Ok(joined),
                    Err(e) if e.kind() == ErrorKind::Retry => last = e,
                    Err(e) => {
                        return Err(e.at(format!("the jobmanager at {address} refuses this taskmanager")));
                    }
                }
            }
            if start.elapsed() >= self.patience {
                return Err(last
                    .at(format!("no jobmanager within {} s", self.patience.as_secs()))
                    .hint("start one, or look whether cluster.jobmanager names its cluster.listen"));
            }
            tokio::time::sleep(SEARCH_PAUSE).await;
        }
    }

    /// Does what the jobmanager says, until one of the two is gone.
    async fn obey(
        &self,
        mut joined: Joined,
        port: tokio::net::TcpListener,
        copies: &LocalCopies,
        runtime: &Handle,
    ) -> Result<End> {
        let Registered { worker, settings, .. } = joined.registered.clone();
        let silence = Duration::from_millis(settings.heartbeat_timeout_ms);
        let config = Arc::new(DataPlaneConfig {
            job: settings.job.clone(),
            secret: settings.secret.clone(),
            tls: self.tls(DATA_PLANE)?,
            patience: silence,
            // In other steps than the seed of the memberships.
            nonces: Nonces::new(self.seed.rotate_left(32)),
        });
        let hubs = Arc::new(Hubs::default());
        let listener = DataListener::start(port, config.clone(), hubs.clone(), runtime);
        let plane = Arc::new(DataPlane::new(config, runtime.clone()));
        let limit = Duration::from_millis(settings.storage_timeout_ms);
        let store = CheckpointStore::open(&settings.checkpoint_dir, &[])?.with_call_timeout(limit);
        let to = joined.to.clone();
        let mut manager = TaskManager::new(TaskManagerParts {
            id: worker,
            program: self.program.clone(),
            job: settings.job.clone(),
            store: store.job(&settings.job)?,
            runtime: runtime.clone(),
            backend: self.backend.clone(),
            local_dir: self.local_dir.clone(),
            crash_points: self.crash_points.clone(),
            clock: self.clock,
            upload: UploadScope::new(self.seed, self.crash_points.clone())
                .with_copies(copies.clone())
                .with_compression(if settings.zstd { Compression::Zstd } else { Compression::None }),
            hubs,
            network: Some(plane.clone()),
            report: Box::new(move |report: FromWorker| _ = to.send(ToJobManager::Report(report))),
        });
        let end = listen(&mut joined, &mut manager, &settings).await;
        manager.crash();
        plane.close();
        if let End::Job(_) = &end {
            return Ok(end);
        }
        // The next life may need the same port.
        listener.close().await;
        // Two lives of a taskmanager at once would share its slots.
        let limit = Duration::from_millis(settings.cancel_timeout_ms);
        let start = Instant::now();
        while manager.is_busy() {
            if start.elapsed() >= limit {
                return Err(Error::restart_job(format!(
                    "subtasks do not stop within {} ms; this process ends",
                    settings.cancel_timeout_ms
                )));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(end)
    }
}

/// Hands on what the jobmanager says.
async fn listen(
    joined: &mut Joined,
    manager: &mut TaskManager,
    settings: &crate::cluster::rpc::Settings,
) -> End {
    let patience = Duration::from_millis(settings.heartbeat_timeout_ms);
    let mut heartbeat = tokio::time::interval(Duration::from_millis(settings.heartbeat_interval_ms));
    let silence = tokio::time::sleep(patience);
    tokio::pin!(silence);
    loop {
        tokio::select! {
            message = joined.next() => {
                silence.as_mut().reset(Instant::now() + patience);
                match message {
                    Ok(ToTaskManager::Command { message, peers }) => {
                        if !peers.is_empty() {
                            manager.set_peers(peers.into_iter().map(|(worker, at)| (worker, Arc::from(at))));
                        }
                        manager.handle(message);
                    }
                    Ok(ToTaskManager::Heartbeat) => {}
                    Ok(ToTaskManager::End { failure }) => {
                        return End::Job(failure.map_or(Ok(()), |failure| Err(Error::from(failure))));
                    }
                    Ok(ToTaskManager::Abandon { why }) => {
                        return End::Job(Err(Error::restart_job(format!("given up by the jobmanager: {why}"))));
                    }
                    Ok(other) => return End::Lost(Error::bug(format!("unexpected: {other:?}"))),
                    Err(e) => return End::Lost(e),
                }
            }
            _ = heartbeat.tick() => {
                _ = joined.to.send(ToJobManager::Heartbeat);
            }
            () = &mut silence => {
                let why = format!("nothing was heard of it for {} ms", patience.as_millis());
                return End::Lost(Error::retry(why));
            }
        }
    }
}

//! Where a program begins and where it is run.

use crate::checkpoint::{
    CheckpointStore, CrashPoints, RestoreFrom, RestoreMode, Savepoint, claim, claim_leadership,
    names_checkpoint, resolve_restore_path,
};
use crate::cluster::jobmaster::{JobNotice, JobResult};
use crate::cluster::{JobHandle, LocalCluster, LocalClusterOptions};
use crate::config::{Action, Arguments, Config, Parsed, PlanFormat};
use crate::error::{Error, Result};
use crate::function::Source;
use crate::graph::Program;
use crate::id::JobId;
use crate::stream::{DataStream, SharedGraph};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A program under construction, with the configuration it will run with.
///
/// ```
/// use tidegate::prelude::*;
///
/// let mut env = Environment::new();
/// env.config_mut().parallelism = 2;
/// let (sink, numbers) = CollectSink::new();
/// env.source(Generator::sequence(0..10)).map(|n| n * n).sink(sink);
/// env.execute("squares")?;
/// assert_eq!(numbers.values().len(), 10);
/// # Ok::<(), tidegate::error::Error>(())
/// ```
pub struct Environment {
    graph: SharedGraph,
    config: Config,
    action: Action,
    /// Configured by a command line: somebody started it, and may want to control it.
    from_command_line: bool,
    crash_points: BTreeMap<CrashSite, CrashPoints>,
}

/// Which process of a local cluster crash points belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CrashSite {
    /// The jobmanager.
    JobManager,
    /// The first life of the taskmanager with this index.
    TaskManager(u32),
}

/// What became of a job that ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSummary {
    /// The job's id; `None` if only its plan was printed.
    pub job: Option<JobId>,
    /// Checkpoints that completed.
    pub checkpoints: u64,
    /// Restarts it took.
    pub restarts: u64,
    /// The savepoint with which it was stopped; `None` if it ended by itself.
    pub savepoint: Option<Savepoint>,
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment")
            .field("config", &self.config)
            .field("action", &self.action)
            .finish_non_exhaustive()
    }
}

impl Default for Environment {
    fn default() -> Self {
        Self::new()
    }
}

impl Environment {
    /// An environment with default configuration that looks at neither file nor flags.
    pub fn new() -> Self {
        Self::with_config(Config::default())
    }

    /// An environment with a configuration made in code.
    pub fn with_config(config: Config) -> Self {
        Self {
            graph: SharedGraph::default(),
            config,
            action: Action::Run,
            from_command_line: false,
            crash_points: BTreeMap::new(),
        }
    }

    /// An environment configured by `tidegate.yaml` and the process' command line, for programs without flags of
    /// their own. Prints the help and exits the process if asked for it.
    ///
    /// # Errors
    /// Config errors that name the key and where it stands.
    pub fn from_args() -> Result<Self> {
        let name = std::env::args().next().unwrap_or_default();
        let name = Path::new(&name).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self::from_parsed(&Arguments::new(&name, "").parse_or_exit()?))
    }

    /// An environment configured by a command line the program has parsed together with flags of its own.
    pub fn from_parsed(parsed: &Parsed) -> Self {
        Self {
            action: parsed.action.clone(),
            from_command_line: true,
            ..Self::with_config(parsed.config.clone())
        }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The configuration, to be changed: code goes before flags and file.
    pub fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    /// Begins a stream.
    pub fn source<S: Source>(&self, source: S) -> DataStream<S::Record> {
        DataStream::from_source(self.graph.clone(), source)
    }

    /// Puts crash points into a process of the local cluster. For tests of recovery.
    pub fn set_crash_points(&mut self, site: CrashSite, crash_points: CrashPoints) {
        self.crash_points.insert(site, crash_points);
    }

    /// Runs the program to its end, printing what goes wrong on standard error as it happens. With `--plan` it prints
    /// the execution plan instead.
    ///
    /// # Errors
    /// What the program or its configuration got wrong, or why the job has failed for good.
    pub fn execute(self, job_name: &str) -> Result<JobSummary> {
        let nothing_ran = JobSummary { job: None, checkpoints: 0, restarts: 0, savepoint: None };
        match self.action.clone() {
            Action::Run => {}
            Action::Help(text) => {
                print(&text)?;
                return Ok(nothing_ran);
            }
            Action::PrintPlan(format) => {
                print(&format!("{}\n", self.plan(job_name, format)?))?;
                return Ok(nothing_ran);
            }
        }
        let handle = self.start(job_name)?;
        let job = Some(handle.job_id().clone());
        let mut summary = JobSummary { job, checkpoints: 0, restarts: 0, savepoint: None };
        // The failure that ends the job is what this function returns: it is not printed, too.
        let (mut failed, mut not_restarted) = (None, None);
        for notice in handle.notices() {
            match &notice {
                JobNotice::CheckpointCompleted(done) => {
                    summary.checkpoints += 1;
                    if done.kind.is_stop() {
                        summary.savepoint = done.savepoint();
                    }
                }
                JobNotice::Failed { .. } => {
                    failed = Some(notice);
                    continue;
                }
                JobNotice::NotRestarting { why } => {
                    (failed, not_restarted) = (None, Some(why.clone()));
                    continue;
                }
                JobNotice::Restarting { .. } => {
                    summary.restarts += 1;
                    failed.take().iter().for_each(report);
                }
                // This cluster has slots enough; its taskmanagers only join one after the other.
                JobNotice::WaitingForSlots { .. } => continue,
                _ => {}
            }
            let is_news = matches!(
                notice,
                JobNotice::Restored { .. }
                    | JobNotice::SavepointCompleted { .. }
                    | JobNotice::SavepointFailed { .. }
            );
            if notice.is_trouble() || is_news {
                report(&notice);
            }
        }
        match handle.wait()? {
            JobResult::Finished => Ok(summary),
            JobResult::Canceled => Err(Error::restart_job("the job was canceled")),
            JobResult::Failed(failure) | JobResult::Fenced(failure) => {
                let error = Error::from(failure);
                Err(match not_restarted {
                    // That a restart does not help is what the kind says.
                    Some(why) if error.kind().is_recoverable() => error.hint(format!("not restarted: {why}")),
                    _ => error,
                })
            }
        }
    }

    /// The execution plan as text.
    ///
    /// # Errors
    /// What the program got wrong.
    pub fn plan(self, job_name: &str, format: PlanFormat) -> Result<String> {
        let graph = self.compile(job_name)?.0.job_graph;
        match format {
            PlanFormat::Json => graph.to_json(),
            PlanFormat::Dot => Ok(graph.to_dot()),
        }
    }

    pub(crate) fn compile(
        self,
        job_name: &str,
    ) -> Result<(Program, Config, BTreeMap<CrashSite, CrashPoints>)> {
        self.config.validate()?;
        let graph = self.graph.take();
        let program = graph.compile(job_name, self.config.parallelism, self.config.max_parallelism)?;
        Ok((program, self.config, self.crash_points))
    }

    /// Starts the program on a cluster in this process and returns at once.
    ///
    /// The job can be controlled with the command `tidegate` through a socket in `control.dir`. Without that option,
    /// programs configured by a command line use the default directory, and others have no socket.
    ///
    /// # Errors
    /// What the program or its configuration got wrong; nothing runs then.
    pub fn start(self, job_name: &str) -> Result<JobHandle> {
        let from_command_line = self.from_command_line;
        let (program, config, mut crash_points) = self.compile(job_name)?;
        let slots = slots_per_taskmanager(&config, program.job_graph.slots_needed())?;
        for source in program.non_replayable_sources() {
            eprintln!(
                "tidegate: source '{source}' cannot be replayed: records in flight at a failure are lost, and the \
                 job is not exactly-once"
            );
        }
        if (config.checkpoint_dir.is_some() || config.savepoint_dir.is_some())
            && let Some(warning) = program.job_graph.derived_uids()
        {
            eprintln!("tidegate: warning: {warning}");
        }
        if config.restore.mode == RestoreMode::Claim {
            let missing =
                [("restore.path", &config.restore.path), ("checkpoint.dir", &config.checkpoint_dir)];
            if let Some((key, _)) = missing.iter().find(|(_, value)| value.is_none()) {
                return Err(Error::config(format!("restore.mode is claim and {key} is not set")).hint(
                    "claiming needs something to claim, and a place for checkpoints that outlive the process",
                ));
            }
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("tidegate-io")
            .enable_all()
            .build()
            .map_err(|e| Error::restart_job("no threads for input and output").with_source(e))?;
        let seed = process_seed();
        let job = JobId::new(job_name, seed as u32);
        let master_points = crash_points.remove(&CrashSite::JobManager).unwrap_or_default();
        let location = config.checkpoint_dir.as_deref().unwrap_or("memory:///");
        let opening = async {
            let limit = Duration::from_millis(config.checkpoint.storage_timeout_ms);
            let root = CheckpointStore::open(location, &[])?.with_call_timeout(limit);
            root.probe().await?;
            let restore: Option<RestoreFrom> = match &config.restore.path {
                Some(path) => Some(resolve_restore_path(&root, path, &[]).await?),
                None => None,
            };
            let store = root.job(&job)?;
            let nonce = format!("{seed:016x}");
            let epoch = claim_leadership(&store, &master_points, &nonce).await?;
            let restore = match (restore, &config.restore.path) {
                (Some(restore), Some(path)) if config.restore.mode == RestoreMode::Claim => {
                    let exact = names_checkpoint(path);
                    Some(claim(&store, &master_points, &job, restore, exact, &nonce).await?)
                }
                (restore, _) => restore,
            };
            Ok::<_, Error>((store, restore, epoch))
        };
        let opened = runtime.block_on(opening);
        let (store, restore, epoch) = match opened {
            Ok(opened) => opened,
            Err(e) => {
                // A thread that waits for a store that hangs must not keep the error back.
                runtime.shutdown_background();
                return Err(e);
            }
        };
        let options = LocalClusterOptions {
            taskmanagers: config.cluster.taskmanagers,
            slots,
            cancel_timeout_ms: config.cluster.cancel_timeout_ms,
            backend: config.state.backend.clone(),
            local_dir: config.state.local_dir.clone(),
            checkpoint: config.checkpoint.clone(),
            restart: config.restart_strategy(),
            restore,
            allow_non_restored: config.restore.allow_non_restored_state,
            savepoint_dir: config.savepoint_dir(),
            crash_points: master_points,
            worker_crash_points: crash_points
                .into_iter()
                .filter_map(|(site, points)| match site {
                    CrashSite::TaskManager(index) => Some((index, points)),
                    CrashSite::JobManager => None,
                })
                .collect(),
            seed,
        };
        let handle = LocalCluster::start(job, epoch, Arc::new(program), store, runtime, options)?;
        Ok(listen(handle, &config, from_command_line))
    }
}

/// Opens the control socket. A job without one is better than none.
#[cfg(unix)]
fn listen(mut handle: JobHandle, config: &Config, from_command_line: bool) -> JobHandle {
    use crate::cluster::control::ControlDirectory;
    let default = || from_command_line.then(ControlDirectory::default_path).flatten();
    if let Some(path) = config.control_dir.clone().or_else(default)
        && let Err(e) = ControlDirectory::open(&path).and_then(|directory| handle.listen(&directory))
    {
        eprintln!("tidegate: the job cannot be controlled with the command tidegate: {e}");
    }
    handle
}

#[cfg(not(unix))]
fn listen(handle: JobHandle, _: &Config, _: bool) -> JobHandle {
    handle
}

/// Writes to standard output. A reader that has seen enough, such as `head`, is no error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}

/// A number no other process is likely to have.
#[expect(clippy::disallowed_methods, reason = "the one source of randomness of a real process")]
pub(crate) fn process_seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

fn report(notice: &JobNotice) {
    eprintln!("tidegate: {notice}");
}

/// Slots of each taskmanager: as configured, or just enough.
pub(crate) fn slots_per_taskmanager(config: &Config, needed: u32) -> Result<u32> {
    let slots = config.cluster.slots_for(needed);
    let offered = slots.saturating_mul(config.cluster.taskmanagers);
    if offered < needed {
        return Err(Error::config(format!(
            "the job needs {needed} slots, its highest parallelism, but the cluster has {offered}: cluster.taskmanagers \
             is {}, with {slots} slots each",
            config.cluster.taskmanagers
        ))
        .hint("raise cluster.slots or cluster.taskmanagers, or lower the parallelism"));
    }
    Ok(slots)
}

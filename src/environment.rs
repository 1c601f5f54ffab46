//! Where a program begins and where it is run.

mod launch;
mod member;
mod this_host;

pub(crate) use launch::process_seed;

use crate::checkpoint::{CrashPoints, RestoreMode, Savepoint};
use crate::cluster::JobHandle;
use crate::cluster::jobmaster::{JobNotice, JobResult};
use crate::config::{Action, Arguments, Config, Parsed, PlanFormat, Role};
use crate::error::{Error, Result};
use crate::function::Source;
use crate::graph::{JobGraph, Program};
use crate::id::JobId;
use crate::say::say;
use crate::stream::{DataStream, SharedGraph};
use launch::Launch;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

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
    /// In a process that is a taskmanager this does not come back: see [`Environment::start`].
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
        let is_local = self.config.cluster.role == Role::Local;
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
                JobNotice::WaitingForSlots { .. } if is_local => continue,
                _ => {}
            }
            let is_news = matches!(
                notice,
                JobNotice::Restored { .. }
                    | JobNotice::WaitingForSlots { .. }
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
        let (program, config, _) = self.compile(job_name)?;
        let graph = program.job_graph;
        match format {
            PlanFormat::Json => graph.to_json(),
            PlanFormat::Dot => Ok(graph.to_dot()),
            PlanFormat::Text => Ok(graph.to_text()),
            PlanFormat::Job => describe(&graph, &config),
        }
    }

    pub(crate) fn compile(
        self,
        job_name: &str,
    ) -> Result<(Program, Config, BTreeMap<CrashSite, CrashPoints>)> {
        self.config.validate()?;
        let graph = self.graph.take();
        let program = graph.compile(job_name, self.config.parallelism, self.config.max_parallelism)?;
        if self.config.cluster.role != Role::Local
            && let Some(sink) = program.sinks_of_one_process().first()
        {
            return Err(Error::config(format!(
                "sink '{sink}' collects in the memory of the process that runs it, and in a cluster of processes that is a \
                 taskmanager: nobody would see it"
            ))
            .hint("use a sink that writes to a place outside, such as FileSink, or run with cluster.role: local"));
        }
        Ok((program, self.config, self.crash_points))
    }

    /// Starts the job and returns at once. The process is its whole cluster, or its jobmanager, as configured.
    ///
    /// A process that is a taskmanager takes part in the job until it is over, and then ends: what stands behind the call
    /// belongs to the job as a whole, and is the jobmanager's. The exit code is 0 if the job has ended well. In the role
    /// `local-cluster` the process starts others and ends with their jobmanager, with its exit code.
    ///
    /// The job can be controlled with the command `tidegate` through a socket in `control.dir`. Without that option,
    /// programs configured by a command line use the default directory, and others have no socket.
    ///
    /// # Errors
    /// What the program or its configuration got wrong; nothing runs then.
    pub fn start(self, job_name: &str) -> Result<JobHandle> {
        if self.config.cluster.watch_stdin {
            member::end_with_stdin()?;
        }
        match self.config.cluster.role {
            Role::TaskManager => return self.serve(job_name),
            Role::LocalCluster => return self.start_processes(job_name),
            Role::Local | Role::JobManager => {}
        }
        let from_command_line = self.from_command_line;
        let (program, config, crash_points) = self.compile(job_name)?;
        let needed = program.job_graph.slots_needed();
        let slots = match config.cluster.role {
            // Those of other processes are waited for.
            Role::JobManager => config.cluster.slots_for(needed),
            _ => slots_per_taskmanager(&config, needed)?,
        };
        for source in program.non_replayable_sources() {
            say(format_args!(
                "source '{source}' cannot be replayed: records in flight at a failure are lost, and the \
                 job is not exactly-once"
            ));
        }
        if (config.checkpoint_dir.is_some() || config.savepoint_dir.is_some())
            && let Some(warning) = program.derived_uids()
        {
            say(format_args!("warning: {warning}"));
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
        let launch = Launch { program: Arc::new(program), config, crash_points, slots };
        let (handle, config) = launch.jobmanager(job_name)?;
        Ok(listen(handle, &config, from_command_line))
    }
}

/// What a standing cluster has to know of a job.
#[cfg(unix)]
fn describe(graph: &JobGraph, config: &Config) -> Result<String> {
    use crate::cluster::dispatcher::JobDescription;
    let slots = graph.slots_needed();
    let place = config.checkpoint_dir.as_deref().filter(|dir| !dir.starts_with("memory:"));
    let absolute = |dir: &str| match dir.contains("://") {
        true => Ok(dir.to_owned()),
        false => std::path::absolute(dir).map(|path| path.to_string_lossy().into_owned()),
    };
    let description = JobDescription {
        name: graph.name.clone(),
        slots,
        least_slots: config.min_parallelism.unwrap_or(slots).min(slots),
        checkpoint_dir: place.map(absolute).transpose()?,
    };
    serde_json::to_string(&description)
        .map_err(|e| Error::bug("cannot encode a job's description").with_source(e))
}

#[cfg(not(unix))]
fn describe(_: &JobGraph, _: &Config) -> Result<String> {
    Err(Error::config("there are no standing clusters on this system"))
}

/// Opens the control socket. A job without one is better than none.
#[cfg(unix)]
fn listen(mut handle: JobHandle, config: &Config, from_command_line: bool) -> JobHandle {
    use crate::cluster::control::ControlDirectory;
    let default = || from_command_line.then(ControlDirectory::default_path).flatten();
    if let Some(path) = config.control_dir.clone().or_else(default)
        && let Err(e) = ControlDirectory::open(&path).and_then(|directory| handle.listen(&directory))
    {
        say(format_args!("the job cannot be controlled with the command tidegate: {e}"));
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

fn report(notice: &JobNotice) {
    say(format_args!("{notice}"));
}

/// Slots of each taskmanager: as configured, or just enough.
pub(crate) fn slots_per_taskmanager(config: &Config, needed: u32) -> Result<u32> {
    let slots = config.cluster.slots_for(needed);
    let offered = slots.saturating_mul(config.cluster.taskmanagers);
    if offered < config.min_parallelism.unwrap_or(needed).min(needed) {
        return Err(Error::config(format!(
            "the job needs {needed} slots, the highest parallelism of each slot-sharing group, but the cluster has {offered}: cluster.taskmanagers \
             is {}, with {slots} slots each",
            config.cluster.taskmanagers
        ))
        .hint("raise cluster.slots or cluster.taskmanagers, or lower the parallelism"));
    }
    Ok(slots)
}

//! The configuration as plain data.

use crate::checkpoint::{CheckpointConfig, RestoreMode};
use crate::cluster::{RestartStrategyConfig, TlsFiles};
use crate::config::Origins;
use std::path::PathBuf;
use tidegate_state::BackendOptions;

/// Everything that can be set about a job and the cluster it runs on.
///
/// Plain data: fill in fields, or start from [`Arguments::parse`](crate::config::Arguments::parse) and change what
/// the program knows better. [`Config::validate`] has the last word.
#[derive(Clone, Debug)]
pub struct Config {
    /// The job's id, the name of its directory below the checkpoint directory: a job that is there already is continued. A
    /// new one is made if absent.
    pub job_id: Option<String>,
    /// Number of subtasks of operators that do not set their own.
    pub parallelism: u32,
    /// With fewer slots than its parallelism needs, the job runs on those there are, if they are at least so many, and
    /// grows again when more come. Without it, it waits.
    pub min_parallelism: Option<u32>,
    /// Number of key groups of operators that do not set their own; derived from the parallelism if absent.
    pub max_parallelism: Option<u16>,
    /// Where keyed state lives while the job runs.
    pub state: StateConfig,
    /// When and how checkpoints are taken.
    pub checkpoint: CheckpointConfig,
    /// Path or URL of the directory that holds checkpoints; without it they are kept in memory.
    pub checkpoint_dir: Option<String>,
    /// Path or URL of the directory for savepoints that name no other; see [`Config::savepoint_dir`] for what
    /// absence means.
    pub savepoint_dir: Option<String>,
    /// Directory for the job's control socket; see [`Environment::start`](crate::Environment::start) for what absence
    /// means.
    pub control_dir: Option<PathBuf>,
    /// What happens after a failure; see [`Config::restart_strategy`] for what absence means.
    pub restart: Option<RestartStrategyConfig>,
    /// The cluster, and this process' part in it.
    pub cluster: ClusterConfig,
    /// What state the job starts from.
    pub restore: RestoreConfig,
    /// Where the values come from. Kept up to date by the loaders; leave it alone when setting fields.
    pub origins: Origins,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            job_id: None,
            parallelism: 1,
            min_parallelism: None,
            max_parallelism: None,
            state: StateConfig::default(),
            checkpoint: CheckpointConfig::default(),
            checkpoint_dir: None,
            savepoint_dir: None,
            control_dir: None,
            restart: None,
            cluster: ClusterConfig::default(),
            restore: RestoreConfig::default(),
            origins: Origins::default(),
        }
    }
}

impl Config {
    /// Where savepoints go that name no place: what was set, else `savepoints` in the checkpoint directory; nowhere
    /// if checkpoints are kept in memory.
    pub fn savepoint_dir(&self) -> Option<String> {
        let beside = || {
            let dir = self.checkpoint_dir.as_deref().filter(|dir| !dir.starts_with("memory:"))?;
            Some(format!("{}/savepoints", dir.trim_end_matches('/')))
        };
        self.savepoint_dir.clone().or_else(beside)
    }

    /// The restart strategy in force: the one that was set, else exponential delay for a job that checkpoints
    /// periodically and none for a job that does not.
    pub fn restart_strategy(&self) -> RestartStrategyConfig {
        match &self.restart {
            Some(strategy) => strategy.clone(),
            None => RestartStrategyConfig::default_for(self.checkpoint.interval_ms.is_some()),
        }
    }
}

/// Where keyed state lives while the job runs.
#[derive(Clone, Debug, Default)]
pub struct StateConfig {
    /// The backend, with its options.
    pub backend: BackendOptions,
    /// Where backends on disk make their directories; the system's temporary directory if absent.
    pub local_dir: Option<PathBuf>,
}

/// What a process is in its cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// All of it: jobmanager and taskmanagers are threads of this process.
    #[default]
    Local,
    /// The jobmanager of the program's job, for taskmanagers that are processes of their own.
    JobManager,
    /// A taskmanager.
    TaskManager,
    /// None of these: it starts a jobmanager and taskmanagers as processes on this machine, and watches them.
    LocalCluster,
}

/// The cluster that runs the job, and this process' part in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// What this process is.
    pub role: Role,
    /// Where a taskmanager looks for its jobmanager: `host:port`, or several with commas between them, of which the
    /// first that answers is obeyed.
    pub jobmanager: String,
    /// `host:port` at which this process listens: a jobmanager for taskmanagers, a taskmanager for records of others; see
    /// [`ClusterConfig::listen_address`] for what absence means.
    pub listen: Option<String>,
    /// What others are told of where this process listens: `host` or `host:port`. What it listens at if absent.
    pub advertise: Option<String>,
    /// A file with a text that all members have to know.
    pub token_file: Option<PathBuf>,
    /// This process' certificate, in PEM: connections of the cluster are encrypted if it is set.
    pub tls_certificate: Option<PathBuf>,
    /// The key of the certificate.
    pub tls_key: Option<PathBuf>,
    /// The certificate of the authority that has signed those of all members.
    pub tls_authority: Option<PathBuf>,
    /// How many taskmanagers there are. For processes it only says how slots are divided.
    pub taskmanagers: u32,
    /// Slots of each; see [`ClusterConfig::slots_for`] for what absence means.
    pub slots: Option<u32>,
    /// How long a subtask may take to stop when its attempt ends, in milliseconds. After that its taskmanager is given
    /// up and replaced: user code that never returns must not hold up a restart for ever.
    pub cancel_timeout_ms: u64,
    /// How long the number of slots must have stayed the same before a job with a minimum parallelism adapts to it, in
    /// milliseconds.
    pub settle_time_ms: u64,
    /// Time between two signs of life of a member, in milliseconds.
    pub heartbeat_interval_ms: u64,
    /// A member that is silent for so long is taken for dead, in milliseconds.
    pub heartbeat_timeout_ms: u64,
    /// How long a taskmanager looks for a jobmanager before it gives up, in milliseconds.
    pub registration_timeout_ms: u64,
    /// Whether a jobmanager waits while another one leads the job, to take over when that one is gone.
    pub standby: bool,
    /// Whether this process ends when its standard input is closed.
    pub watch_stdin: bool,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            role: Role::Local,
            jobmanager: JOBMANAGER.to_owned(),
            listen: None,
            advertise: None,
            token_file: None,
            tls_certificate: None,
            tls_key: None,
            tls_authority: None,
            taskmanagers: 1,
            slots: None,
            cancel_timeout_ms: 180_000,
            settle_time_ms: 3_000,
            heartbeat_interval_ms: 10_000,
            heartbeat_timeout_ms: 50_000,
            registration_timeout_ms: 300_000,
            standby: false,
            watch_stdin: false,
        }
    }
}

/// Where a jobmanager listens if nothing else is said.
const JOBMANAGER: &str = "127.0.0.1:6123";

impl ClusterConfig {
    /// Where this process listens: what was set, else port 6123 (a jobmanager) or any that is free (a taskmanager), of
    /// this machine only.
    pub fn listen_address(&self) -> &str {
        self.listen.as_deref().unwrap_or(match self.role {
            Role::Local | Role::JobManager | Role::LocalCluster => JOBMANAGER,
            Role::TaskManager => "127.0.0.1:0",
        })
    }

    /// The files for encrypted connections, if all are set.
    pub fn tls(&self) -> Option<TlsFiles> {
        Some(TlsFiles {
            certificate: self.tls_certificate.clone()?,
            key: self.tls_key.clone()?,
            authority: self.tls_authority.clone()?,
        })
    }

    /// Slots of each taskmanager for a job that needs `needed` in all: what was set, else just enough.
    pub fn slots_for(&self, needed: u32) -> u32 {
        self.slots.unwrap_or_else(|| needed.div_ceil(self.taskmanagers.max(1)).max(1))
    }
}

/// What state the job starts from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreConfig {
    /// Path or URL of a checkpoint to start from; without it the job starts empty, or from its own latest.
    pub path: Option<String>,
    /// Whether that becomes the job's, to be deleted when it is no longer needed.
    pub mode: RestoreMode,
    /// Whether state that no operator of the program takes is left behind instead of failing the job.
    pub allow_non_restored_state: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_spread_over_the_taskmanagers_unless_set() {
        let cluster = |taskmanagers, slots| ClusterConfig { taskmanagers, slots, ..ClusterConfig::default() };
        assert_eq!(cluster(1, None).slots_for(4), 4);
        assert_eq!(cluster(3, None).slots_for(4), 2);
        assert_eq!(cluster(8, None).slots_for(4), 1);
        assert_eq!(cluster(3, Some(9)).slots_for(4), 9);
    }

    #[test]
    fn a_job_that_checkpoints_restarts_unless_told_otherwise() {
        let mut config = Config::default();
        assert_eq!(config.restart_strategy(), RestartStrategyConfig::None);
        config.checkpoint.interval_ms = Some(100);
        assert_eq!(config.restart_strategy(), RestartStrategyConfig::default());
        config.restart = Some(RestartStrategyConfig::None);
        assert_eq!(config.restart_strategy(), RestartStrategyConfig::None);
    }
}

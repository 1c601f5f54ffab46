//! The configuration as plain data.

use crate::checkpoint::CheckpointConfig;
use crate::cluster::RestartStrategyConfig;

use std::path::PathBuf;
use tidegate_state::BackendOptions;

/// Everything that can be set about a job and the cluster it runs on.
///
/// Plain data: fill in fields, or start from [`Arguments::parse`](crate::config::Arguments::parse) and change what
/// the program knows better. [`Config::validate`] has the last word.
#[derive(Clone, Debug)]
pub struct Config {
    /// Number of subtasks of operators that do not set their own.
    pub parallelism: u32,
    /// Number of key groups of operators that do not set their own; derived from the parallelism if absent.
    pub max_parallelism: Option<u16>,
    /// Where keyed state lives while the job runs.
    pub state: StateConfig,
    /// When and how checkpoints are taken.
    pub checkpoint: CheckpointConfig,
    /// Path or URL of the directory that holds checkpoints; without it they are kept in memory.
    pub checkpoint_dir: Option<String>,
    /// What happens after a failure; see [`Config::restart_strategy`] for what absence means.
    pub restart: Option<RestartStrategyConfig>,
    /// The local cluster.
    pub cluster: ClusterConfig,
    /// What state the job starts from.
    pub restore: RestoreConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            parallelism: 1,
            max_parallelism: None,
            state: StateConfig::default(),
            checkpoint: CheckpointConfig::default(),
            checkpoint_dir: None,
            restart: None,
            cluster: ClusterConfig::default(),
            restore: RestoreConfig::default(),
        }
    }
}

impl Config {
    /// The restart strategy in force: the one that was set, else exponential delay for a job that checkpoints
    /// periodically and none for a job that does not.
    pub fn restart_strategy(&self) -> RestartStrategyConfig {
        match &self.restart {
            Some(strategy) => strategy.clone(),
            None => if self.checkpoint.interval_ms.is_some() { RestartStrategyConfig::default() } else { RestartStrategyConfig::None },
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

/// The taskmanagers that run the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// How many there are.
    pub taskmanagers: u32,
    /// Slots of each; see [`ClusterConfig::slots_for`] for what absence means.
    pub slots: Option<u32>,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self { taskmanagers: 1, slots: None }
    }
}

impl ClusterConfig {
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
    /// Whether state that no operator of the program takes is left behind instead of failing the job.
    pub allow_non_restored_state: bool,
}

impl Config { /// v
pub fn validate(&self) -> crate::error::Result<()> { self.checkpoint.validate() } }
/// a
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action { /// run
 Run, /// plan
 PrintPlan(PlanFormat) }
/// p
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanFormat { /// j
 Json, /// d
 Dot }
/// args
#[derive(Debug)]
pub struct Arguments;
impl Arguments { /// new
 pub fn new(_: &str, _: &str) -> Self { Self } /// parse
 pub fn parse_or_exit(self) -> crate::error::Result<Parsed> { Ok(Parsed { config: Config::default(), action: Action::Run }) } }
/// parsed
#[derive(Debug)]
pub struct Parsed { /// c
 pub config: Config, /// a
 pub action: Action }

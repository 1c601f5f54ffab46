//! The configuration as plain data.

use crate::checkpoint::{CheckpointConfig, RestoreMode};
use crate::cluster::RestartStrategyConfig;
use crate::config::Origins;
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
    /// Path or URL of the directory for savepoints that name no other; see [`Config::savepoint_dir`] for what
    /// absence means.
    pub savepoint_dir: Option<String>,
    /// Directory for the job's control socket; see [`Environment::start`](crate::Environment::start) for what absence
    /// means.
    pub control_dir: Option<PathBuf>,
    /// What happens after a failure; see [`Config::restart_strategy`] for what absence means.
    pub restart: Option<RestartStrategyConfig>,
    /// The local cluster.
    pub cluster: ClusterConfig,
    /// What state the job starts from.
    pub restore: RestoreConfig,
    /// Where the values come from. Kept up to date by the loaders; leave it alone when setting fields.
    pub origins: Origins,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            parallelism: 1,
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

/// The taskmanagers that run the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// How many there are.
    pub taskmanagers: u32,
    /// Slots of each; see [`ClusterConfig::slots_for`] for what absence means.
    pub slots: Option<u32>,
    /// How long a subtask may take to stop when its attempt ends, in milliseconds. After that its taskmanager is given
    /// up and replaced: user code that never returns must not hold up a restart for ever.
    pub cancel_timeout_ms: u64,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self { taskmanagers: 1, slots: None, cancel_timeout_ms: 180_000 }
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

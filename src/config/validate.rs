//! Checks that a configuration makes sense, whoever has set it.

use crate::checkpoint::CheckpointMode;
use crate::cluster::RestartStrategyConfig as Restart;
use crate::config::address::{can_be_advertised, is_of_this_machine, is_unspecified};
use crate::config::option::{ConfigOption, find};
use crate::config::{Config, Role, options};
use crate::error::{Error, Result};
use tidegate_state::BackendOptions;

impl Config {
    /// Refuses a configuration that makes no sense. Call it when the last value is set; the loaders have called it
    /// for what they know.
    ///
    /// # Errors
    /// A config error that names the keys, the values and where they come from.
    pub fn validate(&self) -> Result<()> {
        for option in options() {
            option.check_range(self).map_err(|e| e.at(option.source(self)))?;
        }
        self.check_parallelism()?;
        self.check_backend()?;
        self.check_checkpoints()?;
        self.check_cluster()?;
        self.check_restart()
    }

    fn check_cluster(&self) -> Result<()> {
        let cluster = &self.cluster;
        if cluster.heartbeat_timeout_ms <= cluster.heartbeat_interval_ms {
            return Err(self
                .clash("cluster.heartbeat-timeout", "must be above", "cluster.heartbeat-interval")
                .hint("several heartbeats should fit into the timeout"));
        }
        if let Some(id) = &self.job_id
            && !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        {
            return Err(Error::config(format!("{} is no directory name", self.described("job.id")))
                .hint("use letters, digits, - and _"));
        }
        if cluster.standby && (cluster.role != Role::JobManager || self.job_id.is_none()) {
            return Err(Error::config("cluster.standby is for jobmanagers of a job that has a name")
                .hint("set cluster.role to jobmanager, and job.id to the same for both jobmanagers"));
        }
        let in_memory = self.checkpoint_dir.as_deref().is_none_or(|dir| dir.starts_with("memory:"));
        if matches!(cluster.role, Role::JobManager | Role::LocalCluster) && in_memory {
            return Err(Error::config(
                "a cluster of processes needs a checkpoint directory that all of them reach",
            )
            .hint("set checkpoint.dir to a shared directory, or the URL of a bucket"));
        }
        let tls = ["cluster.tls.certificate", "cluster.tls.key", "cluster.tls.authority"];
        let set = [&cluster.tls_certificate, &cluster.tls_key, &cluster.tls_authority].map(Option::is_some);
        if set.contains(&true)
            && let Some((missing, _)) = tls.iter().zip(set).find(|(_, set)| !set)
        {
            return Err(Error::config(format!("{missing} is not set, and others of cluster.tls are"))
                .hint("encryption needs all three: certificate, key, authority"));
        }
        if cluster.role == Role::Local {
            return Ok(());
        }
        let listen = cluster.listen_address();
        match &cluster.advertise {
            None if is_unspecified(listen) => {
                return Err(Error::config(format!(
                    "{} stands for every address of this machine, and others cannot be sent there",
                    self.described("cluster.listen")
                ))
                .hint("set cluster.advertise to the host by which the other members reach this one"));
            }
            Some(advertise) if !can_be_advertised(advertise) => {
                return Err(Error::config(format!(
                    "{} is no host that others can be sent to",
                    self.described("cluster.advertise")
                ))
                .hint("write host, or host:port if others reach it at another port"));
            }
            _ => {}
        }
        if cluster.token_file.is_some() || cluster.tls().is_some() || is_of_this_machine(listen) {
            return Ok(());
        }
        Err(Error::config(format!("{} is open to other machines", self.described("cluster.listen"))).hint(
            "set cluster.tls.certificate, key and authority, so that strangers are refused and what is said is encrypted; or \
             cluster.token-file, in a network of your own"
        ))
    }

    fn check_parallelism(&self) -> Result<()> {
        if self.min_parallelism.is_some_and(|min| min > self.parallelism) {
            return Err(self
                .clash("min-parallelism", "must not be above", "parallelism")
                .hint("the parallelism is the most that an adaptive job grows to"));
        }
        match self.max_parallelism {
            Some(max) if self.parallelism > u32::from(max) => Err(self
                .clash("parallelism", "must not be above", "max-parallelism")
                .hint("lower the parallelism, or raise max-parallelism if there is no state to restore")),
            _ => Ok(()),
        }
    }

    fn check_backend(&self) -> Result<()> {
        if matches!(self.state.backend, BackendOptions::RocksDb(_)) && cfg!(not(feature = "rocksdb")) {
            return Err(Error::config(format!(
                "{}, which is not part of this build",
                self.described("state.backend")
            ))
            .hint("build with the cargo feature 'rocksdb'"));
        }
        Ok(())
    }

    fn check_checkpoints(&self) -> Result<()> {
        if self.checkpoint.min_pause_ms > 0 && self.checkpoint.max_concurrent > 1 {
            return Err(self
                .clash("checkpoint.min-pause", "does not go with", "checkpoint.max-concurrent")
                .hint(
                    "a pause between checkpoints means one at a time: set checkpoint.max-concurrent to 1",
                ));
        }
        if self.checkpoint.unaligned && self.checkpoint.mode == CheckpointMode::AtLeastOnce {
            return Err(self.clash("checkpoint.unaligned", "does not go with", "checkpoint.mode").hint(
                "no input waits for a barrier in at-least-once checkpoints: there is nothing to overtake",
            ));
        }
        if self.checkpoint.unaligned && self.checkpoint.max_concurrent > 1 {
            return Err(self
                .clash("checkpoint.unaligned", "does not go with", "checkpoint.max-concurrent")
                .hint("unaligned checkpoints are taken one at a time: set checkpoint.max-concurrent to 1"));
        }
        // The rules of the type itself; all of them are checked above by key, this is for rules to come.
        self.checkpoint.validate()
    }

    fn check_restart(&self) -> Result<()> {
        let Some(strategy) = &self.restart else { return Ok(()) };
        if let Restart::ExponentialDelay {
            initial_backoff_ms,
            max_backoff_ms,
            reset_backoff_threshold_ms,
            ..
        } = strategy
        {
            let max = "restart.exponential-delay.max-backoff";
            if max_backoff_ms < initial_backoff_ms {
                return Err(self.clash(
                    max,
                    "must not be below",
                    "restart.exponential-delay.initial-backoff",
                ));
            }
            if reset_backoff_threshold_ms < max_backoff_ms {
                return Err(self.clash("restart.exponential-delay.reset-after", "must not be below", max));
            }
        }
        strategy.validate()
    }

    fn clash(&self, one: &str, relation: &str, other: &str) -> Error {
        Error::config(format!("{} {relation} {}", self.described(one), self.described(other)))
    }

    /// `key = value (source)`.
    fn described(&self, key: &str) -> String {
        let describe = |option: &ConfigOption| format!("{} ({})", option.shown(self), option.source(self));
        find(key).map_or_else(|| key.to_owned(), describe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_state::RocksDbOptions;

    fn refused(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    fn exponential(change: impl FnOnce(&mut u64, &mut u64, &mut f64, &mut u64, &mut f64)) -> Restart {
        let mut strategy = Restart::default();
        if let Restart::ExponentialDelay {
            initial_backoff_ms,
            max_backoff_ms,
            backoff_multiplier,
            reset_backoff_threshold_ms,
            jitter_factor,
            ..
        } = &mut strategy
        {
            change(
                initial_backoff_ms,
                max_backoff_ms,
                backoff_multiplier,
                reset_backoff_threshold_ms,
                jitter_factor,
            );
        }
        strategy
    }

    #[test]
    fn values_out_of_range_set_by_code_are_refused_by_key() {
        Config::default().validate().unwrap();
        assert_eq!(refused(|c| c.parallelism = 0), "code: parallelism = 0 must be at least 1");
        assert_eq!(refused(|c| c.parallelism = 40_000), "code: parallelism = 40000 must be at most 32768");
        assert_eq!(
            refused(|c| c.cluster.taskmanagers = 0),
            "code: cluster.taskmanagers = 0 must be at least 1"
        );
        assert_eq!(refused(|c| c.cluster.slots = Some(0)), "code: cluster.slots = 0 must be at least 1");
        assert_eq!(refused(|c| c.max_parallelism = Some(0)), "code: max-parallelism = 0 must be at least 1");
        assert_eq!(
            refused(|c| c.checkpoint.interval_ms = Some(0)),
            "code: checkpoint.interval = 0ms must be at least 1ms"
        );
        assert_eq!(
            refused(|c| c.restart = Some(Restart::FixedDelay { attempts: 0, delay_ms: 1 })),
            "code: restart.fixed-delay.attempts = 0 must be at least 1"
        );
    }

    #[test]
    fn parameters_of_exponential_delay_are_checked() {
        let with = |strategy| refused(|c| c.restart = Some(strategy));
        assert!(
            with(exponential(|_, _, multiplier, _, _| *multiplier = 0.9))
                .contains("multiplier = 0.9 must be at least 1.0")
        );
        assert!(
            with(exponential(|_, _, _, _, jitter| *jitter = 1.5))
                .contains("jitter = 1.5 must be at most 1.0")
        );
        assert!(
            with(exponential(|_, _, _, _, jitter| *jitter = -0.5))
                .contains("jitter = -0.5 must be at least 0.0")
        );
        assert!(with(exponential(|_, _, _, _, jitter| *jitter = f64::NAN)).contains("jitter = NaN"));
        assert!(with(exponential(|_, max, _, _, _| *max = 50)).contains(
            "restart.exponential-delay.max-backoff = 50ms (code) must not be below restart.exponential-delay.initial-backoff = 100ms (default)"
        ));
        assert!(
            with(exponential(|_, _, _, reset, _| *reset = 1_000))
                .contains("reset-after = 1s (code) must not be below")
        );
    }

    #[test]
    fn values_that_clash_are_refused_with_both_keys() {
        let message = refused(|c| {
            c.parallelism = 8;
            c.max_parallelism = Some(4);
        });
        assert!(
            message.starts_with("parallelism = 8 (code) must not be above max-parallelism = 4 (code)"),
            "{message}"
        );
        let message = refused(|c| {
            c.checkpoint.min_pause_ms = 1_000;
            c.checkpoint.max_concurrent = 2;
        });
        assert!(
            message
                .contains("checkpoint.min-pause = 1s (code) does not go with checkpoint.max-concurrent = 2")
        );
        let message = refused(|c| {
            c.checkpoint.unaligned = true;
            c.checkpoint.mode = CheckpointMode::AtLeastOnce;
        });
        let clash =
            "checkpoint.unaligned = true (code) does not go with checkpoint.mode = at-least-once (code)";
        assert!(message.contains(clash), "{message}");
        let message = refused(|c| {
            c.checkpoint.unaligned = true;
            c.checkpoint.max_concurrent = 2;
        });
        let clash =
            "checkpoint.unaligned = true (code) does not go with checkpoint.max-concurrent = 2 (code)";
        assert!(message.contains(clash), "{message}");
    }

    #[test]
    fn to_listen_beyond_this_machine_takes_a_token_or_certificates() {
        let open = |change: &dyn Fn(&mut Config)| {
            let mut config = Config::default();
            config.cluster.role = Role::TaskManager;
            config.cluster.listen = Some("0.0.0.0:0".to_owned());
            config.cluster.advertise = Some("host".to_owned());
            change(&mut config);
            config.validate().map_err(|e| e.to_string())
        };
        let file = || Some("file".into());
        let refused = open(&|_| ()).unwrap_err();
        assert!(refused.contains("is open to other machines (set cluster.tls.certificate"), "{refused}");
        open(&|config| config.cluster.token_file = file()).unwrap();
        let all = |config: &mut Config| {
            config.cluster.tls_certificate = file();
            config.cluster.tls_key = file();
            config.cluster.tls_authority = file();
        };
        open(&all).unwrap();
        let missing = open(&|config| {
            all(config);
            config.cluster.tls_key = None;
        });
        assert!(
            missing.unwrap_err().starts_with("cluster.tls.key is not set, and others of cluster.tls are")
        );
    }

    #[test]
    fn others_are_told_an_address_that_they_can_use() {
        let with = |role: Role, listen: &str, advertise: Option<&str>| {
            let mut config = Config::default();
            config.cluster.role = role;
            config.checkpoint_dir = Some("/somewhere".to_owned());
            config.cluster.token_file = Some("file".into());
            config.cluster.listen = Some(listen.to_owned());
            config.cluster.advertise = advertise.map(str::to_owned);
            config.validate().map_err(|e| e.to_string())
        };
        for role in [Role::JobManager, Role::TaskManager, Role::LocalCluster] {
            for listen in ["0.0.0.0:6123", "[::]:0"] {
                let refused = with(role, listen, None).unwrap_err();
                assert!(refused.contains("stands for every address of this machine"), "{refused}");
                assert!(refused.contains("cluster.advertise"), "{refused}");
                with(role, listen, Some("host.example")).unwrap();
            }
            with(role, "10.0.0.1:6123", None).unwrap();
            let refused = with(role, "10.0.0.1:6123", Some("0.0.0.0:6123")).unwrap_err();
            assert!(refused.contains("no host that others can be sent to"), "{refused}");
        }
        with(Role::Local, "0.0.0.0:6123", None).unwrap();
    }

    #[test]
    fn rocksdb_is_refused_by_a_build_without_it() {
        let mut config = Config::default();
        config.state.backend = BackendOptions::RocksDb(RocksDbOptions::default());
        assert_eq!(config.validate().is_ok(), cfg!(feature = "rocksdb"));
    }
}

//! The registry: every option there is, in the order of the documentation. An option comes behind the one that
//! gives it a meaning.

use crate::checkpoint::{CheckpointMode, RestoreMode, Retention};
use crate::cluster::RestartStrategyConfig as Restart;
use crate::config::option::Field::{Choice, Decimal, Duration, Number, Size, Switch, Text};
use crate::config::option::{Access, ConfigOption, Field};
use crate::config::{Config, Role};
use tidegate_state::envelope::Compression;
use tidegate_state::{BackendOptions, RocksDbOptions};

const U32: u64 = u32::MAX as u64;
/// Key groups are numbered with 15 bits.
const MOST_KEY_GROUPS: u64 = 1 << 15;
const ROCKSDB: (&str, &str) = ("state.backend", "rocksdb");
const FIXED: (&str, &str) = ("restart.strategy", "fixed-delay");
const RATE: (&str, &str) = ("restart.strategy", "failure-rate");
const EXPONENTIAL: (&str, &str) = ("restart.strategy", "exponential-delay");

// Values are checked against the range of the option before, so that no conversion below fails.

/// A field that always has a value.
macro_rules! always {
    ($($path:ident).+) => {
        Access {
            set: |c: &mut Config, v| _ = v.try_into().map(|v| c.$($path).+ = v),
            get: |c: &Config| c.$($path).+.clone().try_into().ok(),
        }
    };
}

/// A field that may be absent.
macro_rules! optional {
    ($($path:ident).+) => {
        Access {
            set: |c: &mut Config, v| _ = v.try_into().map(|v| c.$($path).+ = Some(v)),
            get: |c: &Config| c.$($path).+.clone().and_then(|v| v.try_into().ok()),
        }
    };
}

/// A field that is one of several values, by their names.
macro_rules! choice {
    ($part:ident.$field:ident, $($name:literal => $value:path),+ $(,)?) => {
        Access {
            set: |c: &mut Config, choice| match choice {
                $($name => c.$part.$field = $value,)+
                _ => {}
            },
            get: |c: &Config| match c.$part.$field {
                $($value => Some($name),)+
            },
        }
    };
}

/// A parameter of a restart strategy.
macro_rules! restart {
    ($strategy:ident.$field:ident) => {
        Access {
            set: |c: &mut Config, v| {
                if let Some(Restart::$strategy { $field, .. }) = &mut c.restart {
                    _ = v.try_into().map(|v| *$field = v);
                }
            },
            get: |c: &Config| match c.restart {
                Some(Restart::$strategy { $field, .. }) => Some($field.into()),
                _ => None,
            },
        }
    };
}

/// A path that may be absent.
macro_rules! path {
    ($($field:ident).+) => {
        Access {
            set: |c: &mut Config, path: String| c.$($field).+ = Some(path.into()),
            get: |c: &Config| c.$($field).+.as_ref().map(|path| path.to_string_lossy().into_owned()),
        }
    };
}

/// A parameter of the RocksDB backend.
macro_rules! rocksdb {
    ($field:ident) => {
        Access {
            set: |c: &mut Config, v| {
                if let BackendOptions::RocksDb(rocksdb) = &mut c.state.backend {
                    _ = v.try_into().map(|v| rocksdb.$field = v);
                }
            },
            get: |c: &Config| match &c.state.backend {
                BackendOptions::RocksDb(rocksdb) => rocksdb.$field.try_into().ok(),
                _ => None,
            },
        }
    };
}

/// Every option.
pub fn options() -> &'static [ConfigOption] {
    OPTIONS
}

const fn option(key: &'static str, field: Field, doc: &'static str) -> ConfigOption {
    ConfigOption { key, alias: None, doc, absent: "none", common: false, only_with: None, field }
}

impl ConfigOption {
    const fn absent(self, means: &'static str) -> Self {
        Self { absent: means, ..self }
    }

    const fn common(self) -> Self {
        Self { common: true, ..self }
    }

    const fn flag(self, alias: &'static str) -> Self {
        Self { alias: Some(alias), ..self }
    }

    const fn only_with(self, selector: (&'static str, &'static str)) -> Self {
        Self { only_with: Some(selector), ..self }
    }
}

static OPTIONS: &[ConfigOption] = &[
    option(
        "job.id",
        Text(optional!(job_id), "name"),
        "The job's directory below checkpoint.dir; one that is there already is continued",
    )
    .absent("the job's name and a random number")
    .flag("job-id"),
    option(
        "parallelism",
        Number(always!(parallelism), 1, MOST_KEY_GROUPS),
        "Subtasks of operators that do not set their own",
    )
    .common(),
    option(
        "min-parallelism",
        Number(optional!(min_parallelism), 1, MOST_KEY_GROUPS),
        "With fewer slots than the parallelism needs, the job runs on those there are, down to this, and grows again",
    )
    .absent("it waits for slots"),
    option(
        "max-parallelism",
        Number(optional!(max_parallelism), 1, MOST_KEY_GROUPS),
        "Key groups: the most the parallelism can ever be; fixed for the life of the state",
    )
    .absent("1.5 x parallelism as a power of two, at least 128"),
    option(
        "state.backend",
        Choice(BACKEND, &["memory", "rocksdb"]),
        "What keeps keyed state while the job runs",
    )
    .common(),
    option("state.local-dir", Text(path!(state.local_dir), "path"), "Directory for backends on local disk")
        .absent("the system's temporary directory"),
    option(
        "state.rocksdb.cache",
        Size(rocksdb!(cache_bytes), 0),
        "Memory for live objects in front of RocksDB, of all subtasks of a process together",
    )
    .only_with(ROCKSDB),
    option(
        "state.rocksdb.memory",
        Size(rocksdb!(memory_bytes), 1 << 20),
        "Memory for RocksDB's blocks, indexes, filters and memtables, of all subtasks of a process together",
    )
    .only_with(ROCKSDB),
    option(
        "state.rocksdb.write-buffer",
        Size(rocksdb!(write_buffer_bytes), 64 << 10),
        "Size of a memtable, per state",
    )
    .only_with(ROCKSDB),
    option(
        "checkpoint.dir",
        Text(optional!(checkpoint_dir), "path or URL"),
        "Directory that holds the checkpoints",
    )
    .absent("in memory, gone with the process")
    .common(),
    option(
        "checkpoint.interval",
        Duration(optional!(checkpoint.interval_ms), 1),
        "Time between the triggers of two checkpoints",
    )
    .absent("no periodic checkpoints")
    .common(),
    option(
        "checkpoint.mode",
        Choice(MODE, &["exactly-once", "at-least-once"]),
        "Whether inputs that are ahead wait at a barrier, or records may be processed twice after a restore",
    ),
    option(
        "checkpoint.unaligned",
        Switch(always!(checkpoint.unaligned)),
        "Whether barriers overtake records under backpressure, which then become part of the checkpoint",
    ),
    option(
        "checkpoint.aligned-timeout",
        Duration(ALIGNED_TIMEOUT, 0),
        "How long a checkpoint stays aligned before its barriers overtake, from its trigger; 0: from the start",
    )
    .only_with(("checkpoint.unaligned", "true")),
    option(
        "checkpoint.compression",
        Choice(COMPRESSION, &["none", "zstd"]),
        "How the files of checkpoints are compressed; RocksDB's own files are compressed anyhow",
    ),
    option(
        "checkpoint.timeout",
        Duration(always!(checkpoint.timeout_ms), 1),
        "A checkpoint not complete by then is given up",
    ),
    option(
        "checkpoint.storage-timeout",
        Duration(always!(checkpoint.storage_timeout_ms), 1),
        "A call of the checkpoint storage not answered by then has failed, be it a read or write of at most 8 MiB",
    ),
    option(
        "checkpoint.min-pause",
        Duration(always!(checkpoint.min_pause_ms), 0),
        "Least time between the end of one checkpoint and the trigger of the next",
    ),
    option(
        "checkpoint.max-concurrent",
        Number(always!(checkpoint.max_concurrent), 1, U32),
        "Checkpoints under way at once",
    ),
    option(
        "checkpoint.tolerable-failures",
        Number(always!(checkpoint.tolerable_failures), 0, U32),
        "Checkpoints that may fail in a row before the job does",
    ),
    option(
        "checkpoint.retained",
        Number(always!(checkpoint.retained), 1, U32),
        "Completed checkpoints that are kept",
    ),
    option(
        "checkpoint.retain",
        Choice(RETAIN, &["on-failure", "always", "never"]),
        "When checkpoints outlive the job: if it fails or is canceled, always, or only if it fails",
    ),
    option(
        "savepoint.dir",
        Text(optional!(savepoint_dir), "path or URL"),
        "Directory for savepoints that name no other",
    )
    .absent("savepoints in checkpoint.dir"),
    option(
        "control.dir",
        Text(CONTROL_DIR, "path"),
        "Directory for the socket through which the job is controlled",
    )
    .absent("tidegate in $XDG_RUNTIME_DIR, else ~/.tidegate/run"),
    option(
        "restart.strategy",
        Choice(STRATEGY, &["none", "fixed-delay", "failure-rate", "exponential-delay"]),
        "Whether and when a failed job starts again",
    )
    .absent("exponential-delay with checkpoint.interval, none without")
    .common(),
    option(
        "restart.fixed-delay.attempts",
        Number(restart!(FixedDelay.attempts), 1, U32),
        "Restarts before the job fails",
    )
    .only_with(FIXED),
    option(
        "restart.fixed-delay.delay",
        Duration(restart!(FixedDelay.delay_ms), 0),
        "Pause before each restart",
    )
    .only_with(FIXED),
    option(
        "restart.failure-rate.max-failures",
        Number(restart!(FailureRate.max_failures_per_interval), 1, U32),
        "Failures allowed within the interval",
    )
    .only_with(RATE),
    option(
        "restart.failure-rate.interval",
        Duration(restart!(FailureRate.interval_ms), 1),
        "Length of the sliding interval",
    )
    .only_with(RATE),
    option(
        "restart.failure-rate.delay",
        Duration(restart!(FailureRate.delay_ms), 0),
        "Pause before each restart",
    )
    .only_with(RATE),
    option(
        "restart.exponential-delay.initial-backoff",
        Duration(restart!(ExponentialDelay.initial_backoff_ms), 1),
        "First pause",
    )
    .only_with(EXPONENTIAL),
    option(
        "restart.exponential-delay.max-backoff",
        Duration(restart!(ExponentialDelay.max_backoff_ms), 1),
        "Longest pause",
    )
    .only_with(EXPONENTIAL),
    option(
        "restart.exponential-delay.multiplier",
        Decimal(restart!(ExponentialDelay.backoff_multiplier), 1.0, f64::MAX),
        "Factor between two pauses",
    )
    .only_with(EXPONENTIAL),
    option(
        "restart.exponential-delay.reset-after",
        Duration(restart!(ExponentialDelay.reset_backoff_threshold_ms), 1),
        "Time without failure after which the pauses start over",
    )
    .only_with(EXPONENTIAL),
    option(
        "restart.exponential-delay.jitter",
        Decimal(restart!(ExponentialDelay.jitter_factor), 0.0, 1.0),
        "Share of the pause that is random, in either direction",
    )
    .only_with(EXPONENTIAL),
    option(
        "restart.exponential-delay.attempts",
        Number(EXPONENTIAL_ATTEMPTS, 1, U32),
        "Restarts in a row before the job fails",
    )
    .only_with(EXPONENTIAL)
    .absent("unlimited"),
    option(
        "cluster.role",
        Choice(ROLE, &["local", "jobmanager", "taskmanager", "local-cluster"]),
        "All of the cluster in this process, one member of it, or a cluster of processes on this machine",
    )
    .flag("role")
    .common(),
    option(
        "cluster.jobmanager",
        Text(always!(cluster.jobmanager), "host:port"),
        "Where a taskmanager looks for its jobmanager; several with commas between them",
    )
    .flag("jobmanager")
    .common(),
    option(
        "cluster.listen",
        Text(optional!(cluster.listen), "host:port"),
        "Where this process listens: a jobmanager for taskmanagers, a taskmanager for records",
    )
    .absent("127.0.0.1:6123 for a jobmanager, 127.0.0.1 and any free port for a taskmanager")
    .flag("listen"),
    option(
        "cluster.advertise",
        Text(optional!(cluster.advertise), "host[:port]"),
        "Where others reach this process, if that is not where it listens: behind a forwarded port, or listening at 0.0.0.0",
    )
    .absent("what cluster.listen has come to")
    .flag("advertise"),
    option(
        "cluster.token-file",
        Text(path!(cluster.token_file), "path"),
        "File with a text that all members have to know; that or TLS is needed to listen beyond this machine",
    ),
    option(
        "cluster.tls.certificate",
        Text(path!(cluster.tls_certificate), "path"),
        "PEM file with this process' certificate: connections are encrypted, and both ends must have one of the authority",
    ),
    option("cluster.tls.key", Text(path!(cluster.tls_key), "path"), "PEM file with the key of the certificate"),
    option(
        "cluster.tls.authority",
        Text(path!(cluster.tls_authority), "path"),
        "PEM file with the certificate of the authority that has signed those of all members, and nothing else",
    ),
    option(
        "cluster.standby",
        Switch(always!(cluster.standby)),
        "A jobmanager waits while another one leads the job, and takes over when that one is gone",
    )
    .flag("standby"),
    option(
        "cluster.watch-stdin",
        Switch(always!(cluster.watch_stdin)),
        "The process ends when its standard input is closed, so that it does not outlive what started it",
    ),
    option("cluster.taskmanagers", Number(always!(cluster.taskmanagers), 1, U32), "Taskmanagers")
        .flag("taskmanagers")
        .common(),
    option("cluster.slots", Number(optional!(cluster.slots), 1, U32), "Slots of each taskmanager")
        .absent("what the job needs, spread over the taskmanagers")
        .flag("slots")
        .common(),
    option(
        "cluster.heartbeat-interval",
        Duration(always!(cluster.heartbeat_interval_ms), 1),
        "Time between two signs of life of a member",
    ),
    option(
        "cluster.heartbeat-timeout",
        Duration(always!(cluster.heartbeat_timeout_ms), 1),
        "A member that is silent for so long is taken for dead; a closed connection is noticed at once",
    ),
    option(
        "cluster.registration-timeout",
        Duration(always!(cluster.registration_timeout_ms), 1),
        "How long a taskmanager looks for a jobmanager before it gives up",
    ),
    option(
        "cluster.settle-time",
        Duration(always!(cluster.settle_time_ms), 0),
        "How long the number of slots must stay the same before a job with min-parallelism adapts to it",
    ),
    option(
        "cluster.cancel-timeout",
        Duration(always!(cluster.cancel_timeout_ms), 1),
        "A taskmanager whose subtasks have not stopped by then is given up and replaced",
    ),
    option("restore.path", Text(optional!(restore.path), "path or URL"), "Checkpoint to start from")
        .absent("start empty, or from the job's own latest checkpoint")
        .flag("restore")
        .common(),
    option(
        "restore.mode",
        Choice(RESTORE_MODE, &["no-claim", "claim"]),
        "Whether what the job starts from is only read, or becomes the job's, which deletes it when it has checkpoints \
         of its own",
    )
    .flag("restore-mode"),
    option(
        "restore.allow-non-restored-state",
        Switch(always!(restore.allow_non_restored_state)),
        "Leave behind state that no operator of the program takes",
    )
    .flag("allow-non-restored-state"),
];

const RESTORE_MODE: Access<&'static str> = Access {
    set: |c, choice| {
        c.restore.mode = if choice == "claim" { RestoreMode::Claim } else { RestoreMode::NoClaim };
    },
    get: |c| {
        Some(match c.restore.mode {
            RestoreMode::NoClaim => "no-claim",
            RestoreMode::Claim => "claim",
        })
    },
};

const BACKEND: Access<&'static str> = Access {
    set: |c, choice| match (choice, &c.state.backend) {
        ("rocksdb", BackendOptions::RocksDb(_)) => {}
        ("rocksdb", _) => c.state.backend = BackendOptions::RocksDb(RocksDbOptions::default()),
        _ => c.state.backend = BackendOptions::Memory,
    },
    get: |c| match c.state.backend {
        BackendOptions::Memory => Some("memory"),
        BackendOptions::RocksDb(_) => Some("rocksdb"),
        _ => None,
    },
};

const ROLE: Access<&'static str> = choice!(
    cluster.role,
    "local" => Role::Local,
    "jobmanager" => Role::JobManager,
    "taskmanager" => Role::TaskManager,
    "local-cluster" => Role::LocalCluster,
);

const MODE: Access<&'static str> = choice!(
    checkpoint.mode,
    "exactly-once" => CheckpointMode::ExactlyOnce,
    "at-least-once" => CheckpointMode::AtLeastOnce,
);

const ALIGNED_TIMEOUT: Access<u64> = Access {
    set: |c, timeout_ms| c.checkpoint.aligned_timeout_ms = timeout_ms,
    get: |c| c.checkpoint.unaligned.then_some(c.checkpoint.aligned_timeout_ms),
};

const COMPRESSION: Access<&'static str> =
    choice!(checkpoint.compression, "none" => Compression::None, "zstd" => Compression::Zstd);

const CONTROL_DIR: Access<String> = Access {
    set: |c, path| c.control_dir = Some(path.into()),
    get: |c| c.control_dir.as_ref().map(|path| path.to_string_lossy().into_owned()),
};

const RETAIN: Access<&'static str> = choice!(
    checkpoint.retention,
    "on-failure" => Retention::OnFailure,
    "always" => Retention::Always,
    "never" => Retention::Never,
);

const STRATEGY: Access<&'static str> = Access {
    set: |c, choice| {
        if strategy_name(c) == Some(choice) {
            return;
        }
        c.restart = Some(match choice {
            "fixed-delay" => Restart::FixedDelay { attempts: 1, delay_ms: 1_000 },
            "failure-rate" => {
                Restart::FailureRate { max_failures_per_interval: 1, interval_ms: 60_000, delay_ms: 1_000 }
            }
            "exponential-delay" => Restart::default(),
            _ => Restart::None,
        });
    },
    get: strategy_name,
};

fn strategy_name(config: &Config) -> Option<&'static str> {
    config.restart.as_ref().map(|strategy| match strategy {
        Restart::None => "none",
        Restart::FixedDelay { .. } => "fixed-delay",
        Restart::FailureRate { .. } => "failure-rate",
        Restart::ExponentialDelay { .. } => "exponential-delay",
    })
}

const EXPONENTIAL_ATTEMPTS: Access<u64> = Access {
    set: |c, v| {
        if let (Some(Restart::ExponentialDelay { attempts, .. }), Ok(v)) = (&mut c.restart, v.try_into()) {
            *attempts = Some(v);
        }
    },
    get: |c| match c.restart {
        Some(Restart::ExponentialDelay { attempts, .. }) => attempts.map(u64::from),
        _ => None,
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_option_reads_back_what_was_written_and_touches_no_other() {
        for option in options() {
            let text = match &option.field {
                Number(..) => "7",
                Duration(..) => "77min",
                Size(..) => "3MiB",
                Decimal(..) => {
                    if option.key.ends_with("jitter") {
                        "0.5"
                    } else {
                        "2.5"
                    }
                }
                Switch(_) => "true",
                Text(..) => "some/where",
                Choice(_, allowed) => allowed[1],
            };
            let mut config = option.config_that_has_it();
            assert!(option.applies_to(&config), "{} cannot be set", option.key);
            let others = |config: &Config| -> Vec<_> {
                let dependent = |o: &&ConfigOption| o.only_with.is_none_or(|(key, _)| key != option.key);
                options()
                    .iter()
                    .filter(|o| o.key != option.key)
                    .filter(dependent)
                    .map(|o| o.get(config))
                    .collect()
            };
            let before = others(&config);
            assert_ne!(
                option.get(&config).as_deref(),
                Some(text),
                "{}: test value is the default",
                option.key
            );
            option.set(&mut config, text).unwrap();
            assert_eq!(option.get(&config).as_deref(), Some(text), "{}", option.key);
            assert_eq!(others(&config), before, "{} changes something else", option.key);
        }
    }

    #[test]
    fn every_choice_reads_back_and_selectors_come_first() {
        let mut seen = BTreeSet::new();
        for option in options() {
            if let Choice(_, allowed) = option.field {
                for choice in allowed {
                    let mut config = Config::default();
                    option.set(&mut config, choice).unwrap();
                    assert_eq!(option.get(&config).as_deref(), Some(*choice));
                }
            }
            if let Some((selector, _)) = option.only_with {
                assert!(seen.contains(selector), "{} comes before {selector}", option.key);
            }
            assert!(seen.insert(option.key), "{} is registered twice", option.key);
            assert!(option.alias.is_none_or(|alias| seen.insert(alias)));
            assert!(!option.doc.ends_with('.') && !option.doc.contains('|'), "{}", option.doc);
        }
    }

    #[test]
    fn registered_defaults_are_valid() {
        for option in options() {
            let config = option.config_that_has_it();
            option.check_range(&config).unwrap();
            config.validate().or_else(|e| if cfg!(feature = "rocksdb") { Err(e) } else { Ok(()) }).unwrap();
        }
    }
}

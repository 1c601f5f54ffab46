//! Failover by region on real threads: two programs in one job that have nothing to do with each other, one of which trips
//! now and then.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use tidegate::Environment;
use tidegate::checkpoint::Retention;
use tidegate::cluster::RestartStrategyConfig;
use tidegate::cluster::jobmaster::{JobNotice, JobResult};
use tidegate_recovery_tests::counting::{Counting, KEYS};
use tidegate_recovery_tests::workload::Workload;
use tidegate_recovery_tests::{oracle, snapshots};
use tidegate_state::BackendOptions;

fn one_fails_and_the_other_goes_on(backend: BackendOptions) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut env = Environment::new();
    let config = env.config_mut();
    config.parallelism = 2;
    config.cluster.taskmanagers = 2;
    config.state.backend = backend;
    config.state.local_dir = Some(path("local"));
    config.checkpoint_dir = Some(path("checkpoints").to_string_lossy().into_owned());
    config.checkpoint.interval_ms = Some(20);
    config.checkpoint.retained = 10_000;
    config.checkpoint.retention = Retention::Always;
    config.restart = Some(RestartStrategyConfig::FixedDelay { attempts: 1_000, delay_ms: 5 });
    let workload = Workload::new(17, 20_000, 60, 1_000);
    workload.declare(&env, &path("out"));
    let trips = BTreeSet::from([1_000, 5_000, 9_000, 15_000]);
    let counting = Counting { trips: Arc::new(Mutex::new(trips)), ..Counting::new(20_000, Some(20_000.0)) };
    counting.declare(&env, &path("counts"));
    let job = env.start("regions").unwrap();
    let place = path("checkpoints").join(job.job_id().as_str());
    let deployed = job.notices().filter_map(|notice| match notice {
        JobNotice::Deployed { placement, .. } => Some(placement.len()),
        _ => None,
    });
    let deployed: Vec<usize> = deployed.collect();
    assert_eq!(job.wait().unwrap(), JobResult::Finished);
    // A trip while a commit is under way takes everything with it.
    let regional = deployed.iter().filter(|subtasks| **subtasks < deployed[0]).count();
    assert!(deployed.len() == 5 && regional > 0, "{deployed:?}");
    assert_eq!(oracle::difference(&workload.expected(), &oracle::published(&path("out")).unwrap()), None);
    assert_eq!(oracle::difference(&counting.expected(), &oracle::published(&path("counts")).unwrap()), None);
    let check = |stored: tidegate::checkpoint::StoredCheckpoint| {
        snapshots::check_counting(stored.clone(), counting.records, KEYS)?;
        snapshots::check_union(stored, &workload)
    };
    assert!(snapshots::check_kept(&place, &check).unwrap() > 10);
}

#[test]
fn in_memory() {
    one_fails_and_the_other_goes_on(BackendOptions::Memory);
}

#[cfg(feature = "rocksdb")]
#[test]
fn on_rocksdb() {
    one_fails_and_the_other_goes_on(BackendOptions::RocksDb(tidegate_state::RocksDbOptions::small()));
}

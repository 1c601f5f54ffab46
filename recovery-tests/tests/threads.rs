//! The thread lane: real threads, real time, a real checkpoint directory, crashes at random moments.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tidegate::checkpoint::{CrashAction, CrashPoints, Retention};
use tidegate::cluster::RestartStrategyConfig;
use tidegate::cluster::jobmaster::{JobNotice, JobResult};
use tidegate::testing::simulation::SeededRng;
use tidegate::{CrashSite, Environment};
use tidegate_recovery_tests::workload::Workload;
use tidegate_recovery_tests::{oracle, snapshots};
use tidegate_state::BackendOptions;

/// Points at which a taskmanager is killed, besides random moments.
const POINTS: [&str; 8] = [
    "barrier.first",
    "barrier.aligned",
    "snapshot.sync",
    "upload.file_k",
    "ack.before_send",
    "sink.before_commit",
    "sink.commit_unrecorded",
    "restore.before_running",
];

/// One run; returns how many times the job was restarted.
fn run(seed: u64, backend: &BackendOptions, crashes: bool, directory: &Path) -> Result<u64, String> {
    let mut rng = SeededRng::new(seed);
    let output = directory.join("out");
    let workload = Arc::new(Workload::new(rng.next_u64(), 20_000, 60, 150));
    let mut env = Environment::new();
    let config = env.config_mut();
    config.parallelism = *rng.pick(&[1, 2, 4]).unwrap();
    config.cluster.taskmanagers = 2;
    config.state.backend = backend.clone();
    config.state.local_dir = Some(directory.join("local"));
    config.checkpoint_dir = Some(directory.join("checkpoints").to_string_lossy().into_owned());
    config.checkpoint.interval_ms = Some(rng.between(5, 40));
    config.checkpoint.tolerable_failures = 10;
    config.job_id = Some("threads-1".to_owned());
    let place = directory.join("checkpoints/threads-1");
    let checked = Arc::clone(&workload);
    let check = move |stored| snapshots::check_union(stored, &checked);
    let (watcher, seen) = snapshots::newest_watcher(place.to_string_lossy().into_owned(), check);
    let jobmanager = CrashPoints::armable();
    jobmanager.watch("complete.before_notify", watcher).unwrap();
    // In every other run nothing is deleted, and everything is looked into at the end once more.
    let keeps_all = seed.is_multiple_of(2);
    if keeps_all {
        config.checkpoint.retained = 10_000;
        config.checkpoint.retention = Retention::Always;
    }
    config.restart = Some(RestartStrategyConfig::FixedDelay { attempts: 1_000, delay_ms: 5 });
    env.set_crash_points(CrashSite::JobManager, jobmanager);
    if crashes {
        for index in 0..2 {
            let points = CrashPoints::armable();
            points.arm(rng.pick(&POINTS).unwrap(), rng.between(1, 4), CrashAction::Kill).unwrap();
            env.set_crash_points(CrashSite::TaskManager(index), points);
        }
    }
    workload.declare(&env, &output);
    let job = env.start("threads").map_err(|e| e.to_string())?;
    let mut restarts = 0;
    std::thread::scope(|scope| {
        let controller = job.controller();
        let (done, ended) = std::sync::mpsc::sync_channel::<()>(1);
        if crashes {
            let times: Vec<u64> = (0..3).map(|_| rng.between(1, 120)).collect();
            scope.spawn(move || {
                for (number, time) in times.into_iter().enumerate() {
                    if ended.recv_timeout(Duration::from_millis(time))
                        != Err(std::sync::mpsc::RecvTimeoutError::Timeout)
                    {
                        return;
                    }
                    controller.crash_taskmanager(number as u32 % 2);
                }
            });
        }
        for notice in job.notices() {
            restarts += u64::from(matches!(notice, JobNotice::Restarting { .. }));
        }
        drop(done);
    });
    let result = job.wait().map_err(|e| e.to_string())?;
    if result != JobResult::Finished {
        return Err(format!("the job ended as {result:?}"));
    }
    assert!(snapshots::all_right(&seen).map_err(|e| e.to_string())? > 0, "no checkpoint was looked into");
    if keeps_all {
        let check = |stored| snapshots::check_union(stored, &workload);
        assert!(snapshots::check_kept(&place, &check).map_err(|e| e.to_string())? > 0);
    }
    match oracle::difference(&workload.expected(), &oracle::published(&output).unwrap()) {
        None => Ok(restarts),
        Some(difference) => Err(difference),
    }
}

fn run_seeds(seeds: std::ops::Range<u64>, backend: &BackendOptions, crashes: bool) {
    let mut restarts = 0;
    for seed in seeds.clone() {
        let directory = tempfile::tempdir().unwrap();
        match run(seed, backend, crashes, directory.path()) {
            Ok(n) => restarts += n,
            Err(e) => panic!("seed {seed}, {backend:?}: {e}"),
        }
    }
    println!("seeds {seeds:?}: {restarts} restarts");
    assert_eq!(restarts > 0, crashes, "{restarts} restarts");
}

#[test]
fn memory_without_crashes() {
    run_seeds(0..5, &BackendOptions::Memory, false);
}

#[test]
fn memory_with_crashes() {
    run_seeds(100..160, &BackendOptions::Memory, true);
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_without_crashes() {
    run_seeds(200..203, &BackendOptions::RocksDb(tidegate_state::RocksDbOptions::small()), false);
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_with_crashes() {
    run_seeds(300..320, &BackendOptions::RocksDb(tidegate_state::RocksDbOptions::small()), true);
}

/// State that does not fit into the cache: checkpoints bring and name again RocksDB's own files.
#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_with_a_tiny_cache_and_crashes() {
    let options = tidegate_state::RocksDbOptions { cache_bytes: 500, ..Default::default() };
    run_seeds(320..326, &BackendOptions::RocksDb(options), true);
}

//! Checkpoints without alignment: whatever dies, nothing is lost, and without a failure nothing comes twice.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::ops::Range;
use tidegate::Environment;
use tidegate::checkpoint::CheckpointMode;
use tidegate::cluster::jobmaster::{JobNotice, JobResult};
use tidegate::testing::simulation::{SeededRng, Simulation, SimulationFaults};
use tidegate_recovery_tests::workload::Workload;
use tidegate_recovery_tests::{oracle, repeating};
use tidegate_state::BackendOptions;

/// What came of runs.
#[derive(Default)]
struct Came {
    runs: usize,
    /// Lines that are there once too often.
    repeated: usize,
    restores: usize,
}

fn check(seeds: Range<u64>, backend: &BackendOptions, faulty: bool) -> Came {
    let mut came = Came::default();
    for seed in seeds {
        let directory = tempfile::tempdir().unwrap();
        let mut rng = SeededRng::new(seed);
        let records = rng.between(200, 2_000);
        let workload = Workload::new(rng.next_u64(), records, 40, rng.between(300, 3_000));
        let mut env = Environment::new();
        let mut simulation = Simulation::new(seed);
        let config = env.config_mut();
        config.parallelism = *rng.pick(&[1, 2, 4]).unwrap();
        config.state.backend = backend.clone();
        config.state.local_dir = Some(directory.path().join("local"));
        config.cluster.taskmanagers = rng.between(1, 4) as u32;
        config.checkpoint.mode = CheckpointMode::AtLeastOnce;
        config.checkpoint.interval_ms = Some(rng.between(20, 200));
        config.checkpoint.timeout_ms = 5_000;
        config.checkpoint.tolerable_failures = 3;
        config.checkpoint.max_concurrent = rng.between(1, 4) as u32;
        if faulty {
            simulation.faults = SimulationFaults::swarm(&mut rng);
            // Slower, and barriers behind full queues would not be there in time, however often it is tried.
            simulation.faults.slow_step_us = Some(rng.between(1_000, 5_000));
        }
        repeating::declare(&workload, &env, &directory.path().join("out"));
        let report = simulation.run(env, "repeating").unwrap();
        assert_eq!(report.result, Some(JobResult::Finished), "seed {seed}");
        let published = oracle::published(&directory.path().join("out")).unwrap();
        let repeated = repeating::repeated(&workload, &published);
        came.repeated += repeated.unwrap_or_else(|e| panic!("seed {seed}, {backend:?}: {e}"));
        came.restores += report.notices.iter().filter(|n| matches!(n, JobNotice::Restored { .. })).count();
        came.runs += 1;
    }
    println!("{} runs, {} restores, {} lines repeated", came.runs, came.restores, came.repeated);
    came
}

#[test]
fn without_a_failure_nothing_comes_twice() {
    assert_eq!(check(0..10, &BackendOptions::Memory, false).repeated, 0);
}

/// Were nothing repeated at all, it would not be this mode that was tested.
#[test]
fn crashes_and_a_failing_store_lose_nothing() {
    let came = check(100..140, &BackendOptions::Memory, true);
    assert!(came.restores > came.runs / 2, "{} restores prove little", came.restores);
    assert!(came.repeated > 0);
}

#[cfg(feature = "rocksdb")]
#[test]
fn crashes_and_a_failing_store_lose_nothing_on_rocksdb() {
    let small = tidegate_state::RocksDbOptions::small();
    let came = check(200..206, &BackendOptions::RocksDb(small), true);
    assert!(came.restores > 0);
}

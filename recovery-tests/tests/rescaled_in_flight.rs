//! Jobs under backpressure that are cut off and go on from a checkpoint with records in flight, at another parallelism, once
//! and again. The output of all of them together is that of a job that nothing ever happened to, and every checkpoint on the
//! way is looked into.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::path::Path;
use std::sync::Arc;
use tidegate::Environment;
use tidegate::checkpoint::{StateFileKind, StoredCheckpoint};
use tidegate::cluster::jobmaster::{JobNotice, JobResult};
use tidegate::error::Result;
use tidegate::id::JobId;
use tidegate::testing::simulation::{SIMULATED_STORE, SeededRng, Simulation, SimulationReport};
use tidegate_recovery_tests::workload::Workload;
use tidegate_recovery_tests::{connected, oracle, snapshots};

/// A program with its look into checkpoints.
#[derive(Clone, Copy)]
struct Program {
    declare: fn(&Workload, &Environment, &Path),
    inspect: fn(StoredCheckpoint, &Workload) -> Result<()>,
    expected: fn(&Workload) -> Vec<String>,
    parallelisms: &'static [[u32; 3]],
}

const UNION: Program = Program {
    declare: Workload::declare,
    inspect: snapshots::check_union,
    expected: Workload::expected,
    // Never fewer: it allows no record to be late, and splits of which one is ahead would come together in one reader.
    parallelisms: &[[1, 2, 4], [2, 4, 4], [1, 4, 4], [1, 1, 2]],
};
const CONNECTED: Program = Program {
    declare: connected::declare,
    inspect: snapshots::check_connected,
    expected: connected::expected,
    parallelisms: &[[1, 2, 4], [4, 1, 2], [2, 4, 1], [4, 2, 4]],
};

/// One of the jobs that follow each other.
struct Life<'a> {
    restore: Option<&'a JobId>,
    parallelism: u32,
    /// When it is cut off.
    until_ms: Option<u64>,
}

struct Lives<'a> {
    program: Program,
    workload: &'a Workload,
    store: Arc<dyn ObjectStore>,
    output: &'a Path,
}

impl Lives<'_> {
    /// Runs one; says whether the newest of its checkpoints has records in flight.
    fn run(&self, life: &Life<'_>, rng: &mut SeededRng) -> (SimulationReport, bool) {
        let seed = rng.next_u64();
        let mut env = Environment::new();
        let config = env.config_mut();
        config.parallelism = life.parallelism;
        config.cluster.taskmanagers = 2;
        config.checkpoint.interval_ms = Some(rng.between(15, 60));
        config.checkpoint.tolerable_failures = 5;
        config.checkpoint.unaligned = true;
        config.checkpoint.aligned_timeout_ms = *rng.pick(&[0, 10]).unwrap();
        config.restore.path = life.restore.map(|job| format!("{SIMULATED_STORE}/{job}"));
        (self.program.declare)(self.workload, &env, self.output);
        let mut simulation = Simulation::new(seed);
        simulation.store = Some(self.store.clone());
        simulation.faults.slow_step_us = Some(rng.between(5_000, 30_000));
        simulation.faults.crash_taskmanager_every_ms = rng.chance(0.3).then_some(1_000);
        simulation.faults.heal_after_ms = 5_000;
        simulation.channel_bytes = rng.pick(&[1, 500, 4_000]).copied();
        simulation.max_virtual_ms = life.until_ms.unwrap_or(simulation.max_virtual_ms);
        let mut newest_is_in_flight = false;
        let mut inspect = |stored: StoredCheckpoint| {
            newest_is_in_flight = stored.manifest.files().any(|file| file.kind == StateFileKind::InFlight);
            let id = stored.manifest.checkpoint;
            (self.program.inspect)(stored, self.workload).map_err(|e| e.at(format!("checkpoint {id}")))
        };
        let report = simulation.run_inspected(env, "rescaled", &mut inspect).unwrap();
        (report, newest_is_in_flight)
    }
}

/// Three lives; how many of them began with records in flight at another parallelism.
fn check(program: Program, seed: u64) -> u32 {
    let output = tempfile::tempdir().unwrap();
    let mut rng = SeededRng::new(seed);
    let workload = Workload::new(seed, rng.between(600, 2_000), 30, 600);
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let lives = Lives { program, workload: &workload, store, output: output.path() };
    let (mut restore, mut rescaled, mut in_flight, mut before) = (None::<JobId>, 0, false, 0);
    let mut log = String::new();
    for (number, parallelism) in rng.pick(program.parallelisms).unwrap().iter().enumerate() {
        let until_ms = (number < 2).then(|| rng.between(150, 400));
        let life = Life { restore: restore.as_ref(), parallelism: *parallelism, until_ms };
        let (report, newest_is_in_flight) = lives.run(&life, &mut rng);
        rescaled += u32::from(in_flight && *parallelism != before);
        let completed = report.notices.iter().any(|n| matches!(n, JobNotice::CheckpointCompleted(_)));
        if completed {
            restore = Some(report.job.clone());
            (in_flight, before) = (newest_is_in_flight, *parallelism);
        }
        log.push_str(&format!("--- life {number} at parallelism {parallelism}\n"));
        report.log.text().lines().rev().take(20).for_each(|line| log.push_str(&format!("{line}\n")));
        if report.result == Some(JobResult::Finished) {
            break;
        }
        assert_eq!(report.result, None, "seed {seed}\n{log}");
    }
    let published = oracle::published(output.path()).unwrap();
    if let Some(difference) = oracle::difference(&(program.expected)(&workload), &published) {
        panic!("seed {seed}: {difference}\n{log}");
    }
    rescaled
}

fn check_all(program: Program, seeds: std::ops::Range<u64>) {
    let runs = seeds.end - seeds.start;
    let rescaled: u32 = seeds.map(|seed| check(program, seed)).sum();
    println!("{rescaled} restores in {runs} runs dealt out records in flight");
    assert!(u64::from(rescaled) > runs * 2 / 3, "{rescaled} restores in {runs} runs prove little");
}

#[test]
fn records_in_flight_go_to_whoever_owns_their_key_now() {
    check_all(UNION, 0..30);
}

#[test]
fn records_in_flight_of_all_exchanges_of_connected_streams_are_dealt_out() {
    check_all(CONNECTED, 100..130);
}

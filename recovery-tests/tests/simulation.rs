//! The simulated lane: seeded runs of the whole cluster on virtual time.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::path::Path;
use tidegate::Environment;
use tidegate::cluster::jobmaster::JobResult;
use tidegate::testing::simulation::{SeededRng, Simulation, SimulationFaults, SimulationReport};
use tidegate_recovery_tests::oracle;
use tidegate_recovery_tests::workload::Workload;

/// Everything about a run follows from its seed.
fn run(seed: u64, faulty: bool, output: &Path) -> (Workload, SimulationReport) {
    let mut rng = SeededRng::new(seed);
    let records = rng.between(200, 3_000);
    let workload = Workload::new(rng.next_u64(), records, 40, rng.between(300, 5_000));
    let mut env = Environment::new();
    let config = env.config_mut();
    config.parallelism = *rng.pick(&[1, 2, 4]).unwrap();
    config.cluster.taskmanagers = rng.between(1, 4) as u32;
    config.checkpoint.interval_ms = Some(rng.between(20, 500));
    config.checkpoint.timeout_ms = 5_000;
    config.checkpoint.tolerable_failures = 3;
    config.checkpoint.max_concurrent = rng.between(1, 4) as u32;
    config.checkpoint.retained = rng.between(1, 3) as u32;
    workload.declare(&env, output);
    let mut simulation = Simulation::new(seed);
    if faulty {
        simulation.faults = SimulationFaults::swarm(&mut rng);
    }
    let report = simulation.run(env, "simulated").unwrap();
    (workload, report)
}

fn check(seed: u64, faulty: bool) -> SimulationReport {
    let output = tempfile::tempdir().unwrap();
    let (workload, report) = run(seed, faulty, output.path());
    let verdict = match &report.result {
        Some(JobResult::Finished) => {
            oracle::difference(&workload.expected(), &oracle::published(output.path()).unwrap())
        }
        other => Some(format!("the job ended as {other:?} after {} virtual ms", report.virtual_ms)),
    };
    if let Some(verdict) = verdict {
        let tail: Vec<&str> = report.log.text().lines().rev().take(60).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        panic!(
            "seed {seed}: {verdict}\nreplay: TIDEGATE_SEEDS={seed} cargo nextest run -p tidegate-recovery-tests\n{}",
            tail.join("\n")
        );
    }
    report
}

/// Seeds to run: those named in TIDEGATE_SEEDS, or a fixed range.
fn seeds(default: std::ops::Range<u64>) -> Vec<u64> {
    match std::env::var("TIDEGATE_SEEDS") {
        Ok(list) => list.split(',').map(|s| s.trim().parse().unwrap()).collect(),
        Err(_) => default.collect(),
    }
}

#[test]
fn a_quiet_run_publishes_exactly_the_expected_output() {
    for seed in seeds(0..10) {
        check(seed, false);
    }
}

#[test]
fn crashes_and_a_failing_store_change_nothing_in_the_output() {
    let (mut kills, mut runs) = (0, 0);
    for seed in seeds(1_000..1_200) {
        let report = check(seed, true);
        kills += report.kills;
        runs += 1;
    }
    println!("{runs} runs, {kills} processes killed");
}

#[test]
fn the_same_seed_gives_the_same_event_log() {
    let mut events = 0;
    for seed in 1_000..1_020 {
        // The same directory both times: its name is in the sink's committables.
        let output = tempfile::tempdir().unwrap();
        let again = || {
            _ = std::fs::remove_dir_all(output.path());
            run(seed, true, output.path()).1.log
        };
        let (first, second) = (again(), again());
        let differs = first.text().lines().zip(second.text().lines()).find(|(x, y)| x != y);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first, second, "seed {seed}");
        events += first.len();
    }
    assert!(events > 5_000, "{events} events prove nothing");
}

//! Every named crash point, killed and failed at: the output is the same, and no point stays unvisited.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use tidegate::checkpoint::{CRASH_POINTS, CrashAction, SavepointMode};
use tidegate::cluster::RestartStrategyConfig;
use tidegate::cluster::jobmaster::JobResult;
use tidegate::testing::simulation::{ArmedPoint, SimulatedSavepoint, Simulation, SimulationReport};
use tidegate::{CrashSite, Environment};
use tidegate_recovery_tests::workload::Workload;
use tidegate_recovery_tests::{oracle, snapshots};
use tidegate_state::BackendOptions;

/// What a run is made of besides its seed and what goes wrong.
struct Setup {
    backend: BackendOptions,
    /// Between two checkpoints; with none the final checkpoint is the only one.
    interval_ms: Option<u64>,
    store_delay_us: u64,
    savepoints: Vec<SimulatedSavepoint>,
}

impl Setup {
    fn new(backend: BackendOptions) -> Self {
        Self { backend, interval_ms: Some(5), store_delay_us: 300, savepoints: Vec::new() }
    }
}

/// Runs the job; the output of one that a savepoint has stopped is not looked at.
fn run(seed: u64, setup: &Setup, armed: Vec<ArmedPoint>) -> Result<SimulationReport, String> {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out");
    let workload = Workload::new(seed, 600, 30, 60);
    let mut env = Environment::new();
    let config = env.config_mut();
    config.parallelism = 2;
    config.state.backend = setup.backend.clone();
    config.state.local_dir = Some(directory.path().join("local"));
    config.cluster.taskmanagers = 2;
    config.checkpoint.interval_ms = setup.interval_ms;
    config.restart = Some(RestartStrategyConfig::default());
    config.checkpoint.timeout_ms = 5_000;
    config.checkpoint.tolerable_failures = 5;
    config.checkpoint.retained = 1;
    workload.declare(&env, &output);
    let mut simulation = Simulation::new(seed);
    simulation.faults.message_delay_us = 300;
    simulation.faults.store_delay_us = setup.store_delay_us;
    simulation.faults.heal_after_ms = u64::MAX;
    simulation.faults.armed = armed.clone();
    simulation.savepoints = setup.savepoints.clone();
    let mut inspect = |stored| snapshots::check_union(stored, &workload);
    let report =
        simulation.run_inspected(env, "crash", &mut inspect).map_err(|e| format!("{armed:?}: {e}"))?;
    if report.result != Some(JobResult::Finished) {
        let tail: Vec<&str> = report.log.text().lines().rev().take(12).collect();
        return Err(format!(
            "{armed:?}: ended as {:?}\n{}",
            report.result,
            tail.into_iter().rev().collect::<Vec<_>>().join("\n")
        ));
    }
    if report.stopped_with.is_some() {
        return Ok(report);
    }
    match oracle::difference(&workload.expected(), &oracle::published(&output).unwrap()) {
        None => Ok(report),
        Some(difference) => Err(format!("{armed:?}: {difference}")),
    }
}

/// Processes in which a point can be reached.
const SITES: [CrashSite; 3] = [CrashSite::JobManager, CrashSite::TaskManager(0), CrashSite::TaskManager(1)];

/// The crash points of a job that nobody asks for a savepoint; `savepoints.rs` dies at the others.
fn periodic_points() -> impl Iterator<Item = &'static str> {
    let asked_for =
        |point: &str| ["savepoint.", "stop.", "drain."].iter().any(|part| point.starts_with(part));
    CRASH_POINTS.iter().copied().filter(move |point| !asked_for(point))
}

/// Kills or fails every process at the `nth` visits of every crash point; returns where one was killed.
fn check(setup: &Setup, visits: &[u64], actions: &[CrashAction]) -> BTreeSet<&'static str> {
    let mut failures = Vec::new();
    let mut kills: BTreeSet<&str> = BTreeSet::new();
    let mut runs = 0;
    for (number, point) in periodic_points().enumerate() {
        for site in SITES {
            for (nth, action) in
                visits.iter().flat_map(|nth| actions.iter().map(move |action| (*nth, *action)))
            {
                let mut armed = vec![ArmedPoint { site, name: point.to_owned(), nth, action }];
                if ["restore.", "cancel.", "recover."].iter().any(|part| point.starts_with(part)) {
                    // Restores happen only after a failure.
                    let other = if site == SITES[1] { SITES[2] } else { SITES[1] };
                    let name = "ack.after_send".into();
                    armed.push(ArmedPoint { site: other, name, nth: 4, action: CrashAction::Kill });
                }
                runs += 1;
                let armed_points = armed.len() as u64;
                match run(number as u64, setup, armed) {
                    Ok(report) if action == CrashAction::Kill && report.kills >= armed_points => {
                        kills.insert(point);
                    }
                    Ok(_) => {}
                    Err(failure) => failures.push(failure),
                }
            }
        }
    }
    println!("{runs} runs over {} crash points, killed at {}", periodic_points().count(), kills.len());
    assert!(failures.is_empty(), "{} failures, first: {}", failures.len(), failures.join("\n"));
    kills
}

/// Every point is visited when one process of each kind dies on the way.
fn check_reached(setup: &Setup, seeds: std::ops::Range<u64>) {
    let kill =
        |name: &str, site, nth| ArmedPoint { site, name: name.to_owned(), nth, action: CrashAction::Kill };
    let mut reached: BTreeSet<String> = BTreeSet::new();
    for seed in seeds {
        // One crash of each kind of process makes the points of recovery reachable.
        let armed = vec![
            kill("ack.before_send", CrashSite::TaskManager(0), 5),
            kill("complete.before_notify", CrashSite::JobManager, 4),
        ];
        reached.extend(run(seed, setup, armed).unwrap().reached.into_keys());
    }
    let ask = |at_ms, mode| SimulatedSavepoint { at_ms, mode };
    let fails = ArmedPoint {
        action: CrashAction::Error,
        ..kill("savepoint.before_upload", CrashSite::TaskManager(0), 1)
    };
    for mode in [SavepointMode::Stop, SavepointMode::Drain] {
        // The first one fails, the second one does not.
        let savepoints =
            vec![ask(5, SavepointMode::Continue), ask(10, SavepointMode::Continue), ask(20, mode)];
        let setup = Setup { savepoints, ..Setup::new(setup.backend.clone()) };
        let report = run(6, &setup, vec![fails.clone()]).unwrap();
        assert!(report.stopped_with.is_some() && report.savepoints.len() == 2, "{:?}", report.savepoints);
        reached.extend(report.reached.into_keys());
    }
    let missing: Vec<&&str> = CRASH_POINTS.iter().filter(|p| !reached.contains(**p)).collect();
    assert!(missing.is_empty(), "never reached: {missing:?}");
}

#[test]
fn killing_or_failing_any_process_at_any_crash_point_changes_nothing() {
    let kills = check(&Setup::new(BackendOptions::Memory), &[1, 3], &[CrashAction::Kill, CrashAction::Error]);
    let missing: Vec<&str> = periodic_points().filter(|point| !kills.contains(point)).collect();
    assert!(missing.is_empty(), "nobody was killed at {missing:?}");
}

/// Without periodic checkpoints every point of the checkpoint protocol is one of the final checkpoint: what dies there
/// takes everything along, and all output is published once nevertheless.
#[test]
fn killing_any_process_during_the_final_checkpoint_changes_nothing() {
    let setup = Setup { interval_ms: None, ..Setup::new(BackendOptions::Memory) };
    let kills = check(&setup, &[1], &[CrashAction::Kill]);
    for point in
        ["ack.before_send", "record.applied_no_reply", "complete.before_notify", "sink.before_commit"]
    {
        assert!(kills.contains(point), "{point} is no part of the final checkpoint: {kills:?}");
    }
}

/// The store is so slow that all input is processed before the first checkpoint is complete: the final one follows it.
#[test]
fn sources_that_end_while_a_checkpoint_is_pending_lose_nothing() {
    let setup = Setup { store_delay_us: 400_000, ..Setup::new(BackendOptions::Memory) };
    for seed in 0..10 {
        let log = run(seed, &setup, Vec::new()).unwrap().log;
        let last_drained = log.text().rfind("event: Drained").unwrap();
        assert!(log.text().find("checkpoint 1 completed").unwrap() > last_drained, "seed {seed}");
    }
    let kills = check(&setup, &[1], &[CrashAction::Kill]);
    assert!(kills.contains("ack.before_send"), "killed at {kills:?} only");
}

#[test]
fn every_crash_point_is_reached() {
    check_reached(&Setup::new(BackendOptions::Memory), 0..5);
}

#[cfg(feature = "rocksdb")]
#[test]
fn killing_any_process_at_any_crash_point_changes_nothing_on_rocksdb() {
    let kills = check(&Setup::new(BackendOptions::RocksDb(Default::default())), &[2], &[CrashAction::Kill]);
    assert!(kills.len() > CRASH_POINTS.len() / 2, "killed at {kills:?} only");
}

#[cfg(feature = "rocksdb")]
#[test]
fn every_crash_point_is_reached_on_rocksdb() {
    check_reached(&Setup::new(BackendOptions::RocksDb(Default::default())), 0..2);
}

//! Every named crash point, at which processes are killed, fail and hang: the output is the same, and no point is left out.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use futures::TryStreamExt;
use futures::executor::block_on;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use tidegate::checkpoint::{CRASH_POINTS, CrashAction, RestoreMode, Retention, SavepointMode};
use tidegate::cluster::RestartStrategyConfig;
use tidegate::cluster::jobmaster::JobResult;
use tidegate::testing::simulation::{
    ArmedPoint, SIMULATED_STORE, SimulatedSavepoint, Simulation, SimulationReport,
};
use tidegate::{CrashSite, Environment};
use tidegate_recovery_tests::workload::Workload;
use tidegate_recovery_tests::{leavings, oracle, snapshots};
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

/// What is armed, and what came of it.
struct Run<'a> {
    seed: u64,
    setup: &'a Setup,
    armed: Vec<ArmedPoint>,
    /// Whether its checkpoints outlive it.
    keeps: bool,
    /// Whether the first failure is the last.
    fails: bool,
}

/// Runs the job; the output of one that a savepoint has stopped is not looked at.
fn run(seed: u64, setup: &Setup, armed: Vec<ArmedPoint>) -> Result<SimulationReport, String> {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("out");
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let workload = Workload::new(seed, 600, 30, 60);
    let life = Run { seed, setup, armed, keeps: false, fails: false };
    let report = life.run(directory.path(), &workload, &store, None)?;
    let left = leavings::check(&store).map_err(|e| format!("{:?}: {e}", life.armed))?;
    if report.acted.is_empty() && left > 0 {
        return Err(format!("nothing has gone wrong, and {left} objects were left"));
    }
    if report.stopped_with.is_some() {
        return Ok(report);
    }
    match oracle::difference(&workload.expected(), &oracle::published(&output).unwrap()) {
        None => Ok(report),
        Some(difference) => Err(format!("{:?}: {difference}", life.armed)),
    }
}

impl Run<'_> {
    /// A job in this store; restored from there, or not.
    fn run(
        &self,
        directory: &Path,
        workload: &Workload,
        store: &Arc<dyn ObjectStore>,
        claims: Option<&str>,
    ) -> Result<SimulationReport, String> {
        let Self { seed, setup, armed, keeps, fails } = self;
        let mut env = Environment::new();
        let config = env.config_mut();
        config.parallelism = 2;
        config.state.backend = setup.backend.clone();
        config.state.local_dir = Some(directory.join("local"));
        config.cluster.taskmanagers = 2;
        config.checkpoint.interval_ms = setup.interval_ms;
        config.restart = Some(RestartStrategyConfig::default());
        if *fails {
            config.restart = Some(RestartStrategyConfig::None);
        }
        config.checkpoint.timeout_ms = 5_000;
        config.checkpoint.tolerable_failures = 5;
        config.checkpoint.retained = 1;
        config.checkpoint.unaligned = armed.iter().any(|a| OVERTAKING_POINTS.contains(&a.name.as_str()));
        if *keeps {
            config.checkpoint.retention = Retention::Always;
        }
        config.restore.path = claims.map(str::to_owned);
        config.restore.mode = RestoreMode::Claim;
        workload.declare(&env, &directory.join("out"));
        let mut simulation = Simulation::new(*seed);
        simulation.faults.message_delay_us = 300;
        simulation.faults.store_delay_us = setup.store_delay_us;
        simulation.faults.heal_after_ms = u64::MAX;
        simulation.faults.armed = armed.clone();
        simulation.savepoints = setup.savepoints.clone();
        simulation.store = Some(Arc::clone(store));
        let mut inspect =
            |stored| snapshots::check_union_and_output(stored, workload, &directory.join("out"));
        let report =
            simulation.run_inspected(env, "crash", &mut inspect).map_err(|e| format!("{armed:?}: {e}"))?;
        let is_as_meant = match report.result {
            Some(JobResult::Failed(_)) => *fails,
            Some(JobResult::Finished) => !*fails,
            _ => false,
        };
        if !is_as_meant {
            let tail: Vec<&str> = report.log.text().lines().rev().take(12).collect();
            return Err(format!(
                "{armed:?}: ended as {:?}\n{}",
                report.result,
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            ));
        }
        Ok(report)
    }
}

/// How a job ended whose state another one claims.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    WithSavepoint,
    Finished,
    /// Between two checkpoints.
    Failed,
}

/// A job that has ended, and one with the armed points that claims what it left. In the end nothing of it is there any more
/// but who had claimed it.
fn claim(
    seed: u64,
    backend: BackendOptions,
    ended: Ended,
    armed: Vec<ArmedPoint>,
) -> Result<SimulationReport, String> {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let workload = Workload::new(seed, 600, 30, 60);
    let mut setup = Setup::new(backend);
    if ended == Ended::WithSavepoint {
        setup.savepoints = vec![SimulatedSavepoint { at_ms: 20, mode: SavepointMode::Stop }];
    }
    let fails = ended == Ended::Failed;
    let site = CrashSite::TaskManager(0);
    let dies = ArmedPoint { site, name: "ack.before_send".to_owned(), nth: 14, action: KILL };
    let of_first = if fails { vec![dies] } else { Vec::new() };
    let first = Run { seed, setup: &setup, armed: of_first, keeps: true, fails };
    let first = first.run(directory.path(), &workload, &store, None)?;
    let source = match first.stopped_with {
        Some(savepoint) => savepoint,
        None => format!("{SIMULATED_STORE}/{}", first.job),
    };
    setup.savepoints.clear();
    let second = Run { seed: seed + 1_000, setup: &setup, armed, keeps: false, fails: false };
    let report = second.run(directory.path(), &workload, &store, Some(&source))?;
    let published = oracle::published(&directory.path().join("out")).unwrap();
    if let Some(difference) = oracle::difference(&workload.expected(), &published) {
        return Err(format!("{:?}: {difference}", second.armed));
    }
    let objects: Vec<_> = block_on(store.list(None).try_collect()).unwrap();
    let source = source.strip_prefix(SIMULATED_STORE).unwrap().trim_start_matches('/');
    let left = |path: &str| {
        let is_state = path.contains("/chk-") || path.ends_with("/manifest.json");
        path.starts_with(source) && is_state || path.ends_with("/claim.json")
    };
    match objects.iter().map(|o| o.location.to_string()).find(|path| left(path)) {
        None => Ok(report),
        Some(path) => Err(format!("{:?}: {path} is left", second.armed)),
    }
}

/// Points that only barriers come by that overtake records.
const OVERTAKING_POINTS: [&str; 2] = ["barrier.overtaken", "in_flight.collected"];

/// Processes in which a point can be reached.
fn sites(point: &str) -> &'static [CrashSite] {
    const JOBMANAGER: &[CrashSite] = &[CrashSite::JobManager];
    const TASKMANAGERS: &[CrashSite] = &[CrashSite::TaskManager(0), CrashSite::TaskManager(1)];
    // In the registry the points of the jobmanager come first.
    let place = |name: &str| CRASH_POINTS.iter().position(|p| *p == name).unwrap();
    if place(point) < place("barrier.first") { JOBMANAGER } else { TASKMANAGERS }
}

const KILL: CrashAction = CrashAction::Kill;
const ERROR: CrashAction = CrashAction::Error;
const HANG: CrashAction = CrashAction::Hang;

/// One run with a point armed: of a job in which it can be reached.
fn strike(
    setup: &Setup,
    point: &str,
    site: CrashSite,
    nth: u64,
    action: CrashAction,
) -> Result<bool, String> {
    let seed = CRASH_POINTS.iter().position(|p| *p == point).unwrap() as u64;
    let arm = |name: &str, site, nth, action| ArmedPoint { site, name: name.to_owned(), nth, action };
    let mut armed = vec![arm(point, site, nth, action)];
    let ends: &[Ended] = match point.split('.').next() {
        Some("claim") => &[Ended::WithSavepoint, Ended::Finished],
        // Neither of these leaves a checkpoint that shares files.
        Some("inherit") => &[Ended::Failed],
        _ => &[],
    };
    if !ends.is_empty() {
        let mut acted = false;
        for ended in ends {
            acted |= claim(seed, setup.backend.clone(), *ended, armed.clone())?.acted.contains(point);
        }
        return Ok(acted);
    }
    let other = match site {
        CrashSite::TaskManager(0) => CrashSite::TaskManager(1),
        _ => CrashSite::TaskManager(0),
    };
    if ["restore.", "restart.", "recover."].iter().any(|part| point.starts_with(part)) {
        // Restores happen only after a failure.
        armed.push(arm("ack.after_send", other, 4, KILL));
    }
    if point.starts_with("abort.") {
        // Only a checkpoint that fails is given up while the job goes on.
        (1..4).for_each(|nth| armed.push(arm("ack.before_send", other, nth, ERROR)));
    }
    let ask = |at_ms, mode| SimulatedSavepoint { at_ms, mode };
    let savepoints = match point.split('.').next() {
        Some("savepoint") => vec![ask(5, SavepointMode::Continue), ask(10, SavepointMode::Continue)],
        Some("stop") => vec![ask(20, SavepointMode::Stop)],
        Some("drain") => vec![ask(20, SavepointMode::Drain)],
        _ => return run(seed, setup, armed).map(|report| report.acted.contains(point)),
    };
    if point == "savepoint.before_discard" {
        // Only what has failed is discarded.
        armed.push(arm("savepoint.before_upload", other, 1, ERROR));
    }
    let setup = Setup {
        backend: setup.backend.clone(),
        interval_ms: setup.interval_ms,
        store_delay_us: setup.store_delay_us,
        savepoints,
    };
    run(seed, &setup, armed).map(|report| report.acted.contains(point))
}

/// How often a point is struck.
#[derive(Clone, Copy)]
enum Visits<'a> {
    /// At each of these visits.
    Each(&'a [u64]),
    /// At the first of these that there is.
    First(&'a [u64]),
}

/// Does this to every process at every crash point; returns where it was done.
fn check(setup: &Setup, visits: Visits<'_>, action: CrashAction) -> BTreeSet<&'static str> {
    let mut failures = Vec::new();
    let mut acted: BTreeSet<&str> = BTreeSet::new();
    let mut runs = 0;
    let (Visits::Each(numbers) | Visits::First(numbers)) = visits;
    for point in CRASH_POINTS {
        for site in sites(point) {
            for nth in numbers {
                runs += 1;
                match strike(setup, point, *site, *nth, action) {
                    Ok(true) => {
                        acted.insert(point);
                        if matches!(visits, Visits::First(_)) {
                            break;
                        }
                    }
                    Ok(false) => {}
                    Err(failure) => failures.push(failure),
                }
            }
        }
    }
    println!("{runs} runs over {} crash points, {action:?} at {}", CRASH_POINTS.len(), acted.len());
    assert!(failures.is_empty(), "{} failures, first: {}", failures.len(), failures.join("\n"));
    acted
}

/// As [`check`], and every point must have been struck.
fn check_all(setup: &Setup, visits: Visits<'_>, action: CrashAction) {
    let acted = check(setup, visits, action);
    let missing: Vec<_> = CRASH_POINTS.iter().filter(|point| !acted.contains(**point)).collect();
    assert!(missing.is_empty(), "{action:?} never happened at {missing:?}");
}

#[test]
fn killing_any_process_at_any_crash_point_changes_nothing() {
    check_all(&Setup::new(BackendOptions::Memory), Visits::Each(&[1, 3]), KILL);
}

#[test]
fn an_error_at_any_crash_point_changes_nothing() {
    check_all(&Setup::new(BackendOptions::Memory), Visits::Each(&[1, 3]), ERROR);
}

/// A taskmanager that hangs is replaced; a jobmanager that hangs goes on while its successor runs.
#[test]
fn a_process_that_hangs_at_any_crash_point_changes_nothing() {
    check_all(&Setup::new(BackendOptions::Memory), Visits::Each(&[1, 3]), HANG);
}

/// Without periodic checkpoints every point of the checkpoint protocol is one of the final checkpoint: what dies there
/// takes everything along, and all output is published once nevertheless.
#[test]
fn killing_any_process_during_the_final_checkpoint_changes_nothing() {
    let setup = Setup { interval_ms: None, ..Setup::new(BackendOptions::Memory) };
    let kills = check(&setup, Visits::First(&[1]), KILL);
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
    let kills = check(&setup, Visits::First(&[1]), KILL);
    assert!(kills.contains("ack.before_send"), "killed at {kills:?} only");
}

#[cfg(feature = "rocksdb")]
mod rocksdb {
    use super::*;

    fn setup() -> Setup {
        Setup::new(BackendOptions::RocksDb(tidegate_state::RocksDbOptions::small()))
    }

    #[test]
    fn killing_any_process_at_any_crash_point_changes_nothing() {
        check_all(&setup(), Visits::First(&[2, 1]), KILL);
    }

    #[test]
    fn an_error_at_any_crash_point_changes_nothing() {
        check_all(&setup(), Visits::First(&[2, 1]), ERROR);
    }

    #[test]
    fn a_process_that_hangs_at_any_crash_point_changes_nothing() {
        check_all(&setup(), Visits::First(&[2, 1]), HANG);
    }
}

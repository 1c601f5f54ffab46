//! Stopping with a savepoint and going on from it, with faults at every step: no record is lost or published twice,
//! whether the stop happens, fails, or is cut off between the savepoint and the end of the job.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use tidegate::checkpoint::{CrashAction, SavepointMode};
use tidegate::cluster::jobmaster::JobResult;
use tidegate::testing::simulation::{
    ArmedPoint, SeededRng, SimulatedSavepoint, Simulation, SimulationFaults, SimulationReport,
};
use tidegate::{CrashSite, Environment};
use tidegate_recovery_tests::workload::{Workload, record_line};
use tidegate_recovery_tests::{leavings, oracle, snapshots};

/// A job, or the one that goes on where it has stopped.
struct Life<'a> {
    seed: u64,
    restore: Option<&'a str>,
    savepoints: Vec<SimulatedSavepoint>,
    faults: SimulationFaults,
}

fn run(life: Life<'_>, workload: &Workload, store: &Arc<dyn ObjectStore>, output: &Path) -> SimulationReport {
    let mut env = Environment::new();
    let config = env.config_mut();
    config.parallelism = 2;
    config.cluster.taskmanagers = 2;
    config.checkpoint.interval_ms = Some(5);
    config.checkpoint.timeout_ms = 5_000;
    config.checkpoint.tolerable_failures = 5;
    config.restore.path = life.restore.map(str::to_owned);
    workload.declare(&env, output);
    let mut simulation = Simulation::new(life.seed);
    simulation.faults = life.faults;
    simulation.savepoints = life.savepoints;
    simulation.store = Some(store.clone());
    let mut inspect = |stored| snapshots::check_union(stored, workload);
    let report = simulation.run_inspected(env, "savepoints", &mut inspect).unwrap();
    leavings::check(store).unwrap();
    report
}

fn tail(report: &SimulationReport) -> String {
    let lines: Vec<&str> = report.log.text().lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// What a pair of lives has shown.
struct Shown {
    report: SimulationReport,
    /// The job was stopped before its input had ended.
    stopped: bool,
}

/// Runs a job that is asked to stop, and if it has stopped another that goes on. All output together must be that of a
/// job that was never stopped.
fn stop_and_go_on(seed: u64, mode: SavepointMode, faults: SimulationFaults) -> Result<Shown, String> {
    let output = tempfile::tempdir().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut rng = SeededRng::new(seed);
    let workload = Workload::new(seed, 300, 30, 40);
    let savepoints = vec![SimulatedSavepoint { at_ms: rng.between(2, 35), mode }];
    let first = Life { seed, restore: None, savepoints, faults };
    let report = run(first, &workload, &store, output.path());
    if report.result != Some(JobResult::Finished) {
        return Err(format!("ended as {:?}\n{}", report.result, tail(&report)));
    }
    let published = oracle::published(output.path()).unwrap();
    let Some(savepoint) = report.stopped_with.clone() else {
        // It was too late to stop, or the stop has failed: then the job has come to its own end.
        return match oracle::difference(&workload.expected(), &published) {
            None => Ok(Shown { report, stopped: false }),
            Some(difference) => Err(format!("not stopped: {difference}\n{}", tail(&report))),
        };
    };
    let lines: BTreeSet<&str> = published.iter().map(String::as_str).collect();
    let processed = |r: &_| lines.contains(record_line(r).as_str());
    let count = workload.input.iter().filter(|r| processed(r)).count();
    if mode == SavepointMode::Drain {
        // All timers of what was processed have fired, and no others.
        return match oracle::difference(&workload.expected_of(processed), &published) {
            None => Ok(Shown { report, stopped: count < workload.input.len() }),
            Some(difference) => Err(format!("drained: {difference}\n{}", tail(&report))),
        };
    }
    let next = Life {
        seed: seed + 1_000_000,
        restore: Some(&savepoint),
        savepoints: Vec::new(),
        faults: SimulationFaults::default(),
    };
    let resumed = run(next, &workload, &store, output.path());
    if resumed.result != Some(JobResult::Finished) {
        return Err(format!("resumed, ended as {:?}\n{}", resumed.result, tail(&resumed)));
    }
    match oracle::difference(&workload.expected(), &oracle::published(output.path()).unwrap()) {
        None => Ok(Shown { report, stopped: count < workload.input.len() }),
        Some(difference) => Err(format!(
            "resumed from {savepoint}: {difference}\n{}\n--- then\n{}",
            tail(&report),
            tail(&resumed)
        )),
    }
}

#[test]
fn a_stopped_job_goes_on_exactly_where_it_was() {
    let mut stopped = 0;
    for seed in 0..24 {
        let mode = if seed % 4 == 3 { SavepointMode::Drain } else { SavepointMode::Stop };
        match stop_and_go_on(seed, mode, SimulationFaults::default()) {
            Ok(shown) => stopped += u32::from(shown.stopped),
            Err(why) => panic!("seed {seed}: {why}"),
        }
    }
    assert!(stopped > 18, "only {stopped} of 24 jobs were stopped on the way");
}

#[test]
fn a_swarm_of_faults_changes_nothing() {
    let (mut stopped, mut kills) = (0, 0);
    for seed in 2_000..2_060 {
        let mode = if seed % 4 == 3 { SavepointMode::Drain } else { SavepointMode::Stop };
        let mut faults = SimulationFaults::swarm(&mut SeededRng::new(seed));
        faults.crash_taskmanager_every_ms = faults.crash_taskmanager_every_ms.map(|ms| ms / 10);
        faults.store_delay_us /= 20;
        match stop_and_go_on(seed, mode, faults) {
            Ok(shown) => {
                stopped += u32::from(shown.stopped);
                kills += shown.report.kills;
            }
            Err(why) => panic!("seed {seed}: {why}"),
        }
    }
    println!("{stopped} jobs stopped on the way, {kills} processes killed");
    assert!(stopped > 12 && kills > 30, "{stopped} stopped, {kills} kills");
}

/// Every step that a stop comes by.
const POINTS: [&str; 20] = [
    "savepoint.before_upload",
    "upload.file_k",
    "upload.before_complete",
    "barrier.first",
    "barrier.aligned",
    "snapshot.sync",
    "stop.barrier",
    "ack.before_send",
    "ack.after_send",
    "ack.all_before_manifest",
    "savepoint.before_manifest",
    "savepoint.stored",
    "manifest.before_put",
    "manifest.applied_no_reply",
    "record.before_put",
    "record.applied_no_reply",
    "stop.recorded",
    "complete.before_notify",
    "sink.before_commit",
    "stop.finish",
];

#[test]
fn killing_or_failing_any_process_at_any_step_of_a_stop_changes_nothing() {
    let sites = [CrashSite::JobManager, CrashSite::TaskManager(0), CrashSite::TaskManager(1)];
    let (mut failures, mut killed, mut stopped) = (Vec::new(), BTreeSet::new(), 0);
    let drain = ["drain.received"].into_iter().map(|p| (p, SavepointMode::Drain));
    let points =
        POINTS.iter().flat_map(|p| [(*p, SavepointMode::Stop), (*p, SavepointMode::Drain)]).chain(drain);
    for (number, (point, mode)) in points.enumerate() {
        for site in sites {
            for action in [CrashAction::Kill, CrashAction::Error, CrashAction::Hang] {
                let mut faults =
                    SimulationFaults { message_delay_us: 300, store_delay_us: 300, ..Default::default() };
                faults.heal_after_ms = u64::MAX;
                // The first visit at points of a stop; at others one that tends to be the stop's.
                let nth = if point.starts_with("s") && !point.starts_with("sn") { 1 } else { 3 };
                faults.armed = vec![ArmedPoint { site, name: point.to_owned(), nth, action }];
                match stop_and_go_on(number as u64, mode, faults) {
                    Ok(shown) => {
                        stopped += u32::from(shown.stopped);
                        if action == CrashAction::Kill && shown.report.kills > 0 {
                            killed.insert(point);
                        }
                    }
                    Err(why) => failures.push(format!("{mode:?}, {action:?} of {site:?} at {point}: {why}")),
                }
            }
        }
    }
    println!("{stopped} stopped, killed at {} points", killed.len());
    assert!(failures.is_empty(), "{} failures, first: {}", failures.len(), failures[0]);
    let missing: Vec<_> =
        POINTS.iter().chain(&["drain.received"]).filter(|p| !killed.contains(**p)).collect();
    assert!(missing.is_empty(), "no process was ever killed at {missing:?}");
}

#[test]
fn a_savepoint_on_the_way_is_whole_publishes_nothing_and_is_left_alone() {
    let output = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let workload = Workload::new(7, 600, 30, 60);
    let asked = |at_ms| SimulatedSavepoint { at_ms, mode: SavepointMode::Continue };
    let first = Life {
        seed: 7,
        restore: None,
        savepoints: vec![asked(10), asked(11), asked(40)],
        faults: SimulationFaults::default(),
    };
    let report = run(first, &workload, &store, output.path());
    assert_eq!(report.result, Some(JobResult::Finished));
    assert_eq!(
        oracle::difference(&workload.expected(), &oracle::published(output.path()).unwrap()),
        None,
        "the job itself is not disturbed"
    );
    assert_eq!(report.savepoints.len(), 3);
    // Long after the job and its checkpoints have gone, each savepoint starts a job of its own that does the rest.
    let mut sizes = Vec::new();
    for (number, savepoint) in (1..).zip(&report.savepoints) {
        let next = Life {
            seed: 7 + number,
            restore: Some(&savepoint.location),
            savepoints: Vec::new(),
            faults: SimulationFaults::default(),
        };
        let directory = other.path().join(number.to_string());
        let resumed = run(next, &workload, &store, &directory);
        assert_eq!(resumed.result, Some(JobResult::Finished), "{}", tail(&resumed));
        let lines = oracle::published(&directory).unwrap();
        let all: BTreeSet<String> = workload.expected().into_iter().collect();
        assert!(lines.is_sorted_by(|a, b| a < b), "something was published twice");
        assert!(lines.iter().all(|line| all.contains(line)), "something wrong was published");
        let totals =
            |lines: &mut dyn Iterator<Item = &String>| lines.filter(|l| l.starts_with("total")).count();
        assert_eq!(totals(&mut lines.iter()), totals(&mut all.iter()), "state from before the cut is there");
        sizes.push(lines.len());
    }
    assert!(
        sizes[0] >= sizes[1] && sizes[1] > sizes[2] && sizes[2] > 0,
        "later ones have less to do: {sizes:?}"
    );
}

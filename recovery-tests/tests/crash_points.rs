//! Every named crash point, killed and failed at: the output is the same, and no point stays unvisited.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use tidegate::checkpoint::{CRASH_POINTS, CrashAction};
use tidegate::cluster::jobmaster::JobResult;
use tidegate::testing::simulation::{ArmedPoint, Simulation, SimulationReport};
use tidegate::{CrashSite, Environment};
use tidegate_recovery_tests::oracle;
use tidegate_recovery_tests::workload::Workload;

fn run(seed: u64, armed: Vec<ArmedPoint>) -> Result<SimulationReport, String> {
    let output = tempfile::tempdir().unwrap();
    let workload = Workload::new(seed, 600, 30, 60);
    let mut env = Environment::new();
    let config = env.config_mut();
    config.parallelism = 2;
    config.cluster.taskmanagers = 2;
    config.checkpoint.interval_ms = Some(5);
    config.checkpoint.timeout_ms = 5_000;
    config.checkpoint.tolerable_failures = 5;
    config.checkpoint.retained = 1;
    workload.declare(&env, output.path());
    let mut simulation = Simulation::new(seed);
    simulation.faults.message_delay_us = 300;
    simulation.faults.store_delay_us = 300;
    simulation.faults.heal_after_ms = u64::MAX;
    simulation.faults.armed = armed.clone();
    let report = simulation.run(env, "crash").map_err(|e| format!("{armed:?}: {e}"))?;
    if report.result != Some(JobResult::Finished) {
        let tail: Vec<&str> = report.log.text().lines().rev().take(12).collect();
        return Err(format!(
            "{armed:?}: ended as {:?}\n{}",
            report.result,
            tail.into_iter().rev().collect::<Vec<_>>().join("\n")
        ));
    }
    match oracle::difference(&workload.expected(), &oracle::published(output.path()).unwrap()) {
        None => Ok(report),
        Some(difference) => Err(format!("{armed:?}: {difference}")),
    }
}

/// Processes in which a point can be reached.
const SITES: [CrashSite; 3] = [CrashSite::JobManager, CrashSite::TaskManager(0), CrashSite::TaskManager(1)];

#[test]
fn killing_or_failing_any_process_at_any_crash_point_changes_nothing() {
    let mut failures = Vec::new();
    let mut kills: BTreeSet<&str> = BTreeSet::new();
    let mut runs = 0;
    for (number, point) in CRASH_POINTS.iter().enumerate() {
        for site in SITES {
            for nth in [1, 3] {
                for action in [CrashAction::Kill, CrashAction::Error] {
                    let mut armed = vec![ArmedPoint { site, name: (*point).to_owned(), nth, action }];
                    if point.starts_with("restore.")
                        || point.starts_with("cancel.")
                        || point.starts_with("recover.")
                    {
                        // Restores happen only after a failure.
                        let other = if site == SITES[1] { SITES[2] } else { SITES[1] };
                        armed.push(ArmedPoint {
                            site: other,
                            name: "ack.after_send".into(),
                            nth: 4,
                            action: CrashAction::Kill,
                        });
                    }
                    runs += 1;
                    match run(number as u64, armed) {
                        Ok(report) => {
                            if action == CrashAction::Kill && report.kills > 0 {
                                kills.insert(point);
                            }
                        }
                        Err(failure) => failures.push(failure),
                    }
                }
            }
        }
    }
    println!("{runs} runs over {} crash points, killed at {}", CRASH_POINTS.len(), kills.len());
    assert!(failures.is_empty(), "{} failures, first: {}", failures.len(), failures.join("\n"));
}

#[test]
fn every_crash_point_is_reached() {
    let kill =
        |name: &str, site, nth| ArmedPoint { site, name: name.to_owned(), nth, action: CrashAction::Kill };
    let mut reached: BTreeSet<String> = BTreeSet::new();
    for seed in 0..5 {
        // One crash of each kind of process makes the points of recovery reachable.
        let armed = vec![
            kill("ack.before_send", CrashSite::TaskManager(0), 5),
            kill("complete.before_notify", CrashSite::JobManager, 4),
        ];
        reached.extend(run(seed, armed).unwrap().reached.into_keys());
    }
    let missing: Vec<&&str> = CRASH_POINTS.iter().filter(|p| !reached.contains(**p)).collect();
    assert!(missing.is_empty(), "never reached: {missing:?}");
}

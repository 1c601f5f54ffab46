//! A checkpoint store that is away for hours of virtual time: the job goes on, says so once, and checkpoints again
//! within one interval of its return.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use tidegate::Environment;
use tidegate::cluster::jobmaster::{JobNotice, JobResult};
use tidegate::testing::simulation::Simulation;
use tidegate_recovery_tests::workload::Workload;
use tidegate_recovery_tests::{oracle, snapshots};

const MINUTE_MS: u64 = 60_000;
const INTERVAL_MS: u64 = MINUTE_MS;

/// When the log says that something has happened, in virtual milliseconds.
fn times(log: &str, what: impl Fn(&str) -> bool) -> Vec<u64> {
    let at = |line: &str| line.trim_start().split_once(' ').unwrap().0.parse::<u64>().unwrap() / 1000;
    log.lines().filter(|line| what(line)).map(at).collect()
}

#[test]
fn hours_without_a_store_cost_checkpoints_and_nothing_else() {
    let (from_ms, to_ms) = (10 * MINUTE_MS + 30_000, 130 * MINUTE_MS + 30_000);
    let output = tempfile::tempdir().unwrap();
    let workload = Workload::new(3, 300, 20, 140 * MINUTE_MS);
    let mut env = Environment::new();
    env.config_mut().checkpoint.interval_ms = Some(INTERVAL_MS);
    assert_eq!(env.config().checkpoint.tolerable_failures, 0, "with the default");
    workload.declare(&env, output.path());
    let mut simulation = Simulation::new(3);
    simulation.faults.store_outage_ms = Some((from_ms, to_ms));
    simulation.faults.heal_after_ms = u64::MAX;
    simulation.max_virtual_ms = 300 * MINUTE_MS;
    let mut inspect = |stored| snapshots::check_union_and_output(stored, &workload, output.path());
    let report = simulation.run_inspected(env, "outage", &mut inspect).unwrap();
    assert_eq!(report.result, Some(JobResult::Finished));
    let difference = oracle::difference(&workload.expected(), &oracle::published(output.path()).unwrap());
    assert_eq!(difference, None);
    assert!(!report.notices.iter().any(|n| matches!(n, JobNotice::Restarting { .. })), "the job went on");
    let alarms: Vec<&JobNotice> = report.notices.iter().filter(|n| n.is_trouble()).collect();
    assert!(
        matches!(&alarms[..], [JobNotice::StoreAway { .. }, JobNotice::StoreBack { missed, .. }] if *missed > 100),
        "one alarm and its end: {alarms:?}"
    );
    let log = report.log.text();
    let back = times(log, |line| line.ends_with("store is back"))[0];
    let completed = times(log, |line| line.contains("notice: checkpoint") && line.ends_with("completed"));
    let next = completed.iter().find(|at| **at > back).unwrap();
    assert!(next - back <= INTERVAL_MS + 1_000, "the next one came {} ms after", next - back);
}

//! The process lane: a jobmanager and taskmanagers as real processes, killed and stopped while the job runs. What the
//! exactly-once sink has published must be exact.

#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]
#![expect(clippy::disallowed_methods, reason = "real processes take real time")]

mod blocked;
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod crash_points;
#[cfg(target_os = "linux")]
mod leaks;
#[cfg(target_os = "linux")]
mod partition;
mod proxy;
mod random;
mod regions;
mod rescale;

use cluster::{Cluster, signal};
use common::wait;

#[test]
fn nothing_happens() {
    let cluster = Cluster::start(2);
    cluster.wait_for_output();
    cluster.finish();
}

#[test]
fn taskmanagers_are_killed() {
    let mut cluster = Cluster::start(2);
    for victim in [0, 1, 0] {
        cluster.wait_for_output();
        cluster.kill_taskmanager(victim);
    }
    cluster.wait_for("restored from checkpoint", 3);
    cluster.finish();
}

#[test]
fn the_jobmanager_is_killed_and_what_was_published_before_stays() {
    let mut cluster = Cluster::start(2);
    for _ in 0..2 {
        cluster.wait_for_output();
        cluster.kill_jobmanager();
    }
    cluster.wait_for("restored from checkpoint", 2);
    cluster.finish();
}

#[test]
fn a_jobmanager_and_a_taskmanager_are_killed_at_once() {
    let mut cluster = Cluster::start(2);
    cluster.wait_for_output();
    cluster.kill_jobmanager();
    cluster.kill_taskmanager(1);
    cluster.wait_for("restored from checkpoint", 1);
    cluster.finish();
}

/// It is given up, and the job waits for slots; when it wakes up it has no part in the job any more until it has joined
/// again, and the job goes on by itself.
#[test]
fn a_taskmanager_is_frozen_and_wakes_up_as_a_zombie() {
    let cluster = Cluster::start(2);
    cluster.wait_for_output();
    signal(&cluster.taskmanagers[0], "-STOP");
    cluster.wait_for("waiting for slots: 1 of 2 there", 2);
    signal(&cluster.taskmanagers[0], "-CONT");
    cluster.wait_for("lost the jobmanager", 1);
    cluster.finish();
}

#[test]
fn a_second_jobmanager_is_refused_while_the_first_lives() {
    let cluster = Cluster::start(2);
    cluster.wait_for_output();
    let mut second = cluster.spawn_jobmanager(&cluster.standby_address, &[]);
    let ended = wait(&mut second);
    assert_eq!(ended.and_then(|status| status.code()), Some(1), "{}", cluster.log());
    cluster.wait_for("job counting-1 has a jobmanager, at ", 1);
    cluster.finish();
}

/// The one that stands by takes over when the first does not answer. When that one wakes up it still believes that it
/// leads; the store tells it otherwise, before it can publish or delete anything.
#[test]
fn a_jobmanager_is_frozen_another_takes_over_and_the_first_wakes_up() {
    let mut cluster = Cluster::start(2);
    cluster.wait_for("jobmanager of job counting-1 at", 1);
    let standby = cluster.spawn_jobmanager(&cluster.standby_address, &["--standby"]);
    cluster.wait_for("standing by for the jobmanager of job counting-1", 1);
    cluster.wait_for_output();
    let mut first = std::mem::replace(&mut cluster.jobmanager, standby);
    signal(&first, "-STOP");
    cluster.wait_for("restored from checkpoint", 1);
    cluster.wait_for_output();
    signal(&first, "-CONT");
    let ended = wait(&mut first);
    assert_eq!(ended.and_then(|status| status.code()), Some(1), "{}", cluster.log());
    cluster.wait_for("a later leader than that of term 1 has the job", 1);
    cluster.finish();
}

/// Neither finds anybody who leads. One of them gets the first term, and the other one sees that there is a jobmanager now.
#[test]
fn two_jobmanagers_that_do_not_stand_by_start_at_once() {
    for _ in 0..3 {
        let mut cluster = Cluster::start(0);
        let second = cluster.spawn_jobmanager(&cluster.standby_address, &[]);
        cluster.taskmanagers = (0..2).map(|_| cluster.spawn_taskmanager(None)).collect();
        let mut first = std::mem::replace(&mut cluster.jobmanager, second);
        cluster.wait_for("job counting-1 has a jobmanager, at ", 1);
        cluster.wait_for_output();
        if let Some(ended) = cluster.jobmanager.try_wait().unwrap() {
            assert_eq!(ended.code(), Some(1));
            std::mem::swap(&mut cluster.jobmanager, &mut first);
        }
        let loser = wait(&mut first).and_then(|status| status.code());
        assert_eq!(loser, Some(1), "{}", cluster.log());
        let terms = std::fs::read_dir(cluster.directory.path().join("checkpoints/counting-1/leader"));
        assert_eq!(terms.unwrap().count(), 1, "{}", cluster.log());
    }
}

/// Which of the two leads is settled in the store; the other one waits.
#[test]
fn two_jobmanagers_that_stand_by_start_at_once() {
    let mut cluster = Cluster::start(0);
    cluster.jobmanager.kill().unwrap();
    cluster.jobmanager.wait().unwrap();
    cluster.jobmanager = cluster.spawn_jobmanager(&cluster.address, &["--standby"]);
    let mut second = cluster.spawn_jobmanager(&cluster.standby_address, &["--standby"]);
    cluster.taskmanagers = (0..2).map(|_| cluster.spawn_taskmanager(None)).collect();
    cluster.wait_for("standing by for the jobmanager of job counting-1", 1);
    cluster.wait_for_output();
    if cluster.log().contains(&format!("counting-1 at {}", cluster.standby_address)) {
        std::mem::swap(&mut cluster.jobmanager, &mut second);
    }
    second.kill().unwrap();
    second.wait().unwrap();
    cluster.finish();
}

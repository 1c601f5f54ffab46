//! A process that dies at a named step of the protocol, by SIGABRT, without a word.

use crate::cluster::{Cluster, Setup};
use crate::common::wait;

/// Two seconds of work.
const SETUP: Setup = Setup {
    records: 12_000,
    rate: 6_000,
    checkpoint_interval: "100ms",
    keeps_all: true,
    beside: false,
    flags: &[],
};
/// Its checkpoints are deleted as usual.
const DELETES: Setup = Setup { keeps_all: false, ..SETUP };

/// The visit at which a point that every checkpoint comes by kills: the one before has completed a checkpoint.
const SECOND: u64 = 2;

fn armed(point: &str, visit: u64) -> String {
    format!("{point}:{visit}")
}

/// The jobmanager dies there, and another one is started in its place.
fn kill_jobmanager_at(setup: Setup, point: &str, visit: u64) -> Cluster {
    let mut cluster = Cluster::of_jobmanager(setup, Some(&armed(point, visit)));
    cluster.taskmanagers = (0..2).map(|_| cluster.spawn_taskmanager(None)).collect();
    let died = wait(&mut cluster.jobmanager).map(|status| status.code());
    assert_eq!(died, Some(None), "{point}: not killed\n{}", cluster.log());
    cluster.jobmanager = cluster.spawn_jobmanager(&cluster.address, &[]);
    cluster
}

/// A taskmanager dies there, and another one is started in its place.
fn kill_taskmanager_at(point: &str, visit: u64, is_restored: bool) {
    let mut cluster = Cluster::of_jobmanager(SETUP, None);
    cluster.taskmanagers.push(cluster.spawn_taskmanager(None));
    if is_restored {
        cluster.taskmanagers.push(cluster.spawn_taskmanager(None));
        cluster.wait_for_output();
        cluster.taskmanagers[1].kill().unwrap();
        cluster.taskmanagers[1].wait().unwrap();
        cluster.taskmanagers.pop();
    }
    cluster.taskmanagers.push(cluster.spawn_taskmanager(Some(&armed(point, visit))));
    let died = wait(&mut cluster.taskmanagers[1]).map(|status| status.code());
    assert_eq!(died, Some(None), "{point}: not killed\n{}", cluster.log());
    cluster.taskmanagers[1] = cluster.spawn_taskmanager(None);
    cluster.finish();
}

#[test]
fn a_jobmanager_that_dies_at_any_step_of_a_checkpoint_loses_nothing() {
    let points = [
        "ack.all_before_manifest",
        "manifest.before_put",
        "manifest.applied_no_reply",
        "record.before_put",
        "record.applied_no_reply",
        "complete.before_notify",
    ];
    for point in points {
        kill_jobmanager_at(SETUP, point, SECOND).finish();
    }
    for point in ["subsume.before_mark", "delete.k_of_n", "delete.done_unrecorded"] {
        kill_jobmanager_at(DELETES, point, SECOND).finish();
    }
}

#[test]
fn a_jobmanager_that_dies_at_any_step_of_its_start_or_of_the_job_s_end_loses_nothing() {
    let start = ["leader.before_epoch", "leader.epoch_written", "recover.list", "recover.before_fence"];
    for point in start.into_iter().chain(["recover.read_manifest", "job.before_terminal"]) {
        kill_jobmanager_at(SETUP, point, 1).finish();
    }
    // What has ended is not started again.
    for point in ["job.terminal_before_cleanup", "dispose.k_of_n"] {
        let mut cluster = kill_jobmanager_at(DELETES, point, 1);
        assert_eq!(wait(&mut cluster.jobmanager).and_then(|status| status.code()), Some(1), "{point}");
        cluster.wait_for("job counting-1 has ended: finished", 1);
        cluster.check_output();
    }
}

#[test]
fn a_taskmanager_that_dies_at_any_step_of_a_checkpoint_loses_nothing() {
    let points = [
        "barrier.first",
        "barrier.aligned",
        "snapshot.sync",
        "upload.file_k",
        "upload.before_complete",
        "upload.applied_no_reply",
        "ack.before_send",
        "ack.after_send",
        "notify.received",
        "sink.before_prepare",
        "sink.prepared",
        "sink.before_commit",
        "sink.commit_unrecorded",
    ];
    for point in points {
        kill_taskmanager_at(point, SECOND, false);
    }
}

#[test]
fn a_taskmanager_that_dies_at_any_step_of_a_restore_loses_nothing() {
    for point in ["restore.file_k", "restore.timers", "restore.before_running"] {
        kill_taskmanager_at(point, 1, true);
    }
}

//! A process that dies at a named step of the protocol, by SIGABRT, without a word.

use crate::cluster::{Cluster, Setup, ask};
use crate::common::{LONG, check_output, wait};
use std::collections::BTreeSet;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tidegate::checkpoint::CRASH_POINTS;
use tidegate::cluster::control::{ControlReply, ControlRequest};

/// Two seconds of work.
const SETUP: Setup = Setup {
    job: "counting-1",
    records: 12_000,
    rate: 6_000,
    checkpoint_interval: "100ms",
    keeps_all: true,
    beside: false,
    flags: &[],
};
/// Its checkpoints are deleted as usual.
const DELETES: Setup = Setup { keeps_all: false, ..SETUP };
/// Ten seconds: it is asked for something on the way.
const ASKED: Setup = Setup { records: 60_000, keeps_all: false, ..SETUP };
/// Every barrier overtakes what it meets. What is in flight then is not in the states that could be looked into.
const OVERTAKES: Setup =
    Setup { flags: &["--checkpoint.unaligned", "--checkpoint.aligned-timeout", "0ms"], ..DELETES };

const CHECKPOINT: [&str; 9] = [
    "trigger.sent_k_of_n",
    "ack.k_of_n",
    "notify.k_of_n",
    "ack.all_before_manifest",
    "manifest.before_put",
    "manifest.applied_no_reply",
    "record.before_put",
    "record.applied_no_reply",
    "complete.before_notify",
];
const DELETING: [&str; 3] = ["subsume.before_mark", "delete.k_of_n", "delete.done_unrecorded"];
const START: [&str; 6] = [
    "restart.deploy_k_of_n",
    "leader.before_epoch",
    "leader.epoch_written",
    "recover.list",
    "recover.before_fence",
    "recover.read_manifest",
];
const RESTART: [&str; 1] = ["restart.cancel_k_of_n"];
const GIVING_UP: [&str; 1] = ["abort.k_of_n"];
const END: [&str; 1] = ["job.before_terminal"];
const AFTER_THE_END: [&str; 3] = ["job.ended_no_status", "job.terminal_before_cleanup", "dispose.k_of_n"];
const SAVEPOINT: [&str; 2] = ["savepoint.before_manifest", "savepoint.stored"];
const DISCARDING: [&str; 1] = ["savepoint.before_discard"];
const STOP: [&str; 1] = ["stop.recorded"];
const CLAIM: [&str; 5] =
    ["claim.before_mark", "claim.marked", "claim.released", "claim.k_of_n", "claim.before_forget"];
const INHERIT: [&str; 2] = ["inherit.k_of_n", "inherit.copied"];
const TASKMANAGER_CHECKPOINT: [&str; 13] = [
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
const TASKMANAGER_OVERTAKING: [&str; 2] = ["barrier.overtaken", "in_flight.collected"];
const TASKMANAGER_SAVEPOINT: [&str; 1] = ["savepoint.before_upload"];
const TASKMANAGER_STOP: [&str; 2] = ["stop.barrier", "stop.finish"];
const TASKMANAGER_DRAIN: [&str; 1] = ["drain.received"];
const TASKMANAGER_RESTORE: [&str; 4] =
    ["restore.file_k", "restore.open_db", "restore.timers", "restore.before_running"];
/// Files here are too small to be sent in parts; those of the simulator's processes are not.
const NOT_HERE: [&str; 1] = ["upload.part_k"];

#[test]
fn no_crash_point_is_left_out() {
    let struck: BTreeSet<&str> = [
        &CHECKPOINT[..],
        &DELETING,
        &START,
        &RESTART,
        &GIVING_UP,
        &END,
        &AFTER_THE_END,
        &SAVEPOINT,
        &DISCARDING,
        &STOP,
        &CLAIM,
        &INHERIT,
        &TASKMANAGER_CHECKPOINT,
        &TASKMANAGER_OVERTAKING,
        &TASKMANAGER_SAVEPOINT,
        &TASKMANAGER_STOP,
        &TASKMANAGER_DRAIN,
        &TASKMANAGER_RESTORE,
        &NOT_HERE,
    ]
    .concat()
    .into_iter()
    .collect();
    assert_eq!(struck, CRASH_POINTS.iter().copied().collect());
}

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
fn kill_taskmanager_at(setup: Setup, point: &str, visit: u64, is_restored: bool) {
    let mut cluster = Cluster::of_jobmanager(setup, None);
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

/// Repeats a request until a member has died of it, by a signal.
fn ask_until_dead(
    cluster: &mut Cluster,
    request: &ControlRequest,
    point: &str,
    victim: fn(&mut Cluster) -> &mut Child,
) {
    // An answer may have to wait for the one that takes the victim's place.
    let (address, request) = (cluster.address.clone(), request.clone());
    let asked = Arc::new(AtomicBool::new(true));
    let goes_on = asked.clone();
    let asking = move || {
        while goes_on.load(Ordering::Relaxed) {
            _ = ask(&address, &request);
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    _ = std::thread::Builder::new().spawn(asking).unwrap();
    let died = wait(victim(cluster)).map(|status| status.code());
    asked.store(false, Ordering::Relaxed);
    assert_eq!(died, Some(None), "{point}: not killed\n{}", cluster.log());
}

/// A running job whose jobmanager, or second taskmanager, dies at a crash point.
fn running(jobmanager: Option<&str>, taskmanager: Option<&str>) -> Cluster {
    let armed = |point: Option<&str>| point.map(|point| armed(point, 1));
    let mut cluster = Cluster::of_jobmanager(ASKED, armed(jobmanager).as_deref());
    cluster.taskmanagers.push(cluster.spawn_taskmanager(None));
    cluster.taskmanagers.push(cluster.spawn_taskmanager(armed(taskmanager).as_deref()));
    cluster.wait_for_output();
    cluster
}

fn jobmanager(cluster: &mut Cluster) -> &mut Child {
    &mut cluster.jobmanager
}

fn taskmanager(cluster: &mut Cluster) -> &mut Child {
    &mut cluster.taskmanagers[1]
}

/// Asks for the stop until the job has ended, as whatever it was asked before may have come to nothing. What it has published
/// is the beginning of what it would have, each line once.
fn stop(mut cluster: Cluster) {
    let start = Instant::now();
    while cluster.jobmanager.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < LONG, "does not end\n{}", cluster.log());
        _ = cluster.ask(&ControlRequest::Stop { target: None, drain: false });
    }
    assert!(check_output(cluster.directory.path()) > 0);
}

#[test]
fn a_jobmanager_that_dies_at_any_step_of_a_checkpoint_loses_nothing() {
    for point in CHECKPOINT {
        kill_jobmanager_at(SETUP, point, SECOND).finish();
    }
    for point in DELETING {
        kill_jobmanager_at(DELETES, point, SECOND).finish();
    }
}

#[test]
fn a_jobmanager_that_dies_at_any_step_of_its_start_or_of_the_job_s_end_loses_nothing() {
    for point in START.into_iter().chain(END) {
        kill_jobmanager_at(SETUP, point, 1).finish();
    }
    // What has ended is not started again.
    for point in AFTER_THE_END {
        let mut cluster = kill_jobmanager_at(DELETES, point, 1);
        assert_eq!(wait(&mut cluster.jobmanager).and_then(|status| status.code()), Some(1), "{point}");
        cluster.wait_for("job counting-1 has ended: finished", 1);
        cluster.check_output();
    }
}

/// It dies while it cancels what a dead taskmanager has left, and while it gives up a checkpoint that a function holds up.
#[test]
fn a_jobmanager_that_dies_at_any_step_behind_a_failure_loses_nothing() {
    const LIMITS: Setup = Setup { flags: &["--checkpoint.timeout", "1s"], ..ASKED };
    for point in RESTART {
        let mut cluster = running(Some(point), None);
        cluster.taskmanagers[1].kill().unwrap();
        _ = wait(&mut cluster.taskmanagers[1]);
        goes_on_without_its_jobmanager(cluster, point);
    }
    for point in GIVING_UP {
        let mut cluster = Cluster::of_jobmanager(LIMITS, Some(&armed(point, 1)));
        cluster.taskmanagers.push(cluster.spawn_taskmanager(None));
        cluster.taskmanagers.push(cluster.spawn_taskmanager_with("TIDEGATE_BLOCK_AT", "10000"));
        _ = wait(&mut cluster.jobmanager);
        cluster.taskmanagers[1].kill().unwrap();
        goes_on_without_its_jobmanager(cluster, point);
    }
}

/// The jobmanager dies, and others take its and the second taskmanager's place.
fn goes_on_without_its_jobmanager(mut cluster: Cluster, point: &str) {
    let died = wait(&mut cluster.jobmanager).map(|status| status.code());
    assert_eq!(died, Some(None), "{point}: not killed\n{}", cluster.log());
    _ = wait(&mut cluster.taskmanagers[1]);
    cluster.jobmanager = cluster.spawn_jobmanager(&cluster.address, &[]);
    cluster.taskmanagers[1] = cluster.spawn_taskmanager(None);
    cluster.finish();
}

#[test]
fn a_member_that_dies_at_any_step_of_a_savepoint_loses_nothing() {
    let savepoint = ControlRequest::Savepoint { target: None };
    for point in SAVEPOINT {
        let mut cluster = running(Some(point), None);
        ask_until_dead(&mut cluster, &savepoint, point, jobmanager);
        cluster.jobmanager = cluster.spawn_jobmanager(&cluster.address, &[]);
        cluster.finish();
    }
    for point in TASKMANAGER_SAVEPOINT {
        let mut cluster = running(None, Some(point));
        ask_until_dead(&mut cluster, &savepoint, point, taskmanager);
        cluster.taskmanagers[1] = cluster.spawn_taskmanager(None);
        cluster.finish();
    }
    for point in DISCARDING {
        let mut cluster = running(Some(point), Some(TASKMANAGER_SAVEPOINT[0]));
        ask_until_dead(&mut cluster, &savepoint, point, jobmanager);
        _ = wait(&mut cluster.taskmanagers[1]);
        cluster.jobmanager = cluster.spawn_jobmanager(&cluster.address, &[]);
        cluster.taskmanagers[1] = cluster.spawn_taskmanager(None);
        cluster.finish();
    }
}

#[test]
fn a_member_that_dies_at_any_step_of_a_stop_publishes_nothing_twice() {
    let request = |drain| ControlRequest::Stop { target: None, drain };
    for point in STOP {
        let mut cluster = running(Some(point), None);
        ask_until_dead(&mut cluster, &request(false), point, jobmanager);
        cluster.jobmanager = cluster.spawn_jobmanager(&cluster.address, &[]);
        stop(cluster);
    }
    for (point, drain) in
        TASKMANAGER_STOP.map(|point| (point, false)).into_iter().chain(TASKMANAGER_DRAIN.map(|p| (p, true)))
    {
        let mut cluster = running(None, Some(point));
        ask_until_dead(&mut cluster, &request(drain), point, taskmanager);
        cluster.taskmanagers[1] = cluster.spawn_taskmanager(None);
        stop(cluster);
    }
}

/// The job goes on, under another name, from a savepoint that becomes its own.
#[test]
fn a_jobmanager_that_dies_at_any_step_of_a_claim_loses_nothing() {
    for point in CLAIM {
        let mut cluster = running(None, None);
        let stopped = cluster.ask(&ControlRequest::Stop { target: None, drain: false });
        let Ok(ControlReply::Savepoint(savepoint)) = stopped else { panic!("{stopped:?}") };
        for process in cluster.taskmanagers.iter_mut().chain([&mut cluster.jobmanager]) {
            assert!(wait(process).is_some_and(|status| status.success()));
        }
        go_on_from(cluster, &savepoint.location, point);
    }
}

/// Another job goes on from there; its jobmanager dies at this point, and is started again.
fn go_on_from(mut cluster: Cluster, source: &str, point: &str) {
    cluster.setup.job = "counting-2";
    let flags = ["--restore", source, "--restore-mode", "claim"];
    cluster.jobmanager = cluster.spawn_armed_jobmanager(&cluster.address, &flags, Some(&armed(point, 1)));
    cluster.taskmanagers = (0..2).map(|_| cluster.spawn_taskmanager(None)).collect();
    let died = wait(&mut cluster.jobmanager).map(|status| status.code());
    assert_eq!(died, Some(None), "{point}: not killed\n{}", cluster.log());
    cluster.jobmanager = cluster.spawn_jobmanager(&cluster.address, &flags);
    cluster.finish();
}

/// All processes of a job die, and it goes on under another name, from its newest checkpoint.
#[test]
fn a_jobmanager_that_dies_while_its_job_inherits_a_checkpoint_loses_nothing() {
    for point in INHERIT {
        let mut cluster = running(None, None);
        for process in cluster.taskmanagers.iter_mut().chain([&mut cluster.jobmanager]) {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        let source = cluster.directory.path().join("checkpoints").join(cluster.setup.job);
        go_on_from(cluster, &source.to_string_lossy(), point);
    }
}

#[test]
fn a_taskmanager_that_dies_at_any_step_of_a_checkpoint_loses_nothing() {
    for point in TASKMANAGER_CHECKPOINT {
        kill_taskmanager_at(SETUP, point, SECOND, false);
    }
    for point in TASKMANAGER_OVERTAKING {
        kill_taskmanager_at(OVERTAKES, point, SECOND, false);
    }
}

#[test]
fn a_taskmanager_that_dies_at_any_step_of_a_restore_loses_nothing() {
    for point in TASKMANAGER_RESTORE {
        kill_taskmanager_at(SETUP, point, 1, true);
    }
}

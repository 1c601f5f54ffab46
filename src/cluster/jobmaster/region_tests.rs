//! Failover by region: the vertices of the tests' graph, without the exchange between them, are two.

use super::tests::{COUNT, Cluster, READ, uid};
use super::*;
use crate::checkpoint::{CheckpointKind, TerminalStatus, latest_completed};
use futures::executor::block_on;

/// Four slots in four taskmanagers: nothing is shared.
fn apart() -> Cluster {
    let mut c = Cluster::new(|config| {
        config.graph.edges.clear();
        config.graph.vertices[1].slot_sharing_group = "own".into();
        config.checkpoint.tolerable_failures = 0;
    });
    (1..=4).for_each(|worker| c.join(worker, 1));
    c.all_say(&SubtaskEvent::Ready);
    assert_eq!(c.master.status(), JobStatus::Running);
    c.sent.clear();
    c
}

fn deployed(c: &Cluster) -> Vec<(u32, u64, Vec<SubtaskId>)> {
    let find = |(worker, message): &(WorkerId, ToWorker)| match message {
        ToWorker::Deploy { attempt, subtasks, .. } => {
            Some((worker.0, attempt.0 & 0xFFFF, subtasks.iter().map(|s| s.subtask).collect()))
        }
        _ => None,
    };
    c.sent.iter().filter_map(find).collect()
}

fn canceled(c: &Cluster) -> Vec<SubtaskId> {
    let subtasks = |(_, message): &(WorkerId, ToWorker)| match message {
        ToWorker::Cancel { subtasks, .. } => subtasks.clone(),
        _ => Vec::new(),
    };
    c.sent.iter().flat_map(subtasks).collect()
}

fn splits(c: &Cluster, to: SubtaskId) -> Vec<u8> {
    let find = |(_, message): &(WorkerId, ToWorker)| match message {
        ToWorker::AssignSplit { subtask, split: Some(split), .. } if *subtask == to => Some(split[0]),
        _ => None,
    };
    c.sent.iter().filter_map(find).collect()
}

#[test]
fn a_region_restarts_and_the_other_goes_on() {
    let mut c = apart();
    let wants = SubtaskEvent::SplitRequest { operator: uid("read") };
    c.says(READ[0], wants.clone());
    c.at(1_000);
    c.checkpoint(1);
    c.says(READ[0], wants.clone());
    c.at(1_500);
    c.fail(COUNT[0], ErrorKind::RestartTask);
    assert_eq!((canceled(&c), c.master.status()), (vec![COUNT[1]], JobStatus::Restarting));
    c.says(COUNT[1], SubtaskEvent::Canceled);
    c.says(READ[0], wants.clone());
    c.at(2_500);
    assert_eq!(deployed(&c), [(3, 2, vec![COUNT[0]]), (4, 2, vec![COUNT[1]])]);
    assert_eq!(c.restored(), [1]);
    c.says(READ[0], wants.clone());
    c.says(COUNT[0], SubtaskEvent::Ready);
    assert_eq!(c.count(|m| matches!(m, ToWorker::Start { .. })), 0);
    c.says(COUNT[1], SubtaskEvent::Ready);
    let started: Vec<_> =
        c.sent.iter().filter(|(_, m)| matches!(m, ToWorker::Start { .. })).map(|(w, _)| w.0).collect();
    assert_eq!((started, c.master.status()), (vec![3, 4], JobStatus::Running));
    // The source was served all the time, and its enumerator did not go back.
    c.says(READ[0], wants);
    assert_eq!(splits(&c, READ[0]), [1, 2, 3, 4, 5]);
    // The next checkpoint is one of both.
    c.at(3_500);
    c.checkpoint(2);
    let newest = block_on(latest_completed(&c.store)).unwrap().unwrap();
    assert_eq!((newest.checkpoint.0, newest.enumerators[0].state.as_slice()), (2, &[5][..]));
    assert_eq!(c.master.counters().restarts, 1);
}

/// Such as too many failed checkpoints.
#[test]
fn a_failure_that_is_no_subtask_s_restarts_everything() {
    let mut c = apart();
    c.at(1_000);
    let reason = Failure { kind: ErrorKind::RestartTask, message: "disk full".into() };
    c.says(COUNT[0], SubtaskEvent::Decline { checkpoint: CheckpointId(1), reason });
    let mut all = canceled(&c);
    all.sort();
    assert_eq!((all, c.master.status()), ([READ, COUNT].concat(), JobStatus::Restarting));
}

#[test]
fn an_enumerator_goes_back_with_its_region_only() {
    let mut c = apart();
    let wants = SubtaskEvent::SplitRequest { operator: uid("read") };
    c.says(READ[0], wants.clone());
    c.at(1_000);
    c.checkpoint(1);
    c.says(READ[0], wants.clone());
    c.fail(READ[1], ErrorKind::RestartTask);
    assert_eq!(canceled(&c), [READ[0]]);
    c.says(READ[0], SubtaskEvent::Canceled);
    c.at(2_000);
    c.says(READ[0], SubtaskEvent::Ready);
    c.says(READ[1], SubtaskEvent::Ready);
    c.says(READ[0], wants);
    assert_eq!(splits(&c, READ[0]), [1, 2, 2]);
}

/// What the older attempt still says must count, what the failed one says must not.
#[test]
fn every_subtask_is_heard_under_the_attempt_it_was_deployed_with() {
    let mut c = apart();
    let first = c.master.attempt();
    c.fail(COUNT[0], ErrorKind::RestartTask);
    c.says(COUNT[1], SubtaskEvent::Canceled);
    c.at(1_000);
    c.says(COUNT[0], SubtaskEvent::Ready);
    let worker = c.master.placement[&COUNT[1]].worker;
    let stale = FromWorker { worker, attempt: first, subtask: COUNT[1], event: SubtaskEvent::Ready };
    c.event(JobEvent::Worker(stale));
    assert_eq!((c.master.status(), c.master.counters().stale_attempt), (JobStatus::Deploying, 1));
    c.says(COUNT[1], SubtaskEvent::Ready);
    assert_eq!(c.master.status(), JobStatus::Running);
    // One message for each attempt: what each taskmanager knows.
    c.sent.clear();
    c.at(2_000);
    c.checkpoint(1);
    let told = c.sent.iter().filter_map(|(worker, message)| match message {
        ToWorker::CheckpointCompleted { attempt, .. } => Some((worker.0, attempt.0 - first.0)),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [(1, 0), (2, 0), (3, 1), (4, 1)]);
}

#[test]
fn a_failure_of_the_other_region_widens_the_restart() {
    for moment in 0..4 {
        let mut c = apart();
        c.at(1_000);
        c.checkpoint(1);
        c.fail(COUNT[0], ErrorKind::RestartTask);
        if moment == 0 {
            c.fail(READ[0], ErrorKind::RestartTask);
        }
        c.says(COUNT[1], SubtaskEvent::Canceled);
        if moment == 1 {
            c.fail(READ[0], ErrorKind::RestartTask);
        }
        c.hold_store = moment == 2;
        c.at(2_000);
        if moment >= 2 {
            c.fail(READ[0], ErrorKind::RestartTask);
        }
        if moment == 3 {
            COUNT.iter().for_each(|subtask| c.says(*subtask, SubtaskEvent::Canceled));
        }
        assert_eq!(c.master.status(), JobStatus::Restarting, "moment {moment}");
        c.sent.clear();
        c.says(READ[1], SubtaskEvent::Canceled);
        c.hold_store = false;
        c.at(4_000);
        let all: BTreeSet<_> = deployed(&c).into_iter().flat_map(|(_, _, subtasks)| subtasks).collect();
        assert_eq!(all.len(), 4, "moment {moment}: {:?}", deployed(&c));
        c.all_say(&SubtaskEvent::Ready);
        assert_eq!(c.master.status(), JobStatus::Running, "moment {moment}");
    }
}

/// Who goes on would otherwise never hear whether the checkpoint is complete.
#[test]
fn while_the_outcome_of_a_commit_is_unknown_everything_restarts() {
    let mut c = apart();
    c.at(1_000);
    c.hold_store = true;
    c.checkpoint(1);
    c.fail(COUNT[0], ErrorKind::RestartTask);
    assert_eq!(canceled(&c).len(), 3);
}

#[test]
fn a_checkpoint_under_way_is_given_up_everywhere() {
    let mut c = apart();
    c.at(1_000);
    c.ack(READ[0], 1);
    c.fail(COUNT[0], ErrorKind::RestartTask);
    let aborted = c.sent.iter().filter_map(|(worker, message)| match message {
        ToWorker::CheckpointAborted { checkpoint, .. } => Some((worker.0, checkpoint.0)),
        _ => None,
    });
    assert_eq!(aborted.collect::<Vec<_>>(), [(1, 1), (2, 1), (4, 1)]);
}

#[test]
fn a_taskmanager_takes_every_region_with_it_that_it_had_a_part_of() {
    let mut c = Cluster::new(|config| config.graph.edges.clear()).running();
    c.event(JobEvent::WorkerLost { worker: WorkerId(1), why: "gone".into() });
    assert_eq!(canceled(&c), [READ[1], COUNT[1]], "they share its slot");

    let mut c = apart();
    c.join(5, 1);
    c.event(JobEvent::WorkerLost { worker: WorkerId(4), why: "gone".into() });
    assert_eq!(canceled(&c), [COUNT[0]]);
    c.says(COUNT[0], SubtaskEvent::Canceled);
    c.at(1_000);
    assert_eq!(deployed(&c), [(3, 2, vec![COUNT[0]]), (5, 2, vec![COUNT[1]])]);
}

#[test]
fn a_region_that_has_no_slots_waits_while_the_other_goes_on() {
    let mut c = apart();
    c.event(JobEvent::WorkerLost { worker: WorkerId(4), why: "gone".into() });
    c.says(COUNT[0], SubtaskEvent::Canceled);
    c.at(1_000);
    assert!(c.notices.contains(&JobNotice::WaitingForSlots { available: 3, needed: 4 }));
    c.says(READ[0], SubtaskEvent::SplitRequest { operator: uid("read") });
    assert_eq!(splits(&c, READ[0]), [1]);
    c.join(7, 1);
    assert_eq!(deployed(&c), [(3, 2, vec![COUNT[0]]), (7, 2, vec![COUNT[1]])]);
}

#[test]
fn what_has_drained_stays_drained_and_the_job_ends() {
    let mut c = apart();
    c.says(READ[0], SubtaskEvent::Drained);
    c.says(COUNT[0], SubtaskEvent::Drained);
    c.fail(COUNT[1], ErrorKind::RestartTask);
    c.says(COUNT[0], SubtaskEvent::Canceled);
    c.says(READ[1], SubtaskEvent::Drained);
    c.at(1_000);
    COUNT.iter().for_each(|subtask| c.says(*subtask, SubtaskEvent::Ready));
    c.says(COUNT[0], SubtaskEvent::Drained);
    c.at(1_001);
    assert_eq!(c.triggered(), []);
    c.says(COUNT[1], SubtaskEvent::Drained);
    c.at(1_002);
    assert_eq!(c.triggered(), [(1, CheckpointKind::Final)]);
    c.checkpoint(1);
    c.all_say(&SubtaskEvent::Finished);
    assert_eq!(c.status_file(), Some(TerminalStatus::Finished));
}

#[test]
fn the_end_of_a_job_ends_those_that_go_on_first() {
    // A person cancels while the region waits for its pause.
    let mut c = apart();
    c.fail(COUNT[0], ErrorKind::RestartTask);
    c.says(COUNT[1], SubtaskEvent::Canceled);
    c.event(JobEvent::Cancel);
    assert_eq!(canceled(&c), [COUNT[1], READ[0], READ[1]]);
    assert_eq!((c.master.status(), c.status_file()), (JobStatus::Canceling, None));
    READ.iter().for_each(|subtask| c.says(*subtask, SubtaskEvent::Canceled));
    assert_eq!(c.status_file(), Some(TerminalStatus::Canceled));
    // No restart is left.
    let mut c = apart();
    c.fail(COUNT[0], ErrorKind::Config);
    assert_eq!(canceled(&c).len(), 3);
    [COUNT[1], READ[0], READ[1]].iter().for_each(|subtask| c.says(*subtask, SubtaskEvent::Canceled));
    assert_eq!(c.status_file(), Some(TerminalStatus::Failed));
}

/// The taskmanager that does not obey is given up with all it has.
#[test]
fn a_subtask_that_does_not_stop_takes_the_other_regions_of_its_taskmanager_with_it() {
    let mut c = Cluster::new(|config| {
        config.graph.edges.clear();
        config.cancel_timeout_ms = 5_000;
    })
    .running();
    c.fail(COUNT[0], ErrorKind::RestartTask);
    assert_eq!(canceled(&c), [COUNT[1]]);
    c.at(5_000);
    assert_eq!(c.abandoned, [WorkerId(2)]);
    assert_eq!(canceled(&c), [COUNT[1], READ[0]]);
    c.says(READ[0], SubtaskEvent::Canceled);
    c.join(3, 1);
    c.at(10_000);
    c.all_say(&SubtaskEvent::Ready);
    assert_eq!(c.master.status(), JobStatus::Running);
}

#[test]
fn a_restart_at_another_parallelism_is_one_of_the_whole_job() {
    let mut c = Cluster::new(|config| {
        config.graph.edges.clear();
        config.graph.vertices[1].slot_sharing_group = "own".into();
        (config.min_parallelism, config.settle_ms) = (Some(1), 3_000);
    });
    (1..=4).for_each(|worker| c.join(worker, 1));
    c.all_say(&SubtaskEvent::Ready);
    c.sent.clear();
    c.event(JobEvent::WorkerLost { worker: WorkerId(4), why: "gone".into() });
    c.says(COUNT[0], SubtaskEvent::Canceled);
    c.at(1_000);
    assert_eq!(canceled(&c), [COUNT[0]]);
    c.at(4_000);
    assert_eq!(canceled(&c), [COUNT[0], READ[0], READ[1]], "the slots have settled");
    READ.iter().for_each(|subtask| c.says(*subtask, SubtaskEvent::Canceled));
    c.at(7_000);
    assert_eq!(deployed(&c), [(1, 2, vec![READ[0]]), (3, 2, vec![COUNT[0]])]);
}

/// Where local copies of the state are.
#[test]
fn subtasks_stay_with_their_taskmanagers_and_are_spread_again_when_there_are_more() {
    let mut c = Cluster::new(|_| {});
    (1..=2).for_each(|worker| c.join(worker, 1));
    let on = |c: &Cluster| READ.map(|subtask| c.master.placement[&subtask].worker.0);
    c.all_say(&SubtaskEvent::Ready);
    assert_eq!(on(&c), [1, 2]);
    c.event(JobEvent::WorkerLost { worker: WorkerId(1), why: "gone".into() });
    [READ[1], COUNT[1]].iter().for_each(|subtask| c.says(*subtask, SubtaskEvent::Canceled));
    c.join(3, 1);
    c.at(1_000);
    c.all_say(&SubtaskEvent::Ready);
    assert_eq!(on(&c), [3, 2], "not [2, 3]");
    // Both in one taskmanager for want of others; not when there are others again.
    c.event(JobEvent::WorkerLost { worker: WorkerId(2), why: "gone".into() });
    [READ[0], COUNT[0]].iter().for_each(|subtask| c.says(*subtask, SubtaskEvent::Canceled));
    c.event(JobEvent::WorkerLost { worker: WorkerId(3), why: "gone".into() });
    c.join(4, 2);
    c.at(2_000);
    c.all_say(&SubtaskEvent::Ready);
    assert_eq!(on(&c), [4, 4]);
    c.join(5, 2);
    c.fail(COUNT[0], ErrorKind::RestartTask);
    c.canceled_but(COUNT[0]);
    c.at(3_000);
    assert_eq!(on(&c), [4, 5]);
}

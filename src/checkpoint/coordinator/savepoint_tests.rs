//! Savepoints in the coordinator: what is sent, what is answered, what the job goes back to.

use super::tests::{ack_all, complete, due, failure, running, trigger};
use super::*;
use crate::checkpoint::SavepointMode;

fn ask(c: &mut Coordinator, id: u64, mode: SavepointMode) {
    assert_eq!(c.request_savepoint(SavepointRequest { id, target: "/t/".into(), mode }), []);
}

fn failed_requests(actions: &[CheckpointAction]) -> Vec<u64> {
    let failed = |a: &CheckpointAction| match a {
        CheckpointAction::SavepointFailed { request, .. } => Some(*request),
        _ => None,
    };
    actions.iter().filter_map(failed).collect()
}

#[test]
fn a_savepoint_goes_into_its_own_directory_and_is_no_checkpoint_of_the_job() {
    let mut c = running(CheckpointConfig { retained: 1, ..CheckpointConfig::every_ms(100) });
    let first = trigger(&mut c, 100).unwrap();
    complete(&mut c, first, 110);
    ask(&mut c, 7, SavepointMode::Continue);
    assert_eq!(c.due(111), due(CheckpointKind::Savepoint));
    let barrier = c.trigger(CheckpointKind::Savepoint, Vec::new(), || "1-ab".into(), 111);
    assert_eq!(barrier.location.as_deref(), Some("/t/savepoint-j-1-ab"));
    assert_eq!(c.due(10_000), None, "it runs alone");
    let sent = ack_all(&mut c, barrier.checkpoint, 120);
    assert!(matches!(&sent[..], [CheckpointAction::WriteSavepoint(m)]
        if m.location.as_deref() == Some("/t/savepoint-j-1-ab")));
    let done = c.on_committed(130);
    assert!(
        matches!(&done[..], [CheckpointAction::SavepointDone { request: 7, savepoint }, CheckpointAction::Completed(d)]
            if savepoint.location == "/t/savepoint-j-1-ab" && d.kind == CheckpointKind::Savepoint),
        "neither swept nor kept: {done:?}"
    );
    assert_eq!(c.newest_completed(), Some(first));
    // The next commit takes the place in the log right after the first.
    let next = trigger(&mut c, 300).unwrap();
    assert!(
        matches!(&ack_all(&mut c, next, 310)[..], [CheckpointAction::Commit(commit)] if commit.record == 3)
    );
}

#[test]
fn a_failed_savepoint_is_answered_discarded_and_does_not_count_as_a_failed_checkpoint() {
    let mut c = running(CheckpointConfig { tolerable_failures: 0, ..CheckpointConfig::every_ms(100) });
    for mode in [SavepointMode::Continue, SavepointMode::Stop] {
        ask(&mut c, 1, mode);
        let id = trigger(&mut c, 10).unwrap();
        let actions = c.on_decline(id, &failure(), 20);
        assert!(
            matches!(&actions[..], [
                CheckpointAction::Abort { .. },
                CheckpointAction::Discard { checkpoint, .. },
                CheckpointAction::SavepointFailed { request: 1, .. },
            ] if *checkpoint == id),
            "{actions:?}"
        );
    }
}

#[test]
fn savepoints_go_before_final_and_periodic_checkpoints_one_after_the_other() {
    let mut c = running(CheckpointConfig::every_ms(100));
    let periodic = trigger(&mut c, 100).unwrap();
    c.request_final();
    ask(&mut c, 1, SavepointMode::Continue);
    ask(&mut c, 2, SavepointMode::Continue);
    assert_eq!(c.due(500), None);
    complete(&mut c, periodic, 500);
    for request in [1, 2] {
        let id = trigger(&mut c, 500).unwrap();
        assert!(
            complete(&mut c, id, 510)
                .iter()
                .any(|a| matches!(a, CheckpointAction::SavepointDone { request: r, .. } if *r == request))
        );
    }
    assert_eq!(c.due(5_000), due(CheckpointKind::Final));
}

#[test]
fn a_stop_is_committed_as_the_newest_checkpoint_of_the_job() {
    let mut c = running(CheckpointConfig::every_ms(100));
    ask(&mut c, 1, SavepointMode::Stop);
    assert_eq!(c.due(0), due(CheckpointKind::Stop));
    let id = trigger(&mut c, 0).unwrap();
    let sent = ack_all(&mut c, id, 10);
    assert!(matches!(&sent[..], [CheckpointAction::Commit(commit)]
        if commit.manifest.kind == CheckpointKind::Stop && commit.manifest.location.is_some()));
    let done = c.on_committed(20);
    assert!(matches!(
        &done[..],
        [CheckpointAction::SavepointDone { .. }, CheckpointAction::Completed(_), ..]
    ));
    assert_eq!(c.newest_completed(), Some(id));
}

#[test]
fn a_drain_takes_nothing_until_all_have_drained_and_is_tried_again() {
    let mut c = running(CheckpointConfig { tolerable_failures: 1, ..CheckpointConfig::every_ms(100) });
    let periodic = trigger(&mut c, 100).unwrap();
    ask(&mut c, 1, SavepointMode::Drain);
    assert_eq!(c.due(150), None, "what is under way comes first");
    complete(&mut c, periodic, 160);
    assert_eq!(c.due(160), Some(Due::Drain));
    c.drain_sent();
    assert_eq!((c.due(100_000), c.next_deadline_ms()), (None, None), "no checkpoint of a half-drained job");
    c.request_final();
    assert_eq!(c.due(100_000), due(CheckpointKind::Drain));
    let id = trigger(&mut c, 100_000).unwrap();
    let declined = c.on_decline(id, &failure(), 100_010);
    assert_eq!(failed_requests(&declined), [0u64; 0], "it cannot be taken back: {declined:?}");
    assert_eq!(c.due(100_010 + FINAL_RETRY_MS), due(CheckpointKind::Drain));
    let id = trigger(&mut c, 200_000).unwrap();
    let declined = c.on_decline(id, &failure(), 200_010);
    assert!(declined.iter().any(|a| matches!(a, CheckpointAction::Fail(_))), "only a restart undoes it");
    // After the restart the sources are told again.
    c.stop(0);
    c.start(Attempt(2), 300_000);
    assert_eq!(c.due(300_000), Some(Due::Drain));
}

#[test]
fn a_stop_whose_commit_had_no_answer_is_decided_by_the_store() {
    for happened in [true, false] {
        let mut c = running(CheckpointConfig::every_ms(100));
        ask(&mut c, 1, SavepointMode::Stop);
        let id = trigger(&mut c, 0).unwrap();
        let sent = ack_all(&mut c, id, 10);
        let CheckpointAction::Commit(commit) = &sent[0] else { panic!("{sent:?}") };
        let stopped = c.stop(0);
        assert_eq!((stopped.checkpoints, stopped.actions), (vec![id], vec![]), "nobody knows yet");
        let latest = happened.then(|| commit.manifest.clone());
        let decided = c.load(&Loaded { record: 3, highest: id, latest, ..Loaded::default() });
        match &decided[..] {
            [CheckpointAction::SavepointDone { request: 1, .. }] => assert!(happened),
            [CheckpointAction::SavepointFailed { request: 1, .. }] => assert!(!happened),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_end_of_the_attempt_loses_what_is_under_way_and_the_end_of_the_job_the_rest() {
    let mut c = running(CheckpointConfig::every_ms(100));
    ask(&mut c, 1, SavepointMode::Continue);
    ask(&mut c, 2, SavepointMode::Stop);
    trigger(&mut c, 0).unwrap();
    let stopped = c.stop(0);
    assert_eq!(failed_requests(&stopped.actions), [1]);
    assert!(stopped.actions.iter().any(|a| matches!(a, CheckpointAction::Discard { .. })));
    c.start(Attempt(2), 100);
    assert_eq!(c.due(100), due(CheckpointKind::Stop), "the other one waits");
    assert_eq!(failed_requests(&c.refuse_savepoints()), [2]);
    assert_eq!(c.due(100), None);
}

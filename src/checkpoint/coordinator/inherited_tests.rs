//! A checkpoint of another job that becomes the job's own first one.

use super::shared_tests::{ack_with, base_of, complete_with, file};
use super::tests::{failure, graph};
use super::*;
use crate::checkpoint::{Inherit, OperatorHandles, OperatorState, RestoreFrom};
use crate::id::OperatorUid;

/// Checkpoint 7 of another job: one file of `count`, which the graph has, and one of an operator that it has not.
fn restored() -> RestoreFrom {
    let operator = |uid: &str, files: Vec<StateHandle>| OperatorState {
        uid: OperatorUid(uid.into()),
        name: uid.into(),
        parallelism: 1,
        max_parallelism: 128,
        subtasks: vec![OperatorHandles { operator: OperatorUid(uid.into()), states: Vec::new(), files }],
    };
    let manifest = Manifest {
        job: JobId::from("job-0".to_owned()),
        operators: vec![
            operator("count", vec![file(CheckpointId(4), "a"), file(CheckpointId(7), "b")]),
            operator("gone", vec![file(CheckpointId(7), "c")]),
        ],
        ..crate::checkpoint::store_tests::manifest(7, 3, "theirs")
    };
    RestoreFrom { manifest, base: "/elsewhere/job-0".into(), shares_store: true }
}

fn coordinator() -> Coordinator {
    let config = CheckpointConfig::every_ms(100);
    Coordinator::new(config, graph(2), JobId::from("job-1".to_owned()), LeaderEpoch(1)).unwrap()
}

fn started(c: &mut Coordinator, attempt: u64, from: &RestoreFrom) -> Option<CheckpointId> {
    c.load(&Loaded { record: 1, ..Loaded::default() });
    let reserved = c.reserve_inherited(from);
    c.start(Attempt(attempt), 0);
    reserved
}

fn copying(c: &mut Coordinator, from: &RestoreFrom) -> Inherit {
    match c.inherit(from, || "mine".into(), 10) {
        Some(CheckpointAction::Inherit(request)) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn is_the_first_checkpoint_and_the_next_shares_its_files() {
    let (mut c, from) = (coordinator(), restored());
    assert_eq!(started(&mut c, 1, &from), Some(CheckpointId(8)), "above the number that it had");
    let request = copying(&mut c, &from);
    assert_eq!(request.from, from.base);
    assert_eq!(
        request.paths.iter().collect::<Vec<_>>(),
        ["chk-4/a", "chk-7/b"],
        "what is left behind is not copied"
    );
    assert_eq!(c.due(1_000), None, "it would have no base");
    let Some(CheckpointAction::Commit(commit)) = c.on_inherited(20) else { panic!("no commit") };
    assert_eq!((commit.record, &commit.retained[..]), (2, &[CheckpointId(8)][..]));
    let written_by = Some(JobId::from("job-0".to_owned()));
    assert!(commit.manifest.files().all(|file| file.written_by == written_by));
    assert_eq!((commit.manifest.job.as_str(), commit.manifest.operators.len()), ("job-1", 1));
    assert_eq!((commit.manifest.uploaded_bytes(), commit.manifest.state_bytes()), (0, 20));
    Manifest::decode(&commit.manifest.encode().unwrap(), "m").unwrap();
    assert_eq!(c.due(1_000), None, "its record is not known to be durable");
    // Subtasks are told nothing: what sinks have prepared since is not part of it.
    assert!(!c.on_committed(30).iter().any(|a| matches!(a, CheckpointAction::Completed(_))));
    assert_eq!(c.newest_completed(), Some(CheckpointId(8)));
    assert!(c.due(1_000).is_some());

    let (nine, base) = base_of(&mut c, CheckpointKind::Periodic, 100);
    assert_eq!((nine, base), (CheckpointId(9), Some(CheckpointId(8))));
    // As a subtask reports them: it does not know who wrote what.
    let files = [file(CheckpointId(4), "a"), file(nine, "d")];
    let acks = ack_with(&mut c, nine, &files, 110);
    let Some(CheckpointAction::Commit(commit)) = acks.last() else { panic!("{acks:?}") };
    let writers: Vec<_> = commit.manifest.files().map(|file| file.written_by.clone()).collect();
    assert_eq!(writers, [written_by.clone(), None]);
    // And so through all that follow.
    c.on_committed(120);
    let (ten, _) = base_of(&mut c, CheckpointKind::Periodic, 200);
    let acks = ack_with(&mut c, ten, &[file(CheckpointId(4), "a")], 210);
    let Some(CheckpointAction::Commit(commit)) = acks.last() else { panic!("{acks:?}") };
    assert!(commit.manifest.files().all(|file| file.written_by == written_by));
}

#[test]
fn a_copy_that_fails_leaves_a_first_checkpoint_without_base() {
    let (mut c, from) = (coordinator(), restored());
    started(&mut c, 1, &from);
    copying(&mut c, &from);
    c.on_inherit_failed(&failure(), 20);
    assert_eq!(c.history().entries().last().unwrap().checkpoint, CheckpointId(8));
    assert_eq!(c.on_inherited(25), None, "it was given up");
    let (nine, base) = base_of(&mut c, CheckpointKind::Periodic, 100);
    assert_eq!((nine, base), (CheckpointId(9), None));
    complete_with(&mut c, nine, &[file(nine, "all")], 110);
}

#[test]
fn a_commit_that_is_refused_leaves_a_first_checkpoint_without_base() {
    let (mut c, from) = (coordinator(), restored());
    started(&mut c, 1, &from);
    copying(&mut c, &from);
    c.on_inherited(20);
    c.on_commit_refused(&failure(), 30);
    assert_eq!(base_of(&mut c, CheckpointKind::Periodic, 100), (CheckpointId(9), None));
}

#[test]
fn each_attempt_begins_anew_under_another_number() {
    let (mut c, from) = (coordinator(), restored());
    started(&mut c, 1, &from);
    copying(&mut c, &from);
    c.stop(20);
    assert_eq!(c.on_inherited(30), None, "the copy of an attempt that has ended");
    assert_eq!(started(&mut c, 2, &from), Some(CheckpointId(9)));
    copying(&mut c, &from);
    assert!(c.on_inherited(40).is_some());
    // Whether the commit happened is found out by the next read.
    c.stop(50);
    let latest = Some(crate::checkpoint::store_tests::manifest(9, 1, "mine"));
    c.load(&Loaded { record: 2, latest, ..Loaded::default() });
    assert_eq!(c.reserve_inherited(&from), None, "it is the job's own now");
    c.start(Attempt(3), 60);
    assert_eq!(c.inherit(&from, || "again".into(), 60), None);
}

#[test]
fn what_lies_in_another_store_or_is_a_savepoint_is_not_inherited() {
    let savepoint = Manifest { kind: CheckpointKind::Savepoint, ..restored().manifest };
    let far = RestoreFrom { shares_store: false, ..restored() };
    for from in [far, RestoreFrom { manifest: savepoint, ..restored() }] {
        let mut c = coordinator();
        assert_eq!(started(&mut c, 1, &from), None);
        assert_eq!(c.inherit(&from, || "n".into(), 10), None);
        assert_eq!(base_of(&mut c, CheckpointKind::Periodic, 100), (CheckpointId(8), None));
    }
}

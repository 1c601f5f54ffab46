//! What fsck finds beside damage to checkpoints: control files, what nothing names, and what never became complete.

use super::savepoint_place::announce;
use super::store_tests::{commit, manifest};
use super::*;
use crate::error::ErrorKind;
use crate::id::{CheckpointId, JobId, LeaderEpoch};
use futures::executor::block_on;
use std::path::Path;

const NOW: FsckOptions = FsckOptions { now_ms: u64::MAX, grace_ms: 0 };

fn none() -> CrashPoints {
    CrashPoints::none()
}

fn run(store: &JobStore, request: StoreRequest) -> StoreReply {
    block_on(execute(store, &none(), request))
}

/// A job with one checkpoint, in a local directory.
fn job(directory: &Path) -> JobStore {
    let root = CheckpointStore::open(directory.to_str().unwrap(), &[]).unwrap();
    let store = root.job(&JobId::from("wordcount-1".to_owned())).unwrap();
    block_on(claim_leadership(&store, &none(), "a")).unwrap();
    let load = StoreRequest::LoadLatest { leader_epoch: LeaderEpoch(1), nonce: "l1".into(), rescaled: None };
    assert!(matches!(run(&store, load), StoreReply::Loaded(_)));
    complete(&store, 1, 2);
    store
}

fn complete(store: &JobStore, id: u64, record: u64) {
    let nonce = format!("c{id}");
    for file in manifest(id, 1, &nonce).files() {
        block_on(store.put_file(&file.path, "abc".into())).unwrap();
    }
    assert_eq!(run(store, commit(id, 1, &nonce, record)), StoreReply::Committed);
}

fn sweep(store: &JobStore, id: u64, record: u64) {
    let keep_files = manifest(id, 1, &format!("c{id}")).file_paths().map(str::to_owned).collect();
    let (leader_epoch, newest) = (LeaderEpoch(1), CheckpointId(id));
    let sweep = Sweep { leader_epoch, newest, record, keep: [newest].into(), keep_files, release: None };
    assert!(matches!(run(store, StoreRequest::Sweep(sweep)), StoreReply::Deleted(_)));
}

fn check(store: &JobStore) -> DirectoryCheck {
    block_on(check_directory(store, NOW)).unwrap()
}

/// What is wrong besides that the state file of the test is no state file.
fn problems(store: &JobStore) -> Vec<String> {
    let problems = check(store).problems.into_iter().map(|problem| problem.what);
    problems.filter(|what| !what.contains("chk-1/count-0-c1")).collect()
}

fn orphans(store: &JobStore) -> Vec<String> {
    check(store).orphans.unwrap().into_iter().map(|o| o.path).collect()
}

/// A file of a savepoint, and the savepoint itself if it is complete.
fn savepoint(store: &JobStore, id: u64, complete: bool) -> JobStore {
    let target = store.shown("").replace("/wordcount-1/", "/savepoints");
    let location = format!("{target}/savepoint-{id}");
    block_on(announce(store, CheckpointId(id), &location)).unwrap();
    std::fs::create_dir_all(&location).unwrap();
    let directory = store.for_base(&location, &[]).unwrap();
    let nonce = format!("s{id}");
    let kind = CheckpointKind::Savepoint;
    let manifest = Manifest { kind, location: Some(location), ..manifest(id, 1, &nonce) };
    for file in manifest.files() {
        block_on(directory.put_file(&file.path, "abc".into())).unwrap();
    }
    if complete {
        let request = StoreRequest::WriteSavepoint(Box::new(manifest));
        assert_eq!(run(store, request), StoreReply::SavepointWritten);
    }
    directory
}

#[test]
fn every_control_file_is_opened_and_one_that_is_missing_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = job(directory.path());
    savepoint(&store, 3, true);
    complete(&store, 2, 3);
    let claimed = r#"{"job":"other","by":"/elsewhere/other"}"#;
    let claimed: serde_json::Value = serde_json::from_str(claimed).unwrap();
    block_on(store.damage("claimed.json", envelope::seal("tidegate-claimed", &claimed).unwrap())).unwrap();
    let write = StoreRequest::WriteHistory { leader_epoch: LeaderEpoch(1), history: Default::default() };
    assert_eq!(run(&store, write), StoreReply::HistoryWritten);
    block_on(claim_leadership(&store, &none(), "b")).unwrap();
    block_on(claim_leadership(&store, &none(), "c")).unwrap();
    assert_eq!(check(&store).problems.len(), 1, "only the state file: {:?}", check(&store).problems);
    let files = [
        ("leader/epoch-1", true),
        ("leader/epoch-2", true),
        ("epochs/epoch-1.record", true),
        ("epochs/epoch-2.record", true),
        ("claimed.json", false),
        ("history.json", false),
        ("chk-3/savepoint.json", false),
    ];
    let place = directory.path().join("wordcount-1");
    for (file, must_be_there) in files {
        let whole = std::fs::read(place.join(file)).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 4;
        for damaged in [&flipped[..], &whole[..whole.len() / 2], b""] {
            std::fs::write(place.join(file), damaged).unwrap();
            let found = check(&store).problems;
            assert!(found.iter().any(|problem| problem.what.contains(file)), "{file}: {found:?}");
        }
        std::fs::remove_file(place.join(file)).unwrap();
        let found = check(&store).problems;
        assert_eq!(
            found.iter().any(|problem| problem.what.contains(file)),
            must_be_there,
            "{file}: {found:?}"
        );
        std::fs::write(place.join(file), whole).unwrap();
    }
    // Another one of its kind.
    for (file, other) in
        [("leader/epoch-1", "leader/epoch-2"), ("epochs/epoch-1.record", "epochs/epoch-2.record")]
    {
        let whole = std::fs::read(place.join(file)).unwrap();
        std::fs::copy(place.join(other), place.join(file)).unwrap();
        let found = check(&store).problems;
        assert!(found.iter().any(|problem| problem.what.contains(file)), "{file}: {found:?}");
        std::fs::write(place.join(file), whole).unwrap();
    }
}

/// A local store hides what it has begun to write.
#[test]
fn what_was_being_written_when_a_process_died_is_found_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let store = job(directory.path());
    let place = directory.path().join("wordcount-1");
    let leave = |path: &str| {
        std::fs::create_dir_all(place.join(path).parent().unwrap()).unwrap();
        std::fs::write(place.join(path), "half").unwrap();
    };
    let staged = ["chk-7/1.0-1-0-1.keyed#1", "epochs/epoch-3.record#2", "status.json#1"];
    staged.iter().for_each(|path| leave(path));
    leave("chk-1/notes#x");
    assert_eq!(orphans(&store), ["chk-1/notes#x", staged[0], staged[1], staged[2]]);
    std::fs::remove_file(place.join("chk-1/notes#x")).unwrap();
    // With the checkpoint it was to be a part of.
    leave("chk-1/1.0-1-0-1.keyed#1");
    complete(&store, 2, 3);
    sweep(&store, 2, 3);
    assert!(!place.join("chk-1/1.0-1-0-1.keyed#1").exists());
    assert_eq!(block_on(store.take_back(&["../x#1".into(), "status.json#9".into()])).unwrap(), 0);
    std::fs::write(directory.path().join("probe-12-0"), "").unwrap();
    std::fs::write(directory.path().join("notes"), "").unwrap();
    let root = CheckpointStore::open(directory.path().to_str().unwrap(), &[]).unwrap();
    assert_eq!(block_on(delete_probes(&root, NOW)).unwrap()[0].path, "probe-12-0");
    assert!(!block_on(check_root(&root, NOW)).unwrap().has_leavings());
    assert!(directory.path().join("notes").exists());
}

#[test]
fn a_savepoint_that_never_became_complete_is_found_and_goes_and_a_complete_one_stays() {
    let directory = tempfile::tempdir().unwrap();
    let store = job(directory.path());
    let (whole, half, later) =
        (savepoint(&store, 2, true), savepoint(&store, 3, false), savepoint(&store, 5, false));
    let found = |store: &JobStore| -> Vec<u64> {
        check(store).half_written.into_iter().map(|half| half.checkpoint.0).collect()
    };
    assert_eq!((found(&store), problems(&store)), (vec![3, 5], vec![]));
    let young = FsckOptions { now_ms: 0, grace_ms: 1 };
    assert!(block_on(check_directory(&store, young)).unwrap().half_written.is_empty());
    // With the checkpoints of its age.
    complete(&store, 4, 3);
    sweep(&store, 4, 3);
    assert_eq!(found(&store), [5]);
    assert_eq!(block_on(half.list("chk-3")).unwrap(), [""; 0]);
    assert_eq!(block_on(whole.list("chk-2")).unwrap().len(), 1);
    // Or by fsck.
    block_on(delete_orphans(&store, "fsck", NOW)).unwrap();
    assert_eq!(found(&store), [0; 0]);
    assert_eq!(block_on(later.list("chk-5")).unwrap(), [""; 0]);
    assert!(block_on(whole.savepoint()).is_ok());
}

/// The number of a savepoint is given once.
#[test]
fn two_savepoints_do_not_share_a_number() {
    let directory = tempfile::tempdir().unwrap();
    let store = job(directory.path());
    block_on(announce(&store, CheckpointId(3), "/a")).unwrap();
    block_on(announce(&store, CheckpointId(3), "/a")).unwrap();
    let e = block_on(announce(&store, CheckpointId(3), "/b")).unwrap_err();
    assert!(e.kind() == ErrorKind::RestartJob && e.to_string().contains("chk-3/savepoint.json"), "{e}");
}

/// A leader hangs before it completes a savepoint; its successor takes what is there for what a dead one has left.
#[test]
fn a_savepoint_whose_files_a_successor_has_deleted_is_none() {
    for first in [1, 2] {
        let directory = tempfile::tempdir().unwrap();
        let store = job(directory.path());
        let place = savepoint(&store, 3, false);
        let kind = CheckpointKind::Savepoint;
        let manifest = Manifest { kind, location: Some(place.location()), ..manifest(3, 1, "s3") };
        let crash = CrashPoints::thawing();
        let point = if first == 1 { "savepoint.before_manifest" } else { "savepoint.stored" };
        crash.arm(point, 1, CrashAction::Hang).unwrap();
        let mut frozen = Box::pin(execute(&store, &crash, StoreRequest::WriteSavepoint(Box::new(manifest))));
        let waker = futures::task::noop_waker();
        assert!(frozen.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
        block_on(claim_leadership(&store, &none(), "b")).unwrap();
        let discard = StoreRequest::DiscardSavepoint {
            leader_epoch: LeaderEpoch(2),
            checkpoint: CheckpointId(3),
            location: place.location(),
        };
        assert!(matches!(run(&store, discard), StoreReply::Deleted(_)));
        crash.thaw();
        let thawed = block_on(frozen);
        assert!(matches!(&thawed, StoreReply::Failed(f) if f.kind == ErrorKind::Fenced), "{thawed:?}");
        // Complete in time it stays, though nobody is told.
        assert_eq!(block_on(place.get("manifest.json")).unwrap().is_some(), first == 2);
        assert_eq!(block_on(place.list("chk-3")).unwrap().len(), usize::from(first == 2));
    }
}

/// A job that deletes its checkpoints when it ends is killed before it has done so, or its files lie about for another reason.
#[test]
fn what_is_left_of_a_job_that_has_deleted_its_checkpoints_goes() {
    let directory = tempfile::tempdir().unwrap();
    let store = job(directory.path());
    let end = TerminalRecord {
        job: store.id(),
        leader_epoch: LeaderEpoch(1),
        status: TerminalStatus::Finished,
        failure: None,
        last_checkpoint: Some(CheckpointId(1)),
        savepoint: None,
        keeps_checkpoints: false,
    };
    assert_eq!(run(&store, StoreRequest::WriteStatus(end)), StoreReply::StatusWritten);
    assert_eq!(block_on(delete_orphans(&store, "first", NOW)).unwrap().len(), 2);
    block_on(store.put_file("chk-2/late", "abc".into())).unwrap();
    assert_eq!(block_on(delete_orphans(&store, "second", NOW)).unwrap().len(), 1);
    assert_eq!(check(&store).problems, []);
    assert!(block_on(read_status(&store)).unwrap().is_some_and(|ended| !ended.keeps_checkpoints));
}

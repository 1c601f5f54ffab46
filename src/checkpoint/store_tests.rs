//! The epoch protocol over a store that fails, with two leaders interleaved.

use super::epoch::{commit_checkpoint, load_latest};
use super::fault_store::{Fault, FaultStore, Operation};
use super::*;
use crate::error::ErrorKind;
use crate::id::{Attempt, CheckpointId, JobId, LeaderEpoch, OperatorUid};
use futures::executor::block_on;
use object_store::memory::InMemory;
use std::sync::Arc;

fn job() -> JobId {
    JobId::from("wordcount-1".to_owned())
}

fn faulty() -> (FaultStore, JobStore) {
    let faults = FaultStore::new(Arc::new(InMemory::new()));
    let store = CheckpointStore::over(Arc::new(faults.clone()), "", "memory://local").job(&job()).unwrap();
    (faults, store)
}

pub(super) fn manifest(id: u64, leader: u64, nonce: &str) -> Manifest {
    let operator = OperatorUid("count".into());
    let file = StateHandle {
        kind: StateFileKind::Keyed,
        id: format!("count-0-{nonce}"),
        path: format!("chk-{id}/count-0-{nonce}"),
        length: 3,
        crc32: crc32fast::hash(b"abc"),
        checkpoint: CheckpointId(id),
        written_by: None,
    };
    Manifest {
        format: MANIFEST_FORMAT,
        job: job(),
        checkpoint: CheckpointId(id),
        leader_epoch: LeaderEpoch(leader),
        attempt: Attempt(1),
        nonce: nonce.into(),
        kind: CheckpointKind::Periodic,
        triggered_at_ms: 1,
        completed_at_ms: 2,
        operators: vec![OperatorState {
            uid: operator.clone(),
            name: "count".into(),
            parallelism: 1,
            max_parallelism: 128,
            subtasks: vec![OperatorHandles { operator, states: Vec::new(), files: vec![file] }],
        }],
        enumerators: vec![EnumeratorState { operator: OperatorUid("read".into()), state: vec![0, 0xab] }],
        subtasks: Vec::new(),
        location: None,
    }
}

pub(super) fn commit(id: u64, leader: u64, nonce: &str, record: u64) -> StoreRequest {
    let manifest = manifest(id, leader, nonce);
    StoreRequest::Commit(Box::new(Commit {
        retained: vec![manifest.checkpoint],
        manifest,
        record,
        rescaled: None,
    }))
}

fn run(store: &JobStore, request: StoreRequest) -> StoreReply {
    block_on(execute(store, &CrashPoints::none(), request))
}

fn load(store: &JobStore, leader: u64, nonce: &str) -> StoreReply {
    run(
        store,
        StoreRequest::LoadLatest { leader_epoch: LeaderEpoch(leader), nonce: nonce.into(), rescaled: None },
    )
}

fn loaded(reply: StoreReply) -> Loaded {
    match reply {
        StoreReply::Loaded(l) => *l,
        other => panic!("{other:?}"),
    }
}

fn kind(reply: &StoreReply) -> Option<ErrorKind> {
    match reply {
        StoreReply::Failed(f) => Some(f.kind),
        _ => None,
    }
}

fn claim(store: &JobStore, nonce: &str) -> crate::error::Result<LeaderEpoch> {
    block_on(claim_leadership(store, &CrashPoints::none(), nonce))
}

fn newest(store: &JobStore) -> Option<CheckpointId> {
    block_on(latest_completed(store)).unwrap().map(|m| m.checkpoint)
}

#[test]
fn a_manifest_comes_back_and_damage_names_the_file() {
    let m = manifest(7, 1, "n");
    let bytes = m.encode().unwrap();
    assert_eq!(Manifest::decode(&bytes, "p").unwrap(), m);
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.starts_with("tidegate-manifest 1 "), "{text}");
    assert!(text.contains("\"00ab\""));
    let mut bad = m;
    bad.operators[0].subtasks[0].files[0].path = "../other/file".into();
    let e = Manifest::decode(&bad.encode().unwrap(), "the/path").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Data);
    assert!(e.to_string().starts_with("the/path: operator count"), "{e}");
    bad.operators[0].subtasks.clear();
    assert!(Manifest::decode(&bad.encode().unwrap(), "p").is_err());
}

#[test]
fn commits_follow_one_another_and_a_restart_finds_the_newest() {
    let (_, store) = faulty();
    let leader = claim(&store, "a").unwrap().0;
    let first = loaded(load(&store, leader, "l1"));
    assert_eq!((first.latest, first.record), (None, 1));
    assert_eq!(run(&store, commit(1, leader, "c1", 2)), StoreReply::Committed);
    assert_eq!(run(&store, commit(2, leader, "c2", 3)), StoreReply::Committed);
    // Repeating the last one is no harm.
    assert_eq!(run(&store, commit(2, leader, "c2", 3)), StoreReply::Committed);
    let again = loaded(load(&store, leader, "l2"));
    assert_eq!(
        (again.latest.unwrap().checkpoint, again.record, again.highest),
        (CheckpointId(2), 4, CheckpointId(2))
    );
}

#[test]
fn of_two_leaders_one_wins_whatever_the_order() {
    let (_, store) = faulty();
    assert_eq!(claim(&store, "a").unwrap(), LeaderEpoch(1));
    loaded(load(&store, 1, "l1"));
    assert_eq!(run(&store, commit(1, 1, "c1", 2)), StoreReply::Committed);
    assert_eq!(claim(&store, "b").unwrap(), LeaderEpoch(2));
    // The old leader is told at once, even before the new one has read anything.
    assert_eq!(kind(&run(&store, commit(2, 1, "c2", 3))), Some(ErrorKind::Fenced));
    assert_eq!(loaded(load(&store, 2, "l2")).latest.unwrap().checkpoint, CheckpointId(1));
    assert_eq!(kind(&load(&store, 1, "l3")), Some(ErrorKind::Fenced));
    assert_eq!(newest(&store), Some(CheckpointId(1)));
}

/// The old leader is frozen between each pair of its steps while a new one takes over.
#[test]
fn a_leader_frozen_inside_a_commit_never_overtakes_its_successor() {
    for point in
        ["manifest.before_put", "manifest.applied_no_reply", "record.before_put", "record.applied_no_reply"]
    {
        let (_, store) = faulty();
        claim(&store, "a").unwrap();
        loaded(load(&store, 1, "l1"));
        assert_eq!(run(&store, commit(1, 1, "c1", 2)), StoreReply::Committed);
        // The freeze: killed at the point, then the rest of the commit is repeated later.
        let crash = CrashPoints::armable();
        crash.arm(point, 1, CrashAction::Kill).unwrap();
        let frozen = commit(2, 1, "c2", 3);
        assert!(kind(&block_on(execute(&store, &crash, frozen.clone()))).is_some());
        assert_eq!(crash.killed().as_deref(), Some(point));
        claim(&store, "b").unwrap();
        let taken_over = loaded(load(&store, 2, "l2"));
        let thawed = run(&store, frozen);
        // If the new leader did not see it, it must not happen any more.
        assert_eq!(kind(&thawed), Some(ErrorKind::Fenced), "{point}");
        assert_eq!(newest(&store), taken_over.latest.map(|m| m.checkpoint), "{point}");
        let seen = if point == "record.applied_no_reply" { 2 } else { 1 };
        assert_eq!(newest(&store), Some(CheckpointId(seen)), "{point}");
    }
}

/// The zombie writes its record after the leadership check, in the gap before the successor takes its place.
#[test]
fn the_place_in_the_log_decides_not_the_check() {
    let (_, store) = faulty();
    claim(&store, "a").unwrap();
    loaded(load(&store, 1, "l1"));
    let early = match commit(1, 1, "c1", 2) {
        StoreRequest::Commit(c) => *c,
        _ => unreachable!(),
    };
    let crash = CrashPoints::armable();
    crash.arm("record.applied_no_reply", 1, CrashAction::Error).unwrap();
    assert!(block_on(commit_checkpoint(&store, &crash, &early)).is_err());
    claim(&store, "b").unwrap();
    let l = block_on(load_latest(&store, &CrashPoints::none(), LeaderEpoch(2), "l2", None)).unwrap();
    assert_eq!((l.latest.unwrap().checkpoint, l.record), (CheckpointId(1), 3));
}

#[test]
fn a_lost_reply_is_settled_by_reading_back() {
    for (path, what) in [("manifest.json", "manifest"), (".record", "record"), ("leader/", "claim")] {
        for fault in [Fault::FailBefore, Fault::FailAfter, Fault::Conflict] {
            let (faults, store) = faulty();
            let claimed = if what == "claim" {
                faults.fail_next(Operation::Put, path, fault);
                let first = claim(&store, "a");
                assert_eq!(first.is_ok(), fault == Fault::FailAfter, "{fault:?}");
                first.or_else(|_| claim(&store, "a"))
            } else {
                claim(&store, "a")
            };
            assert_eq!(claimed.unwrap(), LeaderEpoch(1));
            loaded(load(&store, 1, "l1"));
            faults.fail_next(Operation::Put, path, fault);
            let first = run(&store, commit(1, 1, "c1", 2));
            match (what, fault) {
                ("claim", _) | (_, Fault::FailAfter) => assert_eq!(first, StoreReply::Committed, "{what}"),
                _ => {
                    assert_eq!(kind(&first), Some(ErrorKind::Retry), "{what}");
                    assert_eq!(run(&store, commit(1, 1, "c1", 2)), StoreReply::Committed, "{what}");
                }
            }
            assert_eq!(newest(&store), Some(CheckpointId(1)));
            assert!(block_on(store.get("leader/epoch-1")).unwrap().is_some());
        }
    }
}

/// S3 answers a conditional put that races with another one as if the object existed.
#[test]
fn a_file_said_to_exist_that_is_not_there_is_no_contradiction() {
    let (faults, store) = faulty();
    faults.fail_next(Operation::Put, "chk-1/state", Fault::Conflict);
    let refused = block_on(store.put_file("chk-1/state", "abc".into())).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Retry, "{refused}");
    block_on(store.put_file("chk-1/state", "abc".into())).unwrap();
    block_on(store.put_file("chk-1/state", "abc".into())).unwrap();
    let other = block_on(store.put_file("chk-1/state", "other".into())).unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Bug, "{other}");
}

#[test]
fn random_faults_never_lose_a_commit_nor_invent_one() {
    let mut faults_seen = 0;
    for seed in 0..200 {
        let (faults, store) = faulty();
        claim(&store, "a").unwrap();
        loaded(load(&store, 1, "l1"));
        faults.fail_randomly(seed, 200);
        let (mut record, mut confirmed) = (2, 0);
        for id in 1..=6 {
            let reply = (0..200).map(|_| run(&store, commit(id, 1, &format!("c{id}"), record)));
            match reply.into_iter().find(|r| kind(r) != Some(ErrorKind::Retry)) {
                Some(StoreReply::Committed) => (record, confirmed) = (record + 1, id),
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        faults.heal();
        faults_seen += faults.injected();
        assert_eq!(newest(&store), Some(CheckpointId(confirmed)), "seed {seed}");
    }
    assert!(faults_seen > 1_000, "{faults_seen}");
}

#[test]
fn recovery_does_not_need_a_fresh_listing() {
    let (faults, store) = faulty();
    claim(&store, "a").unwrap();
    loaded(load(&store, 1, "l1"));
    for id in 1..=5 {
        assert_eq!(run(&store, commit(id, 1, &format!("c{id}"), id + 1)), StoreReply::Committed);
    }
    faults.stale_listings(9);
    assert_eq!(newest(&store), Some(CheckpointId(5)));
    assert_eq!(claim(&store, "b").unwrap(), LeaderEpoch(2));
    assert_eq!(loaded(load(&store, 2, "l2")).latest.unwrap().checkpoint, CheckpointId(5));
}

#[test]
fn an_unreadable_newest_checkpoint_is_an_error_that_names_the_file() {
    let (_, store) = faulty();
    claim(&store, "a").unwrap();
    loaded(load(&store, 1, "l1"));
    run(&store, commit(1, 1, "c1", 2));
    run(&store, commit(2, 1, "c2", 3));
    let damaged = b"tidegate-manifest 1 3 00000000\nabc".to_vec();
    block_on(store.damage("chk-2/manifest.json", damaged)).unwrap();
    for read in 0..2 {
        let StoreReply::Failed(f) = load(&store, 1, &format!("l{read}x")) else {
            panic!("an older one was returned")
        };
        assert_eq!(f.kind, ErrorKind::Data);
        assert!(f.message.contains("wordcount-1/chk-2/manifest.json"), "{}", f.message);
    }
    // A right manifest in the wrong place is found too.
    block_on(store.damage("chk-2/manifest.json", manifest(1, 1, "c1").encode().unwrap())).unwrap();
    assert_eq!(kind(&load(&store, 1, "ly")), Some(ErrorKind::Data));
    block_on(store.damage("chk-2/manifest.json", manifest(2, 1, "other").encode().unwrap())).unwrap();
    assert_eq!(kind(&load(&store, 1, "lw")), Some(ErrorKind::Data));
    block_on(store.take_back(&["chk-2/manifest.json".into()])).unwrap();
    assert_eq!(kind(&load(&store, 1, "lz")), Some(ErrorKind::Data));
}

/// What is not readable at the moment must not pass for damaged: the leader would take a savepoint for a checkpoint whose
/// kind nobody knows, and delete it in time.
#[test]
fn an_older_checkpoint_that_cannot_be_read_just_now_is_read_again() {
    let (faults, store) = faulty();
    let leader = claim(&store, "a").unwrap().0;
    loaded(load(&store, leader, "l1"));
    assert_eq!(run(&store, commit(1, leader, "c1", 2)), StoreReply::Committed);
    let both = Commit {
        manifest: manifest(2, leader, "c2"),
        record: 3,
        retained: vec![CheckpointId(1), CheckpointId(2)],
        rescaled: None,
    };
    assert_eq!(run(&store, StoreRequest::Commit(Box::new(both))), StoreReply::Committed);
    faults.fail_next(Operation::Get, "chk-1/manifest.json", Fault::FailBefore);
    assert_eq!(kind(&load(&store, leader, "l2")), Some(ErrorKind::Retry));
    assert!(loaded(load(&store, leader, "l3")).older[0].1.is_some());
    block_on(store.damage("chk-1/manifest.json", "damaged")).unwrap();
    assert_eq!(loaded(load(&store, leader, "l4")).older, [(CheckpointId(1), None)]);
}

#[test]
fn a_burnt_name_refuses_one_checkpoint_and_not_the_job() {
    let (_, store) = faulty();
    claim(&store, "a").unwrap();
    loaded(load(&store, 1, "l1"));
    block_on(store.damage("chk-1/manifest.json", manifest(1, 0, "zombie").encode().unwrap())).unwrap();
    assert!(matches!(run(&store, commit(1, 1, "c1", 2)), StoreReply::Refused(_)));
    assert_eq!(run(&store, commit(2, 1, "c2", 2)), StoreReply::Committed);
}

#[test]
fn sweeping_deletes_old_directories_and_nothing_that_is_named() {
    let (faults, store) = faulty();
    claim(&store, "a").unwrap();
    loaded(load(&store, 1, "l1"));
    for id in 1..=4u64 {
        block_on(store.put_file(&format!("chk-{id}/shared-{id}"), "abc".into())).unwrap();
        block_on(store.put_file(&format!("chk-{id}/own-{id}"), "abc".into())).unwrap();
        if id != 2 {
            run(&store, commit(id, 1, &format!("c{id}"), 2 + id));
        }
    }
    block_on(store.put_file("chk-5/under-way", "abc".into())).unwrap();
    let sweep = |leader| {
        StoreRequest::Sweep(Sweep {
            leader_epoch: LeaderEpoch(leader),
            newest: CheckpointId(4),
            record: 5,
            keep: [CheckpointId(4), CheckpointId(3)].into(),
            keep_files: ["chk-1/shared-1".to_owned()].into(),
            release: None,
        })
    };
    faults.fail_next(Operation::Delete, "chk-1", Fault::FailAfter);
    assert_eq!(kind(&run(&store, sweep(1))), Some(ErrorKind::Retry));
    assert!(matches!(run(&store, sweep(1)), StoreReply::Deleted(_)));
    assert_eq!(run(&store, sweep(1)), StoreReply::Deleted(0));
    let left = |prefix: &str| block_on(store.list(prefix)).unwrap();
    assert_eq!(left("chk-1"), ["chk-1/shared-1"]);
    assert!(left("chk-2").is_empty());
    assert_eq!(left("chk-3").len(), 3);
    assert_eq!(left("chk-4").len(), 3);
    assert_eq!(left("chk-5").len(), 1);
    // Another leader has taken over: this one deletes nothing any more.
    claim(&store, "b").unwrap();
    assert_eq!(kind(&run(&store, sweep(1))), Some(ErrorKind::Fenced));
}

fn ended(leader: u64, last_checkpoint: Option<u64>) -> TerminalRecord {
    TerminalRecord {
        job: job(),
        leader_epoch: LeaderEpoch(leader),
        status: TerminalStatus::Canceled,
        failure: None,
        last_checkpoint: last_checkpoint.map(CheckpointId),
        savepoint: None,
        keeps_checkpoints: true,
    }
}

#[test]
fn the_terminal_record_is_readable_and_only_the_leader_writes_it() {
    let (faults, store) = faulty();
    claim(&store, "a").unwrap();
    loaded(load(&store, 1, "l1"));
    assert_eq!(block_on(read_status(&store)).unwrap(), None);
    let end = StoreRequest::WriteStatus(ended(1, None));
    for path in [".record", "status.json"] {
        for fault in [Fault::FailBefore, Fault::FailAfter, Fault::Conflict] {
            faults.fail_next(Operation::Put, path, fault);
            _ = run(&store, end.clone());
        }
    }
    assert_eq!(run(&store, end.clone()), StoreReply::StatusWritten);
    assert_eq!(block_on(read_status(&store)).unwrap(), Some(ended(1, None)));
    assert_eq!(block_on(store.list("epochs")).unwrap().len(), 2, "one entry, however often it was tried");
    // Nobody runs it again; not even its own leader.
    assert_eq!(kind(&load(&store, 1, "l2")), Some(ErrorKind::Fenced));
    claim(&store, "b").unwrap();
    assert_eq!(kind(&run(&store, end)), Some(ErrorKind::Fenced));
    assert_eq!(kind(&load(&store, 2, "l3")), Some(ErrorKind::Fenced));
    let other = TerminalRecord { status: TerminalStatus::Failed, ..ended(2, None) };
    assert_eq!(kind(&run(&store, StoreRequest::WriteStatus(other))), Some(ErrorKind::Fenced));
    // The file is a copy. One that an older build has written, without an entry, counts, too.
    block_on(store.take_back(&["status.json".into()])).unwrap();
    assert_eq!(block_on(read_status(&store)).unwrap(), Some(ended(1, None)));
    let (_, store) = faulty();
    block_on(store.damage("status.json", envelope::seal("tidegate-status", &ended(1, None)).unwrap()))
        .unwrap();
    assert_eq!(block_on(read_status(&store)).unwrap(), Some(ended(1, None)));
}

/// A job is canceled, its leader hangs while it writes that down, and goes on when its successor has the job: if that one
/// runs it, the job has not ended; if it has ended, no successor runs it.
#[tokio::test]
async fn a_leader_frozen_while_it_ends_the_job_does_not_end_that_of_its_successor() {
    let none = CrashPoints::none();
    for (point, runs, commits) in [
        ("job.before_terminal", true, 0),
        ("job.before_terminal", true, 1),
        ("job.before_terminal", true, 200),
        ("job.before_terminal", false, 0),
        ("job.ended_no_status", false, 0),
    ] {
        let (_, store) = faulty();
        claim_leadership(&store, &none, "a").await.unwrap();
        load_latest(&store, &none, LeaderEpoch(1), "l1", None).await.unwrap();
        assert_eq!(execute(&store, &none, commit(1, 1, "c1", 2)).await, StoreReply::Committed);
        let crash = CrashPoints::thawing();
        crash.arm(point, 1, CrashAction::Hang).unwrap();
        let mut frozen = Box::pin(execute(&store, &crash, StoreRequest::WriteStatus(ended(1, Some(1)))));
        assert!(futures::poll!(&mut frozen).is_pending());
        claim_leadership(&store, &none, "b").await.unwrap();
        if runs {
            load_latest(&store, &none, LeaderEpoch(2), "l2", None).await.unwrap();
        }
        for id in 2..2 + commits {
            assert_eq!(
                execute(&store, &none, commit(id, 2, &format!("c{id}"), id + 2)).await,
                StoreReply::Committed
            );
            let sweep = Sweep {
                leader_epoch: LeaderEpoch(2),
                newest: CheckpointId(id),
                record: id + 2,
                keep: [CheckpointId(id)].into(),
                keep_files: std::collections::BTreeSet::new(),
                release: None,
            };
            execute(&store, &none, StoreRequest::Sweep(sweep)).await;
        }
        crash.thaw();
        let thawed = frozen.await;
        let what = format!("{point}, {commits} commits");
        // One that does not know its successor yet has ended the job; the other one has not.
        assert_eq!(thawed == StoreReply::StatusWritten, point == "job.ended_no_status", "{what}: {thawed:?}");
        assert_eq!(read_status(&store).await.unwrap().is_some(), !runs, "{what}");
        let again = load_latest(&store, &none, LeaderEpoch(2), "l3", None).await;
        assert_eq!(again.map_err(|e| e.kind()).err(), (!runs).then_some(ErrorKind::Fenced), "{what}");
        assert_eq!(newest(&store), Some(CheckpointId(1 + commits)), "{what}");
    }
}

/// The end of the log is lost, and with it that the job has ended: the file says so.
#[test]
fn a_log_without_its_last_entry_is_damaged() {
    let (_, store) = faulty();
    claim(&store, "a").unwrap();
    loaded(load(&store, 1, "l1"));
    assert_eq!(run(&store, commit(1, 1, "c1", 2)), StoreReply::Committed);
    assert_eq!(run(&store, StoreRequest::WriteStatus(ended(1, Some(1)))), StoreReply::StatusWritten);
    block_on(store.take_back(&["epochs/epoch-3.record".into()])).unwrap();
    let e = block_on(latest_completed(&store)).unwrap_err();
    assert!(e.kind() == ErrorKind::Data && e.to_string().contains("epochs/epoch-3.record"), "{e}");
    assert!(block_on(read_status(&store)).unwrap().is_some());
}

#[test]
fn local_directories_are_created_probed_and_refused_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    let store = CheckpointStore::open(path.to_str().unwrap(), &[]).unwrap();
    block_on(store.probe()).unwrap();
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    for bad in [file.clone(), file.join("below")] {
        let e = CheckpointStore::open(bad.to_str().unwrap(), &[]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Config);
        assert!(e.to_string().contains(bad.to_str().unwrap()) && e.to_string().contains("choose"), "{e}");
    }
    assert!(CheckpointStore::open_existing(dir.path().join("none").to_str().unwrap(), &[]).is_err());
    let cloud = CheckpointStore::open("s3://bucket/x", &[]);
    if cfg!(not(feature = "aws")) {
        assert!(cloud.unwrap_err().to_string().contains("cargo feature `aws`"));
    }
    assert!(CheckpointStore::open("ftp://host/x", &[]).unwrap_err().to_string().contains("ftp"));
    block_on(CheckpointStore::open("memory:///", &[]).unwrap().probe()).unwrap();
    let full = FaultStore::new(Arc::new(InMemory::new()));
    full.fail_next(Operation::Put, "probe", Fault::FailBefore);
    let e = block_on(CheckpointStore::over(Arc::new(full), "", "memory://full").probe()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Config);
    assert!(e.to_string().contains("memory://full"), "{e}");
}

#[test]
fn restore_paths_name_a_checkpoint_its_manifest_or_a_job() {
    let dir = tempfile::tempdir().unwrap();
    let root = CheckpointStore::open(dir.path().to_str().unwrap(), &[]).unwrap();
    let store = root.job(&job()).unwrap();
    claim(&store, "a").unwrap();
    loaded(load(&store, 1, "l1"));
    run(&store, commit(3, 1, "c3", 2));
    run(&store, commit(5, 1, "c5", 3));
    let base = store.location();
    let other = CheckpointStore::in_memory();
    for (path, id) in [("", 5), ("/", 5), ("/chk-3", 3), ("/chk-3/", 3), ("/chk-3/manifest.json", 3)] {
        for from in [&root, &other] {
            let found = block_on(resolve_restore_path(from, &format!("{base}{path}"), &[])).unwrap();
            assert_eq!((found.manifest.checkpoint, &found.base), (CheckpointId(id), &base), "{path}");
        }
    }
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    std::fs::create_dir(dir.path().join("wordcount-1/chk-9")).unwrap();
    for (path, says) in [
        (format!("{}/empty", root.location()), "nothing at that place"),
        (format!("{base}/chk-9"), "found there: chk-3, chk-5, chk-9, epochs, leader"),
        (format!("{base}/chk-8"), "no such file"),
    ] {
        let e = block_on(resolve_restore_path(&other, &path, &[])).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Config);
        assert!(e.to_string().contains(says) && e.to_string().contains(&path), "{e}");
    }
    block_on(store.put_file("chk-3/x", "abc".into())).unwrap();
    let foreign = other.job(&JobId::from("new".to_owned())).unwrap().for_base(&base, &[]).unwrap();
    assert_eq!(block_on(foreign.get("chk-3/x")).unwrap().unwrap(), "abc");
}

#[test]
fn a_late_read_of_the_same_leader_costs_a_restart_and_not_the_leadership() {
    let (_, store) = faulty();
    claim(&store, "a").unwrap();
    assert_eq!(loaded(load(&store, 1, "l1")).record, 1);
    // A read believed lost lands after all.
    assert_eq!(loaded(load(&store, 1, "l0")).record, 2);
    assert_eq!(kind(&run(&store, commit(1, 1, "c1", 2))), Some(ErrorKind::RestartJob));
    assert_eq!(loaded(load(&store, 1, "l2")).record, 3);
    assert_eq!(run(&store, commit(2, 1, "c2", 4)), StoreReply::Committed);
}

#[test]
fn the_commit_log_stays_short_and_a_writer_that_slept_too_long_is_found_out() {
    let (_, store) = faulty();
    claim(&store, "a").unwrap();
    loaded(load(&store, 1, "l1"));
    claim(&store, "b").unwrap();
    loaded(load(&store, 2, "l2"));
    for id in 1..=200u64 {
        let record = id + 2;
        assert_eq!(run(&store, commit(id, 2, &format!("c{id}"), record)), StoreReply::Committed);
        run(
            &store,
            StoreRequest::Sweep(Sweep {
                leader_epoch: LeaderEpoch(2),
                newest: CheckpointId(id),
                record,
                keep: [CheckpointId(id)].into(),
                keep_files: std::collections::BTreeSet::new(),
                release: None,
            }),
        );
        assert_eq!(newest(&store), Some(CheckpointId(id)), "an entry that is needed is gone");
    }
    assert!(block_on(store.list("epochs")).unwrap().len() < 100);
    assert_eq!(block_on(store.list_top()).unwrap(), ["chk-200", "epochs", "leader"]);
    // Place 2 is free again, which is what the writer of term 1 waits for.
    assert_eq!(kind(&run(&store, commit(201, 1, "zombie", 2))), Some(ErrorKind::Fenced));
    assert_eq!(newest(&store), Some(CheckpointId(200)));
}

/// The old leader passes its check, freezes right before it writes the record, and thaws after the takeover; once
/// with its place taken, once with its place deleted again by the successor.
#[tokio::test]
async fn a_leader_frozen_after_its_check_is_still_fenced() {
    for place_deleted in [false, true] {
        let (_, store) = faulty();
        let none = CrashPoints::none();
        claim_leadership(&store, &none, "a").await.unwrap();
        load_latest(&store, &none, LeaderEpoch(1), "l1", None).await.unwrap();
        let crash = CrashPoints::armable();
        crash.arm("record.before_put", 1, CrashAction::Delay(std::time::Duration::from_millis(30))).unwrap();
        let frozen = execute(&store, &crash, commit(1, 1, "c1", 2));
        let successor = async {
            while !crash.reached().contains_key("record.before_put") {
                tokio::task::yield_now().await;
            }
            claim_leadership(&store, &none, "b").await.unwrap();
            let loaded = load_latest(&store, &none, LeaderEpoch(2), "l2", None).await.unwrap();
            assert_eq!((loaded.latest, loaded.record), (None, 2));
            if place_deleted {
                store.take_back(&["epochs/epoch-2.record".into()]).await.unwrap();
            }
        };
        let (thawed, ()) = futures::join!(frozen, successor);
        assert_eq!(kind(&thawed), Some(ErrorKind::Fenced), "place deleted: {place_deleted}");
    }
}

/// Two jobmanagers want the same term: one finds it free, is held up, and finds it taken when it writes.
#[tokio::test]
async fn of_two_that_claim_a_term_at_once_the_second_is_told_that_it_is_not_the_leader() {
    let (_, store) = faulty();
    let crash = CrashPoints::armable();
    crash.arm("leader.before_epoch", 1, CrashAction::Delay(std::time::Duration::from_millis(30))).unwrap();
    let frozen = claim_leadership(&store, &crash, "a");
    let other = async {
        while !crash.reached().contains_key("leader.before_epoch") {
            tokio::task::yield_now().await;
        }
        claim_leadership(&store, &CrashPoints::none(), "b").await
    };
    let (thawed, other) = futures::join!(frozen, other);
    assert_eq!(other.unwrap(), LeaderEpoch(1));
    assert_eq!(thawed.unwrap_err().kind(), ErrorKind::Fenced);
}

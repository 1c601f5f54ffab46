//! Claims between two jobs that know nothing of each other.

use super::claim::{read_claim, release};
use super::epoch::load_latest;
use super::store_tests::{commit, manifest};
use super::*;
use crate::error::ErrorKind;
use crate::id::{CheckpointId, JobId, LeaderEpoch};
use std::time::Duration;

fn jobs<const N: usize>(names: [&str; N]) -> [JobStore; N] {
    let store = CheckpointStore::in_memory();
    names.map(|name| store.job(&JobId::from(name.to_owned())).unwrap())
}

async fn take(by: &JobStore, restore: &RestoreFrom) -> crate::error::Result<RestoreFrom> {
    let nonce = by.id().to_string();
    claim(by, &CrashPoints::none(), LeaderEpoch(0), restore.clone(), false, &nonce).await
}

#[tokio::test]
async fn only_the_job_that_is_named_deletes() {
    let none = CrashPoints::none();
    let [savepoint, first, second] = jobs(["savepoint-1", "first", "second"]);
    let manifest = Manifest { kind: CheckpointKind::Savepoint, ..manifest(3, 1, "s") };
    savepoint.put_file("chk-3/state", "abc".into()).await.unwrap();
    savepoint.put_file(SAVEPOINT_MANIFEST, manifest.encode().unwrap().into()).await.unwrap();
    savepoint.put_file("notes.txt", "somebody's".into()).await.unwrap();
    let restore = RestoreFrom { manifest, base: savepoint.location(), shares_store: true };
    take(&first, &restore).await.unwrap();
    take(&first, &restore).await.unwrap();
    let refused = take(&second, &restore).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Config && refused.to_string().contains("job first"), "{refused}");
    assert_eq!(read_claim(&second).await.unwrap(), None, "what it did not get it does not hold");

    // The first one ends without a checkpoint, the second one takes over.
    let epoch = claim_leadership(&first, &none, "f").await.unwrap();
    let ended = TerminalRecord {
        job: first.id(),
        leader_epoch: epoch,
        status: TerminalStatus::Failed,
        failure: None,
        last_checkpoint: None,
        savepoint: None,
        keeps_checkpoints: true,
    };
    assert_eq!(execute(&first, &none, StoreRequest::WriteStatus(ended)).await, StoreReply::StatusWritten);
    take(&second, &restore).await.unwrap();
    let permit = Permit::of_leader(&second, LeaderEpoch(0)).await.unwrap();
    assert_eq!(release(&first, &none, &permit, "f").await.unwrap(), 0);
    assert_eq!(savepoint.list("chk-3").await.unwrap(), ["chk-3/state"]);
    assert_eq!(read_claim(&first).await.unwrap(), None);

    assert_eq!(release(&second, &none, &permit, "s").await.unwrap(), 2);
    assert_eq!(savepoint.list_top().await.unwrap(), ["claimed.json", "notes.txt"]);
    assert_eq!(read_claim(&second).await.unwrap(), None);
    assert_eq!(release(&second, &none, &permit, "s").await.unwrap(), 0, "again");
}

/// The job is claimed between the last look at its leadership and the record of a commit.
#[tokio::test]
async fn what_a_claimed_job_had_begun_to_commit_never_counts() {
    let none = CrashPoints::none();
    let [old, new] = jobs(["wordcount-1", "new"]);
    claim_leadership(&old, &none, "a").await.unwrap();
    load_latest(&old, &none, LeaderEpoch(1), "l1", None).await.unwrap();
    assert_eq!(execute(&old, &none, commit(1, 1, "c1", 2)).await, StoreReply::Committed);
    let crash = CrashPoints::armable();
    crash.arm("record.before_put", 1, CrashAction::Delay(Duration::from_millis(30))).unwrap();
    let frozen = execute(&old, &crash, commit(2, 1, "c2", 3));
    let claiming = async {
        while !crash.reached().contains_key("record.before_put") {
            tokio::task::yield_now().await;
        }
        let manifest = latest_completed(&old).await.unwrap().unwrap();
        take(&new, &RestoreFrom { manifest, base: old.location(), shares_store: true }).await.unwrap()
    };
    let (thawed, claimed) = futures::join!(frozen, claiming);
    assert!(matches!(thawed, StoreReply::Failed(f) if f.kind == ErrorKind::Fenced));
    assert_eq!(claimed.manifest.checkpoint, CheckpointId(1));
    assert_eq!(latest_completed(&old).await.unwrap().map(|m| m.checkpoint), Some(CheckpointId(1)));
}

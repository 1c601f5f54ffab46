//! Running store requests, and deleting.
//!
//! Deleting: only a leader deletes, only directories of checkpoints below the newest completed one that are neither
//! retained nor under way, and never a file a retained manifest names. The manifest goes first, which makes the
//! rest of the directory garbage that the next sweep finds again, whatever happens in between.

use crate::checkpoint::claim;
use crate::checkpoint::epoch::{self, CommitOutcome, number_in, record_path};
use crate::checkpoint::inherit::inherit;
use crate::checkpoint::{
    CrashPoints, Dispose, HISTORY_PATH, JobStore, Permit, StoreReply, StoreRequest, Sweep, encode_history,
    manifest_path, savepoint_place, status,
};
use crate::cluster::message::Failure;
use crate::error::Result;
use crate::id::CheckpointId;
use std::collections::BTreeSet;

/// Entries of the commit log that are kept behind its end: as far as a listing may be out of date.
pub(super) const RECORDS_KEPT: u64 = 64;
/// Old entries are looked for every so many commits.
const PRUNE_EVERY: u64 = 16;

/// Runs one request to its end. Production shells put a timeout around it and report that as a failure of kind
/// `Retry`.
pub async fn execute(store: &JobStore, crash: &CrashPoints, request: StoreRequest) -> StoreReply {
    run(store, crash, request).await.unwrap_or_else(|e| StoreReply::from(&e))
}

async fn run(store: &JobStore, crash: &CrashPoints, request: StoreRequest) -> Result<StoreReply> {
    Ok(match request {
        StoreRequest::LoadLatest { leader_epoch, nonce, rescaled } => {
            let loaded = epoch::load_latest(store, crash, leader_epoch, &nonce, rescaled).await?;
            StoreReply::Loaded(Box::new(loaded))
        }
        StoreRequest::CheckLeader { leader_epoch } => {
            Permit::of_leader(store, leader_epoch).await?;
            StoreReply::Leads
        }
        StoreRequest::Commit(commit) => match epoch::commit_checkpoint(store, crash, &commit).await? {
            CommitOutcome::Committed(_) => StoreReply::Committed,
            CommitOutcome::Refused(e) => StoreReply::Refused(Failure::from(&e)),
        },
        StoreRequest::Inherit(request) => {
            inherit(store, crash, &request).await?;
            StoreReply::Inherited
        }
        StoreRequest::WriteSavepoint(manifest) => {
            match epoch::commit_savepoint(store, crash, &manifest).await? {
                CommitOutcome::Committed(_) => StoreReply::SavepointWritten,
                CommitOutcome::Refused(e) => StoreReply::Refused(Failure::from(&e)),
            }
        }
        StoreRequest::DiscardSavepoint { leader_epoch, checkpoint, location } => {
            let permit = Permit::of_leader(store, leader_epoch).await?;
            StoreReply::Deleted(savepoint_place::discard(store, crash, &permit, checkpoint, &location).await?)
        }
        StoreRequest::Sweep(request) => {
            let permit = Permit::of_leader(store, request.leader_epoch).await?;
            let deleted = sweep(store, crash, &permit, &request).await?;
            match &request.release {
                None => StoreReply::Deleted(deleted),
                Some(nonce) => {
                    StoreReply::Released(deleted + claim::release(store, crash, &permit, nonce).await?)
                }
            }
        }
        StoreRequest::WriteStatus(record) => {
            status::end(store, crash, &record).await?;
            StoreReply::StatusWritten
        }
        StoreRequest::WriteHistory { leader_epoch, history } => {
            let permit = Permit::of_leader(store, leader_epoch).await?;
            store.replace(&permit, HISTORY_PATH, encode_history(&history)?).await?;
            StoreReply::HistoryWritten
        }
        StoreRequest::Dispose(request) => StoreReply::Deleted(dispose(store, crash, &request).await?),
    })
}

async fn checkpoint_ids(store: &JobStore) -> Result<Vec<CheckpointId>> {
    let top = store.list_top().await?;
    Ok(top.iter().filter_map(|name| number_in(name, "chk-", "")).map(CheckpointId).collect())
}

async fn sweep(store: &JobStore, crash: &CrashPoints, permit: &Permit, request: &Sweep) -> Result<u64> {
    crash.reach("subsume.before_mark").await?;
    let mut deleted = 0;
    for id in checkpoint_ids(store).await? {
        if id < request.newest && !request.keep.contains(&id) {
            deleted +=
                delete_checkpoint(store, crash, permit, "delete.k_of_n", id, &request.keep_files).await?;
        }
    }
    crash.reach("delete.done_unrecorded").await?;
    if request.record.is_multiple_of(PRUNE_EVERY) {
        let listed = store.list("epochs").await?;
        let numbers = listed.iter().filter_map(|p| epoch::record_number(p));
        let old: Vec<_> = numbers.filter(|n| n + RECORDS_KEPT < request.record).map(record_path).collect();
        deleted += store.delete(permit, &old).await?;
    }
    Ok(deleted)
}

async fn dispose(store: &JobStore, crash: &CrashPoints, request: &Dispose) -> Result<u64> {
    let permit = Permit::of_leader(store, request.leader_epoch).await?;
    crash.reach("job.terminal_before_cleanup").await?;
    let deleted = delete_all_checkpoints(store, crash, &permit).await?;
    Ok(deleted + claim::release(store, crash, &permit, &request.nonce).await?)
}

/// Deletes every checkpoint of a job, whether it was completed or not.
pub(crate) async fn delete_all_checkpoints(
    store: &JobStore,
    crash: &CrashPoints,
    permit: &Permit,
) -> Result<u64> {
    let mut deleted = 0;
    for id in checkpoint_ids(store).await? {
        deleted += delete_checkpoint(store, crash, permit, "dispose.k_of_n", id, &BTreeSet::new()).await?;
    }
    Ok(deleted)
}

async fn delete_checkpoint(
    store: &JobStore,
    crash: &CrashPoints,
    permit: &Permit,
    point: &str,
    id: CheckpointId,
    keep: &BTreeSet<String>,
) -> Result<u64> {
    let manifest = manifest_path(id);
    let mut files = store.list_all(&format!("chk-{id}")).await?;
    files.retain(|path| !keep.contains(path));
    let found = files.len() as u64;
    files.retain(|path| *path != manifest);
    // Also if it is not listed, as listings may be out of date.
    store.delete(permit, &[manifest]).await?;
    crash.reach(point).await?;
    if files.iter().any(|path| savepoint_place::number_of(path).is_some()) {
        savepoint_place::discard_number(store, crash, permit, id).await?;
    }
    store.delete(permit, &files).await?;
    Ok(found)
}

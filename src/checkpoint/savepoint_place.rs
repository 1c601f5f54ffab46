//! Where a savepoint's files lie, written into the job's directory before the first of them: so that what is left of one
//! that never became complete is found, wherever it is.
//!
//! `chk-N/savepoint.json` also takes the number, so that no later leader gives it to a checkpoint. It is deleted with the
//! checkpoints of its age, after what is left of the savepoint, if that has no manifest.

use crate::checkpoint::epoch::number_in;
use crate::checkpoint::store::Created;
use crate::checkpoint::{
    CrashPoints, JobStore, Manifest, Permit, SAVEPOINT_MANIFEST, envelope, read_savepoint,
};
use crate::error::{Error, ErrorKind, Result};
use crate::id::CheckpointId;
use serde::{Deserialize, Serialize};

const SAVEPOINT: &str = "tidegate-savepoint";

/// What a job's directory says of a savepoint that lies elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavepointPlace {
    pub(super) checkpoint: CheckpointId,
    pub(super) location: Option<String>,
}

fn path_of(checkpoint: CheckpointId) -> String {
    format!("chk-{checkpoint}/savepoint.json")
}

/// The savepoint whose place is said by the file with this path, if it is such a file.
pub(super) fn number_of(path: &str) -> Option<CheckpointId> {
    number_in(path, "chk-", "/savepoint.json").map(CheckpointId)
}

/// Says where the files of a savepoint will be. Repeating it is fine.
///
/// # Errors
/// One that restarts the job if another savepoint has the number; the store's.
pub(crate) async fn announce(store: &JobStore, checkpoint: CheckpointId, location: &str) -> Result<()> {
    let mine = SavepointPlace { checkpoint, location: Some(location.to_owned()) };
    let path = path_of(checkpoint);
    let created = store.create(&path, envelope::seal(SAVEPOINT, &mine)?).await;
    if matches!(created, Ok(Created::Yes)) {
        return Ok(());
    }
    match read(store, checkpoint).await? {
        Some(found) if found == mine => Ok(()),
        Some(_) => Err(Error::restart_job("the number is taken by another savepoint").at(store.shown(&path))),
        None => Err(created.err().unwrap_or_else(|| store.exists_not(&path))),
    }
}

/// What the job's directory says of the savepoint with this number.
pub(super) async fn read(store: &JobStore, checkpoint: CheckpointId) -> Result<Option<SavepointPlace>> {
    let path = path_of(checkpoint);
    let Some(bytes) = store.get(&path).await? else { return Ok(None) };
    let found: SavepointPlace = envelope::open(SAVEPOINT, &bytes, &store.shown(&path))?;
    if found.checkpoint != checkpoint {
        return Err(Error::data(format!("of savepoint {}", found.checkpoint)).at(store.shown(&path)));
    }
    Ok(Some(found))
}

/// Where the files of a savepoint are that has no manifest; `None` if it has one, or if the place is gone.
pub(super) async fn unfinished(store: &JobStore, location: &str) -> Result<Option<JobStore>> {
    let directory = match store.for_base(location, &[]) {
        // Such as a directory that somebody has removed.
        Err(e) if e.kind() == ErrorKind::Config => return Ok(None),
        directory => directory?,
    };
    Ok(directory.get(SAVEPOINT_MANIFEST).await?.is_none().then_some(directory))
}

/// Deletes what a savepoint has left that was given up. Only what has no manifest goes: one that was given up because the
/// store did not answer may be complete.
pub(super) async fn discard(
    store: &JobStore,
    crash: &CrashPoints,
    permit: &Permit,
    checkpoint: CheckpointId,
    location: &str,
) -> Result<u64> {
    let Some(directory) = unfinished(store, location).await? else { return Ok(0) };
    crash.reach("savepoint.before_discard").await?;
    let mut deleted =
        directory.delete(permit, &directory.list_all(&format!("chk-{checkpoint}")).await?).await?;
    // A leader that was held up has completed it meanwhile, and finds that it is fenced; so it has told nobody.
    if directory.get(SAVEPOINT_MANIFEST).await?.is_some() {
        deleted += directory.delete(permit, &[SAVEPOINT_MANIFEST.to_owned()]).await?;
    }
    Ok(deleted)
}

/// Takes back a savepoint that a leader has completed which then finds that it is fenced, if its successor had taken it for
/// the leavings of one that failed: a savepoint has all its files, or is none.
pub(super) async fn withdraw(store: &JobStore, crash: &CrashPoints, manifest: &Manifest) -> Result<()> {
    let Some(location) = manifest.location.as_deref().filter(|_| crash.killed().is_none()) else {
        return Ok(());
    };
    let directory = store.for_base(location, &[])?;
    let found = read_savepoint(&directory).await?;
    let Some(permit) = Permit::of_writer(manifest, found.as_ref()) else { return Ok(()) };
    for path in manifest.file_paths() {
        if !directory.exists(path).await? {
            directory.delete(&permit, &[SAVEPOINT_MANIFEST.to_owned()]).await?;
            break;
        }
    }
    Ok(())
}

/// [`discard`] for a number, before the file goes that says where it is.
pub(super) async fn discard_number(
    store: &JobStore,
    crash: &CrashPoints,
    permit: &Permit,
    checkpoint: CheckpointId,
) -> Result<u64> {
    match read(store, checkpoint).await {
        Ok(Some(SavepointPlace { location: Some(location), .. })) => {
            discard(store, crash, permit, checkpoint, &location).await
        }
        // A damaged one must not keep everything else from being deleted.
        Err(e) if e.kind() != ErrorKind::Data => Err(e),
        _ => Ok(0),
    }
}

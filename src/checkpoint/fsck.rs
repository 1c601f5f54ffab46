//! Checking a job's directory or a savepoint from outside: is everything there that completed checkpoints name, and
//! what is there that nothing names.
//!
//! Invariants: what a retained manifest names is never an orphan; while one of them is unreadable nothing is. Orphans
//! are deleted only by one who holds the job's leadership, claimed as a jobmanager does, so that whoever had it before
//! can commit and delete nothing any more; and never in a job that shows a sign of life.

use crate::checkpoint::claim::{self, CLAIM_PATH, CLAIMED_PATH, is_claimed_away, read_claim, read_claimed};
use crate::checkpoint::epoch::{
    claim_leadership, fence, leader_number, leader_path, read_leader, read_record, record_number, record_path,
};
use crate::checkpoint::execute::RECORDS_KEPT;
use crate::checkpoint::status::{STATUS_PATH, read_status_file};
use crate::checkpoint::store::ObjectInfo;
use crate::checkpoint::{
    CheckpointStore, CrashPoints, HISTORY_PATH, JobStore, Manifest, Permit, ReadInto, SAVEPOINT_MANIFEST,
    StateHandle, StoredCheckpoint, read_history, read_status, savepoint_place,
};
use crate::error::{Error, ErrorKind, Result};
use crate::id::CheckpointId;
use futures::{StreamExt, stream};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Files read at once.
const READS: usize = 4;
/// Looks at a job that deletes what is looked at.
const TRIES: u32 = 10;
/// Objects deleted between two looks at the leadership.
const DELETES: usize = 100;

/// How to check.
#[derive(Clone, Copy, Debug)]
pub struct FsckOptions {
    /// Now, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// Younger objects that nothing names may belong to a checkpoint under way: they are no orphans. In milliseconds.
    pub grace_ms: u64,
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The checkpoint it spoils, if one.
    pub checkpoint: Option<CheckpointId>,
    /// What is wrong; names the object.
    pub what: String,
}

/// An object that nothing names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Orphan {
    /// Below the directory.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// How long ago it was written, in milliseconds.
    pub age_ms: u64,
}

/// A savepoint that never became complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HalfWritten {
    /// Its number.
    pub checkpoint: CheckpointId,
    /// Its directory.
    pub location: String,
    /// Files of it that are there.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What was found in one directory.
#[derive(Clone, Debug, Serialize)]
pub struct DirectoryCheck {
    /// The directory.
    pub location: String,
    /// Completed checkpoints looked at, whole or not.
    pub checkpoints: Vec<CheckpointId>,
    /// Files of completed checkpoints looked at.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Objects that nothing names and that are older than the grace period; `None` if that cannot be known because a
    /// manifest cannot be read.
    pub orphans: Option<Vec<Orphan>>,
    /// Objects that nothing names and that are younger: of a checkpoint under way, or orphans to be.
    pub young: u64,
    /// Savepoints of the job that have no manifest and of which nothing is younger than the grace period.
    pub half_written: Vec<HalfWritten>,
    /// The directory that this job has claimed and begun to delete.
    pub half_deleted: Option<String>,
}

impl DirectoryCheck {
    fn nothing(location: &str) -> Self {
        Self {
            location: location.to_owned(),
            checkpoints: Vec::new(),
            files: 0,
            bytes: 0,
            problems: Vec::new(),
            orphans: None,
            young: 0,
            half_written: Vec::new(),
            half_deleted: None,
        }
    }

    /// Whether something is wrong. Orphans are not.
    pub fn is_damaged(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Whether there is something that can be deleted.
    pub fn has_leavings(&self) -> bool {
        self.orphans.as_ref().is_some_and(|orphans| !orphans.is_empty())
            || !self.half_written.is_empty()
            || self.half_deleted.is_some()
    }
}

/// Checks the directory of a job, or of a savepoint. The job may run: what it has deleted meanwhile is not damage.
///
/// # Errors
/// The store's. Damage is no error but part of the result.
pub async fn check_directory(store: &JobStore, options: FsckOptions) -> Result<DirectoryCheck> {
    for _ in 0..TRIES {
        let check = check_once(store, options).await?;
        let mut gone = !check.problems.is_empty();
        for problem in &check.problems {
            gone &= match problem.checkpoint {
                Some(id) => !store.retains(id).await?,
                None => false,
            };
        }
        if !gone {
            return Ok(check);
        }
    }
    Err(Error::retry("the job completes checkpoints faster than they can be read")
        .at(store.location())
        .hint("raise checkpoint.retained, or check while it does not run"))
}

async fn check_once(store: &JobStore, options: FsckOptions) -> Result<DirectoryCheck> {
    let mut check = DirectoryCheck::nothing(&store.location());
    let listed = store.list_objects().await?;
    let is_savepoint = listed.iter().any(|o| o.path == SAVEPOINT_MANIFEST);
    let stored = if is_savepoint { savepoint(store).await } else { committed(store).await };
    let stored = match stored {
        Ok(stored) => stored,
        Err(e) => {
            check.problems.push(problem(None, &e)?);
            return Ok(check);
        }
    };
    // With a job's checkpoints goes what it has claimed.
    let ended = read_status(store).await.is_ok_and(|s| s.is_some_and(|s| !s.keeps_checkpoints));
    match read_claim(store).await {
        Ok(claim) => check.half_deleted = claim.filter(|c| c.released || ended).map(|c| c.location),
        Err(e) => check.problems.push(problem(None, &e)?),
    }
    if !is_savepoint {
        check_control_files(store, &listed, &mut check).await?;
        find_half_written(store, &listed, options, &mut check).await?;
    }
    let mut known: BTreeSet<String> = BTreeSet::new();
    let mut complete = true;
    for (id, stored) in &stored {
        check.checkpoints.push(*id);
        match stored {
            Ok(stored) => {
                known.extend(own_paths(store, stored));
                let (files, problems) = verify_checkpoint(stored).await?;
                check.files += files;
                check.bytes += stored.manifest.state_bytes();
                check.problems.extend(problems);
            }
            Err(e) => {
                complete = false;
                check.problems.push(Problem { checkpoint: Some(*id), what: e.to_string() });
            }
        }
    }
    if complete {
        let oldest = check.checkpoints.iter().min().copied().unwrap_or_default();
        let mut orphans = Vec::new();
        for object in listed.into_iter().filter(|o| !known.contains(&o.path) && !is_protocol(&o.path, oldest))
        {
            let age_ms = options.now_ms.saturating_sub(object.modified_ms);
            if age_ms >= options.grace_ms {
                orphans.push(Orphan { path: object.path, bytes: object.bytes, age_ms });
            } else {
                check.young += 1;
            }
        }
        check.orphans = Some(orphans);
    }
    Ok(check)
}

/// Finds what is missing between the first and the last of files with numbers that have no gaps.
async fn find_gaps(
    store: &JobStore,
    numbers: &BTreeSet<u64>,
    from: u64,
    path: fn(u64) -> String,
    check: &mut DirectoryCheck,
) -> Result<()> {
    let Some(last) = numbers.last() else { return Ok(()) };
    for number in (from.max(1)..*last).filter(|number| !numbers.contains(number)) {
        // A listing may be out of date.
        if store.get(&path(number)).await?.is_none() {
            let what = format!("{}: the file is missing", store.shown(&path(number)));
            check.problems.push(Problem { checkpoint: None, what });
        }
    }
    Ok(())
}

/// Opens the control files that are not part of a checkpoint, and looks for those that are missing.
async fn check_control_files(
    store: &JobStore,
    listed: &[ObjectInfo],
    check: &mut DirectoryCheck,
) -> Result<()> {
    let paths = listed.iter().map(|o| o.path.clone());
    let opened = stream::iter(paths).map(|path| async move { open_control_file(store, &path).await });
    let mut opened = opened.buffered(READS);
    while let Some(result) = opened.next().await {
        if let Err(e) = result {
            check.problems.push(problem(None, &e)?);
        }
    }
    let numbers = |number: fn(&str) -> Option<u64>| -> BTreeSet<u64> {
        listed.iter().filter_map(|o| number(&o.path)).collect()
    };
    find_gaps(store, &numbers(leader_number), 1, leader_path, check).await?;
    let records = numbers(record_number);
    // What is older may be deleted, in any order.
    let kept_from = records.last().map_or(0, |last| last.saturating_sub(RECORDS_KEPT));
    find_gaps(store, &records, kept_from, record_path, check).await
}

/// Reads a control file, if it is one, as those do who need it. One that has gone meanwhile is none.
async fn open_control_file(store: &JobStore, path: &str) -> Result<()> {
    match path {
        // The commit log and the claim were read before.
        HISTORY_PATH => read_history(store).await.map(drop),
        STATUS_PATH => read_status_file(store).await.map(drop),
        CLAIMED_PATH => read_claimed(store).await.map(drop),
        _ => match (record_number(path), leader_number(path), savepoint_place::number_of(path)) {
            (Some(number), ..) => read_record(store, number).await.map(drop),
            (_, Some(number), _) => read_leader(store, number).await.map(drop),
            (_, _, Some(number)) => savepoint_place::read(store, number).await.map(drop),
            _ => Ok(()),
        },
    }
}

/// Finds the savepoints that the job has begun and not completed.
async fn find_half_written(
    store: &JobStore,
    listed: &[ObjectInfo],
    options: FsckOptions,
    check: &mut DirectoryCheck,
) -> Result<()> {
    for checkpoint in listed.iter().filter_map(|o| savepoint_place::number_of(&o.path)) {
        // Damage is reported elsewhere.
        let Ok(Some(place)) = savepoint_place::read(store, checkpoint).await else { continue };
        let Some(location) = place.location else { continue };
        let Some(directory) = savepoint_place::unfinished(store, &location).await? else { continue };
        let objects = directory.list_objects().await?;
        let age_ms = |o: &ObjectInfo| options.now_ms.saturating_sub(o.modified_ms);
        if objects.iter().any(|o| age_ms(o) < options.grace_ms) {
            check.young += objects.len() as u64;
        } else if !objects.is_empty() {
            let (files, bytes) = (objects.len() as u64, objects.iter().map(|o| o.bytes).sum());
            check.half_written.push(HalfWritten { checkpoint, location, files, bytes });
        }
    }
    Ok(())
}

/// Checks what lies directly in the directory of many jobs: what jobs write there to try it out when they start.
///
/// # Errors
/// The store's.
pub async fn check_root(root: &CheckpointStore, options: FsckOptions) -> Result<DirectoryCheck> {
    let (mut orphans, mut young) = (Vec::new(), 0);
    for probe in root.list_probes().await? {
        let age_ms = options.now_ms.saturating_sub(probe.modified_ms);
        if age_ms >= options.grace_ms {
            orphans.push(Orphan { path: probe.path, bytes: probe.bytes, age_ms });
        } else {
            young += 1;
        }
    }
    Ok(DirectoryCheck { orphans: Some(orphans), young, ..DirectoryCheck::nothing(root.location()) })
}

/// Deletes what [`check_root`] has found: nobody reads it.
///
/// # Errors
/// The store's.
pub async fn delete_probes(root: &CheckpointStore, options: FsckOptions) -> Result<Vec<Orphan>> {
    let orphans = check_root(root, options).await?.orphans.unwrap_or_default();
    let paths: Vec<String> = orphans.iter().map(|o| o.path.clone()).collect();
    root.delete_probes(&paths).await?;
    Ok(orphans)
}

type Stored = Vec<(CheckpointId, Result<StoredCheckpoint>)>;

async fn savepoint(store: &JobStore) -> Result<Stored> {
    let stored = store.savepoint().await?;
    Ok(vec![(stored.manifest.checkpoint, Ok(stored))])
}

/// Errors of the store that may pass are not damage.
async fn committed(store: &JobStore) -> Result<Stored> {
    let stored = store.inspect().await?.checkpoints;
    match stored.iter().find_map(|(_, s)| s.as_ref().err().filter(|e| e.kind() != ErrorKind::Data)) {
        Some(e) => Err(Error::new(e.kind(), e.to_string())),
        None => Ok(stored),
    }
}

/// Damage as a finding; any other error as an error.
fn problem(checkpoint: Option<CheckpointId>, e: &Error) -> Result<Problem> {
    match e.kind() {
        ErrorKind::Data => Ok(Problem { checkpoint, what: e.to_string() }),
        kind => Err(Error::new(kind, e.to_string())),
    }
}

/// The objects in `store` that belong to a checkpoint.
fn own_paths(store: &JobStore, stored: &StoredCheckpoint) -> Vec<String> {
    let manifest: &Manifest = &stored.manifest;
    if stored.location == store.location() {
        let files = manifest.file_paths().map(str::to_owned);
        return files.chain([SAVEPOINT_MANIFEST, CLAIMED_PATH].map(str::to_owned)).collect();
    }
    let files = manifest.location.is_none().then(|| manifest.file_paths().map(str::to_owned));
    files.into_iter().flatten().chain([manifest.path()]).collect()
}

/// Whether a path belongs to the job itself and not to a checkpoint.
fn is_protocol(path: &str, oldest: CheckpointId) -> bool {
    path == STATUS_PATH
        || path == HISTORY_PATH
        || path == CLAIM_PATH
        || path == CLAIMED_PATH
        || leader_number(path).is_some()
        || record_number(path).is_some()
        // Numbers taken by savepoints.
        || savepoint_place::number_of(path).is_some_and(|id| id >= oldest)
}

/// Reads every file of a checkpoint and compares it with the manifest and with what its envelope says. Returns how many there are and what is wrong.
///
/// # Errors
/// The store's. Damage is no error but part of the result.
pub async fn verify_checkpoint(stored: &StoredCheckpoint) -> Result<(u64, Vec<Problem>)> {
    let manifest = &stored.manifest;
    // The savepoint that the job ended with belongs to another one by now.
    if manifest.location.is_some() && is_claimed_away(&stored.files).await? {
        return Ok((0, Vec::new()));
    }
    let mut files: BTreeMap<&str, (&StateHandle, String)> = BTreeMap::new();
    for operator in &manifest.operators {
        for (subtask, handles) in operator.subtasks.iter().enumerate() {
            for file in &handles.files {
                let identity = file.identity(&manifest.job, &operator.uid, subtask as u32);
                files.insert(&file.path, (file, identity));
            }
        }
    }
    let count = files.len() as u64;
    let read = |(handle, identity): (StateHandle, String)| {
        let store = stored.files.clone();
        async move { store.read_file(&handle, &identity, ReadInto::Nowhere).await }
    };
    let handles: Vec<_> = files.into_values().map(|(file, identity)| (file.clone(), identity)).collect();
    let results: Vec<Result<()>> = stream::iter(handles).map(read).buffered(READS).collect().await;
    let id = stored.manifest.checkpoint;
    let damaged = results.into_iter().filter_map(|r| r.err().map(|e| problem(Some(id), &e)));
    Ok((count, damaged.collect::<Result<_>>()?))
}

/// Deletes the orphans in the directory of a job: takes over its leadership, as `nonce`, looks again, and deletes what
/// is then an orphan. Returns what was deleted.
///
/// # Errors
/// A config error if the job has not ended and something in its directory is younger than the grace period; a fenced
/// error if another takes over the leadership meanwhile; a data error if a manifest cannot be read; the store's.
pub async fn delete_orphans(store: &JobStore, nonce: &str, options: FsckOptions) -> Result<Vec<Orphan>> {
    let youngest = store.list_objects().await?.into_iter().max_by_key(|o| o.modified_ms);
    if read_status(store).await?.is_none()
        && let Some(youngest) = youngest
        && options.now_ms.saturating_sub(youngest.modified_ms) < options.grace_ms
    {
        return Err(Error::config(format!(
            "the job has not ended and has written {} only {} s ago: it may be running",
            youngest.path,
            options.now_ms.saturating_sub(youngest.modified_ms) / 1_000
        ))
        .at(store.location())
        .hint("stop the job, or wait for the grace period to pass"));
    }
    let crash = CrashPoints::none();
    let leader = claim_leadership(store, &crash, nonce).await?;
    fence(store, &crash, leader, nonce).await?;
    let check = check_directory(store, options).await?;
    let Some(orphans) = check.orphans else {
        let why = check.problems.first().map(|p| p.what.clone()).unwrap_or_default();
        return Err(Error::data("nothing is deleted while a manifest is unreadable").hint(why));
    };
    if check.half_deleted.is_some() {
        let permit = Permit::of_leader(store, leader).await?;
        claim::release(store, &crash, &permit, nonce).await?;
    }
    // Before the files that say where they are.
    for half in &check.half_written {
        let permit = Permit::of_leader(store, leader).await?;
        savepoint_place::discard(store, &crash, &permit, half.checkpoint, &half.location).await?;
    }
    for some in orphans.chunks(DELETES) {
        let permit = Permit::of_leader(store, leader).await?;
        let paths: Vec<String> = some.iter().map(|o| o.path.clone()).collect();
        store.delete(&permit, &paths).await?;
    }
    Ok(orphans)
}

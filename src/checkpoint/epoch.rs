//! Leadership and the commit point, on nothing but create-if-absent.
//!
//! **Leadership.** `leader/epoch-N` is created by the leader of term N; terms are dense and never deleted. Whoever
//! finds term N+1 is no longer the leader of term N.
//!
//! **Commit log.** `epochs/epoch-N.record` is the N-th entry of a dense log; the last one names the newest completed
//! checkpoint. A commit is an entry at the place right after the last one its writer knows, so of two writers with
//! the same knowledge one loses. A leader that (re)starts first takes the next place with an entry that repeats the
//! newest checkpoint: any commit begun before by anybody then finds its place taken.
//!
//! Old entries are deleted. A writer that slept so long that its place is free again is found out by the leadership
//! check that follows every commit, because the entries can only have been deleted by a later leader.
//!
//! An entry whose write gave no clear answer is read back: the nonce tells whose it is.
//!
//! **The end.** A job ends with an entry that says how. No leader runs a job whose log ends with one; those that clean up
//! behind it repeat it. `status.json` is written after that entry, so whoever finds the file finds an ended job.

use crate::checkpoint::claim::CLAIM_PATH;
use crate::checkpoint::envelope;
use crate::checkpoint::permit::Confirmed;
use crate::checkpoint::status::{not_ended, read_status_file};
use crate::checkpoint::store::Created;
use crate::checkpoint::{
    Commit, CrashPoints, JobStore, Loaded, Manifest, Permit, Rescaled, SAVEPOINT_MANIFEST, TerminalRecord,
    announce, manifest_path, read_history, savepoint_place,
};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CheckpointId, LeaderEpoch};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

const LEADER: &str = "tidegate-leader";
const RECORD: &str = "tidegate-record";

/// Places of the log a restarting leader tries before it gives up; each lost one is another's commit.
const FENCE_TRIES: u32 = 16;

/// Who leads a job, or has led it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaderRecord {
    pub(crate) epoch: LeaderEpoch,
    /// Of this leader alone: whoever answers at its address says which one it has.
    pub(crate) nonce: String,
    /// `host:port` at which the leader can be reached; none if it only leads taskmanagers of its own process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    /// Within what machine or container an address like 127.0.0.1 is the leader's, as far as that can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
}

/// An entry of the commit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EpochRecord {
    pub(crate) number: u64,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) nonce: String,
    /// The newest completed checkpoint.
    pub(crate) checkpoint: Option<Named>,
    /// All retained checkpoints, oldest first, the newest included.
    pub(crate) retained: Vec<CheckpointId>,
    /// The parallelism that a person has asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rescaled: Option<Rescaled>,
    /// How the job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<TerminalRecord>,
}

impl EpochRecord {
    /// The entry behind the last one, which says the same but for its writer.
    fn after(head: Option<Self>, leader_epoch: LeaderEpoch, nonce: &str) -> Self {
        let nonce = nonce.to_owned();
        match head {
            Some(head) => Self { number: head.number + 1, leader_epoch, nonce, ..head },
            None => Self {
                number: 1,
                leader_epoch,
                nonce,
                checkpoint: None,
                retained: Vec::new(),
                rescaled: None,
                ended: None,
            },
        }
    }
}

/// A checkpoint with the nonce of its manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) id: CheckpointId,
    pub(crate) nonce: String,
}

/// What became of a commit.
#[derive(Debug)]
pub(crate) enum CommitOutcome {
    /// It is durable, and there was no later leader behind that.
    Committed(Confirmed),
    /// The checkpoint's name is taken; nothing was committed and this checkpoint never will be.
    Refused(Error),
}

pub(crate) fn record_path(number: u64) -> String {
    format!("epochs/epoch-{number}.record")
}

pub(crate) fn leader_path(epoch: u64) -> String {
    format!("leader/epoch-{epoch}")
}

/// The number of the entry of the commit log with this path.
pub(crate) fn record_number(path: &str) -> Option<u64> {
    number_in(path, "epochs/epoch-", ".record")
}

/// The term whose leader's file has this path.
pub(crate) fn leader_number(path: &str) -> Option<u64> {
    number_in(path, "leader/epoch-", "")
}

/// The number in a name like `<prefix>N<suffix>`.
pub(crate) fn number_in(name: &str, prefix: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
    let number: u64 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

/// Claims the next term of leadership. `nonce` must be unique to the caller; of two callers at once one gets an
/// error of kind `Fenced`.
pub async fn claim_leadership(store: &JobStore, crash: &CrashPoints, nonce: &str) -> Result<LeaderEpoch> {
    let newest = newest_term(store).await?.map_or(0, |(term, _)| term);
    let leader =
        LeaderRecord { epoch: LeaderEpoch(newest + 1), nonce: nonce.to_owned(), address: None, host: None };
    claim_term(store, crash, &leader).await
}

/// The newest term and the record of it.
async fn newest_term(store: &JobStore) -> Result<Option<(u64, Bytes)>> {
    let listed = store.list("leader").await?;
    let mut term = listed.iter().filter_map(|p| leader_number(p)).max().unwrap_or(0);
    let mut found = match term {
        0 => None,
        n => store.get(&leader_path(n)).await?,
    };
    // A listing may be out of date; terms are dense.
    while let Some(next) = store.get(&leader_path(term + 1)).await? {
        term += 1;
        found = Some(next);
    }
    match found {
        None if term == 0 => Ok(None),
        None => Err(Error::retry("listed, but not there").at(store.shown(&leader_path(term)))),
        Some(bytes) => Ok(Some((term, bytes))),
    }
}

/// The newest leader, whether it is still there or not.
pub(crate) async fn newest_leader(store: &JobStore) -> Result<Option<LeaderRecord>> {
    match newest_term(store).await? {
        Some((term, bytes)) => open_leader(store, term, &bytes).map(Some),
        None => Ok(None),
    }
}

fn open_leader(store: &JobStore, term: u64, bytes: &[u8]) -> Result<LeaderRecord> {
    let path = store.shown(&leader_path(term));
    let found: LeaderRecord = envelope::open(LEADER, bytes, &path)?;
    if found.epoch != LeaderEpoch(term) {
        return Err(Error::data(format!("holds term {}", found.epoch)).at(path));
    }
    Ok(found)
}

/// Claims this term, which must be the one after the newest that was looked at: so nobody who has come since is deposed.
///
/// # Errors
/// Of kind `Fenced` if another one has it.
pub(crate) async fn claim_term(
    store: &JobStore,
    crash: &CrashPoints,
    leader: &LeaderRecord,
) -> Result<LeaderEpoch> {
    crash.reach("leader.before_epoch").await?;
    let epoch = leader.epoch;
    let path = leader_path(epoch.0);
    let created = store.create(&path, envelope::seal(LEADER, leader)?).await;
    if !matches!(created, Ok(Created::Yes)) {
        match read_leader(store, epoch.0).await? {
            Some(found) if found.nonce == leader.nonce => {}
            Some(_) => {
                return Err(Error::fenced(format!("another jobmanager has claimed term {epoch}"))
                    .hint("run one jobmanager per job"));
            }
            None => return Err(created.err().unwrap_or_else(|| store.exists_not(&path))),
        }
    }
    crash.reach("leader.epoch_written").await?;
    Ok(epoch)
}

/// The last entry of the log, if there is any.
pub(crate) async fn head(store: &JobStore) -> Result<Option<EpochRecord>> {
    let listed = store.list("epochs").await?;
    let mut last = listed.iter().filter_map(|p| record_number(p)).max().unwrap_or(0);
    let mut found = match last {
        0 => None,
        n => store.get(&record_path(n)).await?,
    };
    // A listing may be out of date; the log is dense.
    while let Some(next) = store.get(&record_path(last + 1)).await? {
        last += 1;
        found = Some(next);
    }
    match found {
        Some(bytes) => open_record(store, last, &bytes).map(Some),
        None if last == 0 => Ok(None),
        None => Err(Error::retry("listed, but not there").at(store.shown(&record_path(last)))),
    }
}

fn open_record(store: &JobStore, number: u64, bytes: &[u8]) -> Result<EpochRecord> {
    let path = store.shown(&record_path(number));
    let record: EpochRecord = envelope::open(RECORD, bytes, &path)?;
    if record.number != number {
        return Err(Error::data(format!("holds record {}", record.number)).at(path));
    }
    Ok(record)
}

/// An entry of the log, if it is there.
pub(crate) async fn read_record(store: &JobStore, number: u64) -> Result<Option<EpochRecord>> {
    match store.get(&record_path(number)).await? {
        Some(bytes) => open_record(store, number, &bytes).map(Some),
        None => Ok(None),
    }
}

/// Who leads, or has led, in a term, if it is there.
pub(crate) async fn read_leader(store: &JobStore, term: u64) -> Result<Option<LeaderRecord>> {
    match store.get(&leader_path(term)).await? {
        Some(bytes) => open_leader(store, term, &bytes).map(Some),
        None => Ok(None),
    }
}

/// The last entry of the log of a job that nobody leads, and how the job ended. A log that has lost its last entries looks
/// like a shorter one, but the file of how the job ended says how long it was, and which checkpoint was the newest.
pub(crate) async fn whole_head(store: &JobStore) -> Result<(Option<EpochRecord>, Option<TerminalRecord>)> {
    let head = head(store).await?;
    let number = head.as_ref().map_or(0, |record| record.number);
    let found = head.as_ref().and_then(|record| record.checkpoint.as_ref()).map(|named| named.id);
    let file = read_status_file(store).await?;
    if let Some(file) = &file {
        let missing =
            |what: String| Err(Error::data(format!("{what}: entries are missing")).at(store.shown("epochs")));
        if file.record.is_some_and(|last| last > number) {
            let last = file.record.unwrap_or_default();
            return missing(format!(
                "the log ends with {}, and the job ended with {}",
                record_path(number),
                record_path(last)
            ));
        }
        if file.ended.keeps_checkpoints && file.ended.last_checkpoint > found {
            let [ended, found] = [file.ended.last_checkpoint, found]
                .map(|id| id.map_or_else(|| "none".to_owned(), |id| format!("checkpoint {id}")));
            return missing(format!("the newest is {found}, and the job ended with {ended}"));
        }
    }
    let ended = head.as_ref().and_then(|record| record.ended.clone()).or(file.map(|file| file.ended));
    Ok((head, ended))
}

/// Creates an entry; its place may be taken by another one, which is returned.
async fn append(store: &JobStore, _: &Permit, record: &EpochRecord) -> Result<Option<EpochRecord>> {
    let path = record_path(record.number);
    let written = store.create(&path, envelope::seal(RECORD, record)?).await;
    if matches!(written, Ok(Created::Yes)) {
        return Ok(None);
    }
    match store.get(&path).await {
        Ok(Some(bytes)) => {
            let found: EpochRecord = envelope::open(RECORD, &bytes, &store.shown(&path))?;
            Ok((found.nonce != record.nonce).then_some(found))
        }
        // Whether the write will happen after all is unknown; the caller repeats it.
        Ok(None) => Err(written.err().unwrap_or_else(|| store.exists_not(&path))),
        Err(e) => Err(e.with_kind(ErrorKind::Retry)),
    }
}

async fn read_manifest(store: &JobStore, id: CheckpointId) -> Result<Manifest> {
    let path = manifest_path(id);
    let shown = store.shown(&path);
    match store.get(&path).await? {
        Some(bytes) => {
            let manifest = Manifest::decode(&bytes, &shown)?;
            if manifest.checkpoint != id {
                return Err(Error::data(format!("manifest of checkpoint {}", manifest.checkpoint)).at(shown));
            }
            Ok(manifest)
        }
        None => Err(Error::data("the manifest is missing").at(shown)),
    }
}

async fn manifest_of(store: &JobStore, named: &Named) -> Result<Manifest> {
    let manifest = read_manifest(store, named.id).await?;
    if manifest.nonce != named.nonce {
        let shown = store.shown(&manifest.path());
        return Err(Error::data("not the manifest that was committed").at(shown));
    }
    Ok(manifest)
}

/// The newest completed checkpoint of a job; `None` if it never completed one. An unreadable one is an error, never
/// a reason to return an older one.
pub async fn latest_completed(store: &JobStore) -> Result<Option<Manifest>> {
    let (head, _) = whole_head(store).await?;
    match head.and_then(|r| r.checkpoint) {
        Some(named) => manifest_of(store, &named).await.map(Some),
        None => Ok(None),
    }
}

/// Reads the manifest in `chk-<id>`, completed or not.
pub(crate) async fn checkpoint_manifest(store: &JobStore, id: CheckpointId) -> Result<Manifest> {
    read_manifest(store, id).await
}

/// Takes the next place of the log with an entry that repeats the last one but for what `change` does to it, and returns
/// it. Repeating it with the same nonce is fine.
pub(crate) async fn take_place(
    store: &JobStore,
    crash: &CrashPoints,
    point: &str,
    permit: &Permit,
    nonce: &str,
    change: impl Fn(&mut EpochRecord) -> Result<()>,
) -> Result<EpochRecord> {
    let leader_epoch = permit.leader_epoch();
    for _ in 0..FENCE_TRIES {
        let head = head(store).await?;
        match head {
            Some(head) if head.leader_epoch > leader_epoch => {
                return Err(Error::fenced(format!("the leader of term {} has the job", head.leader_epoch)));
            }
            Some(head) if head.leader_epoch == leader_epoch && head.nonce == nonce => return Ok(head),
            head => {
                let mut mine = EpochRecord::after(head, leader_epoch, nonce);
                change(&mut mine)?;
                crash.reach(point).await?;
                if append(store, permit, &mine).await?.is_none() {
                    return Ok(mine);
                }
            }
        }
    }
    Err(Error::retry("the commit log keeps moving").at(store.shown("epochs")))
}

/// Takes the next place of the log and returns the newest completed checkpoint, for a leader that runs the job.
///
/// # Errors
/// Fenced if there is a later leader, or if the job has ended; a data error if what the log names cannot be read; the
/// store's.
pub(crate) async fn load_latest(
    store: &JobStore,
    crash: &CrashPoints,
    leader_epoch: LeaderEpoch,
    nonce: &str,
    rescaled: Option<Rescaled>,
) -> Result<Loaded> {
    load(store, crash, leader_epoch, nonce, |mine| {
        mine.rescaled = rescaled.or(mine.rescaled);
        not_ended(mine)
    })
    .await
}

/// As [`load_latest`], for one that takes the job over only to claim it: it may have ended.
pub(crate) async fn load_claimed(
    store: &JobStore,
    crash: &CrashPoints,
    leader_epoch: LeaderEpoch,
    nonce: &str,
) -> Result<Loaded> {
    load(store, crash, leader_epoch, nonce, |_| Ok(())).await
}

/// Takes the next place of the log, for one that takes the job over only to clean up behind it: it may have ended, and have
/// deleted its checkpoints.
pub(crate) async fn fence(
    store: &JobStore,
    crash: &CrashPoints,
    leader_epoch: LeaderEpoch,
    nonce: &str,
) -> Result<()> {
    let permit = Permit::of_leader(store, leader_epoch).await?;
    take_place(store, crash, "recover.before_fence", &permit, nonce, |_| Ok(())).await.map(drop)
}

async fn load(
    store: &JobStore,
    crash: &CrashPoints,
    leader_epoch: LeaderEpoch,
    nonce: &str,
    change: impl Fn(&mut EpochRecord) -> Result<()>,
) -> Result<Loaded> {
    crash.reach("recover.list").await?;
    let permit = Permit::of_leader(store, leader_epoch).await?;
    let record = take_place(store, crash, "recover.before_fence", &permit, nonce, change).await?;
    crash.reach("recover.read_manifest").await?;
    let latest = match &record.checkpoint {
        Some(named) => Some(manifest_of(store, named).await?),
        None => None,
    };
    let mut older = Vec::new();
    for id in record.retained.iter().filter(|id| record.checkpoint.as_ref().is_none_or(|c| c.id != **id)) {
        let manifest = match read_manifest(store, *id).await {
            Ok(manifest) => Some(manifest),
            // Damaged or gone, which does not keep the job from starting.
            Err(e) if e.kind() == ErrorKind::Data => None,
            // What cannot be read just now is not lost: a savepoint taken for a checkpoint would be deleted in time.
            Err(e) => return Err(e),
        };
        older.push((*id, manifest));
    }
    let top = store.list_top().await?;
    let listed = top.iter().filter_map(|name| number_in(name, "chk-", "")).map(CheckpointId).max();
    let highest =
        listed.into_iter().chain(record.retained.iter().copied()).chain(record.checkpoint.map(|c| c.id));
    let highest = highest.max().unwrap_or_default();
    // For people only: a damaged one begins anew.
    let history = read_history(store).await.unwrap_or_default();
    // Whatever it says: sweeping reads it again, and says what is wrong with it.
    let claims = store.get(CLAIM_PATH).await?.is_some();
    Ok(Loaded { latest, record: record.number, rescaled: record.rescaled, highest, older, claims, history })
}

/// Creates a manifest, or finds that it is there already; returns why its name cannot be had, if that is so.
async fn create_manifest(
    store: &JobStore,
    _: &Permit,
    path: &str,
    manifest: &Manifest,
) -> Result<Option<Error>> {
    let written = store.create(path, manifest.encode()?).await;
    if matches!(written, Ok(Created::Yes)) {
        return Ok(None);
    }
    match store.get(path).await? {
        Some(bytes) => {
            let found = Manifest::decode(&bytes, &store.shown(path));
            if found.as_ref().map(|m| m.nonce.as_str()).ok() != Some(&manifest.nonce) {
                let e = Error::restart_job("the name is taken by another manifest").at(store.shown(path));
                return Ok(Some(e));
            }
            Ok(None)
        }
        None => Err(written.err().unwrap_or_else(|| store.exists_not(path))),
    }
}

/// Completes a savepoint: writes its manifest, which names no place, into its own directory.
async fn store_savepoint(
    store: &JobStore,
    crash: &CrashPoints,
    permit: &Permit,
    manifest: &Manifest,
) -> Result<Option<Error>> {
    let Some(location) = &manifest.location else {
        return Err(Error::bug(format!("savepoint {} has no place", manifest.checkpoint)));
    };
    let directory = store.for_base(location, &[])?;
    crash.reach("savepoint.before_manifest").await?;
    let manifest = Manifest { location: None, ..manifest.clone() };
    let refused = create_manifest(&directory, permit, SAVEPOINT_MANIFEST, &manifest).await?;
    crash.reach("savepoint.stored").await?;
    Ok(refused)
}

/// Makes a savepoint complete that the job itself does not go back to.
pub(crate) async fn commit_savepoint(
    store: &JobStore,
    crash: &CrashPoints,
    manifest: &Manifest,
) -> Result<CommitOutcome> {
    let permit = Permit::of_leader(store, manifest.leader_epoch).await?;
    if let Some(location) = &manifest.location {
        match announce(store, manifest.checkpoint, location).await {
            Err(e) if e.kind() == ErrorKind::RestartJob => return Ok(CommitOutcome::Refused(e)),
            announced => announced?,
        }
    }
    let stored = async {
        let refused = store_savepoint(store, crash, &permit, manifest).await?;
        let confirmed = permit.confirm(store).await?;
        Ok(refused.map_or(CommitOutcome::Committed(confirmed), CommitOutcome::Refused))
    };
    unless_fenced(store, crash, manifest, stored.await).await
}

/// A leader that is fenced while it completes a savepoint may have been so for long.
async fn unless_fenced(
    store: &JobStore,
    crash: &CrashPoints,
    manifest: &Manifest,
    outcome: Result<CommitOutcome>,
) -> Result<CommitOutcome> {
    if matches!(&outcome, Err(e) if e.kind() == ErrorKind::Fenced) {
        savepoint_place::withdraw(store, crash, manifest).await?;
    }
    outcome
}

/// Makes a checkpoint the newest completed one: manifest first, then the entry of the log that names it.
pub(crate) async fn commit_checkpoint(
    store: &JobStore,
    crash: &CrashPoints,
    commit: &Commit,
) -> Result<CommitOutcome> {
    let outcome = try_commit(store, crash, commit).await;
    unless_fenced(store, crash, &commit.manifest, outcome).await
}

async fn try_commit(store: &JobStore, crash: &CrashPoints, commit: &Commit) -> Result<CommitOutcome> {
    let manifest = &commit.manifest;
    crash.reach("ack.all_before_manifest").await?;
    let permit = Permit::of_leader(store, manifest.leader_epoch).await?;
    if manifest.location.is_some()
        && let Some(e) = store_savepoint(store, crash, &permit, manifest).await?
    {
        return Ok(CommitOutcome::Refused(e));
    }
    crash.reach("manifest.before_put").await?;
    if let Some(e) = create_manifest(store, &permit, &manifest.path(), manifest).await? {
        return Ok(CommitOutcome::Refused(e));
    }
    crash.reach("manifest.applied_no_reply").await?;
    crash.reach("record.before_put").await?;
    let record = EpochRecord {
        number: commit.record,
        leader_epoch: permit.leader_epoch(),
        nonce: manifest.nonce.clone(),
        checkpoint: Some(Named { id: manifest.checkpoint, nonce: manifest.nonce.clone() }),
        retained: commit.retained.clone(),
        rescaled: commit.rescaled,
        ended: None,
    };
    if let Some(other) = append(store, &permit, &record).await? {
        let what =
            format!("place {} of the commit log was taken in term {}", commit.record, other.leader_epoch);
        // Our own entry is that of an earlier read whose reply was lost: a restart reads the log again.
        let own = other.leader_epoch == manifest.leader_epoch;
        return Err(if own { Error::restart_job(what) } else { Error::fenced(what) });
    }
    crash.reach("record.applied_no_reply").await?;
    if manifest.kind.is_stop() {
        crash.reach("stop.recorded").await?;
    }
    let confirmed = permit.confirm(store).await?;
    crash.reach("complete.before_notify").await?;
    Ok(CommitOutcome::Committed(confirmed))
}

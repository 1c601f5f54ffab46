//! Taking over what a job is restored from, so that it is deleted when the job no longer needs it.
//!
//! What is claimed is a savepoint's directory, or that of a job, whose newest checkpoint is restored. Two files bind it:
//!
//! ```text
//! <claimer>/claim.json     what this job has claimed, and whether it lets go of it; deleted last
//! <claimed>/claimed.json   who has it: created only if absent, and never deleted
//! ```
//!
//! Invariants:
//! - `claim.json` is there before `claimed.json`, and until everything claimed is deleted: so whatever a crash leaves is
//!   found again, by the next sweep of the claimer or by fsck.
//! - Nothing is deleted in a directory whose `claimed.json` does not name the claimer.
//! - A job's directory is deleted from only under that job's leadership, which fences a jobmanager that still runs it; and
//!   only as a whole, so that no checkpoint kept there names a file that is gone.

use crate::checkpoint::epoch::{claim_leadership, head, latest_completed, load_claimed, number_in};
use crate::checkpoint::execute::delete_all_checkpoints;
use crate::checkpoint::status::end_again;
use crate::checkpoint::store::Created;
use crate::checkpoint::{
    CrashPoints, JobStore, Manifest, Permit, RestoreFrom, SAVEPOINT_MANIFEST, TerminalRecord, TerminalStatus,
    envelope, read_status,
};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CheckpointId, JobId, LeaderEpoch};
use serde::{Deserialize, Serialize};

const CLAIM: &str = "tidegate-claim";
const CLAIMED: &str = "tidegate-claimed";
pub(crate) const CLAIM_PATH: &str = "claim.json";
pub(crate) const CLAIMED_PATH: &str = "claimed.json";

/// What becomes of the checkpoint or savepoint that a job starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestoreMode {
    /// It is only read, and stays its owner's.
    #[default]
    NoClaim,
    /// It becomes the job's, which deletes it once it has enough checkpoints of its own.
    Claim,
}

/// What a job has claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// The directory, as [`JobStore::location`] names it.
    pub(crate) location: String,
    /// The checkpoint in it that was restored.
    pub(crate) checkpoint: CheckpointId,
    /// Whether it is a savepoint's directory and not a job's.
    pub(crate) is_savepoint: bool,
    /// Whether it is to be deleted.
    pub(crate) released: bool,
}

/// Who has claimed a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claimed {
    pub(crate) job: JobId,
    /// Its directory.
    pub(crate) by: String,
}

async fn read<T: serde::de::DeserializeOwned>(store: &JobStore, kind: &str, path: &str) -> Result<Option<T>> {
    match store.get(path).await? {
        Some(bytes) => envelope::open(kind, &bytes, &store.shown(path)).map(Some),
        None => Ok(None),
    }
}

/// What the job in this directory has claimed and not yet deleted.
pub(crate) async fn read_claim(store: &JobStore) -> Result<Option<Claim>> {
    read(store, CLAIM, CLAIM_PATH).await
}

/// Who has claimed this directory.
pub(crate) async fn read_claimed(store: &JobStore) -> Result<Option<Claimed>> {
    read(store, CLAIMED, CLAIMED_PATH).await
}

/// Makes what is restored the property of the job that this leader has, whose directory `store` is, and returns it: of a
/// job that was still running perhaps a newer checkpoint, unless `exact` asks for this one. Repeating it is fine.
///
/// # Errors
/// A config error if another job has it, or if it is not the newest checkpoint of its job; the store's.
pub(crate) async fn claim(
    store: &JobStore,
    crash: &CrashPoints,
    leader_epoch: LeaderEpoch,
    restore: RestoreFrom,
    exact: bool,
    nonce: &str,
) -> Result<RestoreFrom> {
    let source = store.for_base(&restore.base, &[])?;
    let permit = Permit::of_leader(store, leader_epoch).await?;
    let claiming = Claiming { store, permit, source: &source, crash, nonce };
    claiming.claim(restore, exact).await.map_err(|e| e.at(format!("cannot claim {}", source.location())))
}

/// Whether a place that a person names is one checkpoint of a job.
pub(crate) fn names_checkpoint(path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix("/manifest.json").unwrap_or(path);
    path.rsplit('/').next().is_some_and(|last| number_in(last, "chk-", "").is_some())
}

struct Claiming<'a> {
    /// The directory of the job that claims.
    store: &'a JobStore,
    permit: Permit,
    /// What it claims.
    source: &'a JobStore,
    crash: &'a CrashPoints,
    nonce: &'a str,
}

impl Claiming<'_> {
    async fn claim(&self, restore: RestoreFrom, exact: bool) -> Result<RestoreFrom> {
        let is_savepoint = restore.manifest.kind.is_savepoint();
        if exact && !is_savepoint {
            check_newest(&restore.manifest, latest_completed(self.source).await?.as_ref())?;
        }
        self.write_claim(&restore.manifest).await?;
        self.crash.reach("claim.before_mark").await?;
        if let Err(e) = self.mark().await {
            if e.kind() == ErrorKind::Config {
                self.store.delete(&self.permit, &[CLAIM_PATH.to_owned()]).await?;
            }
            return Err(e);
        }
        self.crash.reach("claim.marked").await?;
        if is_savepoint {
            return Ok(restore);
        }
        let epoch = claim_leadership(self.source, self.crash, self.nonce).await?;
        // From here on the job that is claimed completes nothing any more.
        let newest = load_claimed(self.source, self.crash, epoch, self.nonce).await?.latest;
        match newest {
            Some(newest) if !newest.kind.is_savepoint() => {
                self.write_claim(&newest).await?;
                Ok(RestoreFrom { manifest: newest, ..restore })
            }
            newest => {
                let of_source = Permit::of_leader(self.source, epoch).await?;
                self.source.delete(&of_source, &[CLAIMED_PATH.to_owned()]).await?;
                self.store.delete(&self.permit, &[CLAIM_PATH.to_owned()]).await?;
                Err(Error::config("the job has ended meanwhile").hint(
                    match newest.and_then(|m| m.location) {
                        Some(savepoint) => format!("it has stopped with a savepoint: {savepoint}"),
                        None => "it has deleted its checkpoints".to_owned(),
                    },
                ))
            }
        }
    }

    async fn write_claim(&self, restored: &Manifest) -> Result<()> {
        let claim = Claim {
            location: self.source.location(),
            checkpoint: restored.checkpoint,
            is_savepoint: restored.kind.is_savepoint(),
            released: false,
        };
        self.store.replace(&self.permit, CLAIM_PATH, envelope::seal(CLAIM, &claim)?).await
    }

    /// Writes into the claimed directory whose it is.
    async fn mark(&self) -> Result<()> {
        let Self { store, source, .. } = self;
        let mine = Claimed { job: store.id(), by: store.location() };
        let body = envelope::seal(CLAIMED, &mine)?;
        let created = source.create(CLAIMED_PATH, body.clone()).await;
        if matches!(created, Ok(Created::Yes)) {
            return Ok(());
        }
        let Some(found) = read_claimed(source).await? else {
            created?;
            return Err(source.exists_not(CLAIMED_PATH));
        };
        if found == mine {
            return Ok(());
        }
        let other = store.for_base(&found.by, &[])?;
        let refused = |what: &str, hint: &str| {
            let text = format!("job {} has claimed it and {what}", found.job);
            Err(Error::config(text).hint(format!("{hint}; its directory is {}", found.by)))
        };
        if read_status(&other).await?.is_none() {
            return refused(
                "has not ended, as far as is known",
                "stop it; if its process is dead, restore from its own checkpoints, or with --restore-mode no-claim \
                 if it has none",
            );
        }
        // It has ended, and whoever takes its leadership is the only one who may pass the claim on.
        let epoch = claim_leadership(&other, self.crash, self.nonce).await?;
        if latest_completed(&other).await?.is_some() {
            return refused("has gone on from it", "restore from the checkpoints of that job");
        }
        let permit = Permit::of_leader(&other, epoch).await?;
        source.replace(&permit, CLAIMED_PATH, body).await?;
        permit.confirm(&other).await.map(drop)
    }
}

fn check_newest(wanted: &Manifest, newest: Option<&Manifest>) -> Result<()> {
    if newest.is_some_and(|newest| newest.nonce == wanted.nonce) {
        return Ok(());
    }
    let newest = newest.map_or_else(|| "none".to_owned(), |m| format!("checkpoint {}", m.checkpoint));
    Err(Error::config(format!(
        "the newest checkpoint of the job is {newest}, not checkpoint {}",
        wanted.checkpoint
    ))
    .hint("claim the newest one, by naming the job's directory, or restore with --restore-mode no-claim"))
}

/// Deletes what the job has claimed, if anything: for the leader of the job, when it needs it no more. Returns how many
/// objects went.
pub(crate) async fn release(
    store: &JobStore,
    crash: &CrashPoints,
    permit: &Permit,
    nonce: &str,
) -> Result<u64> {
    let Some(claim) = read_claim(store).await? else { return Ok(0) };
    if !claim.released {
        let released = Claim { released: true, ..claim.clone() };
        store.replace(permit, CLAIM_PATH, envelope::seal(CLAIM, &released)?).await?;
    }
    crash.reach("claim.released").await?;
    let source = store.for_base(&claim.location, &[])?;
    let deleted = match read_claimed(&source).await? {
        Some(claimed) if claimed.by == store.location() => {
            delete(&source, &claim, crash, permit, nonce).await.map_err(|e| e.at(&claim.location))?
        }
        // Whoever has it now deletes it.
        _ => 0,
    };
    crash.reach("claim.before_forget").await?;
    store.delete(permit, &[CLAIM_PATH.to_owned()]).await?;
    Ok(deleted)
}

/// `permit` is of the job that has claimed it.
async fn delete(
    source: &JobStore,
    claim: &Claim,
    crash: &CrashPoints,
    permit: &Permit,
    nonce: &str,
) -> Result<u64> {
    if claim.is_savepoint {
        // What a person has put beside them stays.
        let is_ours = |path: &str| {
            path.split_once('/').is_some_and(|(directory, _)| number_in(directory, "chk-", "").is_some())
        };
        let objects = source.list_objects().await?;
        let files: Vec<String> = objects.into_iter().map(|o| o.path).filter(|path| is_ours(path)).collect();
        source.delete(permit, &[SAVEPOINT_MANIFEST.to_owned()]).await?;
        crash.reach("claim.k_of_n").await?;
        source.delete(permit, &files).await?;
        return Ok(files.len() as u64 + 1);
    }
    let epoch = claim_leadership(source, crash, nonce).await?;
    // What it had claimed in turn was its own, and so is ours.
    let permit = Permit::of_leader(source, epoch).await?;
    let inner = Box::pin(release(source, crash, &permit, nonce)).await?;
    say_deleted(source, crash, epoch, claim.checkpoint).await?;
    crash.reach("claim.k_of_n").await?;
    Ok(inner + delete_all_checkpoints(source, crash, &permit).await?)
}

/// From now on the checkpoints of the claimed job are left over.
async fn say_deleted(
    source: &JobStore,
    crash: &CrashPoints,
    leader_epoch: LeaderEpoch,
    newest: CheckpointId,
) -> Result<()> {
    let known = match read_status(source).await {
        Err(e) if e.kind() != ErrorKind::Data => return Err(e),
        known => known.unwrap_or_default(),
    };
    let record = match known {
        Some(known) => TerminalRecord { leader_epoch, keeps_checkpoints: false, ..known },
        None => TerminalRecord {
            job: source.id(),
            leader_epoch,
            status: TerminalStatus::Canceled,
            failure: None,
            last_checkpoint: Some(newest),
            savepoint: None,
            keeps_checkpoints: false,
        },
    };
    end_again(source, crash, &record).await
}

/// Whether the checkpoints, or the savepoint, in this directory are gone because a job that had claimed it has deleted
/// them, or is about to.
pub(crate) async fn is_claimed_away(directory: &JobStore) -> Result<bool> {
    if directory.get(SAVEPOINT_MANIFEST).await?.is_some() || read_claimed(directory).await?.is_none() {
        return Ok(false);
    }
    let is_job = head(directory).await?.is_some();
    Ok(!is_job || read_status(directory).await?.is_some_and(|status| !status.keeps_checkpoints))
}

//! What lies at a place: a checkpoint store, a job's directory in it, a checkpoint, a savepoint. For tools that look at
//! a store from outside, whether the jobs in it run or not. Reads only.

use crate::checkpoint::epoch::{checkpoint_manifest, number_in, whole_head};
use crate::checkpoint::resolve::absolute;
use crate::checkpoint::{CheckpointStore, JobStore, Manifest, SAVEPOINT_MANIFEST, read_savepoint};
use crate::error::{Error, Result};
use crate::id::{CheckpointId, JobId};
use std::time::Duration;

/// How long tools wait for a call: as long as a job that does not say otherwise.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// What a location names.
#[derive(Clone, Debug)]
pub enum Place {
    /// The directory of many jobs.
    Root(CheckpointStore),
    /// The directory of one job.
    Job(JobStore),
    /// One checkpoint in a job's directory.
    Checkpoint(JobStore, CheckpointId),
    /// A savepoint's directory.
    Savepoint(JobStore),
}

/// A checkpoint or savepoint with the directory its files are relative to.
#[derive(Clone, Debug)]
pub struct StoredCheckpoint {
    /// What it consists of.
    pub manifest: Manifest,
    /// Where its files are.
    pub files: JobStore,
    /// Where its manifest is: the directory of the job, or its own.
    pub job: JobStore,
    /// How people name it.
    pub location: String,
}

/// The completed checkpoints of a job, oldest first, as far as their manifests can be read.
#[derive(Debug)]
pub struct Inspected {
    /// The number, and the checkpoint or what is wrong with it.
    pub checkpoints: Vec<(CheckpointId, Result<StoredCheckpoint>)>,
    /// The newest completed one.
    pub newest: Option<CheckpointId>,
}

/// Finds out what lies at `location`, a path or URL.
///
/// Needs a tokio runtime with a timer: no call of the store is waited for longer than a minute.
///
/// # Errors
/// A config error if there is nothing; the store's.
pub async fn open_place(location: &str, options: &[(String, String)]) -> Result<Place> {
    open(location, options).await.map_err(|e| e.at(location))
}

async fn open(location: &str, options: &[(String, String)]) -> Result<Place> {
    let absolute = absolute(location)?;
    let trimmed = absolute.trim_end_matches('/');
    let trimmed = trimmed.strip_suffix("/manifest.json").unwrap_or(trimmed);
    if let Some((parent, last)) = split(trimmed) {
        if let (Some(id), Some((root, job))) = (number_in(last, "chk-", ""), split(parent)) {
            let job = directory(root, job, options)?;
            if job.get(&format!("chk-{id}/{SAVEPOINT_MANIFEST}")).await?.is_none() {
                return Err(Error::config("no complete checkpoint").hint("it has no manifest.json"));
            }
            return Ok(Place::Checkpoint(job, CheckpointId(id)));
        }
        let directory = directory(parent, last, options)?;
        if let Some(place) = directory_kind(&directory).await? {
            return Ok(place);
        }
    }
    let root = CheckpointStore::open_existing(trimmed, options)?.with_call_timeout(CALL_TIMEOUT);
    if root.list_jobs().await?.is_empty() {
        return Err(Error::config("neither a checkpoint directory, nor a job's, nor a savepoint")
            .hint("name the directory of checkpoint.dir, one below it, or a savepoint"));
    }
    Ok(Place::Root(root))
}

/// What a directory below a root is; `None` if neither a job's nor a savepoint's.
async fn directory_kind(directory: &JobStore) -> Result<Option<Place>> {
    let found = directory.list_top().await?;
    let has = |name: &str| found.iter().any(|found| found == name);
    Ok(if has(SAVEPOINT_MANIFEST) {
        Some(Place::Savepoint(directory.clone()))
    } else if has("leader") || has("epochs") {
        Some(Place::Job(directory.clone()))
    } else {
        None
    })
}

fn directory(root: &str, name: &str, options: &[(String, String)]) -> Result<JobStore> {
    CheckpointStore::open_existing(root, options)?
        .with_call_timeout(CALL_TIMEOUT)
        .job(&JobId::from(name.to_owned()))
}

fn split(location: &str) -> Option<(&str, &str)> {
    let (parent, last) = location.rsplit_once('/')?;
    // The root of a file system or of a bucket is no job.
    (!parent.is_empty() && !parent.ends_with("//") && !parent.ends_with(':')).then_some((parent, last))
}

impl CheckpointStore {
    /// The jobs' directories and the savepoints directly below, and those in `savepoints`, in order.
    ///
    /// # Errors
    /// The store's.
    pub async fn places(&self) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        let mut names = self.list_jobs().await?;
        names.sort();
        for name in names {
            let Ok(directory) = self.job(&JobId::from(name.clone())) else { continue };
            match directory_kind(&directory).await? {
                Some(place) => places.push(place),
                None if name == "savepoints" => {
                    let inner = self.reopen(&format!("{}/savepoints", self.location()), &[])?;
                    places.extend(Box::pin(inner.places()).await?);
                }
                None => {}
            }
        }
        Ok(places)
    }
}

impl JobStore {
    /// The completed checkpoints of the job that the commit log names.
    ///
    /// # Errors
    /// The store's, and a data error if the commit log cannot be read. A manifest that cannot be read is in the
    /// result.
    pub async fn inspect(&self) -> Result<Inspected> {
        let none = Inspected { checkpoints: Vec::new(), newest: None };
        let (Some(record), status) = whole_head(self).await? else { return Ok(none) };
        if status.is_some_and(|status| !status.keeps_checkpoints) {
            return Ok(none);
        }
        let mut checkpoints = Vec::new();
        for id in record.retained {
            let nonce = record.checkpoint.as_ref().filter(|c| c.id == id).map(|c| c.nonce.as_str());
            checkpoints.push((id, self.committed(id, nonce).await));
        }
        Ok(Inspected { checkpoints, newest: record.checkpoint.map(|c| c.id) })
    }

    /// Whether the commit log (still) keeps this checkpoint; true of the directory of a savepoint, which has no log.
    ///
    /// # Errors
    /// The store's, and a data error if the commit log cannot be read.
    pub async fn retains(&self, id: CheckpointId) -> Result<bool> {
        let (head, _) = whole_head(self).await?;
        Ok(head.is_none_or(|record| record.retained.contains(&id)))
    }

    async fn committed(&self, id: CheckpointId, nonce: Option<&str>) -> Result<StoredCheckpoint> {
        let stored = self.stored(id).await?;
        if nonce.is_some_and(|nonce| nonce != stored.manifest.nonce) {
            let shown = self.shown(&stored.manifest.path());
            return Err(Error::data("not the manifest that was committed").at(shown));
        }
        Ok(stored)
    }

    /// The checkpoint with this number, whether the commit log names it or not.
    ///
    /// # Errors
    /// The store's, and a data error if the manifest is missing or damaged.
    pub async fn stored(&self, id: CheckpointId) -> Result<StoredCheckpoint> {
        let manifest = checkpoint_manifest(self, id).await?;
        let files = self.for_base(manifest.location.as_deref().unwrap_or_default(), &[])?;
        let location = self.shown(&format!("chk-{id}"));
        Ok(StoredCheckpoint { manifest, files, job: self.clone(), location })
    }

    /// The savepoint in this directory.
    ///
    /// # Errors
    /// The store's, and a data error if its manifest is missing or damaged.
    pub async fn savepoint(&self) -> Result<StoredCheckpoint> {
        match read_savepoint(self).await? {
            Some(manifest) => {
                let (files, job, location) = (self.clone(), self.clone(), self.location());
                Ok(StoredCheckpoint { manifest, files, job, location })
            }
            None => Err(Error::data("the manifest is missing").at(self.shown(SAVEPOINT_MANIFEST))),
        }
    }
}

impl Place {
    /// The one checkpoint that is meant: the savepoint, the checkpoint, or the newest one of the job.
    ///
    /// # Errors
    /// A config error if there is none, or if a root was named; the store's; a data error if it is damaged.
    pub async fn checkpoint(&self) -> Result<StoredCheckpoint> {
        match self {
            Self::Savepoint(directory) => directory.savepoint().await,
            Self::Checkpoint(job, id) => job.stored(*id).await,
            Self::Job(job) => {
                let inspected = job.inspect().await?;
                let newest = inspected.checkpoints.into_iter().find(|(id, _)| Some(*id) == inspected.newest);
                match newest {
                    Some((_, stored)) => stored,
                    None => Err(Error::config("the job has no completed checkpoint").at(job.location())),
                }
            }
            Self::Root(root) => Err(Error::config("the directory of many jobs")
                .at(root.location())
                .hint("name a job's directory in it, a checkpoint or a savepoint")),
        }
    }
}

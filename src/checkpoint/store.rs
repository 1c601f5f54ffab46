//! The checkpoint store: a directory or bucket in which every job has its own directory.
//!
//! ```text
//! <root>/<job>/leader/epoch-N          terms of leadership
//!             /epochs/epoch-N.record   the commit log
//!             /chk-N/manifest.json     a checkpoint ...
//!             /chk-N/<files>           ... and the files it brought
//!             /status.json             how the job ended
//! ```
//!
//! Invariants: an object is written once, under a name never used before (`status.json`, `history.json` and the files of a claim apart); no call waits for ever
//! once a time limit is set; what creates an object only if it is absent is never repeated here.

use crate::checkpoint::calls::Calls;
use crate::checkpoint::manifest::is_safe_path;
use crate::checkpoint::{Permit, open, staged};
use crate::error::{Error, Result};
use crate::id::JobId;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::{Path, PathPart};
use object_store::{
    Error as StoreError, GetResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions, PutPayload,
};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Where checkpoints live. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    store: Arc<dyn ObjectStore>,
    root: Path,
    location: Arc<str>,
    /// The directory, if it is one of this machine's file system.
    local: Option<Arc<std::path::Path>>,
    calls: Calls,
}

/// The directory of one job. Paths are relative to it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct JobStore {
    root: CheckpointStore,
    dir: Path,
}

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectInfo {
    /// Below the job's directory.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    /// When it was written, in milliseconds since the Unix epoch of the store's clock.
    pub(crate) modified_ms: u64,
}

/// What became of an attempt to create an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    /// It did not exist and does now.
    Yes,
    /// It exists already, or another one was just then creating it, which may not come to anything: it is to be read.
    Exists,
}

impl CheckpointStore {
    /// Opens `location`: a local directory, which is created, or a URL (`file`, `memory`, `s3`, `gs`, `az` and
    /// their relatives, as far as the build has the feature). `options` go to the store's client.
    pub fn open(location: &str, options: &[(String, String)]) -> Result<Self> {
        open::open(location, options, true)
    }

    /// Like [`CheckpointStore::open`], but a local directory must exist.
    pub fn open_existing(location: &str, options: &[(String, String)]) -> Result<Self> {
        open::open(location, options, false)
    }

    /// A store over any object store, below `root`; `location` is how it is shown and named in `base`.
    pub fn over(store: Arc<dyn ObjectStore>, root: &str, location: &str) -> Self {
        let location = location.trim_end_matches('/').into();
        Self { store, root: Path::from(root), location, local: None, calls: Calls::Plain }
    }

    /// Of a directory of this machine.
    pub(super) fn in_directory(
        store: Arc<dyn ObjectStore>,
        directory: &std::path::Path,
        location: &str,
    ) -> Self {
        Self { local: Some(directory.into()), ..Self::over(store, "", location) }
    }

    /// The same store, no call of which takes longer than `limit`: a read of at most 8 MiB, a write of at most 8 MiB,
    /// a listing. Calls that can be repeated without harm are made up to three times if their errors may pass; a
    /// call that was not answered in time is such an error, of kind [`Retry`](crate::error::ErrorKind::Retry). Such a
    /// store can only be used on a tokio runtime with a timer. Without a limit a call waits for ever, and is made once.
    #[must_use]
    pub fn with_call_timeout(self, limit: Duration) -> Self {
        Self { calls: Calls::Limited(limit), ..self }
    }

    /// An empty store in memory.
    pub fn in_memory() -> Self {
        Self::over(Arc::new(object_store::memory::InMemory::new()), "", open::MEMORY)
    }

    /// How the store is named: a path or a URL.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Whether both are places in one store, which can then copy from one to the other by itself.
    pub(crate) fn shares_objects_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.store, &other.store)
    }

    /// Whether it is gone with the process.
    pub fn is_in_memory(&self) -> bool {
        &*self.location == open::MEMORY
    }

    /// Checks that the store can be written, read and deleted from, and that it can create an object only if it
    /// is absent, which everything else rests on.
    pub async fn probe(&self) -> Result<()> {
        open::probe(&*self.store, &self.root, self.calls)
            .await
            .map_err(|e| e.at(format!("checkpoint store {}", self.location)))
    }

    /// The directory of `job`. Refuses an id that is no name of a directory.
    pub fn job(&self, job: &JobId) -> Result<JobStore> {
        let id = job.as_str();
        // Copies of savepoints are called as people like; a name that the store would write otherwise is none.
        if id.is_empty() || matches!(id, "." | "..") || id.contains('/') || PathPart::from(id).as_ref() != id
        {
            return Err(Error::config(format!("{id:?} cannot be the name of a directory"))
                .hint("use letters, digits, ' ', '-', '_' and '.'"));
        }
        Ok(JobStore { root: self.clone(), dir: self.root.clone().join(id) })
    }

    /// What starting jobs have written to try the store out, and did not live to delete.
    pub(crate) async fn list_probes(&self) -> Result<Vec<ObjectInfo>> {
        let list = || async {
            let found = self.calls.once(self.store.list_with_delimiter(Some(&self.root))).await;
            found.map_err(|e| open::classify(e, "cannot list").at(&self.location))
        };
        let found = self.calls.repeated(list).await?.objects;
        Ok(found.iter().filter_map(info_of_probe).collect())
    }

    /// Deletes some of them.
    pub(crate) async fn delete_probes(&self, probes: &[String]) -> Result<()> {
        for probe in probes {
            match self.calls.once(self.store.delete(&self.root.clone().join(probe.as_str()))).await {
                Ok(()) | Err(StoreError::NotFound { .. }) => {}
                Err(e) => return Err(open::classify(e, "cannot delete").at(&self.location)),
            }
        }
        Ok(())
    }

    /// The names directly below the root.
    pub async fn list_jobs(&self) -> Result<Vec<String>> {
        let list = || async {
            let found = self.calls.once(self.store.list_with_delimiter(Some(&self.root))).await;
            found.map_err(|e| open::classify(e, "cannot list").at(&self.location))
        };
        let found = self.calls.repeated(list).await?;
        Ok(found.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_owned)).collect())
    }
}

impl JobStore {
    /// The job whose directory it is, by the directory's name.
    pub(crate) fn id(&self) -> JobId {
        JobId::from(self.dir.filename().unwrap_or_default().to_owned())
    }

    /// How the directory is named: what other jobs put into `base` to restore from it.
    pub fn location(&self) -> String {
        match self.dir.filename() {
            Some(job) => format!("{}/{job}", self.root.location),
            None => self.root.location.to_string(),
        }
    }

    /// The directory that handles restored with `base` are relative to: this one if it is empty.
    pub fn for_base(&self, base: &str, options: &[(String, String)]) -> Result<Self> {
        if base.is_empty() {
            return Ok(self.clone());
        }
        let (root, job) =
            base.rsplit_once('/').ok_or_else(|| Error::data(format!("{base:?} is not a job directory")))?;
        let store = self.root.reopen(root, options)?;
        store.job(&JobId::from(job.to_owned()))
    }

    /// Stores a new file and returns its length and CRC32. Repeating the call with the same bytes succeeds.
    pub async fn put_file(&self, path: &str, bytes: Bytes) -> Result<(u64, u32)> {
        let (length, crc) = (bytes.len() as u64, crc32fast::hash(&bytes));
        let create = || async {
            match self.create(path, bytes.clone()).await? {
                Created::Yes => Ok(()),
                Created::Exists => match self.get(path).await? {
                    Some(found) if found == bytes => Ok(()),
                    Some(_) => {
                        Err(Error::bug("a file of another content has this name").at(self.shown(path)))
                    }
                    None => Err(self.exists_not(path)),
                },
            }
        };
        self.calls().repeated(create).await.map(|()| (length, crc))
    }

    /// Copies a file of another directory of this store, to the same path in this one, without reading it. Repeating the call
    /// is fine.
    ///
    /// # Errors
    /// Of kind `Data` if there is no such file; the store's.
    pub(crate) async fn copy_from(&self, source: &Self, path: &str) -> Result<()> {
        if !source.root.shares_objects_with(&self.root) {
            return Err(Error::bug("files are copied between two stores").at(source.shown(path)));
        }
        let copy = || async {
            let (from, to) = (source.path(path), self.path(path));
            let copied = self.calls().once(async { self.root.store.copy(&from?, &to?).await }).await;
            copied.map_err(|e| match e {
                StoreError::NotFound { .. } => Error::data("the file is missing"),
                e => open::classify(e, "cannot copy"),
            })
        };
        self.calls().repeated(copy).await.map_err(|e| e.at(source.shown(path)))
    }

    /// For what is said to exist and cannot be read: a store says so of an object that another one was about to write.
    pub(crate) fn exists_not(&self, path: &str) -> Error {
        Error::retry("exists and is not there").at(self.shown(path))
    }

    /// The bytes of an object; `None` if there is none.
    pub async fn get(&self, path: &str) -> Result<Option<Bytes>> {
        let read = || async {
            let read = async { self.start_get(path).await?.bytes().await };
            match self.calls().once(read).await {
                Ok(bytes) => Ok(Some(bytes)),
                Err(StoreError::NotFound { .. }) => Ok(None),
                Err(e) => Err(open::classify(e, "cannot read").at(self.shown(path))),
            }
        };
        self.calls().repeated(read).await
    }

    /// Whether there is such an object.
    pub(crate) async fn exists(&self, path: &str) -> Result<bool> {
        let head = || async {
            match self.calls().once(self.head(path)).await {
                Ok(_) => Ok(true),
                Err(StoreError::NotFound { .. }) => Ok(false),
                Err(e) => Err(open::classify(e, "cannot read").at(self.shown(path))),
            }
        };
        self.calls().repeated(head).await
    }

    /// Creates an object unless it exists. After an error it may exist or not.
    pub(crate) async fn create(&self, path: &str, bytes: impl Into<PutPayload>) -> Result<Created> {
        match self.put(path, bytes.into(), PutMode::Create).await {
            Ok(()) => Ok(Created::Yes),
            Err(StoreError::AlreadyExists { .. }) => Ok(Created::Exists),
            Err(e) => Err(open::classify(e, "cannot write").at(self.shown(path))),
        }
    }

    /// Overwrites an object as no part of the protocol would.
    #[cfg(test)]
    pub(crate) async fn damage(&self, path: &str, bytes: impl Into<PutPayload>) -> Result<()> {
        self.put(path, bytes.into(), PutMode::Overwrite).await.map_err(|e| open::classify(e, "cannot write"))
    }

    /// Writes an object, replacing what was there.
    pub(crate) async fn replace(&self, _: &Permit, path: &str, bytes: impl Into<PutPayload>) -> Result<()> {
        self.put(path, bytes.into(), PutMode::Overwrite)
            .await
            .map_err(|e| open::classify(e, "cannot write").at(self.shown(path)))
    }

    async fn put(&self, path: &str, bytes: PutPayload, mode: PutMode) -> Result<(), StoreError> {
        let options = PutOptions { mode, ..PutOptions::default() };
        let path = self.path(path)?;
        self.calls().once(self.root.store.put_opts(&path, bytes, options)).await.map(|_| ())
    }

    pub(crate) fn calls(&self) -> Calls {
        self.root.calls
    }

    pub(crate) async fn start_get(&self, path: &str) -> Result<GetResult, StoreError> {
        self.root.store.get(&self.path(path)?).await
    }

    pub(crate) async fn head(&self, path: &str) -> Result<ObjectMeta, StoreError> {
        self.root.store.head(&self.path(path)?).await
    }

    pub(crate) async fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.root.store.get_range(&self.path(path)?, range).await
    }

    pub(crate) async fn start_multipart(&self, path: &str) -> Result<Box<dyn MultipartUpload>, StoreError> {
        self.root.store.put_multipart(&self.path(path)?).await
    }

    /// The job's directory on this machine, if it is there.
    fn local(&self) -> Option<std::path::PathBuf> {
        Some(self.root.local.as_ref()?.join(self.dir.filename()?))
    }

    /// Files below `prefix` that were being written when a process died, or are being written: of local directories, which
    /// do not list them.
    async fn list_staged(&self, prefix: &str) -> Result<Vec<ObjectInfo>> {
        let Some(directory) = self.local() else { return Ok(Vec::new()) };
        let below = prefix.split('/').fold(directory.clone(), |path, part| path.join(part));
        let list = async { staged::list(directory, below).await.map_err(staged_error) };
        let found = self.calls().once(list).await;
        found.map_err(|e| open::classify(e, "cannot list").at(self.shown(prefix)))
    }

    /// As [`list`](Self::list), and what is left of files that were being written when a process died.
    pub(crate) async fn list_all(&self, prefix: &str) -> Result<Vec<String>> {
        let staged = self.list_staged(prefix).await?.into_iter().map(|object| object.path);
        Ok(self.list(prefix).await?.into_iter().chain(staged).collect())
    }

    /// All objects below `prefix`, in order. The answer of some stores is out of date.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let found =
            self.list_below(&self.path(prefix).map_err(|e| open::classify(e, "cannot list"))?).await?;
        let mut paths: Vec<_> = found.iter().filter_map(|o| self.relative(&o.location)).collect();
        paths.sort();
        Ok(paths)
    }

    async fn list_below(&self, prefix: &Path) -> Result<Vec<ObjectMeta>> {
        let list = || async {
            let mut listed = self.root.store.list(Some(prefix));
            let mut found = Vec::new();
            // A long listing comes in pages, each with a call of its own.
            while let Some(object) = self.calls().once(listed.try_next()).await? {
                found.push(object);
            }
            Ok(found)
        };
        let classified = || async {
            list()
                .await
                .map_err(|e| open::classify(e, "cannot list").at(format!("{}: {prefix}", self.location())))
        };
        self.calls().repeated(classified).await
    }

    /// Everything in the directory, in order, with what is left of files that were being written. The answer of some stores
    /// is out of date.
    pub(crate) async fn list_objects(&self) -> Result<Vec<ObjectInfo>> {
        let mut objects = self.list_staged("").await?;
        let found = self.list_below(&self.dir).await?;
        objects.extend(found.iter().filter_map(|o| Some(info_of(o, self.relative(&o.location)?))));
        objects.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(objects)
    }

    /// The names of directories and objects directly in the job's directory, in order.
    pub async fn list_top(&self) -> Result<Vec<String>> {
        let list = || async {
            let found = self.calls().once(self.root.store.list_with_delimiter(Some(&self.dir))).await;
            found.map_err(|e| open::classify(e, "cannot list").at(self.location()))
        };
        let found = self.calls().repeated(list).await?;
        let paths = found.common_prefixes.iter().chain(found.objects.iter().map(|o| &o.location));
        let mut names: Vec<_> = paths.filter_map(|p| p.filename().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }

    /// Deletes objects; those that are gone already do not matter.
    pub(crate) async fn delete(&self, _: &Permit, paths: &[String]) -> Result<u64> {
        self.take_back(paths).await
    }

    /// [`delete`](Self::delete) of what the caller has itself stored just now, in a directory that nobody else knows.
    pub(crate) async fn take_back(&self, paths: &[String]) -> Result<u64> {
        let (staged, paths): (Vec<&String>, Vec<&String>) = paths.iter().partition(|p| staged::is_staged(p));
        let more = self.delete_staged(&staged).await?;
        let locations: Vec<_> = paths.iter().map(|p| self.path(p)).collect();
        let mut results = self.root.store.delete_stream(stream::iter(locations).boxed());
        let mut deleted = 0;
        let mut first_error = None;
        loop {
            let mut late = true;
            let next = async {
                let next = results.next().await;
                late = false;
                next.transpose()
            };
            match self.calls().once(next).await {
                Ok(Some(_)) => deleted += 1,
                Ok(None) => break,
                Err(StoreError::NotFound { .. }) => {}
                Err(e) => {
                    first_error.get_or_insert_with(|| open::classify(e, "cannot delete").at(self.location()));
                    if late {
                        break;
                    }
                }
            }
        }
        first_error.map_or(Ok(deleted + more), Err)
    }

    async fn delete_staged(&self, paths: &[&String]) -> Result<u64> {
        let Some(directory) = self.local() else { return Ok(0) };
        let mut deleted = 0;
        for path in paths {
            // Without its number it is the path of the file that was to be.
            let wanted = path.rsplit_once('#').is_some_and(|(path, _)| is_safe_path(path));
            if wanted {
                let file = path.split('/').fold(directory.clone(), |file, part| file.join(part));
                let delete = async { staged::delete(file).await.map_err(staged_error) };
                let gone = self.calls().once(delete).await;
                let gone = gone.map_err(|e| open::classify(e, "cannot delete").at(self.shown(path)))?;
                deleted += u64::from(gone);
            }
        }
        Ok(deleted)
    }

    /// A path as people see it.
    pub(crate) fn shown(&self, path: &str) -> String {
        format!("{}/{path}", self.location())
    }

    fn path(&self, path: &str) -> Result<Path, StoreError> {
        if is_safe_path(path) {
            return Ok(path.split('/').fold(self.dir.clone(), |dir, part| dir.join(part)));
        }
        Err(StoreError::NotSupported {
            source: format!("{path:?} is not a path in a job's directory").into(),
        })
    }

    fn relative(&self, location: &Path) -> Option<String> {
        let parts: Vec<_> = location.prefix_match(&self.dir)?.map(|p| p.as_ref().to_owned()).collect();
        Some(parts.join("/"))
    }
}

fn info_of(object: &ObjectMeta, path: String) -> ObjectInfo {
    let modified_ms = object.last_modified.timestamp_millis().max(0).unsigned_abs();
    ObjectInfo { path, bytes: object.size, modified_ms }
}

fn info_of_probe(object: &ObjectMeta) -> Option<ObjectInfo> {
    let name = object.location.filename().filter(|name| open::is_probe(name))?;
    Some(info_of(object, name.to_owned()))
}

fn staged_error(e: std::io::Error) -> StoreError {
    StoreError::Generic { store: "local", source: Box::new(e) }
}

impl CheckpointStore {
    /// The store at `location`: this one if it is the same place or lies below.
    pub(crate) fn reopen(&self, location: &str, options: &[(String, String)]) -> Result<Self> {
        let location = location.trim_end_matches('/');
        if location == &*self.location {
            return Ok(self.clone());
        }
        if let Some(below) = location.strip_prefix(&*self.location).and_then(|rest| rest.strip_prefix('/'))
            && is_safe_path(below)
        {
            let root = below.split('/').fold(self.root.clone(), |root, part| root.join(part));
            return Ok(Self {
                store: self.store.clone(),
                root,
                location: location.into(),
                local: self.local.as_ref().map(|directory| directory.join(below).into()),
                calls: self.calls,
            });
        }
        // What is above `/job` is the root of the file system.
        let other = Self::open_existing(if location.is_empty() { "/" } else { location }, options)?;
        Ok(Self { calls: self.calls, ..other })
    }
}

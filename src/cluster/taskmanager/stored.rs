//! A keyed snapshot in the checkpoint store, as a backend reads it.

use crate::checkpoint::{CrashPoints, JobStore, ReadInto, StateHandle};
use crate::cluster::taskmanager::{Blocking, LocalCopies};
use crate::error::{Error, Result};
use crate::id::{CheckpointId, JobId, OperatorUid};
use bytes::Bytes;
use futures::{StreamExt, stream};
use std::path::Path;
use std::sync::OnceLock;
use tidegate_state::{FileRange, SnapshotFile, SnapshotSource};

/// Files that are copied to the local disk at once.
const DOWNLOADS: usize = 4;

/// The files that one old subtask has written for one operator. Every byte is verified before any of it is decoded.
pub(crate) struct StoredSnapshot {
    pub(crate) store: JobStore,
    pub(crate) blocking: Blocking,
    pub(crate) crash_points: CrashPoints,
    pub(crate) written_by: JobId,
    pub(crate) operator: OperatorUid,
    pub(crate) subtask: u32,
    /// The checkpoint of this job that names the files, if there is or will be one.
    pub(crate) base: Option<CheckpointId>,
    pub(crate) copies: LocalCopies,
    /// Of the same files, with who wrote each.
    handles: Vec<StateHandle>,
    files: Vec<SnapshotFile>,
    bodies: Vec<OnceLock<Bytes>>,
}

/// Where a snapshot is read from.
#[derive(Clone, Debug)]
pub(crate) struct ReadFrom<'a> {
    pub(crate) store: &'a JobStore,
    pub(crate) blocking: &'a Blocking,
    pub(crate) crash_points: &'a CrashPoints,
    pub(crate) written_by: &'a JobId,
    pub(crate) base: Option<CheckpointId>,
    pub(crate) copies: &'a LocalCopies,
}

impl StoredSnapshot {
    /// The keyed files among `handles`; none if there are none.
    pub(crate) fn new(
        from: &ReadFrom<'_>,
        operator: &OperatorUid,
        subtask: u32,
        handles: &[StateHandle],
    ) -> Option<Self> {
        let keyed = handles.iter().filter_map(|handle| Some((handle.clone(), handle.keyed_file()?)));
        let (handles, files): (Vec<_>, Vec<_>) = keyed.unzip();
        (!files.is_empty()).then(|| Self {
            store: from.store.clone(),
            blocking: from.blocking.clone(),
            crash_points: from.crash_points.clone(),
            written_by: from.written_by.clone(),
            operator: operator.clone(),
            subtask,
            base: from.base,
            copies: from.copies.clone(),
            bodies: files.iter().map(|_| OnceLock::new()).collect(),
            handles,
            files,
        })
    }

    /// Reads a file and verifies it.
    async fn read_into(&self, file: usize, into: ReadInto<'_>) -> Result<()> {
        let handle = self.handles.get(file).ok_or_else(|| Error::bug(format!("there is no file {file}")))?;
        self.crash_points.reach("restore.file_k").await?;
        if let ReadInto::Local(path) = into
            && self.copies.take(&handle.id, path)
        {
            return Ok(());
        }
        let identity = handle.identity(&self.written_by, &self.operator, self.subtask);
        self.store.read_file(handle, &identity, into).await
    }

    fn body(&self, file: usize) -> Result<&Bytes> {
        let body = self.bodies.get(file).ok_or_else(|| Error::bug(format!("there is no file {file}")))?;
        if body.get().is_none() {
            let mut content = Vec::new();
            self.blocking.wait(self.read_into(file, ReadInto::Memory(&mut content)))?;
            _ = body.set(content.into());
        }
        body.get().ok_or_else(|| Error::bug("a file that was read is gone"))
    }
}

impl SnapshotSource for StoredSnapshot {
    fn files(&self) -> &[SnapshotFile] {
        &self.files
    }

    fn body_length(&self, file: usize) -> Result<u64> {
        self.body(file).map(|body| body.len() as u64)
    }

    fn read(&self, ranges: &[FileRange]) -> Result<Vec<Bytes>> {
        let read = |(file, range): &FileRange| {
            let body = self.body(*file)?;
            if range.start > range.end || range.end > body.len() as u64 {
                return Err(Error::data(format!("bytes {range:?} of a body of {}", body.len())));
            }
            Ok(body.slice(range.start as usize..range.end as usize))
        };
        ranges.iter().map(read).collect()
    }

    fn download(&self, files: &[(usize, &Path)]) -> Result<()> {
        let downloads = stream::iter(files).map(|(file, path)| self.read_into(*file, ReadInto::Local(path)));
        let downloads: Vec<_> = self.blocking.wait(downloads.buffer_unordered(DOWNLOADS).collect());
        downloads.into_iter().collect()
    }

    fn base(&self) -> Option<u64> {
        self.base.map(|id| id.0)
    }
}

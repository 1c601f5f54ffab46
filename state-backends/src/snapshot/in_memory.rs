//! Snapshot files that are kept in memory: for tests and measurements of backends.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use std::collections::BTreeMap;

use super::file::{FileForm, FileRange, SnapshotFile, SnapshotSink, SnapshotSource, SnapshotWriter};
use crate::{Error, FrozenState, KeyedSnapshot, Result};

/// Stores files without an envelope. Clones share the files.
#[derive(Clone, Debug, Default)]
pub struct InMemoryFiles {
    files: Arc<Mutex<BTreeMap<Arc<str>, Bytes>>>,
    next: Arc<AtomicU64>,
}

impl InMemoryFiles {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores what was frozen for `checkpoint`.
    ///
    /// # Errors
    /// Those of [`FrozenState::store`].
    pub fn store(&self, checkpoint: u64, frozen: FrozenState) -> Result<KeyedSnapshot> {
        frozen.store(&mut self.sink(checkpoint))
    }

    /// Where the files of `checkpoint` go, for a sink of one's own around it.
    pub fn sink(&self, checkpoint: u64) -> impl SnapshotSink + use<> {
        InMemorySink { files: self.clone(), checkpoint }
    }

    /// A stored snapshot, to open a backend from. `base` is the answer of [`SnapshotSource::base`].
    pub fn source(&self, snapshot: &KeyedSnapshot, base: Option<u64>) -> Arc<dyn SnapshotSource> {
        Arc::new(InMemorySource { store: self.clone(), files: snapshot.files.clone(), base })
    }

    /// Puts a file in place that holds `body` and nothing else, and returns it as a snapshot of one file.
    pub fn insert(&self, body: impl Into<Bytes>) -> KeyedSnapshot {
        let file = self.add(0, FileForm::Written, body.into());
        KeyedSnapshot { files: vec![file], rows: 0 }
    }

    /// The bytes of a file; none if there is no such file.
    pub fn bytes(&self, file: &SnapshotFile) -> Option<Bytes> {
        self.all().get(&file.id).cloned()
    }

    /// Removes every file that `keep` says `false` to, given its id.
    pub fn retain(&self, mut keep: impl FnMut(&str) -> bool) {
        self.all().retain(|id, _| keep(id));
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Bytes>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, checkpoint: u64, form: FileForm, bytes: Bytes) -> SnapshotFile {
        let id: Arc<str> = self.next.fetch_add(1, Ordering::Relaxed).to_string().into();
        let (length, crc32) = (bytes.len() as u64, crc32fast::hash(&bytes));
        self.all().insert(id.clone(), bytes);
        SnapshotFile { path: id.clone(), id, length, crc32, checkpoint, form }
    }
}

struct InMemorySink {
    files: InMemoryFiles,
    checkpoint: u64,
}

impl SnapshotSink for InMemorySink {
    fn create(&mut self) -> Result<Box<dyn SnapshotWriter + '_>> {
        Ok(Box::new(InMemoryWriter { sink: self, body: Vec::new() }))
    }

    fn copy(&mut self, files: &[PathBuf]) -> Result<Vec<SnapshotFile>> {
        let copy = |path: &PathBuf| {
            let bytes = fs::read(path).map_err(|e| Error::from(e).at(path.display()))?;
            Ok(self.files.add(self.checkpoint, FileForm::Copied, bytes.into()))
        };
        files.iter().map(copy).collect()
    }
}

struct InMemoryWriter<'a> {
    sink: &'a InMemorySink,
    body: Vec<u8>,
}

impl SnapshotWriter for InMemoryWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SnapshotFile> {
        Ok(self.sink.files.add(self.sink.checkpoint, FileForm::Written, self.body.into()))
    }
}

struct InMemorySource {
    store: InMemoryFiles,
    files: Vec<SnapshotFile>,
    base: Option<u64>,
}

impl InMemorySource {
    fn bytes(&self, file: usize) -> Result<Bytes> {
        let file = self.files.get(file).ok_or_else(|| Error::bug(format!("there is no file {file}")))?;
        let lost = |what: &str| Error::data(what).at(format!("file {}", file.id));
        let bytes = self.store.bytes(file).ok_or_else(|| lost("the file is missing"))?;
        if bytes.len() as u64 != file.length || crc32fast::hash(&bytes) != file.crc32 {
            return Err(lost("the file is damaged"));
        }
        Ok(bytes)
    }
}

impl SnapshotSource for InMemorySource {
    fn files(&self) -> &[SnapshotFile] {
        &self.files
    }

    fn body_length(&self, file: usize) -> Result<u64> {
        self.bytes(file).map(|bytes| bytes.len() as u64)
    }

    fn read(&self, ranges: &[FileRange]) -> Result<Vec<Bytes>> {
        let read = |(file, range): &FileRange| {
            let bytes = self.bytes(*file)?;
            if range.start > range.end || range.end > bytes.len() as u64 {
                return Err(Error::data(format!("bytes {range:?} of {}", bytes.len())));
            }
            // Both fit: they are not above the length of a slice.
            Ok(bytes.slice(range.start as usize..range.end as usize))
        };
        ranges.iter().map(read).collect()
    }

    fn download(&self, files: &[(usize, &Path)]) -> Result<()> {
        files.iter().try_for_each(|(file, path)| {
            fs::write(path, self.bytes(*file)?).map_err(|e| Error::from(e).at(path.display()))
        })
    }

    fn base(&self) -> Option<u64> {
        self.base
    }
}

//! What goes wrong: stores, sinks and sources that fail after some calls, in the middle of one, and local databases whose
//! files go away.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;
use tidegate_state::conformance::ordered_store;
use tidegate_state::{
    BackendOptions, BackendScope, ColdStore, CustomBackend, Error, ErrorKind, FileRange, FrozenStore, Result,
    RowVisitor, SnapshotFile, SnapshotSink, SnapshotSource, SnapshotWriter, WriteBatch,
};

const INJECTED: &str = "a fault of the test";

/// Something is about to go wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The stores of the operator fail for good, after so many calls. The database of RocksDB loses its files at once.
    Store(u8),
    /// The next checkpoint that is written fails after so many calls of its sink.
    Sink(u8),
    /// The next restore fails after so many calls of its sources, and is tried again.
    Source(u8),
}

pub(crate) fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        (0u8..30).prop_map(Fault::Store),
        (0u8..20).prop_map(Fault::Sink),
        (0u8..8).prop_map(Fault::Source),
    ]
}

/// Lets so many calls through and none after them. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Fuse(Arc<AtomicI64>);

impl Fuse {
    pub(crate) fn whole() -> Self {
        Self(Arc::new(AtomicI64::new(i64::MAX)))
    }

    pub(crate) fn after(calls: u8) -> Self {
        let fuse = Self::whole();
        fuse.set(calls);
        fuse
    }

    pub(crate) fn set(&self, calls: u8) {
        self.0.store(calls.into(), Ordering::SeqCst);
    }

    pub(crate) fn reset(&self) {
        self.0.store(i64::MAX, Ordering::SeqCst);
    }

    fn pass(&self) -> Result<()> {
        if self.0.fetch_sub(1, Ordering::SeqCst) > 0 { Ok(()) } else { Err(injected()) }
    }
}

fn injected() -> Error {
    Error::new(ErrorKind::RestartTask, INJECTED)
}

/// Whether an error was asked for.
pub(crate) fn is_injected(e: &Error) -> bool {
    format!("{e:?}").contains(INJECTED)
}

/// Backends to choose from, and what breaks their stores.
pub(crate) struct Backends {
    pub(crate) options: Vec<BackendOptions>,
    pub(crate) stores: Fuse,
}

impl Backends {
    pub(crate) fn new(options: impl FnOnce(&Fuse) -> Vec<BackendOptions>) -> Self {
        let stores = Fuse::whole();
        Self { options: options(&stores), stores }
    }
}

/// An ordered map behind a cache, which fails when the fuse has blown.
pub(crate) fn breakable_store(cache_bytes: usize, fuse: &Fuse) -> BackendOptions {
    let (whole, fuse) = (ordered_store(cache_bytes), fuse.clone());
    let open = move |scope: &BackendScope| -> Result<Box<dyn ColdStore>> {
        Ok(Box::new(Breakable { inner: (whole.open)(scope)?, fuse: fuse.clone() }))
    };
    BackendOptions::Custom(CustomBackend { cache_bytes, open: Arc::new(open) })
}

struct Breakable<T> {
    inner: T,
    fuse: Fuse,
}

impl ColdStore for Breakable<Box<dyn ColdStore>> {
    fn create(&mut self, state: &str) -> Result<()> {
        self.fuse.pass()?;
        self.inner.create(state)
    }

    fn get(&self, state: &str, key: &[u8], found: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.fuse.pass()?;
        self.inner.get(state, key, found)
    }

    /// Some rows come before it fails.
    fn get_many(
        &self,
        state: &str,
        keys: &[&[u8]],
        found: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        for (index, key) in keys.iter().enumerate() {
            self.fuse.pass()?;
            self.inner.get(state, key, &mut |value| found(index, value))?;
        }
        Ok(())
    }

    fn write(&mut self, state: &str, batch: &WriteBatch) -> Result<()> {
        self.fuse.pass()?;
        self.inner.write(state, batch)
    }

    fn scan(&self, state: &str, prefix: &[u8], visit: RowVisitor<'_>) -> Result<()> {
        self.inner.scan(state, prefix, &mut |key, value| {
            self.fuse.pass()?;
            visit(key, value)
        })
    }

    fn scan_from(&self, state: &str, prefix: &[u8], start: &[u8], visit: RowVisitor<'_>) -> Result<()> {
        self.inner.scan_from(state, prefix, start, &mut |key, value| {
            self.fuse.pass()?;
            visit(key, value)
        })
    }

    fn freeze(&mut self) -> Result<Box<dyn FrozenStore>> {
        self.fuse.pass()?;
        Ok(Box::new(Breakable { inner: self.inner.freeze()?, fuse: self.fuse.clone() }))
    }
}

impl FrozenStore for Breakable<Box<dyn FrozenStore>> {
    fn scan(&self, state: &str, prefix: &[u8], visit: RowVisitor<'_>) -> Result<()> {
        self.inner.scan(state, prefix, &mut |key, value| {
            self.fuse.pass()?;
            visit(key, value)
        })
    }
}

/// A sink that tears the file it fails in.
pub(crate) struct TornSink<S> {
    pub(crate) inner: S,
    pub(crate) fuse: Fuse,
}

struct TornWriter<'a> {
    inner: Box<dyn SnapshotWriter + 'a>,
    fuse: Fuse,
}

impl<S: SnapshotSink> SnapshotSink for TornSink<S> {
    fn create(&mut self) -> Result<Box<dyn SnapshotWriter + '_>> {
        self.fuse.pass()?;
        Ok(Box::new(TornWriter { inner: self.inner.create()?, fuse: self.fuse.clone() }))
    }

    fn copy(&mut self, files: &[PathBuf]) -> Result<Vec<SnapshotFile>> {
        if let Err(e) = self.fuse.pass() {
            self.inner.copy(&files[..files.len() / 2])?;
            return Err(e);
        }
        self.inner.copy(files)
    }
}

impl SnapshotWriter for TornWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Err(e) = self.fuse.pass() {
            self.inner.write(&bytes[..bytes.len() / 2])?;
            return Err(e);
        }
        self.inner.write(bytes)
    }

    /// If it fails the file is there, and nobody knows.
    fn finish(self: Box<Self>) -> Result<SnapshotFile> {
        let (file, passed) = (self.inner.finish()?, self.fuse.pass());
        passed.map(|()| file)
    }
}

/// A source that fails in the middle of a download.
pub(crate) struct TornSource {
    pub(crate) inner: Arc<dyn SnapshotSource>,
    pub(crate) fuse: Fuse,
}

impl SnapshotSource for TornSource {
    fn files(&self) -> &[SnapshotFile] {
        self.inner.files()
    }

    fn body_length(&self, file: usize) -> Result<u64> {
        self.fuse.pass()?;
        self.inner.body_length(file)
    }

    fn read(&self, ranges: &[FileRange]) -> Result<Vec<Bytes>> {
        self.fuse.pass()?;
        self.inner.read(ranges)
    }

    fn download(&self, files: &[(usize, &Path)]) -> Result<()> {
        if let Err(e) = self.fuse.pass() {
            self.inner.download(&files[..files.len() / 2])?;
            return Err(e);
        }
        self.inner.download(files)
    }

    fn base(&self) -> Option<u64> {
        self.inner.base()
    }
}

/// Where the databases of one life of the operator are. Clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    place: Arc<TempDir>,
    /// What was taken away.
    away: Arc<OnceLock<TempDir>>,
}

impl Local {
    pub(crate) fn new() -> Self {
        // Where files cost least.
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let place = Arc::new(TempDir::with_prefix_in("model", parent).unwrap());
        Self { place, away: Arc::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }

    /// Takes the databases away, whoever uses them.
    pub(crate) fn lose(&self) {
        if self.away.get().is_some() {
            return;
        }
        let away = TempDir::with_prefix_in("away", self.path().parent().unwrap()).unwrap();
        for (number, entry) in std::fs::read_dir(self.path()).unwrap().enumerate() {
            let database = entry.unwrap().path().join("db");
            if database.is_dir() {
                std::fs::rename(database, away.path().join(number.to_string())).unwrap();
            }
        }
        let _ = self.away.set(away);
    }

    /// Whether an error may come of what was taken away.
    pub(crate) fn explains(&self, e: &Error) -> bool {
        self.away.get().is_some() && e.kind() == ErrorKind::RestartTask
    }
}

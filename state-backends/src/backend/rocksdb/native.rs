//! Images of a database whose table files go into the checkpoint: those that no checkpoint has yet are stored, the
//! others are named again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::capture::ChangeLogs;
use super::import::Download;
use super::{Database, RocksDbImage};
use crate::backend::native::{ChangedKeys, NativeImage, NativeStore, RestoredTables, StoredFiles};
use crate::descriptor::StateKind;
use crate::snapshot::{NamedTable, SnapshotFile, SnapshotSink};
use crate::table::cold::FrozenStore;
use crate::ttl::Horizon;
use crate::{Error, Result};

/// The table files of one checkpoint by their ids.
type StoredTables = BTreeMap<String, SnapshotFile>;

/// The table files that checkpoints have, by checkpoint.
#[derive(Debug, Default)]
pub(super) struct Checkpoints(Mutex<BTreeMap<u64, StoredTables>>);

impl Checkpoints {
    /// Those of the checkpoint that a backend was restored from.
    pub(super) fn restored(tables: &RestoredTables) -> Self {
        let mut checkpoints: BTreeMap<u64, StoredTables> = BTreeMap::new();
        for (snapshot, tables) in &tables.0 {
            let Some(base) = snapshot.base() else { continue };
            let ids = tables.tables.iter().map(|table| table.id.clone());
            checkpoints.entry(base).or_default().extend(ids.zip(snapshot.files().iter().skip(1).cloned()));
        }
        Self(Mutex::new(checkpoints))
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, StoredTables>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files of a base. Checkpoints before it will not be a base any more.
    fn of(&self, base: Option<u64>) -> StoredTables {
        let Some(base) = base else { return StoredTables::new() };
        let mut all = self.all();
        all.retain(|checkpoint, _| *checkpoint >= base);
        all.get(&base).cloned().unwrap_or_default()
    }
}

/// What it takes to freeze a database with its files.
pub(super) struct NativeRocksDb {
    pub(super) database: Arc<Database>,
    pub(super) logs: Rc<RefCell<ChangeLogs>>,
    pub(super) checkpoints: Arc<Checkpoints>,
}

impl NativeStore for NativeRocksDb {
    fn freeze(&self, checkpoint: u64, base: Option<u64>) -> (Arc<dyn FrozenStore>, Box<dyn NativeImage>) {
        let log = self.logs.borrow_mut().open();
        let image = Arc::new(RocksDbImage::new(&self.database, Some(log)));
        let (checkpoints, changed) = (Arc::clone(&self.checkpoints), Arc::default());
        let native = NativeRocksDbImage { image: Arc::clone(&image), checkpoints, changed, checkpoint, base };
        (image, Box::new(native))
    }

    fn expire(&self, state: &str, kind: StateKind, horizon: Horizon) {
        self.database.limits.move_to(state, kind, horizon);
    }
}

struct NativeRocksDbImage {
    image: Arc<RocksDbImage>,
    checkpoints: Arc<Checkpoints>,
    changed: Arc<OnceLock<ChangedKeys>>,
    checkpoint: u64,
    base: Option<u64>,
}

impl NativeImage for NativeRocksDbImage {
    fn changed(&self) -> Arc<OnceLock<ChangedKeys>> {
        Arc::clone(&self.changed)
    }

    fn store(&self, sink: &mut dyn SnapshotSink) -> Result<Option<StoredFiles>> {
        let Some(mut capture) = self.image.capture()? else { return Ok(None) };
        let mut stored = self.checkpoints.of(self.base);
        stored.retain(|id, _| capture.tables.iter().any(|table| table.id == *id));
        let new: Vec<&NamedTable> = capture.tables.iter().filter(|t| !stored.contains_key(&t.id)).collect();
        let paths: Vec<_> = new.iter().map(|table| capture.path(&table.id)).collect();
        let copies = sink.copy(&paths)?;
        if copies.len() != new.len() {
            return Err(Error::bug("a sink has stored another number of files than it was given"));
        }
        stored.extend(new.iter().map(|table| table.id.clone()).zip(copies));
        let lost = || Error::bug("a table file is neither stored nor new");
        let files = capture.tables.iter().map(|table| stored.get(&table.id).cloned().ok_or_else(lost));
        let files = files.collect::<Result<Vec<_>>>()?;
        self.checkpoints.all().insert(self.checkpoint, stored);
        let _ = self.changed.set(std::mem::take(&mut capture.changed));
        Ok(Some(StoredFiles { tables: std::mem::take(&mut capture.tables), files }))
    }
}

/// The table files of the snapshots that a backend is opened from.
pub(super) fn downloads(restored: &RestoredTables) -> Vec<(NamedTable, Download<'_>)> {
    let mut all = Vec::new();
    for (snapshot, tables) in &restored.0 {
        for (number, table) in tables.tables.iter().enumerate() {
            // Behind the head.
            let download = move |to: &Path| snapshot.download(&[(number + 1, to)]);
            all.push((table.clone(), Box::new(download) as Download<'_>));
        }
    }
    all
}

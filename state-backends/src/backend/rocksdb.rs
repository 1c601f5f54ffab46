//! The RocksDB store: one database per backend instance, one column family per state.
//!
//! The write-ahead log is off, since a database never outlives its process: the checkpoint is what lasts. A freeze
//! takes one of RocksDB's snapshots, a sequence number that compactions respect: it neither flushes nor copies
//! anything, and another thread reads it out of the live database, which stays open until the last of backend and
//! images is gone. Its directory, `<local dir>/tidegate-<operator>-<subtask>-<process>-<n>/`, goes with it.

mod capture;
mod expiry;
mod ext;
mod family;
mod import;
mod known;
mod memory;
mod native;
mod options;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rocksdb::{
    DBRawIteratorWithThreadMode, DBWithThreadMode, ErrorKind, MultiThreaded, Options, ReadOptions,
    SnapshotWithThreadMode, WriteBatch as RocksBatch, WriteOptions,
};
use self_cell::self_cell;

use self::capture::{Capture, ChangeLog, ChangeLogs};
use self::expiry::Limits;
use self::family::Families;
use self::import::{Download, Imported};
use self::memory::SharedMemory;
use self::native::{Checkpoints, NativeRocksDb};
use super::cold::GROUP_BYTES;
use super::native::{NativeStore, RestoredTables};
use super::row_prefix::RowPrefix;
use super::{BackendScope, RocksDbOptions};
use crate::key_group::KeyGroupRange;
use crate::snapshot::NamedTable;
use crate::table::cold::{ColdStore, FrozenStore, Operation, RowVisitor, WriteBatch};
use crate::work_directory::WorkDirectory;
use crate::{Error, Result};

type Db = DBWithThreadMode<MultiThreaded>;
type Snapshot<'a> = SnapshotWithThreadMode<'a, Db>;

/// Column families of states start with this, so that none is called `default`.
const STATE_PREFIX: &str = "state:";

/// Where in its directory the database is.
const DATABASE: &str = "db";

/// Where in the directory files are linked for checkpoints.
const CAPTURES: &str = "captures";

/// Where in the directory the files of a checkpoint wait to become part of the database.
const STAGING: &str = "staging";

/// How often a write is tried again while RocksDB takes none.
const STALL_POLL: Duration = Duration::from_micros(500);

/// How far the reader of an image reads ahead.
const IMAGE_READAHEAD_BYTES: usize = 1 << 20;

/// An open database and where it lies.
struct Database {
    /// Closed before the directory goes, which happens on drop.
    db: Db,
    directory: Arc<WorkDirectory>,
    operator: String,
    range: KeyGroupRange,
    /// Whether there may be rows of other key groups than those of the range.
    has_foreign: AtomicBool,
    /// What no other database is called.
    identity: String,
    /// The ids of files that came from another database.
    imported: BTreeMap<String, String>,
    /// The states that are registered or restored, each of which has a column family.
    states: Mutex<Vec<String>>,
    prefix: Option<RowPrefix>,
    limits: Limits,
    /// Memory shared with the other databases of the process.
    memory: Arc<SharedMemory>,
}

impl Database {
    fn open(
        options: &mut Options,
        memory: Arc<SharedMemory>,
        scope: &BackendScope,
        prefix: Option<RowPrefix>,
        files: Vec<(NamedTable, Download<'_>)>,
    ) -> Result<Self> {
        let name = format!("{}-{}", scope.operator, scope.subtask);
        let directory = Arc::new(WorkDirectory::create(scope.local_dir.as_deref(), &name)?);
        let Imported { states, ids, has_foreign } = import::import(options, &directory, scope.range, files)?;
        if has_foreign {
            // So that compactions part what is foreign from what is not. A file per key group would be many otherwise.
            ext::split_by_key_group(options);
        }
        let path = directory.path().join(DATABASE);
        let limits = Limits::default();
        options.create_missing_column_families(true);
        let family = |state: &String| Ok((family::name(state)?, limits.options(state, options)));
        let mut expected = known::states_of(&scope.operator);
        expected.extend(states.iter().cloned());
        let mut families = expected.iter().map(family).collect::<Result<Vec<_>>>()?;
        families.push(("default".to_owned(), options.clone()));
        let db = Db::open_cf_with_opts(options, &path, families)
            .map_err(|e| failed("open", e).at(path.display()))?;
        let identity = db.get_db_identity().map_err(|e| failed("say what it is called", e))?;
        Ok(Self {
            db,
            directory,
            operator: scope.operator.clone(),
            range: scope.range,
            has_foreign: AtomicBool::new(has_foreign),
            identity: String::from_utf8_lossy(&identity).into_owned(),
            imported: ids,
            states: Mutex::new(states),
            prefix,
            limits,
            memory,
        })
    }

    /// Options for reading the rows under a prefix, in order.
    fn reading(&self, prefix: &[u8]) -> ReadOptions {
        let mut options = ReadOptions::default();
        if let Some(end) = behind(prefix) {
            options.set_iterate_upper_bound(end);
        }
        // Filters know of keys: of rows of several they would say that there are none.
        let is_of_one_key = self.prefix.as_ref().is_some_and(|cut| (cut.contains_key)(prefix));
        options.set_total_order_seek(!is_of_one_key);
        options
    }

    fn states(&self) -> Vec<String> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_state(&self, state: &str) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if !states.iter().any(|known| known == state) {
            states.push(state.to_owned());
        }
    }

    /// What a table file is called in every database that it gets into: numbers are used again, ids are not.
    fn id_of(&self, table: &str) -> String {
        match self.imported.get(table) {
            Some(id) => id.clone(),
            None => format!("{}-{table}", self.identity),
        }
    }
}

/// The database of one backend.
pub(super) struct RocksDbStore {
    database: Arc<Database>,
    families: Families,
    options: Options,
    write_options: WriteOptions,
    logs: Rc<RefCell<ChangeLogs>>,
    checkpoints: Arc<Checkpoints>,
}

impl RocksDbStore {
    /// Opens a database of its own, with the table files restored.
    pub(super) fn open(
        options: &RocksDbOptions,
        scope: &BackendScope,
        prefix: Option<RowPrefix>,
        restored: &RestoredTables,
    ) -> Result<Self> {
        let checkpoints = Checkpoints::restored(restored);
        Self::open_with(options, scope, prefix, native::downloads(restored), checkpoints)
    }

    fn open_with(
        options: &RocksDbOptions,
        scope: &BackendScope,
        prefix: Option<RowPrefix>,
        files: Vec<(NamedTable, Download<'_>)>,
        checkpoints: Checkpoints,
    ) -> Result<Self> {
        let memory = SharedMemory::of(options.memory_bytes);
        let mut options = options::database(options, &memory, prefix.as_ref())?;
        let database = Database::open(&mut options, memory, scope, prefix, files)?;
        let mut write_options = WriteOptions::default();
        write_options.disable_wal(true);
        // A write that waits inside RocksDB holds up the thread that repairs the database after a full disk, which
        // it waits for itself: it has to wait outside, see `write`.
        write_options.set_no_slowdown(true);
        let (database, logs, checkpoints) = (Arc::new(database), Rc::default(), Arc::new(checkpoints));
        let families = Families::default();
        Ok(Self { database, families, options, write_options, logs, checkpoints })
    }

    fn db(&self) -> &Db {
        &self.database.db
    }

    /// The side that freezes it with its files.
    pub(super) fn native(&self) -> Box<dyn NativeStore> {
        let (database, logs) = (Arc::clone(&self.database), Rc::clone(&self.logs));
        Box::new(NativeRocksDb { database, logs, checkpoints: Arc::clone(&self.checkpoints) })
    }
}

impl ColdStore for RocksDbStore {
    fn create(&mut self, state: &str) -> Result<()> {
        if self.families.contains(state) {
            return Ok(());
        }
        let name = family::name(state)?;
        if self.db().cf_handle(&name).is_none() {
            let options = self.database.limits.options(state, &self.options);
            self.db().create_cf(&name, &options).map_err(|e| failed("create a column family", e))?;
        }
        self.database.note_state(state);
        known::note(&self.database.operator, state);
        self.families.add(&self.database, state)
    }

    fn get(&self, state: &str, key: &[u8], found: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match self.db().get_pinned_cf(self.families.get(state)?, key).map_err(|e| failed("read", e))? {
            Some(value) => found(&value),
            None => Ok(()),
        }
    }

    fn get_many(
        &self,
        state: &str,
        keys: &[&[u8]],
        found: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let values = self.db().batched_multi_get_cf(self.families.get(state)?, keys, true);
        values.into_iter().enumerate().try_for_each(|(index, value)| {
            match value.map_err(|e| failed("read", e))? {
                Some(value) => found(index, &value),
                None => Ok(()),
            }
        })
    }

    fn write(&mut self, state: &str, batch: &WriteBatch) -> Result<()> {
        self.logs.borrow_mut().note(state, batch);
        let family = self.families.get(state)?;
        loop {
            let mut rocks = RocksBatch::default();
            for (key, operation) in batch.iter() {
                match operation {
                    Operation::Put(value) => rocks.put_cf(family, key, value),
                    Operation::Append(more) => rocks.merge_cf(family, key, more),
                    Operation::Delete => rocks.delete_cf(family, key),
                }
            }
            match self.db().write_opt(rocks, &self.write_options) {
                Ok(()) => break,
                // Flushes or compactions are behind. An error of theirs ends the wait as an error of the write.
                Err(e) if e.kind() == ErrorKind::Incomplete => thread::sleep(STALL_POLL),
                Err(e) => return Err(failed("write", e)),
            }
        }
        self.database.memory.wait_for_flushes(self.db());
        Ok(())
    }

    fn scan(&self, state: &str, prefix: &[u8], visit: RowVisitor<'_>) -> Result<()> {
        let rows = self.db().raw_iterator_cf_opt(self.families.get(state)?, self.database.reading(prefix));
        scan(rows, prefix, visit)
    }

    fn scan_from(&self, state: &str, prefix: &[u8], start: &[u8], visit: RowVisitor<'_>) -> Result<()> {
        let rows = self.db().raw_iterator_cf_opt(self.families.get(state)?, self.database.reading(prefix));
        scan(rows, start, visit)
    }

    fn freeze(&mut self) -> Result<Box<dyn FrozenStore>> {
        Ok(Box::new(RocksDbImage::new(&self.database, None)))
    }
}

self_cell!(
    /// A snapshot and the database that it is one of.
    struct Frozen {
        owner: Arc<Database>,
        #[covariant]
        dependent: Snapshot,
    }
);

/// The rows of a database at a freeze.
pub(super) struct RocksDbImage {
    frozen: Frozen,
    /// What was written since, if the table files may be asked for.
    log: Option<Arc<ChangeLog>>,
    /// What has expired since stays.
    _unexpired: Arc<()>,
}

impl RocksDbImage {
    fn new(database: &Arc<Database>, log: Option<Arc<ChangeLog>>) -> Self {
        let _unexpired = database.limits.hold();
        Self { frozen: Frozen::new(Arc::clone(database), |database| database.db.snapshot()), log, _unexpired }
    }

    /// The table files with these rows. `None` if the files were not to be asked for, or have moved on too far.
    fn capture(&self) -> Result<Option<Capture>> {
        match &self.log {
            Some(log) => capture::capture(self.frozen.borrow_owner(), log),
            None => Ok(None),
        }
    }
}

impl FrozenStore for RocksDbImage {
    fn get(&self, state: &str, key: &[u8], found: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let family = family::find(&self.frozen.borrow_owner().db, state)?;
        match self.frozen.borrow_dependent().get_pinned_cf(&family, key).map_err(|e| failed("read", e))? {
            Some(value) => found(&value),
            None => Ok(()),
        }
    }

    fn scan(&self, state: &str, prefix: &[u8], visit: RowVisitor<'_>) -> Result<()> {
        let family = family::find(&self.frozen.borrow_owner().db, state)?;
        let mut options = self.frozen.borrow_owner().reading(prefix);
        // Every row is read once: blocks that the task reads again must not make room for these.
        options.fill_cache(false);
        options.set_readahead_size(IMAGE_READAHEAD_BYTES);
        scan(self.frozen.borrow_dependent().raw_iterator_cf_opt(&family, options), prefix, visit)
    }
}

fn scan(mut rows: DBRawIteratorWithThreadMode<'_, Db>, start: &[u8], visit: RowVisitor<'_>) -> Result<()> {
    rows.seek(start);
    while let Some((key, value)) = rows.item() {
        if visit(key, value)? == ControlFlow::Break(()) {
            return Ok(());
        }
        rows.next();
    }
    rows.status().map_err(|e| failed("scan", e))
}

/// The first byte string behind all that start with `prefix`; none if there is no such string.
fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|b| *b != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

fn failed(what: &str, e: rocksdb::Error) -> Error {
    failed_with(what, e.into_string())
}

/// Whatever goes wrong with a local database, the checkpoint has what was in it: the task starts over with a new one.
fn failed_with(what: &str, e: String) -> Error {
    Error::restart_task(format!("RocksDB cannot {what}")).with_source(e)
}

#[cfg(test)]
mod tests;

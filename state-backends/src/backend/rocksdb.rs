//! The RocksDB store: one database per backend instance, one column family per state.
//!
//! The write-ahead log is off, since a database never outlives its process: the checkpoint is what lasts. A freeze
//! takes one of RocksDB's snapshots, a sequence number that compactions respect: it neither flushes nor copies
//! anything, and another thread reads it out of the live database, which stays open until the last of backend and
//! images is gone. Its directory, `<local dir>/tidegate-<operator>-<subtask>-<process>-<n>/`, goes with it.

mod directory;
mod options;

use std::ops::ControlFlow;
use std::sync::Arc;

use rocksdb::{
    BoundColumnFamily, DBRawIteratorWithThreadMode, DBWithThreadMode, MultiThreaded, Options, ReadOptions,
    SnapshotWithThreadMode, WriteBatch as RocksBatch, WriteOptions,
};
use self_cell::self_cell;

use self::directory::WorkDirectory;
use super::{BackendScope, RocksDbOptions};
use crate::table::cold::{ColdStore, FrozenStore, RowVisitor, WriteBatch};
use crate::{Error, Result};

type Db = DBWithThreadMode<MultiThreaded>;
type Snapshot<'a> = SnapshotWithThreadMode<'a, Db>;

/// Column families of states start with this, so that none is called `default`.
const STATE_PREFIX: &str = "state:";

/// How far the reader of an image reads ahead.
const IMAGE_READAHEAD_BYTES: usize = 1 << 20;

/// An open database and where it lies.
struct Database {
    /// Closed before the directory goes, which happens on drop.
    db: Db,
    _directory: WorkDirectory,
}

/// The database of one backend.
pub(super) struct RocksDbStore {
    database: Arc<Database>,
    options: Options,
    write_options: WriteOptions,
}

impl RocksDbStore {
    pub(super) fn open(options: &RocksDbOptions, scope: &BackendScope) -> Result<Box<dyn ColdStore>> {
        let directory = WorkDirectory::create(scope)?;
        let options = options::database(options)?;
        let path = directory.database();
        let db = Db::open(&options, &path).map_err(|e| failed("open", e).at(path.display()))?;
        let mut write_options = WriteOptions::default();
        write_options.disable_wal(true);
        Ok(Box::new(Self {
            database: Arc::new(Database { db, _directory: directory }),
            options,
            write_options,
        }))
    }

    fn db(&self) -> &Db {
        &self.database.db
    }
}

impl ColdStore for RocksDbStore {
    fn create(&mut self, state: &str) -> Result<()> {
        let name = column_family(state)?;
        if self.db().cf_handle(&name).is_none() {
            self.db().create_cf(&name, &self.options).map_err(|e| failed("create a column family", e))?;
        }
        Ok(())
    }

    fn get(&self, state: &str, key: &[u8], found: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match self.db().get_pinned_cf(&family(self.db(), state)?, key).map_err(|e| failed("read", e))? {
            Some(value) => found(&value),
            None => Ok(()),
        }
    }

    fn write(&mut self, state: &str, batch: &WriteBatch) -> Result<()> {
        let family = family(self.db(), state)?;
        let mut rocks = RocksBatch::default();
        for (key, value) in batch.iter() {
            match value {
                Some(value) => rocks.put_cf(&family, key, value),
                None => rocks.delete_cf(&family, key),
            }
        }
        self.db().write_opt(rocks, &self.write_options).map_err(|e| failed("write", e))
    }

    fn scan(&self, state: &str, prefix: &[u8], visit: RowVisitor<'_>) -> Result<()> {
        let rows = self.db().raw_iterator_cf_opt(&family(self.db(), state)?, reading(prefix));
        scan(rows, prefix, visit)
    }

    fn scan_from(&self, state: &str, prefix: &[u8], start: &[u8], visit: RowVisitor<'_>) -> Result<()> {
        let rows = self.db().raw_iterator_cf_opt(&family(self.db(), state)?, reading(prefix));
        scan(rows, start, visit)
    }

    fn freeze(&mut self) -> Result<Box<dyn FrozenStore>> {
        Ok(Box::new(RocksDbImage::new(Arc::clone(&self.database), |database| database.db.snapshot())))
    }
}

self_cell!(
    /// A snapshot and the database that it is one of.
    struct RocksDbImage {
        owner: Arc<Database>,
        #[covariant]
        dependent: Snapshot,
    }
);

impl FrozenStore for RocksDbImage {
    fn scan(&self, state: &str, prefix: &[u8], visit: RowVisitor<'_>) -> Result<()> {
        let family = family(&self.borrow_owner().db, state)?;
        let mut options = reading(prefix);
        // Every row is read once: blocks that the task reads again must not make room for these.
        options.fill_cache(false);
        options.set_readahead_size(IMAGE_READAHEAD_BYTES);
        scan(self.borrow_dependent().raw_iterator_cf_opt(&family, options), prefix, visit)
    }
}

fn column_family(state: &str) -> Result<String> {
    if state.contains('\0') {
        return Err(Error::config("the name of a state contains a zero byte"));
    }
    Ok(format!("{STATE_PREFIX}{state}"))
}

fn family<'a>(db: &'a Db, state: &str) -> Result<Arc<BoundColumnFamily<'a>>> {
    db.cf_handle(&column_family(state)?)
        .ok_or_else(|| Error::bug(format!("state `{state}` has no column family")))
}

/// Options for reading the rows under a prefix.
fn reading(prefix: &[u8]) -> ReadOptions {
    let mut options = ReadOptions::default();
    if let Some(end) = behind(prefix) {
        options.set_iterate_upper_bound(end);
    }
    options
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
    Error::restart_task(format!("RocksDB cannot {what}")).with_source(e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_group::KeyGroupRange;

    #[test]
    fn prefixes_end_where_the_next_begins() {
        assert_eq!(behind(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(behind(&[1, 0xff]), Some(vec![2]));
        assert_eq!(behind(&[0xff, 0xff]), None);
        assert_eq!(behind(&[]), None);
    }

    #[test]
    fn nothing_is_left_on_disk() {
        let local = tempfile::tempdir().unwrap();
        let scope = BackendScope {
            operator: "a/b c".into(),
            subtask: 3,
            max_parallelism: 8,
            range: KeyGroupRange::all(8),
            local_dir: Some(local.path().into()),
        };
        let entries = || std::fs::read_dir(local.path()).unwrap().count();
        let mut store = RocksDbStore::open(&RocksDbOptions::default(), &scope).unwrap();
        let twin = RocksDbStore::open(&RocksDbOptions::default(), &scope).unwrap();
        assert_eq!(entries(), 2);
        store.create("s").unwrap();
        let mut batch = WriteBatch::default();
        batch.put(&[0, 1, 7], |out| crate::codec::encode(&9u8, out)).unwrap();
        store.write("s", &batch).unwrap();
        let image = store.freeze().unwrap();
        batch.delete(&[0, 1, 7]);
        store.write("s", &batch).unwrap();
        drop(store);
        drop(twin);
        assert_eq!(entries(), 1, "the image is still to be read");
        let mut rows = Vec::new();
        image
            .scan("s", &[0, 1], &mut |key, value| {
                rows.push((key.to_vec(), value.to_vec()));
                Ok(ControlFlow::Continue(()))
            })
            .unwrap();
        assert_eq!(rows, [(vec![0, 1, 7], vec![9])]);
        drop(image);
        assert_eq!(entries(), 0);
    }

    #[test]
    fn an_unusable_directory_restarts_the_task() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let scope = BackendScope {
            operator: "o".into(),
            subtask: 0,
            max_parallelism: 1,
            range: KeyGroupRange::all(1),
            local_dir: Some(file.path().into()),
        };
        let e = RocksDbStore::open(&RocksDbOptions::default(), &scope).err().unwrap();
        assert_eq!(e.kind(), crate::ErrorKind::RestartTask);
    }
}

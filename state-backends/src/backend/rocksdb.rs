//! The RocksDB store: one database per backend instance, one column family per state.
//!
//! The write-ahead log is off, since a database never outlives its process: the checkpoint is what lasts. A freeze is
//! a RocksDB checkpoint (hard links) which another thread opens read-only. Directories:
//! `<local dir>/tidegate-<operator>-<subtask>-<process>-<n>/` with `db` and `image-<m>` in it; an image goes when it
//! has been read, all of it goes with the last of backend and images.

mod directory;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, BoundColumnFamily, Cache, DBWithThreadMode, LogLevel, MultiThreaded, Options,
    ReadOptions, WriteBatch as RocksBatch, WriteOptions,
};

use self::directory::{ImageDirectory, WorkDirectory};
use super::{BackendScope, RocksDbOptions};
use crate::table::cold::{ColdStore, FrozenStore, RowVisitor, WriteBatch};
use crate::{Error, Result};

type Db = DBWithThreadMode<MultiThreaded>;

/// Column families of states start with this, so that none is called `default`.
const STATE_PREFIX: &str = "state:";

/// Bits per key of the bloom filters: about 1 % of the reads of absent keys go to a block.
const BLOOM_BITS: f64 = 10.0;

/// The database of one backend.
pub(super) struct RocksDbStore {
    /// Closed before the directory goes.
    db: Db,
    options: Options,
    write_options: WriteOptions,
    directory: Arc<WorkDirectory>,
    images: u64,
}

impl RocksDbStore {
    pub(super) fn open(options: &RocksDbOptions, scope: &BackendScope) -> Result<Box<dyn ColdStore>> {
        let directory = Arc::new(WorkDirectory::create(scope)?);
        let mut blocks = BlockBasedOptions::default();
        blocks.set_bloom_filter(BLOOM_BITS, false);
        blocks.set_block_cache(&Cache::new_lru_cache(options.block_cache_bytes));
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        let mut db_options = Options::default();
        db_options.create_if_missing(true);
        db_options.set_block_based_table_factory(&blocks);
        db_options.set_write_buffer_size(options.write_buffer_bytes);
        db_options.set_max_background_jobs(2);
        db_options.set_keep_log_file_num(1);
        db_options.set_log_level(LogLevel::Warn);
        db_options.set_stats_dump_period_sec(0);
        let path = directory.database();
        let db = Db::open(&db_options, &path).map_err(|e| failed("open", e).at(path.display()))?;
        let mut write_options = WriteOptions::default();
        write_options.disable_wal(true);
        Ok(Box::new(Self { db, options: db_options, write_options, directory, images: 0 }))
    }
}

impl ColdStore for RocksDbStore {
    fn create(&mut self, state: &str) -> Result<()> {
        let name = column_family(state)?;
        if self.db.cf_handle(&name).is_none() {
            self.db.create_cf(&name, &self.options).map_err(|e| failed("create a column family", e))?;
        }
        Ok(())
    }

    fn get(&self, state: &str, key: &[u8], found: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match self.db.get_pinned_cf(&family(&self.db, state)?, key).map_err(|e| failed("read", e))? {
            Some(value) => found(&value),
            None => Ok(()),
        }
    }

    fn write(&mut self, state: &str, batch: &WriteBatch) -> Result<()> {
        let family = family(&self.db, state)?;
        let mut rocks = RocksBatch::default();
        for (key, value) in batch.iter() {
            match value {
                Some(value) => rocks.put_cf(&family, key, value),
                None => rocks.delete_cf(&family, key),
            }
        }
        self.db.write_opt(rocks, &self.write_options).map_err(|e| failed("write", e))
    }

    fn scan(&self, state: &str, prefix: &[u8], visit: RowVisitor<'_>) -> Result<()> {
        scan(&self.db, state, prefix, visit)
    }

    fn freeze(&mut self) -> Result<Box<dyn FrozenStore>> {
        self.images += 1;
        let directory = ImageDirectory::new(&self.directory, self.images);
        // With the write-ahead log off, RocksDB flushes its memtables before it links the files.
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(directory.path()))
            .map_err(|e| failed("take a checkpoint", e))?;
        Ok(Box::new(RocksDbImage { db: Mutex::new(None), directory }))
    }
}

/// A checkpoint of the database, opened by whoever reads it first.
struct RocksDbImage {
    /// Closed before the directory goes.
    db: Mutex<Option<Arc<Db>>>,
    directory: ImageDirectory,
}

impl RocksDbImage {
    fn open(&self) -> Result<Arc<Db>> {
        let mut db = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(db) = &*db {
            return Ok(Arc::clone(db));
        }
        let options = Options::default();
        let path: PathBuf = self.directory.path();
        let opened = Db::list_cf(&options, &path)
            .and_then(|families| Db::open_cf_for_read_only(&options, &path, families, false))
            .map_err(|e| failed("open an image", e).at(path.display()))?;
        Ok(Arc::clone(db.insert(Arc::new(opened))))
    }
}

impl FrozenStore for RocksDbImage {
    fn scan(&self, state: &str, prefix: &[u8], visit: RowVisitor<'_>) -> Result<()> {
        scan(&*self.open()?, state, prefix, visit)
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

fn scan(db: &Db, state: &str, prefix: &[u8], visit: RowVisitor<'_>) -> Result<()> {
    let mut options = ReadOptions::default();
    if let Some(end) = behind(prefix) {
        options.set_iterate_upper_bound(end);
    }
    let mut rows = db.raw_iterator_cf_opt(&family(db, state)?, options);
    rows.seek(prefix);
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

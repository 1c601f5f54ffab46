//! The memory of RocksDB: one budget for all databases of a process.
//!
//! Blocks that were read, the indexes and filters of files and the memtables share one cache. Memtables are charged to
//! it, so that they and the blocks together keep to the budget, and are flushed when all of them together have reached
//! half of it. A database that writes faster than its memtables can be flushed waits for them when all together have
//! reached three quarters: blocks make room for memtables, but nothing makes room for more than the budget.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use rocksdb::{Cache, WriteBufferManager};

use super::Db;

/// Between two looks at a flush that is waited for.
const FLUSH_POLL: Duration = Duration::from_micros(500);

/// What all databases of a process with the same budget share.
pub(super) struct SharedMemory {
    pub(super) cache: Cache,
    pub(super) memtables: WriteBufferManager,
    most_memtables: usize,
}

/// The budgets in use, by their size in bytes.
static BUDGETS: Mutex<BTreeMap<usize, Weak<SharedMemory>>> = Mutex::new(BTreeMap::new());

impl SharedMemory {
    /// The memory that the databases with this budget share.
    pub(super) fn of(bytes: usize) -> Arc<Self> {
        let mut budgets = BUDGETS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(memory) = budgets.get(&bytes).and_then(Weak::upgrade) {
            return memory;
        }
        let cache = Cache::new_lru_cache(bytes);
        // RocksDB's own stall would wait for memtables of other databases, too, which nobody may be flushing.
        let memtables =
            WriteBufferManager::new_write_buffer_manager_with_cache(bytes / 2, false, cache.clone());
        let memory = Arc::new(Self { cache, memtables, most_memtables: bytes / 4 * 3 });
        budgets.retain(|_, memory| memory.strong_count() > 0);
        budgets.insert(bytes, Arc::downgrade(&memory));
        memory
    }

    /// Waits for flushes of `db` while the memtables of all databases are too large. If none of its own is under way, it
    /// is others that have to flush, and they do when they write.
    pub(super) fn wait_for_flushes(&self, db: &Db) {
        while self.memtables.get_usage() > self.most_memtables && is_flushing(db) {
            thread::sleep(FLUSH_POLL);
        }
    }
}

/// Whether a memtable is being written to a file. After a write has failed none is any more.
fn is_flushing(db: &Db) -> bool {
    matches!(db.property_int_value("rocksdb.num-running-flushes"), Ok(Some(running)) if running > 0)
}

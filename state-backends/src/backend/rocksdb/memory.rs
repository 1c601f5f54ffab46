//! The memory of RocksDB: one budget for all databases of a process.
//!
//! Blocks that were read, the indexes and filters of files and the memtables share one cache. Memtables are charged to
//! it, so that they and the blocks together keep to the budget, and are flushed when all of them together have reached
//! half of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rocksdb::{Cache, WriteBufferManager};

/// What all databases of a process with the same budget share.
pub(super) struct SharedMemory {
    pub(super) cache: Cache,
    pub(super) memtables: WriteBufferManager,
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
        // Writes do not wait for a flush: a task that waits for its own flush cannot make another one let go.
        let memtables =
            WriteBufferManager::new_write_buffer_manager_with_cache(bytes / 2, false, cache.clone());
        let memory = Arc::new(Self { cache, memtables });
        budgets.retain(|_, memory| memory.strong_count() > 0);
        budgets.insert(bytes, Arc::downgrade(&memory));
        memory
    }
}

//! What a backend is made of and which part of the job it serves.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::key_group::KeyGroupRange;
use crate::table::cold::ColdStore;
use crate::{Error, Result};

/// Which backend keeps the keyed state.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum BackendOptions {
    /// Live objects in memory. The fastest; state is bounded by memory.
    #[default]
    Memory,
    /// RocksDB on the local disk behind a cache of live objects. Needs the cargo feature `rocksdb`.
    RocksDb(RocksDbOptions),
    /// A store of a third party behind a cache of live objects.
    Custom(CustomBackend),
}

/// How to open a third party's [`ColdStore`].
#[derive(Clone)]
pub struct CustomBackend {
    /// What live objects in front of the store may take in memory, in bytes for all states of a subtask.
    pub cache_bytes: usize,
    /// Opens a store for one subtask, empty.
    pub open: OpenColdStore,
}

/// Opens an empty [`ColdStore`] for one subtask.
pub type OpenColdStore = Arc<dyn Fn(&BackendScope) -> Result<Box<dyn ColdStore>> + Send + Sync>;

impl fmt::Debug for CustomBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomBackend").field("cache_bytes", &self.cache_bytes).finish_non_exhaustive()
    }
}

/// Options of the RocksDB backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RocksDbOptions {
    /// What live objects may take in memory, in bytes for all states of all subtasks of the process. What is beyond
    /// is read from and written to RocksDB.
    pub cache_bytes: usize,
    /// What RocksDB takes for blocks, indexes, filters and memtables, in bytes for all databases of the process.
    pub memory_bytes: usize,
    /// Size of a memtable, in bytes per state.
    pub write_buffer_bytes: usize,
}

impl Default for RocksDbOptions {
    fn default() -> Self {
        Self { cache_bytes: 256 << 20, memory_bytes: 256 << 20, write_buffer_bytes: 32 << 20 }
    }
}

impl RocksDbOptions {
    /// For state of a few megabytes, as in tests: a database with these is open in a tenth of the time, most of which goes
    /// into clearing memory.
    pub fn small() -> Self {
        Self { cache_bytes: 1 << 20, memory_bytes: 8 << 20, write_buffer_bytes: 128 << 10 }
    }
}

/// The part of a job that one backend serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendScope {
    /// The operator's id.
    pub operator: String,
    /// The number of the subtask.
    pub subtask: u32,
    /// The job's maximum parallelism, which is the number of key groups.
    pub max_parallelism: u16,
    /// The key groups that the subtask owns.
    pub range: KeyGroupRange,
    /// Where a backend on disk may make a directory of its own; the system's temporary directory if absent.
    pub local_dir: Option<PathBuf>,
}

impl BackendScope {
    pub(super) fn check(&self) -> Result<()> {
        if self.range.is_empty() || self.range.end > self.max_parallelism {
            return Err(Error::bug(format!(
                "key groups {} of a maximum parallelism of {}",
                self.range, self.max_parallelism
            )));
        }
        Ok(())
    }
}

//! Stores that have files of their own which go into a checkpoint as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use crate::descriptor::StateKind;
use crate::key_group::{KeyGroup, KeyGroupRange};
use crate::snapshot::{NamedTable, SnapshotFile, SnapshotSink, SnapshotSource, Tables};
use crate::table::cold::FrozenStore;
use crate::ttl::Horizon;
use crate::{Error, Result};

/// Per state the keys of which the stored files may have newer rows than the image.
pub(super) type ChangedKeys = BTreeMap<String, BTreeSet<Vec<u8>>>;

/// A cold store with files of its own.
pub(super) trait NativeStore {
    /// An image whose files can be stored. `base` is as in [`SnapshotMode`](crate::SnapshotMode).
    fn freeze(&self, checkpoint: u64, base: Option<u64>) -> (Arc<dyn FrozenStore>, Box<dyn NativeImage>);

    /// Says what has expired of a state: rows of which nothing lives may be dropped, unless an image still has them.
    fn expire(&self, state: &str, kind: StateKind, horizon: Horizon);
}

/// An image of a store with files of its own, before the files are stored.
pub(super) trait NativeImage: Send {
    /// What [`store`](Self::store) finds out: once it is set, the image is the stored files with the rows of these keys
    /// laid over them.
    fn changed(&self) -> Arc<OnceLock<ChangedKeys>>;

    /// Stores the files that no checkpoint has yet. `None` if the files cannot stand for the image any more: then it
    /// has to be written row by row.
    fn store(&self, sink: &mut dyn SnapshotSink) -> Result<Option<StoredFiles>>;
}

/// The files of an image, old and new, and what they are, in the same order.
pub(super) struct StoredFiles {
    pub(super) tables: Vec<NamedTable>,
    pub(super) files: Vec<SnapshotFile>,
}

/// The native snapshots that a backend is opened from.
#[derive(Default)]
pub(super) struct RestoredTables(pub(super) Vec<(Arc<dyn SnapshotSource>, Tables)>);

impl RestoredTables {
    /// Refuses snapshots that only RocksDB can read.
    pub(super) fn expect_none(&self) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Error::config("the checkpoint holds RocksDB's own files, which the chosen backend cannot read")
            .hint("restore with `state.backend: rocksdb`, or from a savepoint"))
    }

    /// Whether the rows of a key group are laid over files.
    pub(super) fn cover(&self, group: KeyGroup) -> bool {
        self.ranges().any(|range| range.contains(group))
    }

    fn ranges(&self) -> impl Iterator<Item = KeyGroupRange> {
        self.0.iter().map(|(_, tables)| tables.range)
    }
}

//! The files of a snapshot: where a backend puts them, and where it gets them back from.
//!
//! A backend writes its image into a [`SnapshotSink`] and is opened from a [`SnapshotSource`]. It knows neither names
//! nor places: the sink says what it has stored, and a file so described can be named again by a later snapshot
//! instead of being stored again.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::Result;

/// What the bytes of a stored file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileForm {
    /// A body written by [`SnapshotSink::create`].
    Written,
    /// The copy of a local file.
    Copied,
}

/// A stored file, as the store describes it. Its content never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Unique for ever.
    pub id: Arc<str>,
    /// Where it lies, in the words of the store.
    pub path: Arc<str>,
    /// Bytes of the file, its [envelope](crate::envelope) included.
    pub length: u64,
    /// CRC32 of the file, envelope included.
    pub crc32: u32,
    /// The checkpoint that brought it.
    pub checkpoint: u64,
    /// What its bytes are.
    pub form: FileForm,
}

/// How a snapshot is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotMode {
    /// Everything, in one file that every backend reads, and that refers to no other.
    Canonical,
    /// What suits the backend; only it need be able to read it.
    Native {
        /// A completed checkpoint whose files are kept at least until the checkpoint taken now has completed or is
        /// given up, so that the snapshot may name them again. A backend that has nothing of it writes everything.
        base: Option<u64>,
    },
}

/// A stored snapshot of one keyed backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyedSnapshot {
    /// All its files, also those named again, in the order that a restore has to hand them back in. The first one says
    /// what the others are.
    pub files: Vec<SnapshotFile>,
    /// Rows written: one per key of a value, list or timer state, one per entry of a map state.
    pub rows: u64,
}

/// Stores the new files of one snapshot. Calls may block; what they have taken is durable when they return.
pub trait SnapshotSink {
    /// Begins a new file.
    fn create(&mut self) -> Result<Box<dyn SnapshotWriter + '_>>;

    /// Stores copies of local files, several at a time. The result is in the same order.
    fn copy(&mut self, files: &[PathBuf]) -> Result<Vec<SnapshotFile>>;
}

/// One file on its way. Dropped unfinished it leaves nothing that anybody will read.
pub trait SnapshotWriter {
    /// Appends to the body. Holds a bounded part of it in memory.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Ends the file.
    fn finish(self: Box<Self>) -> Result<SnapshotFile>;
}

/// A range of the body of a file: the file's place in [`SnapshotSource::files`], and bytes counted from the start of
/// its body.
pub type FileRange = (usize, Range<u64>);

/// The snapshot of one old subtask, to be read. Calls may block. Whatever they return is verified; an error of kind
/// [`Data`](crate::ErrorKind::Data) names the file that is damaged or missing.
pub trait SnapshotSource: Send + Sync {
    /// The files of [`KeyedSnapshot::files`], in the same order.
    fn files(&self) -> &[SnapshotFile];

    /// Bytes of the body of a file.
    fn body_length(&self, file: usize) -> Result<u64>;

    /// Reads parts of bodies. The result is in the same order.
    fn read(&self, ranges: &[FileRange]) -> Result<Vec<Bytes>>;

    /// Copies whole bodies to new local files, several at a time.
    fn download(&self, files: &[(usize, &Path)]) -> Result<()>;

    /// The checkpoint restored, if its files belong to the same job: a snapshot with that base may name them again.
    fn base(&self) -> Option<u64>;
}

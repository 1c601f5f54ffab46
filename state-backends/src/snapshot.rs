//! The keyed snapshot: everything one keyed subtask knows, in a form that no backend owns.
//!
//! A snapshot of one subtask has one or more files. The body of the first has blocks of rows, then a directory that says
//! where the blocks of each state and key group lie, in this file and in the others, then a trailer that says where the
//! directory lies. A reader that wants some key groups reads trailer, directory, and the blocks of those groups. The
//! bytes are described one by one in the format documentation of the project (`docs/formats/keyed-snapshot.md`).
//!
//! - The **canonical form** has one file, whose blocks are all its own.
//! - The **incremental form** of the memory backend refers to blocks of earlier snapshots: [`placement`] says of what they
//!   consist, [`increment`] how they come about.

mod entry;
mod file;
mod in_memory;
mod increment;
mod placement;
mod reader;
mod slices;
mod tables;
mod writer;

pub use file::{
    FileForm, FileRange, KeyedSnapshot, SnapshotFile, SnapshotMode, SnapshotSink, SnapshotSource,
    SnapshotWriter,
};
pub use in_memory::InMemoryFiles;
pub(crate) use increment::{FrozenEntry, Increment};
pub(crate) use placement::Placement;
pub(crate) use reader::{RestoredState, Restorer};
pub(crate) use slices::Slices;
#[cfg(feature = "rocksdb")]
pub(crate) use tables::TableFile;
pub(crate) use tables::{APPENDED, NO_ROW, NamedTable, ROW, Tables};
pub(crate) use writer::{DirectoryWriter, FileWriter, RowWriter, Subject, write_group};

use crate::Result;
use crate::key_group::KeyGroup;

const MAGIC: [u8; 4] = *b"TGKS";
const VERSION: u16 = 1;
const TRAILER_BYTES: usize = 24;

/// The image of one state at the moment of a freeze, written on another thread: per key group of the subtask's range
/// a number of pages, each with a part of the keys.
pub(crate) trait FrozenTable: Send {
    /// How many pages a group has.
    fn pages(&self, _group: KeyGroup) -> usize {
        1
    }

    /// About how many keys a page has.
    fn keys(&self, _group: KeyGroup, _page: usize) -> usize {
        1
    }

    /// What may have changed in a page since the base of the freeze.
    fn changed(&self, _group: KeyGroup, _page: usize) -> Slices {
        Slices::ALL
    }

    /// Writes the rows of a page whose keys are in one of these slices. An image that does not say what has changed is
    /// asked for all.
    fn write_page(
        &mut self,
        group: KeyGroup,
        page: usize,
        slices: &Slices,
        rows: &mut RowWriter<'_>,
    ) -> Result<()>;

    /// Lets go of a page that will not be asked for again.
    fn release_page(&mut self, _group: KeyGroup, _page: usize) {}
}

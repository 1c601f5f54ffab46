//! The keyed snapshot: everything one keyed subtask knows, in a form that no backend owns.
//!
//! The body written by one subtask holds blocks of rows, then a directory that says where each (state, key group)
//! lies, then a trailer that says where the directory lies. A reader that wants some key groups reads the trailer,
//! the directory and the blocks of those groups, nothing else. The same bytes are read by every backend, at every
//! parallelism. All fixed-width integers are little endian; `varint` is seven bits per byte, lowest first, top bit
//! set if more follow; `text` and `bytes` are a varint length and that many bytes, text being UTF-8. Offsets count
//! from the start of the body.
//!
//! **Block**: rows back to back, in no particular order, each
//!
//! | content | form |
//! |---|---|
//! | row key | bytes: the ordered forms of the key, of the namespace if there are any, of a map's user key, of a timer's time |
//! | value | bytes: value, reducing and aggregating state and map entry: the codec's form of the value; list: each element as bytes of the codec's form, in order; timer: nothing |
//!
//! **Directory**:
//!
//! | content | form |
//! |---|---|
//! | maximum parallelism, first key group, key group behind the last | 3 x u16 |
//! | key type | text |
//! | clock of states with a time to live: without outages, with them | 2 x i64 |
//! | number of states | varint |
//! | per state, in the order of their names: name | text |
//! | ... kind (1 value, 2 list, 3 map, 4 timer, 5 reducing, 6 aggregating), codec (1 bincode, 2 postcard), time to live (0 none, 1 processing time, 2 with outages, 3 event time) | 3 x u8 |
//! | ... type of the namespaces (empty if there are none), of the user key (empty unless a map), of the value | 3 x text |
//! | ... [schema](crate::schema) of the values | text |
//! | ... its fingerprint | u64 |
//! | ... number of blocks | varint |
//! | ... per block, ascending by key group: key group | u16 |
//! | ... ... offset, length in bytes, rows | 3 x u64 |
//! | ... ... CRC32 (IEEE) of the block | u32 |
//!
//! A key group without rows has no block; several blocks of one group are allowed.
//!
//! **Trailer**, the last 24 bytes:
//!
//! | offset | size | content |
//! |---|---|---|
//! | 0 | 8 | offset of the directory |
//! | 8 | 4 | length of the directory |
//! | 12 | 4 | CRC32 (IEEE) of the directory |
//! | 16 | 2 | version of this format, 1 |
//! | 18 | 2 | 0 |
//! | 20 | 4 | magic `TGKS` |

mod entry;
mod file;
mod in_memory;
mod reader;
mod tables;
mod writer;

pub use file::{
    FileForm, FileRange, KeyedSnapshot, SnapshotFile, SnapshotMode, SnapshotSink, SnapshotSource,
    SnapshotWriter,
};
pub use in_memory::InMemoryFiles;
pub(crate) use reader::{RestoredState, Restorer, rows};
#[cfg(feature = "rocksdb")]
pub(crate) use tables::TableFile;
pub(crate) use tables::{APPENDED, NO_ROW, NamedTable, ROW, Tables};
pub(crate) use writer::{BodyWriter, RowWriter};

use crate::Result;
use crate::key_group::KeyGroup;

const MAGIC: [u8; 4] = *b"TGKS";
const VERSION: u16 = 1;
const TRAILER_BYTES: usize = 24;

/// The image of one state at the moment of a freeze, written on another thread.
pub(crate) trait FrozenTable: Send {
    /// Writes the rows of one key group. Called once per group of the subtask's range.
    fn write_group(&mut self, group: KeyGroup, rows: &mut RowWriter<'_>) -> Result<()>;
}

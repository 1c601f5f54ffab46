//! Writes a keyed snapshot body: blocks while they come, directory and trailer at the end.

use super::entry::put_descriptor;
use super::file::{KeyedSnapshot, SnapshotFile, SnapshotSink, SnapshotWriter};
use super::tables::{NamedTable, describe};
use super::{FrozenTable, MAGIC, VERSION};
use crate::codec::{put_bytes, put_varint, put_with_length};
use crate::descriptor::StateDescriptor;
use crate::key_group::{KeyGroup, KeyGroupRange};
use crate::ttl::ClockReading;
use crate::{Error, Result};

/// A block ends with the first row that makes it this long.
const BLOCK_BYTES: usize = 1 << 20;

/// Takes the rows of one key group.
pub(crate) struct RowWriter<'a> {
    writer: &'a mut dyn SnapshotWriter,
    /// Bytes written.
    at: &'a mut u64,
    group: KeyGroup,
    /// The block that is open, its rows, and the rows of all.
    block: &'a mut Vec<u8>,
    block_rows: u64,
    rows: u64,
    blocks: &'a mut Blocks,
}

impl RowWriter<'_> {
    /// Adds a row whose row key is `key` followed by `user_key`.
    pub(crate) fn row(
        &mut self,
        key: &[u8],
        user_key: &[u8],
        write_value: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let block = &mut *self.block;
        put_varint((key.len() + user_key.len()) as u64, block);
        block.extend_from_slice(key);
        block.extend_from_slice(user_key);
        put_with_length(block, write_value)?;
        self.added(1)
    }

    /// Adds the rows of a block that was read before.
    pub(crate) fn copy_block(&mut self, block: &[u8], rows: u64) -> Result<()> {
        self.block.extend_from_slice(block);
        self.added(rows)
    }

    fn added(&mut self, rows: u64) -> Result<()> {
        self.block_rows += rows;
        self.rows += rows;
        if self.block.len() >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> Result<()> {
        if self.block_rows == 0 {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.block_rows);
        let block = &mut *self.block;
        self.blocks.count += 1;
        self.blocks.entries.extend_from_slice(&self.group.0.to_le_bytes());
        for number in [*self.at, block.len() as u64, rows] {
            self.blocks.entries.extend_from_slice(&number.to_le_bytes());
        }
        self.blocks.entries.extend_from_slice(&crc32fast::hash(block).to_le_bytes());
        self.writer.write(block)?;
        *self.at += block.len() as u64;
        block.clear();
        Ok(())
    }
}

/// The blocks of one state, as the directory lists them.
#[derive(Default)]
struct Blocks {
    count: u64,
    entries: Vec<u8>,
}

/// Writes one body into a new file.
pub(crate) struct BodyWriter<'a> {
    writer: Box<dyn SnapshotWriter + 'a>,
    at: u64,
    block: Vec<u8>,
    range: KeyGroupRange,
    states: u64,
    rows: u64,
    head: Vec<u8>,
    directory: Vec<u8>,
}

impl<'a> BodyWriter<'a> {
    pub(crate) fn new(
        sink: &'a mut dyn SnapshotSink,
        key_type: &str,
        range: KeyGroupRange,
        max_parallelism: u16,
        clock: ClockReading,
    ) -> Result<Self> {
        let mut head = Vec::new();
        for number in [max_parallelism, range.start, range.end] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        put_bytes(key_type.as_bytes(), &mut head);
        head.extend_from_slice(&clock.running.to_le_bytes());
        head.extend_from_slice(&clock.wall.to_le_bytes());
        let (writer, block, directory) = (sink.create()?, Vec::new(), Vec::new());
        Ok(Self { writer, at: 0, block, range, states: 0, rows: 0, head, directory })
    }

    /// Writes all key groups of one state.
    pub(crate) fn state(&mut self, state: &StateDescriptor, table: &mut dyn FrozenTable) -> Result<()> {
        let mut blocks = Blocks::default();
        for group in self.range.groups() {
            let mut rows = RowWriter {
                writer: &mut *self.writer,
                at: &mut self.at,
                group,
                block: &mut self.block,
                block_rows: 0,
                rows: 0,
                blocks: &mut blocks,
            };
            table.write_group(group, &mut rows)?;
            rows.end_block()?;
            self.rows += rows.rows;
        }
        put_descriptor(state, &mut self.directory);
        put_varint(blocks.count, &mut self.directory);
        self.directory.extend_from_slice(&blocks.entries);
        self.states += 1;
        Ok(())
    }

    /// Ends a snapshot of this one file.
    pub(crate) fn finish(mut self) -> Result<KeyedSnapshot> {
        self.end()?;
        Ok(KeyedSnapshot { files: vec![self.writer.finish()?], rows: self.rows })
    }

    /// Ends the head of a native snapshot: `files` are the table files, in the same order as `tables`.
    pub(crate) fn finish_native(
        mut self,
        tables: &[NamedTable],
        files: Vec<SnapshotFile>,
    ) -> Result<KeyedSnapshot> {
        self.end()?;
        self.writer.write(&describe(self.range, tables, self.at)?)?;
        let mut all = vec![self.writer.finish()?];
        all.extend(files);
        Ok(KeyedSnapshot { files: all, rows: self.rows })
    }

    /// Writes directory and trailer.
    fn end(&mut self) -> Result<()> {
        put_varint(self.states, &mut self.head);
        self.head.append(&mut self.directory);
        let mut directory = std::mem::take(&mut self.head);
        let crc = crc32fast::hash(&directory);
        let length = u32::try_from(directory.len())
            .map_err(|_| Error::data(format!("a snapshot directory of {} bytes", directory.len())))?;
        directory.extend_from_slice(&self.at.to_le_bytes());
        directory.extend_from_slice(&length.to_le_bytes());
        directory.extend_from_slice(&crc.to_le_bytes());
        directory.extend_from_slice(&VERSION.to_le_bytes());
        directory.extend_from_slice(&[0, 0]);
        directory.extend_from_slice(&MAGIC);
        self.writer.write(&directory)?;
        self.at += directory.len() as u64;
        Ok(())
    }
}

//! Writes a keyed snapshot body: blocks while they come, directory and trailer at the end.

use super::entry::put_descriptor;
use super::file::{SnapshotFile, SnapshotSink, SnapshotWriter};
use super::placement::{Block, Group, Page};
use super::tables::{NamedTable, describe};
use super::{FrozenTable, MAGIC, Slices, VERSION};
use crate::codec::{put_bytes, put_varint, put_with_length};
use crate::descriptor::StateDescriptor;
use crate::key_group::{KeyGroup, KeyGroupRange};
use crate::ttl::ClockReading;
use crate::{Error, Result};

/// A block of the canonical form ends with the first row that makes it this long.
const BLOCK_BYTES: usize = 1 << 20;

/// Takes a block that is long enough.
type FullBlock<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

/// Takes rows.
pub(crate) struct RowWriter<'a> {
    block: &'a mut Vec<u8>,
    rows: u64,
    /// In front of every row, if slices are told apart.
    slice: Option<u8>,
    /// Takes a block that is long enough, if that may be before all rows are there.
    full: Option<FullBlock<'a>>,
}

impl<'a> RowWriter<'a> {
    /// Appends rows with their slices to `block`.
    pub(crate) fn sliced(block: &'a mut Vec<u8>) -> Self {
        Self { block, rows: 0, slice: Some(0), full: None }
    }

    /// Says of which slice the next rows are.
    pub(crate) fn set_slice(&mut self, slice: u8) {
        self.slice = self.slice.map(|_| slice);
    }

    /// Adds a row whose row key is `key` followed by `user_key`.
    pub(crate) fn row(
        &mut self,
        key: &[u8],
        user_key: &[u8],
        write_value: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        self.block.extend(self.slice);
        put_varint((key.len() + user_key.len()) as u64, self.block);
        self.block.extend_from_slice(key);
        self.block.extend_from_slice(user_key);
        put_with_length(self.block, write_value)?;
        self.rows += 1;
        if self.block.len() >= BLOCK_BYTES && self.full.is_some() { self.end_block() } else { Ok(()) }
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    fn end_block(&mut self) -> Result<()> {
        if let Some(full) = &mut self.full
            && !self.block.is_empty()
        {
            full(self.block)?;
            self.block.clear();
        }
        Ok(())
    }
}

/// A file on its way.
pub(crate) struct FileWriter<'a> {
    writer: Box<dyn SnapshotWriter + 'a>,
    /// Bytes written.
    at: u64,
}

impl<'a> FileWriter<'a> {
    pub(crate) fn create(sink: &'a mut dyn SnapshotSink) -> Result<Self> {
        Ok(Self { writer: sink.create()?, at: 0 })
    }

    /// Writes a block. The file is the first of its snapshot.
    pub(crate) fn block(&mut self, bytes: &[u8]) -> Result<Block> {
        let (offset, length) = (self.at, bytes.len() as u64);
        self.writer.write(bytes)?;
        self.at += length;
        Ok(Block { file: 0, offset, length, crc32: crc32fast::hash(bytes) })
    }

    /// Writes directory and trailer.
    pub(crate) fn directory(&mut self, directory: DirectoryWriter) -> Result<()> {
        let mut bytes = directory.head;
        put_varint(directory.states, &mut bytes);
        bytes.extend_from_slice(&directory.body);
        let crc = crc32fast::hash(&bytes);
        let length = u32::try_from(bytes.len())
            .map_err(|_| Error::data(format!("a snapshot directory of {} bytes", bytes.len())))?;
        bytes.extend_from_slice(&self.at.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&MAGIC);
        self.writer.write(&bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Describes the table files of a native snapshot, behind the trailer.
    pub(crate) fn describe(&mut self, range: KeyGroupRange, tables: &[NamedTable]) -> Result<()> {
        self.writer.write(&describe(range, tables, self.at)?)
    }

    /// Ends the file.
    pub(crate) fn finish(self) -> Result<SnapshotFile> {
        self.writer.finish()
    }
}

/// What a snapshot is of.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) key_type: String,
    pub(crate) range: KeyGroupRange,
    pub(crate) max_parallelism: u16,
    /// When it was taken.
    pub(crate) clock: ClockReading,
}

/// Makes the directory.
pub(crate) struct DirectoryWriter {
    head: Vec<u8>,
    states: u64,
    body: Vec<u8>,
}

impl DirectoryWriter {
    /// `others` are the ids of the files besides the one that the directory is in.
    pub(crate) fn new<'f>(
        subject: &Subject,
        sliced: bool,
        others: impl ExactSizeIterator<Item = &'f SnapshotFile>,
    ) -> Self {
        let mut head = Vec::new();
        for number in [subject.max_parallelism, subject.range.start, subject.range.end] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        put_bytes(subject.key_type.as_bytes(), &mut head);
        head.extend_from_slice(&subject.clock.running.to_le_bytes());
        head.extend_from_slice(&subject.clock.wall.to_le_bytes());
        head.push(sliced.into());
        put_varint(others.len() as u64, &mut head);
        others.for_each(|file| put_bytes(file.id.as_bytes(), &mut head));
        Self { head, states: 0, body: Vec::new() }
    }

    /// Adds a state; `groups` are those of the range.
    pub(crate) fn state(&mut self, state: &StateDescriptor, range: KeyGroupRange, groups: &[Group]) {
        put_descriptor(state, &mut self.body);
        let filled = || range.groups().zip(groups).filter(|(_, placed)| !placed.is_empty());
        put_varint(filled().count() as u64, &mut self.body);
        for (group, placed) in filled() {
            self.body.extend_from_slice(&group.0.to_le_bytes());
            placed.encode(&mut self.body);
        }
        self.states += 1;
    }
}

/// Writes the rows of one group in the canonical form, and returns where they are and how many.
pub(crate) fn write_group(
    file: &mut FileWriter<'_>,
    block: &mut Vec<u8>,
    group: KeyGroup,
    table: &mut dyn FrozenTable,
) -> Result<(Group, u64)> {
    let mut placed = Group::default();
    let mut full = |bytes: &[u8]| {
        placed.pages.push(Page { block: Some(file.block(bytes)?), written: 0, keys: 0 });
        Ok(())
    };
    let mut rows = RowWriter { block, rows: 0, slice: None, full: Some(&mut full) };
    for page in 0..table.pages(group) {
        table.write_page(group, page, &Slices::ALL, &mut rows)?;
        table.release_page(group, page);
    }
    rows.end_block()?;
    let count = rows.rows;
    Ok((placed, count))
}

//! Writes a keyed snapshot body: blocks while they come, directory and trailer at the end.

use super::{FrozenTable, MAGIC, SnapshotStats, VERSION};
use crate::codec::{put_bytes, put_varint, put_with_length};
use crate::descriptor::StateDescriptor;
use crate::key_group::{KeyGroup, KeyGroupRange};
use crate::{Error, Result};

/// Takes the rows of one block.
#[derive(Debug)]
pub(crate) struct RowWriter<'a> {
    out: &'a mut Vec<u8>,
    rows: u64,
}

impl RowWriter<'_> {
    /// Adds a row whose row key is `key` followed by `user_key`.
    pub(crate) fn row(
        &mut self,
        key: &[u8],
        user_key: &[u8],
        write_value: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        put_varint((key.len() + user_key.len()) as u64, self.out);
        self.out.extend_from_slice(key);
        self.out.extend_from_slice(user_key);
        put_with_length(self.out, write_value)?;
        self.rows += 1;
        Ok(())
    }

    /// Adds the rows of a block that was read before.
    pub(crate) fn copy_block(&mut self, block: &[u8], rows: u64) {
        self.out.extend_from_slice(block);
        self.rows += rows;
    }
}

/// Appends one body to a buffer.
#[derive(Debug)]
pub(crate) struct BodyWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    range: KeyGroupRange,
    states: u64,
    keys: u64,
    head: Vec<u8>,
    directory: Vec<u8>,
}

impl<'a> BodyWriter<'a> {
    pub(crate) fn new(
        out: &'a mut Vec<u8>,
        key_type: &str,
        range: KeyGroupRange,
        max_parallelism: u16,
    ) -> Self {
        let mut head = Vec::new();
        for number in [max_parallelism, range.start, range.end] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        put_bytes(key_type.as_bytes(), &mut head);
        let start = out.len();
        Self { out, start, range, states: 0, keys: 0, head, directory: Vec::new() }
    }

    /// Writes all key groups of one state.
    pub(crate) fn state(&mut self, state: &StateDescriptor, table: &mut dyn FrozenTable) -> Result<()> {
        let mut blocks = Vec::new();
        let mut count = 0;
        for group in self.range.groups() {
            count += u64::from(self.block(group, table, &mut blocks)?);
        }
        put_bytes(state.name.as_bytes(), &mut self.directory);
        self.directory.extend_from_slice(&[state.kind as u8, state.codec as u8]);
        put_bytes(state.user_key_type.as_bytes(), &mut self.directory);
        put_bytes(state.value_type.as_bytes(), &mut self.directory);
        put_varint(count, &mut self.directory);
        self.directory.extend_from_slice(&blocks);
        self.states += 1;
        Ok(())
    }

    fn block(&mut self, group: KeyGroup, table: &mut dyn FrozenTable, blocks: &mut Vec<u8>) -> Result<bool> {
        let at = self.out.len();
        let mut rows = RowWriter { out: self.out, rows: 0 };
        table.write_group(group, &mut rows)?;
        let rows = rows.rows;
        if rows == 0 {
            return Ok(false);
        }
        let block = &self.out[at..];
        blocks.extend_from_slice(&group.0.to_le_bytes());
        for number in [(at - self.start) as u64, block.len() as u64, rows] {
            blocks.extend_from_slice(&number.to_le_bytes());
        }
        blocks.extend_from_slice(&crc32fast::hash(block).to_le_bytes());
        self.keys += rows;
        Ok(true)
    }

    pub(crate) fn finish(mut self) -> Result<SnapshotStats> {
        put_varint(self.states, &mut self.head);
        self.head.append(&mut self.directory);
        let directory = self.head;
        let length = u32::try_from(directory.len())
            .map_err(|_| Error::data(format!("a snapshot directory of {} bytes", directory.len())))?;
        let offset = (self.out.len() - self.start) as u64;
        self.out.extend_from_slice(&directory);
        self.out.extend_from_slice(&offset.to_le_bytes());
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.extend_from_slice(&crc32fast::hash(&directory).to_le_bytes());
        self.out.extend_from_slice(&VERSION.to_le_bytes());
        self.out.extend_from_slice(&[0, 0]);
        self.out.extend_from_slice(&MAGIC);
        Ok(SnapshotStats { keys: self.keys, bytes: (self.out.len() - self.start) as u64 })
    }
}

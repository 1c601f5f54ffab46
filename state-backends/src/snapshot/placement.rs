//! Where the rows of a stored snapshot lie: per state and key group its pages, each in a block, and on top of them the
//! deltas, each with the changed slices of some pages.
//!
//! A row of a page is **live** unless a later delta has its slice of that page; a row of a delta is live unless a
//! later delta has its slice, or the page was written again later. Later means: by a later checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::entry::take;
use super::file::SnapshotFile;
use crate::codec::{put_varint, take_varint};
use crate::{Error, Result};

/// A piece of the body of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The place of the file among those of the snapshot.
    pub(crate) file: usize,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) crc32: u32,
}

/// Part of the keys of a group.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// None if it had no row.
    pub(crate) block: Option<Block>,
    /// The checkpoint that wrote the block.
    pub(crate) written: u64,
    /// Keys when it was written. Not stored.
    pub(crate) keys: usize,
}

/// What one checkpoint has changed in some pages of a group.
#[derive(Clone, Debug)]
pub(crate) struct Delta {
    pub(crate) block: Block,
    pub(crate) checkpoint: u64,
    /// The pages, each with its bytes in the block. Not stored.
    pub(crate) sections: Arc<[(u32, u32)]>,
}

/// One key group of one state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) pages: Vec<Page>,
    /// In the order of their checkpoints.
    pub(crate) deltas: Vec<Delta>,
}

/// Where everything lies that a completed checkpoint of a backend refers to.
#[derive(Debug)]
pub(crate) struct Placement {
    pub(crate) checkpoint: u64,
    pub(crate) files: Vec<SnapshotFile>,
    /// By the name of the state, then the number of the group within the range.
    pub(crate) states: BTreeMap<String, Vec<Group>>,
}

impl Block {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(self.file as u64 + 1, out);
        put_varint(self.offset, out);
        put_varint(self.length, out);
        out.extend_from_slice(&self.crc32.to_le_bytes());
    }

    /// None for the mark of an empty page.
    fn decode(input: &mut &[u8]) -> Result<Option<Self>> {
        let Some(file) = take_varint(input)?.checked_sub(1) else { return Ok(None) };
        let (offset, length) = (take_varint(input)?, take_varint(input)?);
        let crc32 = u32::from_le_bytes(take(input)?);
        let file = usize::try_from(file).map_err(|_| Error::data(format!("there is no file {file}")))?;
        if offset.checked_add(length).is_none() {
            return Err(Error::data("a block has no end"));
        }
        Ok(Some(Self { file, offset, length, crc32 }))
    }
}

impl Group {
    /// Whether no row is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.deltas.is_empty() && self.pages.iter().all(|page| page.block.is_none())
    }

    /// Appends the group as the directory has it.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(self.pages.len() as u64, out);
        for page in &self.pages {
            match &page.block {
                Some(block) => block.encode(out),
                None => put_varint(0, out),
            }
            // Of an empty page too: older deltas may have rows of it.
            put_varint(page.written, out);
        }
        put_varint(self.deltas.len() as u64, out);
        for delta in &self.deltas {
            delta.block.encode(out);
            put_varint(delta.checkpoint, out);
        }
    }

    pub(crate) fn decode(input: &mut &[u8]) -> Result<Self> {
        let mut group = Self::default();
        for _ in 0..take_varint(input)? {
            let (block, written) = (Block::decode(input)?, take_varint(input)?);
            group.pages.push(Page { block, written, keys: 0 });
        }
        for _ in 0..take_varint(input)? {
            let block = Block::decode(input)?.ok_or_else(|| Error::data("a delta without a block"))?;
            let checkpoint = take_varint(input)?;
            if group.deltas.last().is_some_and(|last| last.checkpoint >= checkpoint) {
                return Err(Error::data("deltas are out of order"));
            }
            group.deltas.push(Delta { block, checkpoint, sections: Arc::default() });
        }
        Ok(group)
    }

    /// The parts of a delta that are still live.
    pub(crate) fn live_sections<'a>(&'a self, delta: &'a Delta) -> impl Iterator<Item = (usize, u64)> + 'a {
        let sections = delta.sections.iter().map(|(page, bytes)| (*page as usize, u64::from(*bytes)));
        sections.filter(|(page, _)| self.pages.get(*page).is_some_and(|p| p.written < delta.checkpoint))
    }
}

//! Reads keyed snapshot bodies: the key groups of one range out of any number of files.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::entry::{take, take_descriptor, take_text};
use super::file::SnapshotSource;
use super::{FrozenTable, MAGIC, RowWriter, TRAILER_BYTES, VERSION};
use crate::codec::{take_bytes, take_varint};
use crate::descriptor::StateDescriptor;
use crate::key_group::{KeyGroup, KeyGroupRange};
use crate::{Error, Result};

/// One state as it was found in the files, not yet decoded.
#[derive(Clone, Debug)]
pub(crate) struct RestoredState {
    pub(crate) descriptor: StateDescriptor,
    /// Checked blocks by key group, each with its number of rows.
    pub(crate) blocks: BTreeMap<KeyGroup, Vec<(Bytes, u64)>>,
}

impl RestoredState {
    /// The state as it goes into the next snapshot if nobody asks for it.
    pub(crate) fn image(&self) -> (StateDescriptor, Box<dyn FrozenTable>) {
        (self.descriptor.clone(), Box::new(self.clone()))
    }
}

/// A state that nobody asked for goes into the next snapshot as it came out of the last.
impl FrozenTable for RestoredState {
    fn write_group(&mut self, group: KeyGroup, rows: &mut RowWriter<'_>) -> Result<()> {
        for (block, count) in self.blocks.remove(&group).unwrap_or_default() {
            rows.copy_block(&block, count)?;
        }
        Ok(())
    }
}

/// Collects the states of the files of one subtask.
#[derive(Debug)]
pub(crate) struct Restorer {
    range: KeyGroupRange,
    max_parallelism: u16,
    /// That of the program; if there is no program, that of the first file.
    key_type: Option<String>,
    files: Vec<KeyGroupRange>,
    states: BTreeMap<String, RestoredState>,
}

impl Restorer {
    pub(crate) fn new(range: KeyGroupRange, max_parallelism: u16, key_type: Option<String>) -> Self {
        Self { range, max_parallelism, key_type, files: Vec::new(), states: BTreeMap::new() }
    }

    /// Takes from a snapshot what lies in the range.
    pub(crate) fn add(&mut self, snapshot: &dyn SnapshotSource) -> Result<()> {
        let head = snapshot.files().first().ok_or_else(|| Error::data("a keyed snapshot without files"))?;
        self.read(snapshot).map_err(|e| e.at(&head.path))
    }

    fn read(&mut self, snapshot: &dyn SnapshotSource) -> Result<()> {
        let directory = directory(snapshot)?;
        let input = &mut &*directory;
        let (max_parallelism, start, end) = (take_u16(input)?, take_u16(input)?, take_u16(input)?);
        let covered = KeyGroupRange { start, end };
        if max_parallelism != self.max_parallelism {
            return Err(Error::config(format!(
                "the state was written with maximum parallelism {max_parallelism}, the job has {}",
                self.max_parallelism
            ))
            .hint("the maximum parallelism is fixed for the life of the state"));
        }
        let key_type = take_text(input)?;
        let expected = self.key_type.get_or_insert_with(|| key_type.clone());
        if key_type != *expected {
            return Err(Error::config(format!(
                "the state is keyed by {key_type}, the program keys it by {expected}"
            )));
        }
        if let Some(other) = self.files.iter().find(|other| other.overlaps(covered)) {
            return Err(Error::data(format!(
                "two files hold key groups {covered} and {other}, which overlap"
            )));
        }
        self.files.push(covered);
        for _ in 0..take_varint(input)? {
            self.state(snapshot, input, covered)?;
        }
        if !input.is_empty() {
            return Err(Error::data("bytes are left over in the directory of a snapshot"));
        }
        Ok(())
    }

    fn state(
        &mut self,
        snapshot: &dyn SnapshotSource,
        input: &mut &[u8],
        covered: KeyGroupRange,
    ) -> Result<()> {
        let descriptor = take_descriptor(input)?;
        let name = descriptor.name.clone();
        let state = self
            .states
            .entry(name.clone())
            .or_insert_with(|| RestoredState { descriptor: descriptor.clone(), blocks: BTreeMap::new() });
        if state.descriptor != descriptor {
            return Err(Error::data(format!(
                "state `{name}` is a {} with values {} in one file and a {} with values {} in another",
                state.descriptor.describe(),
                state.descriptor.schema,
                descriptor.describe(),
                descriptor.schema
            )));
        }
        let (mut wanted, mut ranges) = (Vec::new(), Vec::new());
        for _ in 0..take_varint(input)? {
            let group = KeyGroup(take_u16(input)?);
            let (offset, length, rows) = (take_u64(input)?, take_u64(input)?, take_u64(input)?);
            let crc = u32::from_le_bytes(take(input)?);
            if !covered.contains(group) {
                return Err(Error::data(format!(
                    "a snapshot of key groups {covered} has a block of {}",
                    group.0
                )));
            }
            if self.range.contains(group) {
                let end = offset.checked_add(length).ok_or_else(|| Error::data("a block has no end"))?;
                wanted.push((group, rows, crc));
                ranges.push((0, offset..end));
            }
        }
        for ((group, rows, crc), block) in wanted.into_iter().zip(snapshot.read(&ranges)?) {
            let found = crc32fast::hash(&block);
            if found != crc {
                return Err(Error::data(format!("the block's CRC32 is {found:08x}, it should be {crc:08x}"))
                    .at(format!("state `{name}`, key group {}", group.0)));
            }
            state.blocks.entry(group).or_default().push((block, rows));
        }
        Ok(())
    }

    /// The type of the keys; none if none was given and no file has been read.
    pub(crate) fn key_type(&self) -> Option<&str> {
        self.key_type.as_deref()
    }

    /// The states found, once the files cover the whole range. No file at all is an empty state.
    pub(crate) fn finish(mut self) -> Result<BTreeMap<String, RestoredState>> {
        if self.files.is_empty() {
            return Ok(self.states);
        }
        self.files.sort_by_key(|range| range.start);
        let mut next = self.range.start;
        for file in &self.files {
            if file.start <= next {
                next = next.max(file.end);
            }
        }
        if next < self.range.end {
            return Err(Error::data(format!(
                "key group {next} of {} is in none of the {} restored files",
                self.range,
                self.files.len()
            ))
            .hint("hand over the files of every subtask whose key groups overlap"));
        }
        Ok(self.states)
    }
}

/// Reads the trailer of a snapshot's first file, and the directory it points at.
fn directory(snapshot: &dyn SnapshotSource) -> Result<Bytes> {
    let length = snapshot.body_length(0)?;
    let trailer_at = length
        .checked_sub(TRAILER_BYTES as u64)
        .ok_or_else(|| Error::data(format!("{length} bytes are too few for a keyed snapshot")))?;
    let trailer = one(snapshot.read(&[(0, trailer_at..length)])?)?;
    let input = &mut &*trailer;
    let offset = take_u64(input)?;
    let [length, crc] = [u32::from_le_bytes(take(input)?), u32::from_le_bytes(take(input)?)];
    let (version, zero) = (take_u16(input)?, take_u16(input)?);
    if *input != MAGIC || zero != 0 {
        return Err(Error::data("not a keyed snapshot: it does not end with TGKS"));
    }
    if version != VERSION {
        return Err(Error::data(format!("keyed snapshot version {version}, this build reads {VERSION}"))
            .hint("read it with the release that wrote it"));
    }
    if offset.checked_add(u64::from(length)) != Some(trailer_at) {
        return Err(Error::data("the directory of a keyed snapshot is damaged"));
    }
    let directory = one(snapshot.read(&[(0, offset..trailer_at)])?)?;
    if crc32fast::hash(&directory) != crc {
        return Err(Error::data("the directory of a keyed snapshot is damaged"));
    }
    Ok(directory)
}

fn one(read: Vec<Bytes>) -> Result<Bytes> {
    read.into_iter().next().ok_or_else(|| Error::bug("nothing was read"))
}

/// Visits the rows of a block: row key and value.
pub(crate) fn rows(mut block: &[u8], mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
    while !block.is_empty() {
        let key = take_bytes(&mut block)?;
        visit(key, take_bytes(&mut block)?)?;
    }
    Ok(())
}

pub(super) fn take_u16(input: &mut &[u8]) -> Result<u16> {
    take(input).map(u16::from_le_bytes)
}

pub(super) fn take_u64(input: &mut &[u8]) -> Result<u64> {
    take(input).map(u64::from_le_bytes)
}

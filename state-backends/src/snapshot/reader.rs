//! Reads keyed snapshot bodies: the key groups of one range out of any number of files.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::entry::{take, take_descriptor, take_text};
use super::file::{FileRange, SnapshotSource};
use super::placement::{Block, Group};
use super::{FrozenTable, MAGIC, RowWriter, Slices, TRAILER_BYTES, VERSION};
use crate::codec::{take_bytes, take_varint};
use crate::descriptor::StateDescriptor;
use crate::key_group::{KeyGroup, KeyGroupRange};
use crate::ttl::ClockReading;
use crate::{Error, Result};

/// One state as it was found in the files, not yet decoded.
#[derive(Clone, Debug)]
pub(crate) struct RestoredState {
    pub(crate) descriptor: StateDescriptor,
    pub(crate) groups: BTreeMap<KeyGroup, RestoredGroup>,
}

/// One key group of one state: checked blocks, laid over each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct RestoredGroup {
    /// Whether rows have their slice in front.
    sliced: bool,
    /// Each with the checkpoint that wrote it; empty pages have no bytes.
    pages: Vec<(u64, Bytes)>,
    /// Each with its checkpoint, ascending.
    deltas: Vec<(u64, Bytes)>,
}

impl RestoredState {
    /// The state as it goes into the next snapshot if nobody asks for it.
    pub(crate) fn image(&self) -> (StateDescriptor, Box<dyn FrozenTable>) {
        (self.descriptor.clone(), Box::new(self.clone()))
    }
}

/// A state that nobody asked for goes into the next snapshot as it came out of the last.
impl FrozenTable for RestoredState {
    fn changed(&self, _: KeyGroup, _: usize) -> Slices {
        Slices::NONE
    }

    fn write_page(&mut self, group: KeyGroup, _: usize, _: &Slices, rows: &mut RowWriter<'_>) -> Result<()> {
        let Some(group) = self.groups.get(&group) else { return Ok(()) };
        group.rows(|row_key, value| {
            rows.row(row_key, &[], |out| {
                out.extend_from_slice(value);
                Ok(())
            })
        })
    }
}

impl RestoredGroup {
    /// Visits the live rows: row key and value.
    pub(crate) fn rows(&self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        // Per page the slices that were seen in later deltas.
        let mut newer: BTreeMap<usize, Slices> = BTreeMap::new();
        for (checkpoint, delta) in self.deltas.iter().rev() {
            let input = &mut &**delta;
            while !input.is_empty() {
                let page = take_varint(input)?;
                let (slices, rows) = (Slices::decode(input)?, take_bytes(input)?);
                let page = usize::try_from(page).ok().filter(|page| *page < self.pages.len());
                let page = page.ok_or_else(|| Error::data("a delta of a page that is not there"))?;
                if self.pages[page].0 >= *checkpoint {
                    continue;
                }
                let seen = newer.entry(page).or_insert(Slices::NONE);
                self.block(rows, seen, &mut visit)?;
                *seen = seen.union(slices);
            }
        }
        for (number, (_, block)) in self.pages.iter().enumerate() {
            self.block(block, newer.get(&number).unwrap_or(&Slices::NONE), &mut visit)?;
        }
        Ok(())
    }

    /// Visits the rows of a block that are in none of the slices.
    fn block(
        &self,
        mut block: &[u8],
        newer: &Slices,
        visit: &mut impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        while !block.is_empty() {
            let mut is_old = false;
            if self.sliced {
                let [slice] = take(&mut block)?;
                is_old = newer.contains(slice);
            }
            let (key, value) = (take_bytes(&mut block)?, take_bytes(&mut block)?);
            if !is_old {
                visit(key, value)?;
            }
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
    /// The latest of all snapshots.
    clock: ClockReading,
    states: BTreeMap<String, RestoredState>,
}

impl Restorer {
    pub(crate) fn new(range: KeyGroupRange, max_parallelism: u16, key_type: Option<String>) -> Self {
        let (files, states) = (Vec::new(), BTreeMap::new());
        Self { range, max_parallelism, key_type, files, clock: ClockReading::NONE, states }
    }

    /// When the latest of the snapshots was taken.
    pub(crate) fn clock(&self) -> ClockReading {
        self.clock
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
        let [running, wall] = [take(input)?, take(input)?].map(i64::from_le_bytes);
        self.clock = self.clock.latest(ClockReading { running, wall });
        if let Some(other) = self.files.iter().find(|other| other.overlaps(covered)) {
            return Err(Error::data(format!(
                "two files hold key groups {covered} and {other}, which overlap"
            )));
        }
        self.files.push(covered);
        let sliced = match take(input)? {
            [0] => false,
            [1] => true,
            [other] => return Err(Error::data(format!("rows of form {other}"))),
        };
        let files = snapshot.files();
        let others = take_varint(input)?;
        if others.checked_add(1) != Some(files.len() as u64) {
            return Err(Error::data(format!("it refers to {others} files, {} are there", files.len() - 1)));
        }
        for file in files.iter().skip(1) {
            let named = take_text(input)?;
            if named != *file.id {
                return Err(Error::data(format!("it refers to file {named}, {} is in its place", file.id)));
            }
        }
        let mut wanted = Wanted::default();
        for _ in 0..take_varint(input)? {
            self.state(input, covered, sliced, &mut wanted)?;
        }
        if !input.is_empty() {
            return Err(Error::data("bytes are left over in the directory of a snapshot"));
        }
        self.fill(snapshot, wanted)
    }

    /// Reads the blocks and puts each where it belongs.
    fn fill(&mut self, snapshot: &dyn SnapshotSource, wanted: Wanted) -> Result<()> {
        for (place, block) in wanted.places.into_iter().zip(snapshot.read(&wanted.ranges)?) {
            let Place { state, group, delta, number, crc32 } = place;
            let found = crc32fast::hash(&block);
            if found != crc32 {
                return Err(Error::data(format!("a block's CRC32 is {found:08x}, it should be {crc32:08x}"))
                    .at(format!("state `{state}`, key group {}", group.0)));
            }
            let restored = self.states.get_mut(&*state).and_then(|state| state.groups.get_mut(&group));
            let restored = restored.ok_or_else(|| Error::bug("a group that was announced is gone"))?;
            let blocks = if delta { &mut restored.deltas } else { &mut restored.pages };
            if let Some(slot) = blocks.get_mut(number) {
                slot.1 = block;
            }
        }
        Ok(())
    }

    fn state(
        &mut self,
        input: &mut &[u8],
        covered: KeyGroupRange,
        sliced: bool,
        wanted: &mut Wanted,
    ) -> Result<()> {
        let descriptor = take_descriptor(input)?;
        let name = descriptor.name.clone();
        let state = self
            .states
            .entry(name.clone())
            .or_insert_with(|| RestoredState { descriptor: descriptor.clone(), groups: BTreeMap::new() });
        if state.descriptor != descriptor {
            return Err(Error::data(format!(
                "state `{name}` is a {} with values {} in one file and a {} with values {} in another",
                state.descriptor.describe(),
                state.descriptor.schema,
                descriptor.describe(),
                descriptor.schema
            )));
        }
        let shared: Arc<str> = name.as_str().into();
        for _ in 0..take_varint(input)? {
            let group = KeyGroup(take_u16(input)?);
            let placed = Group::decode(input)?;
            if !covered.contains(group) {
                return Err(Error::data(format!(
                    "a snapshot of key groups {covered} has blocks of {}",
                    group.0
                )));
            }
            if !self.range.contains(group) {
                continue;
            }
            let restored = RestoredGroup {
                sliced,
                pages: placed.pages.iter().map(|page| (page.written, Bytes::new())).collect(),
                deltas: placed.deltas.iter().map(|delta| (delta.checkpoint, Bytes::new())).collect(),
            };
            if state.groups.insert(group, restored).is_some() {
                return Err(Error::data(format!("state `{name}` has key group {} twice", group.0)));
            }
            let pages = placed.pages.iter().map(|page| page.block).enumerate().map(|(n, b)| (false, n, b));
            let deltas = placed.deltas.iter().map(|d| Some(d.block)).enumerate().map(|(n, b)| (true, n, b));
            for (delta, number, block) in pages.chain(deltas) {
                if let Some(Block { file, offset, length, crc32 }) = block {
                    wanted.places.push(Place { state: Arc::clone(&shared), group, delta, number, crc32 });
                    wanted.ranges.push((file, offset..offset + length));
                }
            }
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

/// The blocks to read, and where each belongs.
#[derive(Default)]
struct Wanted {
    places: Vec<Place>,
    ranges: Vec<FileRange>,
}

struct Place {
    state: Arc<str>,
    group: KeyGroup,
    delta: bool,
    number: usize,
    crc32: u32,
}

pub(super) fn take_u16(input: &mut &[u8]) -> Result<u16> {
    take(input).map(u16::from_le_bytes)
}

pub(super) fn take_u64(input: &mut &[u8]) -> Result<u64> {
    take(input).map(u64::from_le_bytes)
}

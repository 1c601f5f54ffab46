//! Writes an incremental snapshot: what has changed since a base, and a directory of everything.
//!
//! A page of which nothing has changed stays where it is. Of a page of which little has changed the changed slices are
//! written, into a delta of its group. Other pages are written whole.
//!
//! **Bound**: old files hold rows that are no longer live. Before writing, the bytes of all files that the snapshot will
//! refer to are estimated. If they would be more than 1.8 times the live bytes, or the files too many, then the
//! pages in the file with the smallest live part are written whole too, which frees that file, and so on. What is
//! estimated is the size of rows that have changed: from that of the page when it was written whole.

use std::collections::BTreeMap;

use super::file::{KeyedSnapshot, SnapshotFile, SnapshotSink};
use super::placement::{Block, Delta, Group, Page, Placement};
use super::writer::{DirectoryWriter, FileWriter, RowWriter, Subject};
use super::{FrozenTable, Slices};
use crate::Result;
use crate::codec::put_varint;
use crate::descriptor::StateDescriptor;
use crate::key_group::KeyGroup;

/// So many times the live bytes, in tenths, all files together may have by estimate.
const MAX_SPREAD_TENTHS: u64 = 18;

/// A snapshot refers to so many files at most.
const MAX_FILES: usize = 64;

/// What becomes of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It stays where it is.
    Keep,
    /// Its changed slices are written.
    Delta,
    /// It is written whole.
    Whole,
}

/// A state of the image.
pub(crate) type FrozenEntry = (StateDescriptor, Box<dyn FrozenTable>);

/// Fates by state, group within the range, page.
type Plan = Vec<Vec<Vec<Fate>>>;

/// One snapshot being written.
pub(crate) struct Increment<'a> {
    subject: &'a Subject,
    checkpoint: u64,
    base: Option<&'a Placement>,
}

impl<'a> Increment<'a> {
    /// Without a base everything is written.
    pub(crate) fn new(subject: &'a Subject, checkpoint: u64, base: Option<&'a Placement>) -> Self {
        Self { subject, checkpoint, base }
    }

    pub(crate) fn store(
        &self,
        mut states: Vec<FrozenEntry>,
        sink: &mut dyn SnapshotSink,
    ) -> Result<(KeyedSnapshot, Placement)> {
        let plan = self.plan(&states);
        let mut file = FileWriter::create(sink)?;
        let mut output = Output { file: &mut file, page: Vec::new(), delta: Vec::new(), rows: 0 };
        let mut placed: BTreeMap<String, Vec<Group>> = BTreeMap::new();
        for ((descriptor, table), fates) in states.iter_mut().zip(&plan) {
            let groups = self.subject.range.groups().zip(fates).enumerate().map(|(index, (group, fates))| {
                self.group(&mut output, &mut **table, group, fates, self.base_group(&descriptor.name, index))
            });
            let groups =
                groups.collect::<Result<_>>().map_err(|e| e.at(format!("state `{}`", descriptor.name)))?;
            placed.insert(descriptor.name.clone(), groups);
        }
        let rows = output.rows;
        let others = self.renumber(&mut placed);
        let mut directory = DirectoryWriter::new(self.subject, true, others.iter());
        for (descriptor, _) in &states {
            let groups = placed.get(&descriptor.name).map(Vec::as_slice).unwrap_or_default();
            directory.state(descriptor, self.subject.range, groups);
        }
        file.directory(directory)?;
        let mut files = vec![file.finish()?];
        files.extend(others);
        let placement = Placement { checkpoint: self.checkpoint, files: files.clone(), states: placed };
        Ok((KeyedSnapshot { files, rows }, placement))
    }

    fn base_group(&self, state: &str, index: usize) -> Option<&'a Group> {
        self.base?.states.get(state)?.get(index)
    }

    /// Decides what becomes of every page.
    fn plan(&self, states: &[FrozenEntry]) -> Plan {
        let fate = |table: &dyn FrozenTable, group: KeyGroup, page: usize, base: Option<&Group>| {
            let Some(before) = base.and_then(|base| base.pages.get(page)) else { return Fate::Whole };
            match table.changed(group, page).len() {
                0 => Fate::Keep,
                1..128 if before.block.is_some() => Fate::Delta,
                _ => Fate::Whole,
            }
        };
        let groups = |(descriptor, table): &FrozenEntry| {
            let groups = self.subject.range.groups().enumerate();
            groups
                .map(|(index, group)| {
                    let base = self.base_group(&descriptor.name, index);
                    (0..table.pages(group)).map(|page| fate(&**table, group, page, base)).collect()
                })
                .collect()
        };
        let mut plan: Plan = states.iter().map(groups).collect();
        let Some(base) = self.base else { return plan };
        loop {
            let estimate = self.estimate(base, states, &plan);
            let crowded = estimate.kept_files >= MAX_FILES
                || estimate.bytes > estimate.live.saturating_mul(MAX_SPREAD_TENTHS) / 10;
            match estimate.worst {
                Some(file) if crowded => self.free(file, states, &mut plan),
                _ => return plan,
            }
        }
    }

    /// What the snapshot would amount to.
    fn estimate(&self, base: &Placement, states: &[FrozenEntry], plan: &Plan) -> Estimate {
        let mut used = vec![0u64; base.files.len()];
        let (mut live, mut new) = (0, 0);
        self.each_group(states, plan, |table, group, fates, before| {
            for (number, fate) in fates.iter().enumerate() {
                let page = before.and_then(|before| before.pages.get(number));
                let bytes = page.map_or(0, |page| live_bytes(page, table.keys(group, number)));
                live += bytes;
                match fate {
                    Fate::Keep => {}
                    Fate::Delta => new += bytes * u64::from(table.changed(group, number).len()) / 256,
                    Fate::Whole => new += bytes,
                }
            }
            for (file, bytes) in before.iter().flat_map(|before| pieces(before, fates)) {
                used[file] += bytes;
            }
        });
        let kept = || base.files.iter().zip(&used).enumerate().filter(|(_, (_, used))| **used > 0);
        let part = |(_, (file, used)): &(usize, (&SnapshotFile, &u64))| **used * 1000 / file.length.max(1);
        Estimate {
            live,
            bytes: new + kept().map(|(_, (file, _))| file.length).sum::<u64>(),
            kept_files: kept().count(),
            worst: kept().min_by_key(part).map(|(number, _)| number),
        }
    }

    /// Has everything that is live in a file of the base written again.
    fn free(&self, file: usize, states: &[FrozenEntry], plan: &mut Plan) {
        for ((descriptor, _), groups) in states.iter().zip(plan) {
            for (index, fates) in groups.iter_mut().enumerate() {
                let Some(before) = self.base_group(&descriptor.name, index) else { continue };
                for (page, fate) in before.pages.iter().zip(fates.iter_mut()) {
                    if page.block.is_some_and(|block| block.file == file) {
                        *fate = Fate::Whole;
                    }
                }
                for delta in before.deltas.iter().filter(|delta| delta.block.file == file) {
                    for (page, _) in before.live_sections(delta) {
                        if let Some(fate) = fates.get_mut(page) {
                            *fate = Fate::Whole;
                        }
                    }
                }
            }
        }
    }

    fn each_group(
        &self,
        states: &[FrozenEntry],
        plan: &Plan,
        mut visit: impl FnMut(&dyn FrozenTable, KeyGroup, &[Fate], Option<&Group>),
    ) {
        for ((descriptor, table), groups) in states.iter().zip(plan) {
            for (index, (group, fates)) in self.subject.range.groups().zip(groups).enumerate() {
                visit(&**table, group, fates, self.base_group(&descriptor.name, index));
            }
        }
    }

    /// Writes one group. Places in files of the base are those of the base's list, plus one.
    fn group(
        &self,
        output: &mut Output<'_, '_>,
        table: &mut dyn FrozenTable,
        group: KeyGroup,
        fates: &[Fate],
        before: Option<&Group>,
    ) -> Result<Group> {
        let kept = |block: Block| Block { file: block.file + 1, ..block };
        let mut after = Group::default();
        let mut sections = Vec::new();
        output.delta.clear();
        for (number, fate) in fates.iter().enumerate() {
            let old = before.and_then(|before| before.pages.get(number));
            let page = match (fate, old) {
                (Fate::Keep, Some(old)) => Page { block: old.block.map(kept), ..old.clone() },
                (Fate::Delta, Some(old)) if output.section(table, group, number, old, &mut sections)? => {
                    Page { block: old.block.map(kept), ..old.clone() }
                }
                _ => Page {
                    block: output.whole(table, group, number)?,
                    written: self.checkpoint,
                    keys: table.keys(group, number),
                },
            };
            table.release_page(group, number);
            after.pages.push(page);
        }
        let old_deltas = before.map(|before| before.deltas.as_slice()).unwrap_or_default();
        for delta in old_deltas {
            // Those of which nothing is live any more are forgotten.
            if after.live_sections(delta).next().is_some() {
                after.deltas.push(Delta { block: kept(delta.block), ..delta.clone() });
            }
        }
        if !sections.is_empty() {
            let block = output.file.block(&output.delta)?;
            after.deltas.push(Delta { block, checkpoint: self.checkpoint, sections: sections.into() });
        }
        Ok(after)
    }

    /// Numbers the files that are still referred to: the new one is 0, then those of the base in their order.
    fn renumber(&self, placed: &mut BTreeMap<String, Vec<Group>>) -> Vec<SnapshotFile> {
        let base = self.base.map(|base| base.files.as_slice()).unwrap_or_default();
        let mut numbers = vec![0; base.len() + 1];
        each_block(placed, |block| numbers[block.file] = 1);
        let mut files = Vec::new();
        for (file, number) in base.iter().zip(&mut numbers[1..]) {
            if *number == 1 {
                files.push(file.clone());
                *number = files.len();
            }
        }
        numbers[0] = 0;
        each_block(placed, |block| block.file = numbers[block.file]);
        files
    }
}

fn each_block(placed: &mut BTreeMap<String, Vec<Group>>, mut visit: impl FnMut(&mut Block)) {
    for group in placed.values_mut().flatten() {
        group.pages.iter_mut().filter_map(|page| page.block.as_mut()).for_each(&mut visit);
        group.deltas.iter_mut().for_each(|delta| visit(&mut delta.block));
    }
}

/// What a snapshot would amount to.
struct Estimate {
    /// Bytes of all live rows.
    live: u64,
    /// Bytes of all files.
    bytes: u64,
    /// Files of the base that would be referred to, and the one of them with the smallest live part.
    kept_files: usize,
    worst: Option<usize>,
}

/// Bytes of the rows of a page that had `keys` keys in a block of known length.
fn live_bytes(page: &Page, keys: usize) -> u64 {
    page.block.map_or(0, |block| block.length * keys as u64 / (page.keys as u64).max(1))
}

/// What would stay live in files of the base: file and bytes.
fn pieces<'a>(before: &'a Group, fates: &'a [Fate]) -> impl Iterator<Item = (usize, u64)> + 'a {
    let stays = |page: usize| fates.get(page).is_some_and(|fate| *fate != Fate::Whole);
    let pages = before.pages.iter().enumerate().filter(move |(number, _)| stays(*number));
    let pages = pages.filter_map(|(_, page)| page.block.map(|block| (block.file, block.length)));
    let deltas = before.deltas.iter().flat_map(move |delta| {
        let live = before.live_sections(delta).filter(move |(page, _)| stays(*page));
        live.map(|(_, bytes)| (delta.block.file, bytes))
    });
    pages.chain(deltas)
}

/// The new file, and what is being written into it.
struct Output<'a, 'w> {
    file: &'a mut FileWriter<'w>,
    /// A page or section.
    page: Vec<u8>,
    /// The delta of the group.
    delta: Vec<u8>,
    rows: u64,
}

impl Output<'_, '_> {
    /// Writes a page whole. No block if it has no rows.
    fn whole(&mut self, table: &mut dyn FrozenTable, group: KeyGroup, page: usize) -> Result<Option<Block>> {
        self.page.clear();
        let mut rows = RowWriter::sliced(&mut self.page);
        table.write_page(group, page, &Slices::ALL, &mut rows)?;
        self.rows += rows.rows();
        if self.page.is_empty() { Ok(None) } else { self.file.block(&self.page).map(Some) }
    }

    /// Adds the changed slices of a page to the delta, unless it is better written whole.
    fn section(
        &mut self,
        table: &mut dyn FrozenTable,
        group: KeyGroup,
        page: usize,
        old: &Page,
        sections: &mut Vec<(u32, u32)>,
    ) -> Result<bool> {
        let slices = table.changed(group, page);
        self.page.clear();
        let mut rows = RowWriter::sliced(&mut self.page);
        table.write_page(group, page, &slices, &mut rows)?;
        let rows = rows.rows();
        if self.page.len() as u64 > live_bytes(old, table.keys(group, page)) / 2 {
            return Ok(false);
        }
        let start = self.delta.len();
        put_varint(page as u64, &mut self.delta);
        slices.encode(&mut self.delta);
        put_varint(self.page.len() as u64, &mut self.delta);
        self.delta.extend_from_slice(&self.page);
        let (Ok(number), Ok(bytes)) = (u32::try_from(page), u32::try_from(self.delta.len() - start)) else {
            self.delta.truncate(start);
            return Ok(false);
        };
        sections.push((number, bytes));
        self.rows += rows;
        Ok(true)
    }
}

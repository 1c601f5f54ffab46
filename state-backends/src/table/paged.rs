//! The paged table: a hash table that can be frozen in O(pages) and goes on being written.
//!
//! Each key group has an extendible-hash directory of [pages](super::page), each a small flat hash table. A page is
//! owned or, since the last freeze, shared with a snapshot. Freezing makes every page shared by moving its header (not
//! its entries) behind an `Arc`. The first write to a shared page takes the page back if the snapshot is gone; if it is
//! not, plain entries are copied and others laid over. The hot path of an owned page has no atomics and no indirection.
//!
//! The page comes from bits 48 to 56 of the hash, then from 16 to 22: the key group comes from the upper part of bits
//! 16 to 47, the in-page tag from the top 7 bits and the in-page bucket from the low ones, so all four stay
//! independent. The first nine are among those that differ between the namespaces of one key.
//!
//! For incremental snapshots every page knows which [slices](Slices) of its keys may have changed since the last freeze:
//! a bit set by every write, in the cache line of the page's header. Slices come from bits 8 to 15, which are left over.

use std::hint::black_box;

use hashbrown::HashTable;

use super::page::{Entries, Layers, Page, Place};
use super::payload::{Life, Reach};
use crate::context::Position;
use crate::key::Key;
use crate::snapshot::Slices;

/// A directory has at most this many bits; a page that could only be split beyond them grows instead.
const MAX_DEPTH: u8 = 16;

/// How many bytes of entries a core is taken to keep so close that they need not be asked for: less than its second
/// cache, which batches of records go through as well. The third is shared, on rented machines with strangers.
const FAST_BYTES: usize = 128 << 10;

/// How many keys are touched step by step together.
const TOUCHED_AT_ONCE: usize = 32;

/// A frozen key group. The number of a page stays the same as long as the table lives.
pub(crate) type FrozenPages<K, V> = Vec<FrozenPage<K, V>>;

/// A frozen page.
#[derive(Debug)]
pub(crate) struct FrozenPage<K, V> {
    pub(crate) entries: Layers<K, V>,
    /// What may have changed since the base of the freeze.
    pub(crate) changed: Slices,
}

/// Which freeze it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    /// Its number, higher than those before.
    pub(crate) number: u64,
    /// The freeze before it that changes are wanted since.
    pub(crate) base: Option<u64>,
}

/// A page with what changed in it since the last freeze: both in one cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Slot<K, V> {
    page: Page<K, V>,
    changed: Slices,
}

impl<K, V> Slot<K, V> {
    fn new(entries: Entries<K, V>) -> Self {
        Self { page: Page::Owned(entries), changed: Slices::ALL }
    }
}

/// What is seldom needed of a page.
#[derive(Debug)]
struct Track {
    /// How many bits all hashes of the page share.
    depth: u8,
    /// What changed between the freezes [`Since::older`] and [`Since::newer`] and the last one.
    older: Slices,
    newer: Slices,
}

impl Track {
    fn new(depth: u8) -> Self {
        Self { depth, older: Slices::ALL, newer: Slices::ALL }
    }
}

/// The freezes that tracks count from. There are two, so that the older one can be given up when it is no longer asked
/// for, although checkpoints overlap and a base is never the last freeze.
#[derive(Clone, Copy, Debug)]
struct Since {
    older: u64,
    newer: u64,
    last: u64,
}

#[derive(Debug)]
struct Group<K, V> {
    /// How many hash bits index the directory.
    depth: u8,
    /// Page number per value of those bits.
    directory: Vec<u32>,
    pages: Vec<Slot<K, V>>,
    /// Parallel to the pages.
    tracks: Vec<Track>,
}

/// The bits of a hash that choose the page, the first one lowest.
#[inline]
fn page_bits(hash: u64) -> usize {
    ((hash >> 48) as usize & 0x1ff) | (((hash >> 16) as usize & 0x7f) << 9)
}

#[inline]
fn route(hash: u64, depth: u8) -> usize {
    page_bits(hash) & ((1 << depth) - 1)
}

impl<K: Key, V: Clone> Group<K, V> {
    fn new() -> Self {
        Self {
            depth: 0,
            directory: vec![0],
            pages: vec![Slot::new(HashTable::new())],
            tracks: vec![Track::new(0)],
        }
    }

    #[inline]
    fn page_number(&self, hash: u64) -> usize {
        self.directory[route(hash, self.depth)] as usize
    }

    /// Splits a page that may have `most` entries or more, until no part of it has.
    #[cold]
    fn split(&mut self, number: usize, most: usize) {
        let mut large = vec![number];
        while let Some(number) = large.pop() {
            let is_large = matches!(&self.pages[number].page, Page::Owned(entries) if entries.len() >= most);
            if is_large && self.tracks[number].depth < MAX_DEPTH {
                self.halve(number);
                large.extend([number, self.pages.len() - 1]);
            }
        }
    }

    /// Halves a page: the entries whose next hash bit is set move to a new one.
    fn halve(&mut self, number: usize) {
        let depth = self.tracks[number].depth;
        if depth == self.depth {
            self.directory.extend_from_within(..);
            self.depth += 1;
        }
        let bit = 1 << depth;
        let Page::Owned(full) = &mut self.pages[number].page else { return };
        let full = std::mem::take(full);
        let mut halves = [HashTable::with_capacity(full.len()), HashTable::with_capacity(full.len())];
        for (key, value) in full {
            let hash = key.hash64();
            halves[usize::from(page_bits(hash) & bit != 0)]
                .insert_unique(hash, (key, value), |e| e.0.hash64());
        }
        let [stay, moved] = halves;
        // To a snapshot both are new.
        self.pages[number] = Slot::new(stay);
        self.tracks[number] = Track::new(depth + 1);
        let new_number = self.pages.len() as u32;
        self.pages.push(Slot::new(moved));
        self.tracks.push(Track::new(depth + 1));
        for (route, slot) in self.directory.iter_mut().enumerate() {
            if *slot as usize == number && route & (1 << depth) != 0 {
                *slot = new_number;
            }
        }
    }
}

/// Where an entry is in its group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot {
    page: usize,
    place: Place,
}

/// Where a sweep over the pages stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hand {
    /// The number of a group, which is right in every map of as many groups.
    pub(crate) group: usize,
    /// A page of it. Pages do not go away.
    page: usize,
}

/// A hash table over the key groups of one subtask.
#[derive(Debug)]
pub(crate) struct PagedMap<K, V> {
    groups: Vec<Group<K, V>>,
    /// How many pages the groups have.
    pages: usize,
    /// How many entries the pages have.
    entries: usize,
    /// None before the first freeze.
    since: Option<Since>,
}

impl<K: Key, V: Clone> PagedMap<K, V> {
    /// A page is split when it holds this many entries. They are 7/8 of a power of two, hashbrown's load limit, so
    /// a page never grows past its last size. Pages of large entries are smaller, to keep their copies short.
    const SPLIT_AT: usize = match size_of::<(K, V)>() {
        0..=256 => 224,
        _ => 112,
    };

    pub(crate) fn new(groups: usize) -> Self {
        Self { groups: (0..groups).map(|_| Group::new()).collect(), pages: groups, entries: 0, since: None }
    }

    #[inline]
    pub(crate) fn get(&self, at: Position, key: &K) -> Option<&V> {
        let group = &self.groups[at.group_index];
        group.pages[group.page_number(at.hash)].page.find(at.hash, key)
    }

    /// The value of `key`, to be changed.
    #[inline]
    pub(crate) fn get_mut(&mut self, at: Position, key: &K) -> Option<&mut V> {
        if let Page::Shared(_) = self.slot(at).page {
            self.get(at, key)?;
            self.take_back(at);
        }
        let Slot { page, changed } = self.slot(at);
        let value = page.find_mut(at.hash, key)?;
        changed.add(at.hash);
        Some(value)
    }

    #[inline]
    fn slot(&mut self, at: Position) -> &mut Slot<K, V> {
        let group = &mut self.groups[at.group_index];
        let number = group.page_number(at.hash);
        &mut group.pages[number]
    }

    /// Makes one owned table of a shared page, if it can be had. It may have got entries meanwhile, and is split then.
    #[cold]
    fn take_back(&mut self, at: Position) {
        let group = &mut self.groups[at.group_index];
        let number = group.page_number(at.hash);
        group.pages[number].page.take_back();
        self.split(at, number);
    }

    fn split(&mut self, at: Position, number: usize) {
        let group = &mut self.groups[at.group_index];
        let pages = group.pages.len();
        group.split(number, Self::SPLIT_AT);
        self.pages += group.pages.len() - pages;
    }

    /// Where the entry of `key` is, until the next entry is added or removed.
    #[inline]
    pub(crate) fn find(&self, at: Position, key: &K) -> Option<Spot> {
        let group = &self.groups[at.group_index];
        let page = group.page_number(at.hash);
        Some(Spot { page, place: group.pages[page].page.place(at.hash, key)? })
    }

    /// The value that was found at `spot`.
    #[inline]
    pub(crate) fn at(&self, at: Position, spot: Spot) -> Option<&V> {
        self.groups[at.group_index].pages[spot.page].page.at(spot.place)
    }

    /// The value of `key` that was found at `spot`, to be changed.
    #[inline]
    pub(crate) fn at_mut(&mut self, at: Position, spot: Spot, key: &K) -> Option<&mut V> {
        if let Page::Shared(_) = self.groups[at.group_index].pages[spot.page].page {
            // What becomes of it need not have its entries at the same places.
            return self.get_mut(at, key);
        }
        let Slot { page, changed } = &mut self.groups[at.group_index].pages[spot.page];
        changed.add(at.hash);
        page.at_mut(spot.place)
    }

    /// Puts `value` in the place of whatever `key` had.
    #[inline]
    pub(crate) fn put(&mut self, at: Position, key: &K, value: V) {
        if let Page::Shared(_) = self.slot(at).page {
            self.take_back(at);
        }
        let Slot { page, changed } = self.slot(at);
        match page {
            Page::Owned(entries) => match entries.find_mut(at.hash, |e| e.0 == *key) {
                Some(present) => {
                    changed.add(at.hash);
                    present.1 = value;
                }
                None => self.insert(at, key.clone(), value),
            },
            // The present value is not copied only to be replaced.
            Page::Shared(layers) => {
                changed.add(at.hash);
                let is_new = layers.put(at.hash, key, value);
                self.entries += usize::from(is_new);
            }
        }
    }

    /// Adds an entry for a key that has none.
    #[inline(never)]
    pub(crate) fn insert(&mut self, at: Position, key: K, value: V) {
        let group = &mut self.groups[at.group_index];
        let number = group.page_number(at.hash);
        let slot = &mut group.pages[number];
        slot.changed.add(at.hash);
        self.entries += 1;
        // A page that changes are laid over is split when it is one again.
        if slot.page.insert(at.hash, key, value).is_some_and(|entries| entries >= Self::SPLIT_AT) {
            self.split(at, number);
        }
    }

    /// Removes the entry of `key`.
    pub(crate) fn remove(&mut self, at: Position, key: &K) {
        let Slot { page, changed } = self.slot(at);
        if page.remove(at.hash, key) {
            changed.add(at.hash);
            self.entries -= 1;
        }
    }

    /// Whether there are so many entries that most of them have to come from memory.
    #[inline]
    pub(crate) fn is_large(&self) -> bool {
        self.entries * size_of::<(K, V)>() > FAST_BYTES
    }

    /// Brings the entries of keys with these hashes, where there are any, into the processor's caches, and what they hold
    /// elsewhere. `other` is any key.
    ///
    /// Each step reads what the next one needs for many keys before that one begins, and nothing waits for what is
    /// read, so the reads are under way at the same time; the fewer instructions between them, the more of them.
    ///
    /// Returns those of the first 64 that have a place here and no entry, but for one that was added since the page was
    /// last shared; the first one is the lowest bit.
    pub(crate) fn touch(&self, hashes: &[u64], position: impl Fn(u64) -> Option<Position>, other: &K) -> u64
    where
        V: Reach,
    {
        let mut missing = 0;
        for (hashes, shift) in hashes.chunks(TOUCHED_AT_ONCE).zip((0..u64::BITS).step_by(TOUCHED_AT_ONCE)) {
            let mut places = [None; TOUCHED_AT_ONCE];
            for (place, hash) in places.iter_mut().zip(hashes) {
                *place = position(*hash).map(|at| {
                    let group = &self.groups[at.group_index];
                    (group.pages[group.page_number(at.hash)].page.base(), usize::MAX)
                });
            }
            for (place, hash) in places.iter_mut().zip(hashes) {
                if let Some((page, bucket)) = place {
                    *bucket = page.find_bucket_index(*hash, |_| true).unwrap_or(usize::MAX);
                }
            }
            for (place, bit) in places.iter().zip(shift..) {
                let Some((page, bucket)) = place else { continue };
                match page.get_bucket(*bucket) {
                    Some(entry) => _ = black_box(entry.0 == *other),
                    None => missing |= 1 << bit,
                }
            }
            for step in 0..V::STEPS {
                for (page, bucket) in places.iter().flatten() {
                    if let Some((_, value)) = page.get_bucket(*bucket) {
                        value.reach(step);
                    }
                }
            }
        }
        missing
    }

    /// How many pages there are.
    pub(crate) fn pages(&self) -> usize {
        self.pages
    }

    /// Moves `hand` to the next page.
    pub(crate) fn advance(&self, hand: &mut Hand) {
        hand.page += 1;
        if hand.page >= self.groups[hand.group].pages.len() {
            let next = if hand.group + 1 < self.groups.len() { hand.group + 1 } else { 0 };
            *hand = Hand { group: next, page: 0 };
        }
    }

    /// Whether a page surely has no entries.
    pub(crate) fn is_empty(&self, hand: Hand) -> bool {
        let page = &self.groups[hand.group].pages[hand.page].page;
        matches!(page, Page::Owned(entries) if entries.is_empty())
    }

    /// The entries of one page.
    pub(crate) fn page(&self, hand: Hand) -> impl Iterator<Item = (&K, &V)> {
        self.groups[hand.group].pages[hand.page].page.iter()
    }

    /// Takes out of one page the entries that `life` says are gone, and has `change` change those of which a part is.
    pub(crate) fn retain(
        &mut self,
        hand: Hand,
        life: impl FnMut(&K, &V) -> Life,
        change: impl FnMut(&mut V),
    ) {
        let slot = &mut self.groups[hand.group].pages[hand.page];
        slot.changed = Slices::ALL;
        self.entries -= slot.page.retain(life, change);
    }

    /// The entries of one group, which is counted from the first.
    pub(crate) fn group(&self, index: usize) -> impl Iterator<Item = (&K, &V)> {
        self.groups[index].pages.iter().flat_map(|slot| slot.page.iter())
    }

    /// Every entry, group by group.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.groups.iter().flat_map(|group| &group.pages).flat_map(|slot| slot.page.iter())
    }

    /// Shares every page with the returned image; entries are neither visited nor copied.
    pub(crate) fn freeze(&mut self, mark: Mark) -> Vec<FrozenPages<K, V>> {
        let Since { mut older, mut newer, last } =
            self.since.unwrap_or(Since { older: mark.number, newer: mark.number, last: mark.number });
        let base = mark.base.filter(|_| self.since.is_some());
        let (is_last, is_newer, is_older) =
            (base == Some(last), base.is_some_and(|b| b >= newer), base.is_some_and(|b| b >= older));
        let first = self.since.is_none();
        let freeze = |slot: &mut Slot<K, V>, track: &mut Track| {
            let changed = std::mem::replace(&mut slot.changed, Slices::NONE);
            track.older = track.older.union(changed);
            track.newer = track.newer.union(changed);
            let since_base = match () {
                () if is_last => changed,
                () if is_newer => track.newer,
                () if is_older => track.older,
                () => Slices::ALL,
            };
            if first {
                (track.older, track.newer) = (Slices::NONE, Slices::NONE);
            } else if is_newer {
                (track.older, track.newer) = (since_base, Slices::NONE);
            }
            FrozenPage { entries: slot.page.freeze(), changed: since_base }
        };
        let groups = self.groups.iter_mut().map(|group| {
            group.pages.iter_mut().zip(&mut group.tracks).map(|(slot, track)| freeze(slot, track)).collect()
        });
        let groups = groups.collect();
        if is_newer {
            older = if is_last { last } else { newer };
            newer = mark.number;
        }
        self.since = Some(Since { older, newer, last: mark.number });
        groups
    }
}

#[cfg(test)]
mod tests;

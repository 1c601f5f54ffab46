//! The paged table: a hash table that can be frozen in O(pages) and goes on being written.
//!
//! Each key group has an extendible-hash directory of pages, each a small flat hash table. A page is owned or, since
//! the last freeze, shared with a snapshot. Freezing makes every page shared by moving its header (not its entries)
//! behind an `Arc`. The first write to a shared page takes the page back if the snapshot is gone and copies it if
//! it is not. The hot path of an owned page has no atomics and no indirection.
//!
//! The page comes from bits 48 to 56 of the hash, then from 16 to 22: the key group comes from the upper part of bits
//! 16 to 47, the in-page tag from the top 7 bits and the in-page bucket from the low ones, so all four stay
//! independent. The first nine are among those that differ between the namespaces of one key.
//!
//! For incremental snapshots every page knows which [slices](Slices) of its keys may have changed since the last freeze:
//! a bit set by every write, in the cache line of the page's header. Slices come from bits 8 to 15, which are left over.

use std::hint::black_box;
use std::sync::Arc;

use hashbrown::HashTable;

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

type Entries<K, V> = HashTable<(K, V)>;

/// A frozen key group. The number of a page stays the same as long as the table lives.
pub(crate) type FrozenPages<K, V> = Vec<FrozenPage<K, V>>;

/// A frozen page.
#[derive(Debug)]
pub(crate) struct FrozenPage<K, V> {
    pub(crate) entries: Arc<Entries<K, V>>,
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

#[derive(Debug)]
enum Page<K, V> {
    Owned(Entries<K, V>),
    Shared(Arc<Entries<K, V>>),
}

impl<K: Key, V: Clone> Page<K, V> {
    #[inline]
    fn get(&self) -> &Entries<K, V> {
        match self {
            Self::Owned(entries) => entries,
            Self::Shared(entries) => entries,
        }
    }

    #[inline]
    fn get_mut(&mut self) -> &mut Entries<K, V> {
        if let Self::Shared(_) = self {
            self.take_back();
        }
        match self {
            Self::Owned(entries) => entries,
            // Not reached after `take_back`; a copy-on-write is right in any case.
            Self::Shared(entries) => Arc::make_mut(entries),
        }
    }

    #[cold]
    fn take_back(&mut self) {
        if let Self::Shared(shared) = std::mem::replace(self, Self::Owned(HashTable::new())) {
            *self = Self::Owned(Arc::unwrap_or_clone(shared));
        }
    }

    /// Like [`get_mut`](Self::get_mut) if the page has `key`, else `None`, in which case a shared page may have been
    /// left shared.
    #[inline]
    fn prepare(&mut self, hash: u64, key: &K) -> Option<&mut Entries<K, V>> {
        if let Self::Shared(entries) = self {
            entries.find(hash, |e| e.0 == *key)?;
            self.take_back();
        }
        Some(self.get_mut())
    }

    fn freeze(&mut self) -> Arc<Entries<K, V>> {
        let shared = match std::mem::replace(self, Self::Owned(HashTable::new())) {
            Self::Owned(entries) => Arc::new(entries),
            Self::Shared(shared) => shared,
        };
        *self = Self::Shared(Arc::clone(&shared));
        shared
    }
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

    /// Halves a full page: the entries whose next hash bit is set move to a new one.
    #[cold]
    fn split(&mut self, number: usize) {
        let depth = self.tracks[number].depth;
        if depth >= MAX_DEPTH {
            return;
        }
        if depth == self.depth {
            self.directory.extend_from_within(..);
            self.depth += 1;
        }
        let bit = 1 << depth;
        let full = std::mem::replace(self.pages[number].page.get_mut(), HashTable::new());
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
    bucket: usize,
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
        group.pages[group.page_number(at.hash)].page.get().find(at.hash, |e| e.0 == *key).map(|e| &e.1)
    }

    /// The value of `key`, to be changed: a page shared with an image is no longer shared, if it has the key.
    #[inline]
    pub(crate) fn get_mut(&mut self, at: Position, key: &K) -> Option<&mut V> {
        let group = &mut self.groups[at.group_index];
        let number = group.page_number(at.hash);
        let slot = &mut group.pages[number];
        let entry = slot.page.prepare(at.hash, key)?.find_mut(at.hash, |e| e.0 == *key)?;
        slot.changed.add(at.hash);
        Some(&mut entry.1)
    }

    /// Where the entry of `key` is, until the next entry is added or removed.
    #[inline]
    pub(crate) fn find(&self, at: Position, key: &K) -> Option<Spot> {
        let group = &self.groups[at.group_index];
        let page = group.page_number(at.hash);
        let bucket = group.pages[page].page.get().find_bucket_index(at.hash, |e| e.0 == *key)?;
        Some(Spot { page, bucket })
    }

    /// The value that was found at `spot`.
    #[inline]
    pub(crate) fn at(&self, at: Position, spot: Spot) -> Option<&V> {
        self.groups[at.group_index].pages[spot.page].page.get().get_bucket(spot.bucket).map(|e| &e.1)
    }

    /// The value of `key` that was found at `spot`, to be changed.
    #[inline]
    pub(crate) fn at_mut(&mut self, at: Position, spot: Spot, key: &K) -> Option<&mut V> {
        let Slot { page, changed } = &mut self.groups[at.group_index].pages[spot.page];
        changed.add(at.hash);
        if let Page::Shared(_) = page {
            // A copy need not have its entries at the same places.
            return page.get_mut().find_mut(at.hash, |e| e.0 == *key).map(|e| &mut e.1);
        }
        page.get_mut().get_bucket_mut(spot.bucket).map(|e| &mut e.1)
    }

    /// Puts `value` in the place of whatever `key` had.
    #[inline]
    pub(crate) fn put(&mut self, at: Position, key: &K, value: V) {
        match self.get_mut(at, key) {
            Some(present) => *present = value,
            None => self.insert(at, key.clone(), value),
        }
    }

    /// Adds an entry for a key that has none.
    #[inline(never)]
    pub(crate) fn insert(&mut self, at: Position, key: K, value: V) {
        let group = &mut self.groups[at.group_index];
        let pages = group.pages.len();
        let number = group.page_number(at.hash);
        let slot = &mut group.pages[number];
        slot.changed.add(at.hash);
        let entries = slot.page.get_mut();
        entries.insert_unique(at.hash, (key, value), |e| e.0.hash64());
        self.entries += 1;
        if entries.len() >= Self::SPLIT_AT {
            group.split(number);
            self.pages = self.pages - pages + group.pages.len();
        }
    }

    pub(crate) fn remove(&mut self, at: Position, key: &K) -> Option<V> {
        let group = &mut self.groups[at.group_index];
        let number = group.page_number(at.hash);
        let slot = &mut group.pages[number];
        let entries = slot.page.prepare(at.hash, key)?;
        let entry = entries.find_entry(at.hash, |e| e.0 == *key).ok()?;
        slot.changed.add(at.hash);
        self.entries -= 1;
        Some(entry.remove().0.1)
    }

    /// Whether there are so many entries that most of them have to come from memory.
    #[inline]
    pub(crate) fn is_large(&self) -> bool {
        self.entries * size_of::<(K, V)>() > FAST_BYTES
    }

    /// Brings the entries of keys with these hashes, where there are any, into the processor's caches. `other` is any
    /// key.
    ///
    /// Each step reads what the next one needs for many keys before that one begins, and nothing waits for what is
    /// read, so the reads are under way at the same time; the fewer instructions between them, the more of them.
    ///
    /// Returns those of the first 64 that have a place here and surely no entry, the first one as the lowest bit.
    pub(crate) fn touch(&self, hashes: &[u64], position: impl Fn(u64) -> Option<Position>, other: &K) -> u64 {
        let mut missing = 0;
        for (hashes, shift) in hashes.chunks(TOUCHED_AT_ONCE).zip((0..u64::BITS).step_by(TOUCHED_AT_ONCE)) {
            let mut places = [None; TOUCHED_AT_ONCE];
            for (place, hash) in places.iter_mut().zip(hashes) {
                *place = position(*hash).map(|at| {
                    let group = &self.groups[at.group_index];
                    (group.pages[group.page_number(at.hash)].page.get(), usize::MAX)
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

    /// The entries of one page.
    pub(crate) fn page(&self, hand: Hand) -> impl Iterator<Item = &(K, V)> {
        self.groups[hand.group].pages[hand.page].page.get().iter()
    }

    /// Takes out of one page the entries that `keep` says `false` to.
    pub(crate) fn retain(&mut self, hand: Hand, mut keep: impl FnMut(&K, &mut V) -> bool) {
        let slot = &mut self.groups[hand.group].pages[hand.page];
        slot.changed = Slices::ALL;
        let entries = slot.page.get_mut();
        let before = entries.len();
        entries.retain(|(key, value)| keep(key, value));
        self.entries -= before - entries.len();
    }

    /// The entries of one group, which is counted from the first.
    pub(crate) fn group(&self, index: usize) -> impl Iterator<Item = &(K, V)> {
        self.groups[index].pages.iter().flat_map(|slot| slot.page.get().iter())
    }

    /// Every entry, group by group.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.groups.iter().flat_map(|group| &group.pages).flat_map(|slot| slot.page.get().iter())
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
mod tests {
    use super::*;
    use crate::key_group::{KeyGroup, key_group_of};

    fn at(key: u64, groups: u16) -> Position {
        let hash = key.hash64();
        let group = key_group_of(hash, groups);
        Position { hash, group, group_index: usize::from(group.0) }
    }

    fn mark(number: u64, base: Option<u64>) -> Mark {
        Mark { number, base }
    }

    fn add(map: &mut PagedMap<u64, u64>, key: u64, by: u64, groups: u16) {
        let sum = map.get(at(key, groups), &key).copied().unwrap_or(0) + by;
        map.put(at(key, groups), &key, sum);
    }

    #[test]
    fn splits_keep_every_entry_and_pages_stay_small() {
        let mut map = PagedMap::new(3);
        for key in 0..100_000 {
            add(&mut map, key, key, 3);
        }
        for key in 0..100_000 {
            assert_eq!(map.get(at(key, 3), &key), Some(&key));
        }
        assert_eq!(map.get(at(100_000, 3), &100_000), None);
        let pages: Vec<usize> =
            map.groups.iter().flat_map(|g| &g.pages).map(|p| p.page.get().len()).collect();
        assert_eq!(pages.iter().sum::<usize>(), 100_000);
        assert!(pages.iter().all(|n| *n < PagedMap::<u64, u64>::SPLIT_AT));
        let half_full = 100_000 / (PagedMap::<u64, u64>::SPLIT_AT / 2);
        assert!(pages.len() < half_full, "{} pages for 100000 entries", pages.len());
        for key in (0..100_000).step_by(2) {
            assert_eq!(map.remove(at(key, 3), &key), Some(key));
            assert_eq!(map.remove(at(key, 3), &key), None);
        }
        assert_eq!(map.get(at(7, 3), &7), Some(&7));
    }

    #[test]
    fn an_image_does_not_see_later_writes_and_only_touched_pages_are_copied() {
        let mut map = PagedMap::new(1);
        for key in 0..10_000 {
            add(&mut map, key, 1, 1);
        }
        let image = map.freeze(mark(1, None));
        add(&mut map, 5, 10, 1);
        map.remove(at(6, 1), &6);
        map.remove(at(77_777, 1), &77_777);
        let owned = |map: &PagedMap<u64, u64>| {
            map.groups[0].pages.iter().filter(|p| matches!(p.page, Page::Owned(_))).count()
        };
        assert!((1..=2).contains(&owned(&map)));
        for key in 0..20_000 {
            add(&mut map, key, 1, 1);
        }
        let seen: Vec<u64> = image[0].iter().flat_map(|page| page.entries.iter().map(|e| e.1)).collect();
        assert_eq!(seen.len(), 10_000);
        assert!(seen.iter().all(|v| *v == 1));
        assert_eq!(map.get(at(5, 1), &5), Some(&12));
        assert_eq!(map.get(at(6, 1), &6), Some(&1));
    }

    #[test]
    fn a_page_of_a_dropped_image_is_taken_back_without_a_copy() {
        let mut map = PagedMap::new(1);
        add(&mut map, 1, 1, 1);
        let before = std::ptr::from_ref(map.get(at(1, 1), &1).unwrap());
        drop(map.freeze(mark(1, None)));
        add(&mut map, 1, 1, 1);
        assert_eq!(std::ptr::from_ref(map.get(at(1, 1), &1).unwrap()), before);
        assert_eq!(KeyGroup(0), at(1, 1).group);
    }

    #[test]
    fn equal_page_bits_grow_one_page_instead_of_splitting_for_ever() {
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        struct Same(u64);
        impl Key for Same {
            fn encode_ordered(&self, out: &mut Vec<u8>) {
                self.0.encode_ordered(out);
            }
            fn decode_ordered(bytes: &mut &[u8]) -> crate::Result<Self> {
                u64::decode_ordered(bytes).map(Self)
            }
            fn least() -> Self {
                Self(0)
            }
            fn hash64(&self) -> u64 {
                42
            }
        }
        let mut map = PagedMap::new(1);
        let at = Position { hash: 42, group: KeyGroup(0), group_index: 0 };
        for n in 0..1000 {
            map.put(at, &Same(n), n);
        }
        assert!((0..1000).all(|n| map.get(at, &Same(n)) == Some(&n)));
        assert!(map.groups[0].pages.len() <= 17);
    }

    /// Whether an image says that `key` may have changed.
    fn says(map: &PagedMap<u64, u64>, image: &[FrozenPages<u64, u64>], key: u64) -> bool {
        let page = map.groups[0].page_number(key.hash64());
        image[0][page].changed.contains(Slices::slice_of(key.hash64()))
    }

    #[test]
    fn every_image_knows_what_changed_since_its_base_and_little_else() {
        let mut map = PagedMap::new(1);
        (0..10_000).for_each(|key| add(&mut map, key, 1, 1));
        // Per freeze: its base, and the keys changed before it. Checkpoints overlap, fail, and bases come late.
        let bases = [
            None,
            None,
            Some(1),
            Some(3),
            Some(3),
            Some(4),
            Some(5),
            Some(6),
            Some(8),
            Some(8),
            None,
            Some(11),
        ];
        for (number, base) in (1..).zip(bases) {
            for key in number * 100..number * 100 + 10 {
                add(&mut map, key, 1, 1);
            }
            let image = map.freeze(mark(number, base));
            let known = (0..10_000).filter(|key| says(&map, &image, *key)).count();
            for since in base.unwrap_or(0) + 1..=number {
                for key in since * 100..since * 100 + 10 {
                    assert!(says(&map, &image, key), "freeze {number}, base {base:?}, key {key}");
                }
            }
            if number > 2 && base.is_some() {
                assert!(known < 200, "freeze {number}: {known} of 10000 keys");
            }
        }
    }

    #[test]
    fn every_way_to_change_a_table_is_noticed() {
        let mut map = PagedMap::new(1);
        (0..1000).for_each(|key| add(&mut map, key, 1, 1));
        map.freeze(mark(1, None));
        map.get_mut(at(1, 1), &1);
        map.put(at(2, 1), &2, 7);
        map.remove(at(3, 1), &3);
        map.insert(at(5000, 1), 5000, 1);
        let spot = map.find(at(4, 1), &4).unwrap();
        map.at_mut(at(4, 1), spot, &4);
        map.remove(at(6000, 1), &6000);
        let image = map.freeze(mark(2, Some(1)));
        assert!([1, 2, 3, 4, 5000].into_iter().all(|key| says(&map, &image, key)));
        assert!((10..1000).filter(|key| says(&map, &image, *key)).count() < 100);
    }

    #[test]
    fn a_page_header_fits_into_a_cache_line() {
        assert_eq!(size_of::<Slot<u64, u64>>(), 64);
    }
}

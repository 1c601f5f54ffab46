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

use std::hint::black_box;
use std::sync::Arc;

use hashbrown::HashTable;

use crate::context::Position;
use crate::key::Key;

/// A directory has at most this many bits; a page that could only be split beyond them grows instead.
const MAX_DEPTH: u8 = 16;

/// How many bytes of entries the processor is taken to keep close enough without being asked.
const FAST_BYTES: usize = 8 << 20;

/// How many places are touched step by step together.
const TOUCHED_AT_ONCE: usize = 32;

type Entries<K, V> = HashTable<(K, V)>;

/// A frozen key group.
pub(crate) type FrozenPages<K, V> = Vec<Arc<Entries<K, V>>>;

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

#[derive(Debug)]
struct Group<K, V> {
    /// How many hash bits index the directory.
    depth: u8,
    /// Page number per value of those bits.
    directory: Vec<u32>,
    /// The pages, each with how many bits all of its hashes share.
    pages: Vec<(u8, Page<K, V>)>,
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
        Self { depth: 0, directory: vec![0], pages: vec![(0, Page::Owned(HashTable::new()))] }
    }

    #[inline]
    fn page_number(&self, hash: u64) -> usize {
        self.directory[route(hash, self.depth)] as usize
    }

    /// Halves a full page: the entries whose next hash bit is set move to a new one.
    #[cold]
    fn split(&mut self, number: usize) {
        let depth = self.pages[number].0;
        if depth >= MAX_DEPTH {
            return;
        }
        if depth == self.depth {
            self.directory.extend_from_within(..);
            self.depth += 1;
        }
        let bit = 1 << depth;
        let full = std::mem::replace(self.pages[number].1.get_mut(), HashTable::new());
        let mut halves = [HashTable::with_capacity(full.len()), HashTable::with_capacity(full.len())];
        for (key, value) in full {
            let hash = key.hash64();
            halves[usize::from(page_bits(hash) & bit != 0)]
                .insert_unique(hash, (key, value), |e| e.0.hash64());
        }
        let [stay, moved] = halves;
        self.pages[number] = (depth + 1, Page::Owned(stay));
        let new_number = self.pages.len() as u32;
        self.pages.push((depth + 1, Page::Owned(moved)));
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
}

impl<K: Key, V: Clone> PagedMap<K, V> {
    /// A page is split when it holds this many entries. They are 7/8 of a power of two, hashbrown's load limit, so
    /// a page never grows past its last size. Pages of large entries are smaller, to keep their copies short.
    const SPLIT_AT: usize = match size_of::<(K, V)>() {
        0..=256 => 224,
        _ => 112,
    };

    pub(crate) fn new(groups: usize) -> Self {
        Self { groups: (0..groups).map(|_| Group::new()).collect(), pages: groups }
    }

    #[inline]
    pub(crate) fn get(&self, at: Position, key: &K) -> Option<&V> {
        let group = &self.groups[at.group_index];
        let (_, page) = &group.pages[group.page_number(at.hash)];
        page.get().find(at.hash, |e| e.0 == *key).map(|e| &e.1)
    }

    /// The value of `key`, to be changed: a page shared with an image is no longer shared, if it has the key.
    #[inline]
    pub(crate) fn get_mut(&mut self, at: Position, key: &K) -> Option<&mut V> {
        let group = &mut self.groups[at.group_index];
        let number = group.page_number(at.hash);
        let page = &mut group.pages[number].1;
        page.prepare(at.hash, key)?.find_mut(at.hash, |e| e.0 == *key).map(|e| &mut e.1)
    }

    /// Where the entry of `key` is, until the next entry is added or removed.
    #[inline]
    pub(crate) fn find(&self, at: Position, key: &K) -> Option<Spot> {
        let group = &self.groups[at.group_index];
        let page = group.page_number(at.hash);
        let bucket = group.pages[page].1.get().find_bucket_index(at.hash, |e| e.0 == *key)?;
        Some(Spot { page, bucket })
    }

    /// The value that was found at `spot`.
    #[inline]
    pub(crate) fn at(&self, at: Position, spot: Spot) -> Option<&V> {
        self.groups[at.group_index].pages[spot.page].1.get().get_bucket(spot.bucket).map(|e| &e.1)
    }

    /// The value of `key` that was found at `spot`, to be changed.
    #[inline]
    pub(crate) fn at_mut(&mut self, at: Position, spot: Spot, key: &K) -> Option<&mut V> {
        let page = &mut self.groups[at.group_index].pages[spot.page].1;
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
        let entries = group.pages[number].1.get_mut();
        entries.insert_unique(at.hash, (key, value), |e| e.0.hash64());
        if entries.len() >= Self::SPLIT_AT {
            group.split(number);
            self.pages = self.pages - pages + group.pages.len();
        }
    }

    pub(crate) fn remove(&mut self, at: Position, key: &K) -> Option<V> {
        let group = &mut self.groups[at.group_index];
        let number = group.page_number(at.hash);
        let entries = group.pages[number].1.prepare(at.hash, key)?;
        let entry = entries.find_entry(at.hash, |e| e.0 == *key).ok()?;
        Some(entry.remove().0.1)
    }

    /// Whether there are so many entries that most of them have to come from memory.
    #[inline]
    pub(crate) fn is_large(&self) -> bool {
        self.pages * (Self::SPLIT_AT / 2) * size_of::<(K, V)>() > FAST_BYTES
    }

    /// Brings the entries at these places, where there are any, into the processor's caches. `other` is any key.
    ///
    /// Each step reads what the next one needs for all places before that one begins, and nothing waits for what is
    /// read, so the reads of many places are under way at the same time.
    pub(crate) fn touch(&self, places: &[Position], other: &K) {
        for places in places.chunks(TOUCHED_AT_ONCE) {
            let mut pages = [None; TOUCHED_AT_ONCE];
            for (page, at) in pages.iter_mut().zip(places) {
                let group = &self.groups[at.group_index];
                *page = Some(group.pages[group.page_number(at.hash)].1.get());
            }
            let found = || pages.iter().flatten().zip(places);
            for (page, at) in found() {
                black_box(page.find(at.hash, |_| true).is_some());
            }
            for (page, at) in found() {
                page.find(at.hash, |e| {
                    black_box(e.0 == *other);
                    true
                });
            }
        }
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
        self.groups[hand.group].pages[hand.page].1.get().iter()
    }

    /// Takes out of one page the entries that `keep` says `false` to.
    pub(crate) fn retain(&mut self, hand: Hand, mut keep: impl FnMut(&K, &mut V) -> bool) {
        let page = &mut self.groups[hand.group].pages[hand.page].1;
        page.get_mut().retain(|(key, value)| keep(key, value));
    }

    /// The entries of one group, which is counted from the first.
    pub(crate) fn group(&self, index: usize) -> impl Iterator<Item = &(K, V)> {
        self.groups[index].pages.iter().flat_map(|(_, page)| page.get().iter())
    }

    /// Every entry, group by group.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.groups.iter().flat_map(|group| &group.pages).flat_map(|(_, page)| page.get().iter())
    }

    /// Shares every page with the returned image; entries are neither visited nor copied.
    pub(crate) fn freeze(&mut self) -> Vec<FrozenPages<K, V>> {
        let freeze =
            |group: &mut Group<K, V>| group.pages.iter_mut().map(|(_, page)| page.freeze()).collect();
        self.groups.iter_mut().map(freeze).collect()
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
        let pages: Vec<usize> = map.groups.iter().flat_map(|g| &g.pages).map(|p| p.1.get().len()).collect();
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
        let image = map.freeze();
        add(&mut map, 5, 10, 1);
        map.remove(at(6, 1), &6);
        map.remove(at(77_777, 1), &77_777);
        let owned = |map: &PagedMap<u64, u64>| {
            map.groups[0].pages.iter().filter(|p| matches!(p.1, Page::Owned(_))).count()
        };
        assert!((1..=2).contains(&owned(&map)));
        for key in 0..20_000 {
            add(&mut map, key, 1, 1);
        }
        let seen: Vec<u64> = image[0].iter().flat_map(|page| page.iter().map(|e| e.1)).collect();
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
        drop(map.freeze());
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
}

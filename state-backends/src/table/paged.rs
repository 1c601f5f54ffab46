//! The paged table: a hash table that can be frozen in O(pages) and goes on being written.
//!
//! Each key group has an extendible-hash directory of pages, each a small flat hash table. A page is owned or, since
//! the last freeze, shared with a snapshot. Freezing makes every page shared by moving its header (not its entries)
//! behind an `Arc`. The first write to a shared page takes the page back if the snapshot is gone and copies it if
//! it is not. The hot path of an owned page has no atomics and no indirection.
//!
//! The page comes from bits 16 to 31 of the hash: the key group comes from the upper part of bits 16 to 47, the
//! in-page tag from the top 7 bits and the in-page bucket from the low ones, so all four stay independent.

use std::sync::Arc;

use hashbrown::HashTable;

use crate::context::Position;
use crate::key::Key;

/// A directory has at most this many bits; a page that could only be split beyond them grows instead.
const MAX_DEPTH: u8 = 16;

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

#[inline]
fn route(hash: u64, depth: u8) -> usize {
    (hash >> 16) as usize & ((1 << depth) - 1)
}

impl<K: Key, V: Clone> Group<K, V> {
    fn new() -> Self {
        Self { depth: 0, directory: vec![0], pages: vec![(0, Page::Owned(HashTable::new()))] }
    }

    #[inline]
    fn page_number(&self, hash: u64) -> usize {
        self.directory[route(hash, self.depth)] as usize
    }

    /// Adds an entry that is not there yet.
    #[inline(never)]
    fn insert(&mut self, number: usize, hash: u64, key: K, value: V, split_at: usize) {
        let entries = self.pages[number].1.get_mut();
        entries.insert_unique(hash, (key, value), |e| e.0.hash64());
        if entries.len() >= split_at {
            self.split(number);
        }
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
        let bit = 1u64 << (16 + depth);
        let full = std::mem::replace(self.pages[number].1.get_mut(), HashTable::new());
        let mut halves = [HashTable::with_capacity(full.len()), HashTable::with_capacity(full.len())];
        for (key, value) in full {
            let hash = key.hash64();
            halves[usize::from(hash & bit != 0)].insert_unique(hash, (key, value), |e| e.0.hash64());
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

/// A hash table over the key groups of one subtask.
#[derive(Debug)]
pub(crate) struct PagedMap<K, V> {
    groups: Vec<Group<K, V>>,
}

impl<K: Key, V: Clone> PagedMap<K, V> {
    /// A page is split when it holds this many entries. They are 7/8 of a power of two, hashbrown's load limit, so
    /// a page never grows past its last size. Pages of large entries are smaller, to keep their copies short.
    const SPLIT_AT: usize = match size_of::<(K, V)>() {
        0..=256 => 224,
        _ => 112,
    };

    pub(crate) fn new(groups: usize) -> Self {
        Self { groups: (0..groups).map(|_| Group::new()).collect() }
    }

    #[inline]
    pub(crate) fn get(&self, at: Position, key: &K) -> Option<&V> {
        let group = &self.groups[at.group_index];
        let (_, page) = &group.pages[group.page_number(at.hash)];
        page.get().find(at.hash, |e| e.0 == *key).map(|e| &e.1)
    }

    /// Puts `value` in the place of whatever `key` had.
    #[inline]
    pub(crate) fn put(&mut self, at: Position, key: &K, value: V) {
        let group = &mut self.groups[at.group_index];
        let number = group.page_number(at.hash);
        let entries = group.pages[number].1.get_mut();
        if let Some(entry) = entries.find_mut(at.hash, |e| e.0 == *key) {
            entry.1 = value;
            return;
        }
        group.insert(number, at.hash, key.clone(), value, Self::SPLIT_AT);
    }

    /// Runs `change` on the value of `key`, putting `initial` in first if there is none. `None` if there is no
    /// initial value either.
    #[inline]
    pub(crate) fn upsert<R>(
        &mut self,
        at: Position,
        key: &K,
        initial: impl FnOnce() -> Option<V>,
        change: impl FnOnce(&mut V) -> R,
    ) -> Option<R> {
        let group = &mut self.groups[at.group_index];
        let number = group.page_number(at.hash);
        let entries = group.pages[number].1.get_mut();
        if let Some(entry) = entries.find_mut(at.hash, |e| e.0 == *key) {
            return Some(change(&mut entry.1));
        }
        let mut value = initial()?;
        let result = change(&mut value);
        group.insert(number, at.hash, key.clone(), value, Self::SPLIT_AT);
        Some(result)
    }

    pub(crate) fn remove(&mut self, at: Position, key: &K) -> Option<V> {
        let group = &mut self.groups[at.group_index];
        let number = group.page_number(at.hash);
        let page = &mut group.pages[number].1;
        // Looking first keeps a shared page shared when there is nothing to remove.
        page.get().find(at.hash, |e| e.0 == *key)?;
        let entry = page.get_mut().find_entry(at.hash, |e| e.0 == *key).ok()?;
        Some(entry.remove().0.1)
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
        map.upsert(at(key, groups), &key, || Some(0), |v| *v += by);
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
            fn hash64(&self) -> u64 {
                42
            }
        }
        let mut map = PagedMap::new(1);
        let at = Position { hash: 42, group: KeyGroup(0), group_index: 0 };
        for n in 0..1000 {
            map.upsert(at, &Same(n), || Some(n), |_| ());
        }
        assert!((0..1000).all(|n| map.get(at, &Same(n)) == Some(&n)));
        assert!(map.groups[0].pages.len() <= 17);
    }
}

//! The write-back cache of a backend with a cold store: live objects of bounded size in a [`PagedMap`].
//!
//! **Invariant**: at every moment the content of a state is the rows of the store with the dirty objects of the cache
//! laid over them. Dirty means *changed since it was read from the store*; an object stays dirty, whatever snapshots
//! are taken, until it is evicted, which writes it. So
//!
//! - an image of the state is an image of the store plus the cache's pages, both taken at once: a freeze writes
//!   nothing and visits no object. Neither part changes afterwards: the store's image by its contract, the pages
//!   because they are copied on write. Whoever writes the image lays the frozen dirty objects over the frozen rows;
//! - the store itself is written by evictions (and by [clearing](super::MapTable::clear) a map) alone, on the task's
//!   thread and in the order of the changes. No older row can overwrite a newer one, and what a miss reads is the
//!   newest row there is, however many images are being written, dropped or outlive the backend.
//!
//! What an object takes is known when it is put in. One that is changed in place is weighed again after a number of
//! changes that grows with its weight, so that weighing costs little and an object that grows is found out.
//!
//! Eviction is second chance (CLOCK) page by page, in steps that are small enough not to be felt and large enough to
//! share a write. The mark of use and the weight are atomic only so that they can be set in a page that an image shares.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::ahead::Ahead;
use super::budget::{CacheBudget, Share};
use super::cold::{ColdStore, WriteBatch};
use super::layout::Layout;
use super::paged::{FrozenPages, Hand, Mark, PagedMap, Spot};
use super::payload::{Life, Reach};
use super::{Frozen, FrozenOverlay, touch};
use crate::context::{KeyContext, Position, row_key};
use crate::key::Key;
use crate::key_group::KeyGroup;
use crate::{Error, Result};

/// An eviction makes room for up to this many bytes more than have to go.
const EVICTED_AT_ONCE: usize = 32 << 10;

/// A changed object is weighed again when this many bytes of its weight have been changed once each, so to say.
const WEIGHED_PER_CHANGE: u32 = 64;

/// An eviction looks for unused objects in this many pages before it takes any.
const MARKED_PAGES: usize = 64;

/// A state's keyspace in the cold store of its backend.
#[derive(Clone)]
pub(crate) struct Keyspace {
    pub(crate) store: Rc<RefCell<Box<dyn ColdStore>>>,
    pub(crate) state: Rc<str>,
    pub(crate) layout: Layout,
    /// What the live objects may take.
    pub(crate) budget: Arc<CacheBudget>,
}

/// What a cache holds per key.
pub(crate) trait Content: Reach + Clone + Send + Sync + 'static {
    /// Whether it may hold memory beyond its own size.
    const HAS_HEAP: bool;
    /// Roughly how many bytes it holds beyond its own size. May take time in proportion to them.
    fn heap_bytes(&self) -> usize;
    /// Adds what is dirty to the batch. `row_key` is the key's row key in the store.
    fn write(&self, layout: &Layout, row_key: &mut Vec<u8>, batch: &mut WriteBatch) -> Result<()>;
}

/// What an allocation takes beside its content.
pub(crate) const ALLOCATION_BYTES: usize = 16;

struct Slot<C> {
    /// Used since the clock's hand last came by.
    used: AtomicBool,
    /// Changes in place since it was weighed.
    changes: AtomicU32,
    /// What was taken of the budget for it.
    weight: AtomicU32,
    content: C,
}

impl<C: Clone> Clone for Slot<C> {
    fn clone(&self) -> Self {
        let used = AtomicBool::new(self.used.load(Ordering::Relaxed));
        let changes = AtomicU32::new(self.changes.load(Ordering::Relaxed));
        let weight = AtomicU32::new(self.weight.load(Ordering::Relaxed));
        Self { used, changes, weight, content: self.content.clone() }
    }
}

impl<C: Reach> Reach for Slot<C> {
    const STEPS: usize = C::STEPS;

    #[inline]
    fn reach(&self, step: usize) {
        self.content.reach(step);
    }
}

/// The live objects of one state by key.
pub(crate) struct Cache<K, C> {
    context: Rc<KeyContext<K>>,
    keyspace: Keyspace,
    slots: PagedMap<K, Slot<C>>,
    share: Share,
    hand: Hand,
    row_key: Vec<u8>,
    batch: WriteBatch,
}

impl<K: Key, C: Content> Cache<K, C> {
    pub(crate) fn new(context: Rc<KeyContext<K>>, keyspace: Keyspace) -> Self {
        let slots = PagedMap::new(context.range().len());
        let (row_key, batch) = (Vec::new(), WriteBatch::default());
        let share = Share::new(Arc::clone(&keyspace.budget));
        Self { context, keyspace, slots, share, hand: Hand::default(), row_key, batch }
    }

    pub(crate) fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    pub(crate) fn context(&self) -> &Rc<KeyContext<K>> {
        &self.context
    }

    /// The content of the current key, if it is in the cache.
    #[inline]
    pub(crate) fn peek(&self) -> Result<Option<&C>> {
        let key = self.context.current()?;
        Ok(self.slots.get(self.context.position(), &key).map(|slot| {
            slot.used.store(true, Ordering::Relaxed);
            &slot.content
        }))
    }

    /// The content of the current key, made by `load` from the keyspace and the row key if it is not in the cache.
    #[inline]
    pub(crate) fn get(&mut self, load: impl FnOnce(&Keyspace, &[u8]) -> Result<C>) -> Result<&C> {
        let at = self.context.position();
        let spot = self.find(at, load)?;
        let slot = self.slots.at(at, spot).ok_or_else(lost)?;
        slot.used.store(true, Ordering::Relaxed);
        Ok(&slot.content)
    }

    /// Like [`get`](Self::get), to be changed in place.
    #[inline]
    pub(crate) fn get_mut(&mut self, load: impl FnOnce(&Keyspace, &[u8]) -> Result<C>) -> Result<&mut C> {
        let at = self.context.position();
        let spot = self.find(at, load)?;
        let key = self.context.current()?;
        let slot = self.slots.at_mut(at, spot, &key).ok_or_else(lost)?;
        *slot.used.get_mut() = true;
        if C::HAS_HEAP {
            let (changes, weight) = (slot.changes.get_mut(), *slot.weight.get_mut());
            *changes += 1;
            if *changes > weight / WEIGHED_PER_CHANGE {
                weigh(&*key, slot, &mut self.share);
            }
        }
        Ok(&mut slot.content)
    }

    #[inline]
    fn find(&mut self, at: Position, load: impl FnOnce(&Keyspace, &[u8]) -> Result<C>) -> Result<Spot> {
        let key = self.context.current()?;
        if let Some(spot) = self.slots.find(at, &key) {
            return Ok(spot);
        }
        drop(key);
        self.fill(at, load)?;
        self.slots.find(at, &*self.context.current()?).ok_or_else(lost)
    }

    /// Runs `change`, which may change the weight much, on the content of the current key.
    pub(crate) fn change<R>(
        &mut self,
        load: impl FnOnce(&Keyspace, &[u8]) -> Result<C>,
        change: impl FnOnce(&mut C) -> Result<R>,
    ) -> Result<R> {
        let at = self.context.position();
        let spot = self.find(at, load)?;
        let key = self.context.current()?;
        let slot = self.slots.at_mut(at, spot, &key).ok_or_else(lost)?;
        *slot.used.get_mut() = true;
        let result = change(&mut slot.content);
        weigh(&*key, slot, &mut self.share);
        drop(key);
        self.make_room(0)?;
        result
    }

    #[inline(never)]
    fn fill(&mut self, at: Position, load: impl FnOnce(&Keyspace, &[u8]) -> Result<C>) -> Result<()> {
        let key = self.context.current()?.clone();
        row_key(at.group, &key, &mut self.row_key);
        let content = load(&self.keyspace, &self.row_key)?;
        self.add(at, key, content, false)
    }

    fn add(&mut self, at: Position, key: K, content: C, is_used: bool) -> Result<()> {
        let weight = weight_of(&key, &content);
        // Before it is there, so that it cannot go at once.
        self.make_room(weight as usize)?;
        self.share.replace(0, weight as usize);
        let (used, changes, weight) = (AtomicBool::new(is_used), AtomicU32::new(0), AtomicU32::new(weight));
        self.slots.insert(at, key, Slot { used, changes, weight, content });
        Ok(())
    }

    #[inline]
    fn make_room(&mut self, room: usize) -> Result<()> {
        match self.share.excess(room) {
            0 => Ok(()),
            excess => self.evict(excess),
        }
    }

    /// Lets go of objects of at least `excess` bytes.
    #[cold]
    fn evict(&mut self, excess: usize) -> Result<()> {
        let most = self.share.taken() - excess;
        let goal = most.saturating_sub(EVICTED_AT_ONCE.min(self.share.taken() / 16));
        let first = self.context.range().start;
        let mut outcome = Ok(());
        // After the marked pages one round over all of them finds whatever has to go.
        for looked_at in 0..MARKED_PAGES + self.slots.pages() {
            let marks_count = looked_at < MARKED_PAGES;
            if outcome.is_err() || self.share.taken() <= if marks_count { goal } else { most } {
                break;
            }
            self.slots.advance(&mut self.hand);
            if self.slots.is_empty(self.hand) {
                continue;
            }
            if marks_count && self.slots.page(self.hand).all(|(_, slot)| slot.used.load(Ordering::Relaxed)) {
                // A page that is shared with an image is not copied for its marks alone.
                self.slots.page(self.hand).for_each(|(_, slot)| slot.used.store(false, Ordering::Relaxed));
                continue;
            }
            let group = KeyGroup(first + self.hand.group as u16);
            let (row_key_bytes, batch, share) = (&mut self.row_key, &mut self.batch, &mut self.share);
            let layout = &self.keyspace.layout;
            let life = |key: &K, slot: &Slot<C>| {
                if outcome.is_err() || share.taken() <= goal {
                    return Life::Whole;
                }
                if slot.used.load(Ordering::Relaxed) && marks_count {
                    slot.used.store(false, Ordering::Relaxed);
                    if slot.changes.load(Ordering::Relaxed) > 0 {
                        weigh(key, slot, share);
                    }
                    return Life::Whole;
                }
                row_key(group, key, row_key_bytes);
                outcome = slot.content.write(layout, row_key_bytes, batch);
                if outcome.is_err() {
                    return Life::Whole;
                }
                share.replace(slot.weight.load(Ordering::Relaxed) as usize, 0);
                Life::Gone
            };
            self.slots.retain(self.hand, life, |_| {});
        }
        if !self.batch.is_empty() {
            self.keyspace.store.borrow_mut().write(&self.keyspace.state, &self.batch)?;
            self.batch.clear();
        }
        outcome
    }

    /// The keys of one group that are in the cache or have rows in the store. Some may have no value any more, some
    /// come twice.
    pub(crate) fn keys(&self, group: KeyGroup) -> Result<Vec<K>> {
        let index = usize::from(group.0 - self.context.range().start);
        let mut keys: Vec<K> = self.slots.group(index).map(|(key, _)| key.clone()).collect();
        let prefix = group.0.to_be_bytes();
        self.keyspace.store.borrow().scan(&self.keyspace.state, &prefix, &mut |row_key, _| {
            let key = K::decode_ordered(&mut row_key.get(prefix.len()..).unwrap_or_default())?;
            // The rows of one key follow each other.
            if keys.last() != Some(&key) {
                keys.push(key);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(keys)
    }

    pub(crate) fn touch(&self, hashes: &[u64]) -> u64 {
        touch(&self.context, &self.slots, hashes)
    }

    /// Marks the current key to be read ahead, if it is not in the cache.
    pub(crate) fn want(&self, ahead: &mut Ahead<K>) -> Result<()> {
        let (key, at) = (self.context.current()?, self.context.position());
        if self.slots.find(at, &key).is_none() {
            ahead.want(at, key.clone());
        }
        Ok(())
    }

    /// Puts in what the store has of the keys that are marked, as if each had been asked for.
    pub(crate) fn read_ahead<V>(
        &mut self,
        ahead: &mut Ahead<K>,
        decode: impl Fn(&Layout, &[u8]) -> Result<V>,
        content: impl Fn(Option<V>) -> C,
    ) -> Result<()> {
        let Keyspace { store, state, layout, .. } = &self.keyspace;
        let rows = ahead.read(&**store.borrow(), state, |bytes| decode(layout, bytes))?;
        rows.into_iter().try_for_each(|(at, key, value)| self.add(at, key, content(value), true))
    }

    pub(crate) fn freeze(&mut self, mark: Mark) -> Result<Frozen> {
        // Others may need what this cache took while they did not.
        self.make_room(0)?;
        let (first, layout) = (self.context.range().start, self.keyspace.layout.clone());
        let image = CacheImage { first, layout, groups: self.slots.freeze(mark) };
        Ok(Frozen::Overlay(Box::new(image)))
    }
}

/// What an entry takes of the budget: tables are three quarters full at most.
fn weight_of<K: Key, C: Content>(key: &K, content: &C) -> u32 {
    let mut heap = if C::HAS_HEAP { content.heap_bytes() } else { 0 };
    if std::mem::needs_drop::<K>() {
        let mut bytes = Vec::new();
        key.encode_ordered(&mut bytes);
        heap += bytes.len() + ALLOCATION_BYTES;
    }
    u32::try_from(size_of::<(K, Slot<C>)>() * 3 / 2 + heap).unwrap_or(u32::MAX)
}

#[cold]
fn weigh<K: Key, C: Content>(key: &K, slot: &Slot<C>, share: &mut Share) {
    let weight = weight_of(key, &slot.content);
    share.replace(slot.weight.swap(weight, Ordering::Relaxed) as usize, weight as usize);
    slot.changes.store(0, Ordering::Relaxed);
}

#[cold]
fn lost() -> Error {
    Error::bug("a cache has lost what was just put into it")
}

/// The pages of a cache at the moment of a freeze.
struct CacheImage<K, C> {
    first: u16,
    layout: Layout,
    groups: Vec<FrozenPages<K, Slot<C>>>,
}

impl<K: Key, C: Content> FrozenOverlay for CacheImage<K, C> {
    fn take_group(&mut self, group: KeyGroup, batch: &mut WriteBatch) -> Result<()> {
        let mut bytes = Vec::new();
        // Pages are let go one by one, so that the owner copies as few as possible.
        for page in std::mem::take(&mut self.groups[usize::from(group.0 - self.first)]) {
            for (key, slot) in page.entries.iter() {
                row_key(group, key, &mut bytes);
                slot.content.write(&self.layout, &mut bytes, batch)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::table::cold::{FrozenStore, RowVisitor};
    use crate::{
        BackendOptions, BackendScope, CustomBackend, InMemoryFiles, KeyGroupRange, KeyedBackend, ListState,
        SnapshotMode,
    };

    /// Counts what it is asked; keeps nothing.
    #[derive(Clone, Default)]
    struct Calls {
        writes: Arc<AtomicUsize>,
        rows: Arc<AtomicUsize>,
        longest: Arc<AtomicUsize>,
        reads: Arc<AtomicUsize>,
        reads_ahead: Arc<AtomicUsize>,
    }

    impl ColdStore for Calls {
        fn create(&mut self, _: &str) -> Result<()> {
            Ok(())
        }
        fn get(&self, _: &str, _: &[u8], _: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        fn get_many(
            &self,
            _: &str,
            keys: &[&[u8]],
            found: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
        ) -> Result<()> {
            assert!(keys.is_sorted(), "keys in order");
            self.reads_ahead.fetch_add(keys.len(), Ordering::Relaxed);
            // Every key has a value that says whose it is.
            keys.iter().enumerate().try_for_each(|(index, key)| found(index, &varint(u64_in(key))))
        }
        fn write(&mut self, _: &str, batch: &WriteBatch) -> Result<()> {
            let rows = batch.iter().count();
            self.writes.fetch_add(1, Ordering::Relaxed);
            self.rows.fetch_add(rows, Ordering::Relaxed);
            self.longest.fetch_max(rows, Ordering::Relaxed);
            Ok(())
        }
        fn scan(&self, _: &str, _: &[u8], _: RowVisitor<'_>) -> Result<()> {
            Ok(())
        }
        fn freeze(&mut self) -> Result<Box<dyn FrozenStore>> {
            Ok(Box::new(Nothing))
        }
    }

    struct Nothing;

    impl FrozenStore for Nothing {
        fn scan(&self, _: &str, _: &[u8], visit: RowVisitor<'_>) -> Result<()> {
            // An old row, which the cache has a newer one of if it is asked for a group with rows.
            let _: ControlFlow<()> = visit(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[9])?;
            Ok(())
        }
    }

    /// What an entry of the states below takes.
    const ENTRY_BYTES: usize = size_of::<(u64, Slot<super::super::cached::Cached<u64>>)>() * 3 / 2;

    fn open(calls: &Calls, cache_entries: usize) -> KeyedBackend<u64> {
        let calls = calls.clone();
        let open = move |_: &BackendScope| -> Result<Box<dyn ColdStore>> { Ok(Box::new(calls.clone())) };
        let options = BackendOptions::Custom(CustomBackend {
            cache_bytes: cache_entries * ENTRY_BYTES,
            open: Arc::new(open),
        });
        let scope = BackendScope {
            operator: "o".into(),
            subtask: 0,
            max_parallelism: 1,
            range: KeyGroupRange::all(1),
            local_dir: None,
        };
        KeyedBackend::open(&options, scope, &[]).unwrap()
    }

    fn fill(backend: &mut KeyedBackend<u64>, keys: std::ops::Range<u64>) {
        let mut state = backend.value_state::<u64>("s").unwrap();
        for key in keys {
            backend.set_current_key(key, key.hash64()).unwrap();
            state.set(key).unwrap();
        }
    }

    fn filled_list(backend: &mut KeyedBackend<u64>, keys: std::ops::Range<u64>) -> ListState<u64> {
        let mut list = backend.list_state::<u64>("l").unwrap();
        for key in keys {
            backend.set_current_key(key, key.hash64()).unwrap();
            list.push(1).unwrap();
        }
        list
    }

    /// The key in a row key.
    fn u64_in(row_key: &[u8]) -> u64 {
        u64::decode_ordered(&mut &row_key[2..]).unwrap()
    }

    fn varint(value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        crate::codec::encode(&value, &mut bytes).unwrap();
        bytes
    }

    /// Announces keys 64 at a time, as batches of an operator do, and runs `process` on each.
    fn announced(backend: &KeyedBackend<u64>, keys: impl Iterator<Item = u64>, mut process: impl FnMut(u64)) {
        let keys: Vec<u64> = keys.collect();
        for keys in keys.chunks(64) {
            let hashes: Vec<u64> = keys.iter().map(Key::hash64).collect();
            backend.prefetch(&hashes, |index| backend.set_current_key(keys[index], hashes[index])).unwrap();
            for key in keys {
                backend.set_current_key(*key, key.hash64()).unwrap();
                process(*key);
            }
        }
    }

    #[test]
    fn rows_of_announced_keys_are_read_together_if_they_are_asked_for() {
        let calls = Calls::default();
        let mut backend = open(&calls, 60_000);
        fill(&mut backend, 0..20_000);
        let mut state = backend.value_state::<u64>("s").unwrap();
        // A state beside it that only grows, and is as large.
        let mut list = filled_list(&mut backend, 0..20_000);
        // Far keys, some of them twice in a batch, none twice otherwise.
        let keys = (0..64_000).map(|n| 1_000_000 + n / 64 * 64 + n % 60);
        let mut by_themselves = 0;
        announced(&backend, keys, |key| {
            list.push(1).unwrap();
            match state.get().unwrap() {
                // Those that the store was asked for alone; it has nothing then.
                None => by_themselves += 1,
                Some(value) => {
                    // The second time it is what was made of it the first time.
                    assert!(value == key || value == key + 1_000_000_000, "{value} of {key}");
                    state.set(key + 1_000_000_000).unwrap();
                }
            }
        });
        let reads = calls.reads.load(Ordering::Relaxed);
        let ahead = calls.reads_ahead.load(Ordering::Relaxed);
        assert_eq!(reads + ahead, 60_000, "each row of the value once, none of the list");
        // One batch in sixteen is a sample, and one key in fifteen looks as if it were in the cache: by its tag.
        assert!(reads < 60_000 / 7, "{reads} read one by one");
        assert!(by_themselves >= reads);
    }

    #[test]
    fn rows_that_nobody_asks_for_are_not_read_ahead() {
        let calls = Calls::default();
        let mut backend = open(&calls, 20_000);
        fill(&mut backend, 0..20_000);
        let mut list = filled_list(&mut backend, 0..20_000);
        let mut state = backend.value_state::<u64>("s").unwrap();
        announced(&backend, 1_000_000..1_064_000, |key| {
            list.push(key).unwrap();
            state.set(key).unwrap();
        });
        assert_eq!(calls.reads_ahead.load(Ordering::Relaxed), 0);
        // Now and then is not worth it either.
        announced(&backend, 2_000_000..2_064_000, |key| {
            if key % 8 == 0 {
                assert_eq!(state.get().unwrap(), None);
            }
        });
        assert_eq!(calls.reads_ahead.load(Ordering::Relaxed), 0);
        assert_eq!(calls.reads.load(Ordering::Relaxed), 8000);
    }

    #[test]
    fn a_freeze_writes_nothing_and_its_image_hides_older_rows() {
        let calls = Calls::default();
        let mut backend = open(&calls, 10_000);
        fill(&mut backend, 0..5000);
        let image = backend.freeze(1, SnapshotMode::Canonical).unwrap();
        drop(backend.freeze(2, SnapshotMode::Canonical).unwrap());
        fill(&mut backend, 0..5000);
        assert_eq!(
            InMemoryFiles::new().store(1, image).unwrap().rows,
            5000,
            "the stored row of key 0 is hidden"
        );
        assert_eq!(calls.writes.load(Ordering::Relaxed), 0);
        assert_eq!(calls.reads.load(Ordering::Relaxed), 0, "a set looks at nothing");
    }

    #[test]
    fn appending_to_a_list_reads_nothing_and_reading_it_reads_once() {
        let calls = Calls::default();
        let mut backend = open(&calls, 10_000);
        let mut list = backend.list_state::<u64>("l").unwrap();
        for round in 0..3 {
            for key in 0..100u64 {
                backend.set_current_key(key, key.hash64()).unwrap();
                list.push(round).unwrap();
                list.extend([10, 20]).unwrap();
                list.extend([]).unwrap();
            }
        }
        assert_eq!(calls.reads.load(Ordering::Relaxed), 0);
        for _ in 0..2 {
            backend.set_current_key(7, 7u64.hash64()).unwrap();
            let elements: Vec<u64> = list.iter().unwrap().collect();
            assert_eq!(elements, [0, 10, 20, 1, 10, 20, 2, 10, 20]);
            assert_eq!(calls.reads.load(Ordering::Relaxed), 1);
        }
        backend.set_current_key(8, 8u64.hash64()).unwrap();
        list.clear().unwrap();
        list.push(5).unwrap();
        assert_eq!(list.iter().unwrap().collect::<Vec<_>>(), [5]);
        assert_eq!(calls.reads.load(Ordering::Relaxed), 1, "what was cleared need not be read");
    }

    #[test]
    fn evictions_come_in_bounded_pieces_and_keep_what_is_used() {
        let calls = Calls::default();
        let mut backend = open(&calls, 20_000);
        let hot = 0..2000;
        fill(&mut backend, hot.clone());
        for start in (2000..100_000).step_by(1000) {
            fill(&mut backend, start..start + 1000);
            fill(&mut backend, hot.clone());
        }
        let rows = calls.rows.load(Ordering::Relaxed);
        let at_once = EVICTED_AT_ONCE / ENTRY_BYTES + 2;
        assert!((80_000..82_000 + 4 * at_once).contains(&rows), "{rows} rows written");
        let longest = calls.longest.load(Ordering::Relaxed);
        assert!(longest <= at_once, "{longest} rows in one piece");
        let before = calls.reads.load(Ordering::Relaxed);
        let state = backend.value_state::<u64>("s").unwrap();
        for key in hot {
            backend.set_current_key(key, key.hash64()).unwrap();
            assert_eq!(state.get().unwrap(), Some(key));
        }
        assert_eq!(calls.reads.load(Ordering::Relaxed), before, "a hot key fell out of the cache");
    }
}

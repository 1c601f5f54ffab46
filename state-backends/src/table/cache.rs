//! The write-back cache of a backend with a cold store: live objects of bounded size in a [`PagedMap`].
//!
//! **Invariant**: at every moment the content of a state is the rows of the store with the dirty objects of the cache
//! laid over them. Dirty means *changed since it was read from the store or written to it*. So
//!
//! - an image of the state is an image of the store plus the cache's pages, both taken at once: a freeze writes
//!   nothing and visits no object. Neither part changes afterwards: the store's image by its contract, the pages
//!   because they are copied on write. Whoever writes the image lays the objects that were dirty at the freeze over the
//!   frozen rows;
//! - the store itself is written by evictions, by [write-backs](Cache::write_back) (and by
//!   [clearing](super::MapTable::clear) a map) alone, on the task's thread and in the order of the changes. No older row
//!   can overwrite a newer one, and what a miss reads is the newest row there is, however many images are being written,
//!   dropped or outlive the backend.
//!
//! An object that is written back stays, and its [mark](ChangeMark) says since which freeze the store has it. The mark is
//! the one thing that changes in pages that images share: an older image, whose rows do not have the object, lays it over
//! as before, and a younger one leaves it out. The first change behind that has the content forget what is written.
//! Only the tail of a list is let go: written twice, it would be there twice. What is written back is what has not changed
//! from one freeze to the next: objects that change all the time are written once per checkpoint, over the rows, and
//! those that do not change at all are not part of checkpoints any more. Nothing is written back while an image waits to
//! be written, because a store may have to keep count of the rows that are newer than its image.
//!
//! What an object takes is known when it is put in. One that is changed in place is weighed again after a number of
//! changes that grows with its weight, so that weighing costs little and an object that grows is found out.
//!
//! Eviction is second chance (CLOCK) page by page, in steps that are small enough not to be felt and large enough to
//! share a write, and so are write-backs. The mark of use and the weight are atomic only so that they can be set in a page
//! that an image shares.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::ahead::Ahead;
use super::budget::{CacheBudget, Share};
use super::change_mark::{ChangeMark, Freezes};
use super::cold::{ColdStore, WriteBatch};
use super::layout::Layout;
use super::paged::{FrozenPages, Hand, Mark, PagedMap, Spot};
use super::payload::{Life, Reach};
use super::{Frozen, FrozenOverlay, WriteBack, touch};
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

/// A step writes back about this many bytes at most.
const WRITTEN_AT_ONCE: usize = 128 << 10;

/// For so many objects that a step may look at it may write one.
const LOOKED_AT_PER_WRITTEN: usize = 8;

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
    /// Nothing is dirty any more: the store has it all.
    fn note_written(&mut self);
    /// Whether it must not be written twice.
    fn is_tail(&self) -> bool {
        false
    }
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
    mark: ChangeMark,
    content: C,
}

impl<C: Content> Slot<C> {
    /// The content is about to be used and perhaps changed.
    #[inline]
    fn note_change(&mut self, now: Freezes, unwritten: &mut usize) {
        *self.used.get_mut() = true;
        if self.mark.change(now) {
            self.content.note_written();
            *unwritten += 1;
        }
    }
}

impl<C: Clone> Clone for Slot<C> {
    fn clone(&self) -> Self {
        let used = AtomicBool::new(self.used.load(Ordering::Relaxed));
        let changes = AtomicU32::new(self.changes.load(Ordering::Relaxed));
        let weight = AtomicU32::new(self.weight.load(Ordering::Relaxed));
        Self { used, changes, weight, mark: self.mark.clone(), content: self.content.clone() }
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
    freezes: Freezes,
    /// Held by images that are not being written yet.
    waiting: Arc<()>,
    /// The page that is looked at next for what is to be written back, and how many are left since the last freeze.
    quiet_hand: Hand,
    quiet_pages: usize,
    /// How many objects have no mark that they are written.
    unwritten: usize,
    row_key: Vec<u8>,
    batch: WriteBatch,
}

impl<K: Key, C: Content> Cache<K, C> {
    pub(crate) fn new(context: Rc<KeyContext<K>>, keyspace: Keyspace) -> Self {
        let slots = PagedMap::new(context.range().len());
        let (row_key, batch) = (Vec::new(), WriteBatch::default());
        let share = Share::new(Arc::clone(&keyspace.budget));
        Self {
            context,
            keyspace,
            slots,
            share,
            hand: Hand::default(),
            freezes: Freezes::default(),
            waiting: Arc::default(),
            quiet_hand: Hand::default(),
            quiet_pages: 0,
            unwritten: 0,
            row_key,
            batch,
        }
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
        slot.note_change(self.freezes, &mut self.unwritten);
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
        slot.note_change(self.freezes, &mut self.unwritten);
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
        let mark = ChangeMark::changed(self.freezes);
        self.unwritten += 1;
        self.slots.insert(at, key, Slot { used, changes, weight, mark, content });
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
            let (layout, unwritten) = (&self.keyspace.layout, &mut self.unwritten);
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
                if !slot.mark.is_written() {
                    row_key(group, key, row_key_bytes);
                    outcome = slot.content.write(layout, row_key_bytes, batch);
                    if outcome.is_err() {
                        return Life::Whole;
                    }
                    *unwritten -= 1;
                }
                share.replace(slot.weight.load(Ordering::Relaxed) as usize, 0);
                Life::Gone
            };
            self.slots.retain(self.hand, life, |_| {});
        }
        self.flush()?;
        outcome
    }

    /// Writes what is in the batch.
    fn flush(&mut self) -> Result<()> {
        if !self.batch.is_empty() {
            self.keyspace.store.borrow_mut().write(&self.keyspace.state, &self.batch)?;
            self.batch.clear();
        }
        Ok(())
    }

    /// Writes some of the dirty objects that have become quiet. Looks at about so many objects and empty pages.
    pub(crate) fn write_back(&mut self, budget: usize) -> Result<WriteBack> {
        if self.quiet_pages == 0 || self.unwritten == 0 {
            return Ok(WriteBack::Done);
        }
        if Arc::strong_count(&self.waiting) > 1 {
            return Ok(WriteBack::Waits);
        }
        let (mut looked_at, mut left) = (0, budget / LOOKED_AT_PER_WRITTEN + 1);
        while self.quiet_pages > 0 && looked_at < budget {
            looked_at += self.write_back_page(&mut left)?;
            if left == 0 {
                // There may be more in this page.
                break;
            }
            self.slots.advance(&mut self.quiet_hand);
            self.quiet_pages -= 1;
        }
        self.flush()?;
        Ok(WriteBack::More)
    }

    /// Adds to the batch what has become quiet in a page: `left` objects, none any more when the batch is full. Returns how
    /// much there was to look at.
    fn write_back_page(&mut self, left: &mut usize) -> Result<usize> {
        let (hand, now) = (self.quiet_hand, self.freezes);
        let group = KeyGroup(self.context.range().start + hand.group as u16);
        let (mut looked_at, mut has_tails) = (1, false);
        for (_, slot) in self.slots.page(hand) {
            looked_at += 1;
            has_tails |= slot.content.is_tail() && slot.mark.is_quiet(now);
        }
        let (row_key_bytes, batch, share) = (&mut self.row_key, &mut self.batch, &mut self.share);
        let (layout, unwritten) = (&self.keyspace.layout, &mut self.unwritten);
        let mut outcome = Ok(());
        let mut life = |key: &K, slot: &Slot<C>| {
            if outcome.is_err() || *left == 0 || !slot.mark.is_quiet(now) {
                return Life::Whole;
            }
            row_key(group, key, row_key_bytes);
            outcome = slot.content.write(layout, row_key_bytes, batch);
            if outcome.is_err() {
                return Life::Whole;
            }
            *unwritten -= 1;
            *left = if batch.bytes() < WRITTEN_AT_ONCE { *left - 1 } else { 0 };
            if slot.content.is_tail() {
                share.replace(slot.weight.load(Ordering::Relaxed) as usize, 0);
                return Life::Gone;
            }
            slot.mark.note_written(now);
            Life::Whole
        };
        if has_tails {
            self.slots.retain(hand, life, |_| {});
        } else {
            // The page stays as it is, also if images share it.
            self.slots.page(hand).for_each(|(key, slot)| _ = life(key, slot));
        }
        outcome.map(|()| looked_at)
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
        let number = self.freezes.add_one();
        self.quiet_pages = self.slots.pages();
        let waiting = Some(Arc::clone(&self.waiting));
        let image = CacheImage { first, layout, number, waiting, groups: self.slots.freeze(mark) };
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
    number: Freezes,
    /// Until it is being written.
    waiting: Option<Arc<()>>,
    groups: Vec<FrozenPages<K, Slot<C>>>,
}

impl<K: Key, C: Content> FrozenOverlay for CacheImage<K, C> {
    fn take_group(&mut self, group: KeyGroup, batch: &mut WriteBatch) -> Result<()> {
        self.waiting = None;
        let mut bytes = Vec::new();
        // Pages are let go one by one, so that the owner copies as few as possible.
        for page in std::mem::take(&mut self.groups[usize::from(group.0 - self.first)]) {
            let not_written = |slot: &Slot<C>| !slot.mark.is_written_before(self.number);
            for (key, slot) in page.entries.iter().filter(|(_, slot)| not_written(slot)) {
                row_key(group, key, &mut bytes);
                slot.content.write(&self.layout, &mut bytes, batch)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod write_back_tests;

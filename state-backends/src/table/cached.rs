//! The table of a backend with a cold store: a bounded write-back cache of live objects.
//!
//! Keys in the cache are served like those of the memory backend. A change marks its object dirty; dirty objects are
//! written to the store when they are evicted and, all of them, at a freeze. Eviction is second chance (CLOCK) and
//! makes room for a sixteenth of the capacity at once, so that evicted objects share a batch.

use std::cell::RefCell;
use std::rc::Rc;

use hashbrown::HashTable;

use super::cold::{ColdStore, WriteBatch};
use super::payload::Cell;
use super::{Control, Initial, Keep, Table};
use crate::context::{KeyContext, row_key};
use crate::key::Key;
use crate::key_group::KeyGroup;
use crate::snapshot::FrozenTable;
use crate::{Error, Result};

/// A state's keyspace in the cold store of its backend.
#[derive(Clone)]
pub(crate) struct Keyspace {
    pub(crate) store: Rc<RefCell<Box<dyn ColdStore>>>,
    pub(crate) state: Rc<str>,
    /// How many objects the state's cache holds.
    pub(crate) capacity: usize,
}

/// One value that the store may hold too.
#[derive(Debug)]
pub(crate) struct Cached<V> {
    pub(crate) value: Option<V>,
    dirty: bool,
    /// Whether the store may have a row for it; if not, a removal need not be written.
    stored: bool,
}

impl<V> Cached<V> {
    /// What the store was found to hold.
    pub(crate) fn loaded(value: Option<V>) -> Self {
        let stored = value.is_some();
        Self { value, dirty: false, stored }
    }

    /// A value that replaces whatever the store holds.
    pub(crate) fn written(value: Option<V>) -> Self {
        Self { value, dirty: true, stored: true }
    }

    pub(crate) fn set(&mut self, value: Option<V>) {
        self.value = value;
        self.dirty = true;
    }

    /// Runs `change` on the value, or on `initial` if there is none.
    pub(crate) fn modify<R>(
        &mut self,
        initial: Initial<'_, V>,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        if self.value.is_none() {
            self.value = initial();
        }
        let Some(value) = &mut self.value else {
            return Err(Error::bug("a state update has no initial value"));
        };
        self.dirty = true;
        Ok(change(value))
    }

    pub(crate) fn flush(
        &mut self,
        row_key: &[u8],
        batch: &mut WriteBatch,
        encode: impl FnOnce(&V, &mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        if self.dirty {
            match &self.value {
                Some(value) => batch.put(row_key, |out| encode(value, out))?,
                None if self.stored => batch.delete(row_key),
                None => {}
            }
            self.stored = self.value.is_some();
            self.dirty = false;
        }
        Ok(())
    }
}

/// What a cache holds per key.
pub(crate) trait Content {
    /// How much of the capacity it takes; never 0.
    fn weight(&self) -> usize;
    /// Adds what is dirty to the batch and marks it clean. `row_key` is the key's row key in the store.
    fn flush(&mut self, row_key: &mut Vec<u8>, batch: &mut WriteBatch) -> Result<()>;
}

impl<V: Cell> Content for Cached<V> {
    fn weight(&self) -> usize {
        1
    }

    fn flush(&mut self, row_key: &mut Vec<u8>, batch: &mut WriteBatch) -> Result<()> {
        Cached::flush(self, row_key, batch, V::encode)
    }
}

struct Slot<K, C> {
    key: K,
    group: KeyGroup,
    /// Used since the clock's hand last came by.
    used: bool,
    content: C,
}

/// The live objects of one state by key.
pub(crate) struct Cache<K, C> {
    context: Rc<KeyContext<K>>,
    keyspace: Keyspace,
    slots: HashTable<Slot<K, C>>,
    weight: usize,
    /// The bucket at which the clock's hand stands.
    hand: usize,
    row_key: Vec<u8>,
    batch: WriteBatch,
}

impl<K: Key, C: Content> Cache<K, C> {
    pub(crate) fn new(context: Rc<KeyContext<K>>, keyspace: Keyspace) -> Self {
        let (slots, row_key, batch) = (HashTable::new(), Vec::new(), WriteBatch::default());
        Self { context, keyspace, slots, weight: 0, hand: 0, row_key, batch }
    }

    /// Runs `use_it` on the content of the current key, which `load` makes if the cache has none. Both get the
    /// keyspace; `load` gets the row key too.
    #[inline]
    pub(crate) fn with<R>(
        &mut self,
        load: impl FnOnce(&Keyspace, &[u8]) -> Result<C>,
        use_it: impl FnOnce(&mut C) -> Result<R>,
    ) -> Result<R> {
        let key = self.context.current()?;
        let at = self.context.position();
        if let Some(slot) = self.slots.find_mut(at.hash, |slot| slot.key == *key) {
            slot.used = true;
            let before = slot.content.weight();
            let result = use_it(&mut slot.content);
            self.weight = self.weight - before + slot.content.weight();
            drop(key);
            self.make_room()?;
            return result;
        }
        row_key(at.group, &*key, &mut self.row_key);
        let mut content = load(&self.keyspace, &self.row_key)?;
        let result = use_it(&mut content)?;
        self.weight += content.weight();
        let slot = Slot { key: key.clone(), group: at.group, used: true, content };
        self.slots.insert_unique(at.hash, slot, |slot| slot.key.hash64());
        drop(key);
        self.make_room()?;
        Ok(result)
    }

    /// Writes everything dirty to the store.
    pub(crate) fn flush(&mut self) -> Result<()> {
        for slot in &mut self.slots {
            row_key(slot.group, &slot.key, &mut self.row_key);
            slot.content.flush(&mut self.row_key, &mut self.batch)?;
        }
        self.write_batch()
    }

    pub(crate) fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    pub(crate) fn context(&self) -> Rc<KeyContext<K>> {
        Rc::clone(&self.context)
    }

    #[inline]
    fn make_room(&mut self) -> Result<()> {
        if self.weight > self.keyspace.capacity { self.evict() } else { Ok(()) }
    }

    #[cold]
    fn evict(&mut self) -> Result<()> {
        let goal = self.keyspace.capacity - self.keyspace.capacity / 16;
        let buckets = self.slots.num_buckets();
        // Two rounds clear every used mark, the third finds only unused slots.
        for _ in 0..buckets * 3 {
            if self.weight <= goal {
                break;
            }
            self.hand = if self.hand + 1 < buckets { self.hand + 1 } else { 0 };
            let Some(slot) = self.slots.get_bucket_mut(self.hand) else { continue };
            if std::mem::take(&mut slot.used) {
                continue;
            }
            row_key(slot.group, &slot.key, &mut self.row_key);
            slot.content.flush(&mut self.row_key, &mut self.batch)?;
            self.weight -= slot.content.weight();
            if let Ok(entry) = self.slots.get_bucket_entry(self.hand) {
                entry.remove();
            }
        }
        self.write_batch()
    }

    fn write_batch(&mut self) -> Result<()> {
        if !self.batch.is_empty() {
            self.keyspace.store.borrow_mut().write(&self.keyspace.state, &self.batch)?;
            self.batch.clear();
        }
        Ok(())
    }
}

/// One `V` per key, live in a cache or at rest in a cold store.
pub(crate) struct CachedTable<K, V> {
    cache: Cache<K, Cached<V>>,
}

impl<K: Key, V: Cell> CachedTable<K, V> {
    pub(crate) fn new(context: Rc<KeyContext<K>>, keyspace: Keyspace) -> Self {
        Self { cache: Cache::new(context, keyspace) }
    }
}

fn load<V: Cell>(keyspace: &Keyspace, row_key: &[u8]) -> Result<Cached<V>> {
    let mut value = None;
    keyspace.store.borrow().get(&keyspace.state, row_key, &mut |bytes| {
        value = Some(V::decode(bytes)?);
        Ok(())
    })?;
    Ok(Cached::loaded(value))
}

impl<K: Key, V: Cell> Table<V> for CachedTable<K, V> {
    fn read(&mut self, f: &mut dyn FnMut(Option<&V>)) -> Result<()> {
        self.cache.with(load, |cached| {
            f(cached.value.as_ref());
            Ok(())
        })
    }

    fn put(&mut self, value: V) -> Result<()> {
        self.cache.with(
            |_, _| Ok(Cached::written(None)),
            |cached| {
                cached.set(Some(value));
                Ok(())
            },
        )
    }

    fn modify(&mut self, initial: Initial<'_, V>, change: &mut dyn FnMut(&mut V) -> Keep) -> Result<()> {
        self.cache.with(load, |cached| {
            if cached.modify(initial, change)? == Keep::No {
                cached.set(None);
            }
            Ok(())
        })
    }

    fn remove(&mut self) -> Result<()> {
        self.cache.with(
            |_, _| Ok(Cached::written(None)),
            |cached| {
                cached.set(None);
                Ok(())
            },
        )
    }
}

impl<K: Key, V: Cell> Control for CachedTable<K, V> {
    fn freeze(&mut self) -> Result<Option<Box<dyn FrozenTable>>> {
        self.cache.flush().map(|()| None)
    }
}

//! The table of a backend with a cold store: one value per key in a [`Cache`].

use std::any::Any;
use std::rc::Rc;

use super::ahead::Ahead;
use super::cache::{Cache, Content, Keyspace};
use super::cold::WriteBatch;
use super::layout::Layout;
use super::paged::Mark;
use super::payload::{Cell, Reach};
use super::{Control, Frozen, Table, WriteBack};
use crate::Result;
use crate::context::KeyContext;
use crate::key::Key;
use crate::key_group::KeyGroup;

/// One value that the store may hold too.
#[derive(Clone, Debug)]
pub(crate) struct Cached<V> {
    value: Option<V>,
    dirty: bool,
    /// Whether the store may have a row for it; if not, a removal need not be written.
    stored: bool,
    /// Whether the value goes behind that of the store, which has not been read.
    is_tail: bool,
}

impl<V> Cached<V> {
    /// What the store was found to hold.
    pub(crate) fn loaded(value: Option<V>) -> Self {
        let stored = value.is_some();
        Self { value, dirty: false, stored, is_tail: false }
    }

    /// A value that replaces whatever the store holds.
    pub(crate) fn written(value: Option<V>) -> Self {
        Self { value, dirty: true, stored: true, is_tail: false }
    }

    /// A value that goes behind whatever the store holds.
    fn tail(value: V) -> Self {
        Self { value: Some(value), dirty: true, stored: true, is_tail: true }
    }

    pub(crate) fn get(&self) -> Option<&V> {
        self.value.as_ref()
    }

    /// The value, to be changed.
    pub(crate) fn get_mut(&mut self) -> Option<&mut V> {
        self.dirty |= self.value.is_some();
        self.value.as_mut()
    }

    pub(crate) fn set(&mut self, value: Option<V>) {
        self.value = value;
        self.dirty = true;
        self.is_tail = false;
    }

    /// The store has it.
    pub(crate) fn note_written(&mut self) {
        self.dirty = false;
        self.stored = self.value.is_some();
    }

    /// Adds the value to the batch if the store does not have it.
    pub(crate) fn write(
        &self,
        row_key: &[u8],
        batch: &mut WriteBatch,
        encode: impl FnOnce(&V, &mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        match &self.value {
            Some(value) if self.is_tail => batch.append(row_key, |out| encode(value, out)),
            Some(value) if self.dirty => batch.put(row_key, |out| encode(value, out)),
            None if self.dirty && self.stored => {
                batch.delete(row_key);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl<V: Reach> Reach for Cached<V> {
    const STEPS: usize = V::STEPS;

    #[inline]
    fn reach(&self, step: usize) {
        if let Some(value) = &self.value {
            value.reach(step);
        }
    }
}

impl<V: Cell> Content for Cached<V> {
    const HAS_HEAP: bool = V::HAS_HEAP;

    fn heap_bytes(&self) -> usize {
        self.value.as_ref().map_or(0, V::heap_bytes)
    }

    fn write(&self, layout: &Layout, row_key: &mut Vec<u8>, batch: &mut WriteBatch) -> Result<()> {
        Cached::write(self, row_key, batch, |value, out| value.encode(layout, out))
    }

    fn note_written(&mut self) {
        Cached::note_written(self);
    }

    fn is_tail(&self) -> bool {
        self.is_tail
    }
}

/// One `V` per key, live in a cache or at rest in a cold store.
pub(crate) struct CachedTable<K, V> {
    cache: Cache<K, Cached<V>>,
    ahead: Ahead<K>,
}

impl<K: Key, V: Cell> CachedTable<K, V> {
    pub(crate) fn new(context: Rc<KeyContext<K>>, keyspace: Keyspace) -> Self {
        Self { cache: Cache::new(context, keyspace), ahead: Ahead::new() }
    }

    /// Reads what the store has in front of a tail.
    #[inline]
    fn complete(&mut self) -> Result<()> {
        match V::APPEND {
            Some(append) if self.cache.peek()?.is_some_and(|cached| cached.is_tail) => {
                self.read_front(append)
            }
            _ => Ok(()),
        }
    }

    #[cold]
    fn read_front(&mut self, append: fn(&mut V, V)) -> Result<()> {
        let mut row_key = Vec::new();
        self.cache.context().row_key(&mut row_key)?;
        self.ahead.note_read();
        let front = load::<V>(self.cache.keyspace(), &row_key)?.value;
        self.cache.change(load, |cached| {
            let tail = cached.value.take();
            cached.set(match (front, tail) {
                (Some(mut front), Some(tail)) => {
                    append(&mut front, tail);
                    Some(front)
                }
                (front, tail) => front.or(tail),
            });
            Ok(())
        })
    }
}

fn load<V: Cell>(keyspace: &Keyspace, row_key: &[u8]) -> Result<Cached<V>> {
    let mut value = None;
    keyspace.store.borrow().get(&keyspace.state, row_key, &mut |bytes| {
        value = Some(V::decode(&keyspace.layout, bytes)?);
        Ok(())
    })?;
    Ok(Cached::loaded(value))
}

/// What is read because it was asked for.
fn load_noted<K: Key, V: Cell>(
    ahead: &mut Ahead<K>,
    keyspace: &Keyspace,
    row_key: &[u8],
) -> Result<Cached<V>> {
    ahead.note_read();
    load(keyspace, row_key)
}

/// What replaces a value without a look at it.
fn blind<V>(_: &Keyspace, _: &[u8]) -> Result<Cached<V>> {
    Ok(Cached::written(None))
}

impl<K: Key, V: Cell> Table<V> for CachedTable<K, V> {
    #[inline]
    fn get(&mut self) -> Result<Option<&V>> {
        self.complete()?;
        let ahead = &mut self.ahead;
        self.cache.get(|keyspace, row_key| load_noted(ahead, keyspace, row_key)).map(Cached::get)
    }

    #[inline]
    fn get_mut(&mut self) -> Result<Option<&mut V>> {
        self.complete()?;
        let ahead = &mut self.ahead;
        self.cache.get_mut(|keyspace, row_key| load_noted(ahead, keyspace, row_key)).map(Cached::get_mut)
    }

    #[inline]
    fn put(&mut self, value: V) -> Result<()> {
        if V::HAS_HEAP {
            return self.cache.change(blind, |cached| {
                cached.set(Some(value));
                Ok(())
            });
        }
        self.cache.get_mut(blind).map(|cached| cached.set(Some(value)))
    }

    fn append(&mut self, empty: fn() -> V, add: &mut dyn FnMut(&mut V)) -> Result<()> {
        let unread = |keyspace: &Keyspace, row_key: &[u8]| match V::APPEND {
            Some(_) => Ok(Cached::tail(empty())),
            None => load(keyspace, row_key),
        };
        let cached = self.cache.get_mut(unread)?;
        if let Some(value) = cached.get_mut() {
            add(value);
            return Ok(());
        }
        let mut value = empty();
        add(&mut value);
        cached.set(Some(value));
        Ok(())
    }

    fn remove(&mut self) -> Result<()> {
        self.cache.get_mut(blind).map(|cached| cached.set(None))
    }

    fn peek(&mut self) -> Result<Option<&V>> {
        Ok(self.cache.peek()?.and_then(Cached::get))
    }

    fn put_new(&mut self, value: V) -> Result<()> {
        self.cache.get_mut(|_, _| Ok(Cached::loaded(None))).map(|cached| cached.set(Some(value)))
    }
}

impl<K: Key, V: Cell> Control for CachedTable<K, V> {
    fn freeze(&mut self, mark: Mark) -> Result<Frozen> {
        self.cache.freeze(mark)
    }

    fn write_back(&mut self, budget: usize) -> Result<WriteBack> {
        self.cache.write_back(budget)
    }

    fn touch(&mut self, hashes: &[u64]) -> u64 {
        let missing = self.cache.touch(hashes);
        self.ahead.announce(missing)
    }

    fn want(&mut self) -> Result<()> {
        if self.ahead.is_reading() { self.cache.want(&mut self.ahead) } else { Ok(()) }
    }

    fn read_ahead(&mut self) -> Result<()> {
        self.cache.read_ahead(&mut self.ahead, V::decode, Cached::loaded)
    }

    fn keys(&self, group: KeyGroup) -> Result<Box<dyn Any>> {
        Ok(Box::new(self.cache.keys(group)?))
    }

    fn is_present(&mut self) -> Result<bool> {
        Ok(Table::get(self)?.is_some())
    }
}

//! Map states over a cold store: one row per entry, so that a key's map need not fit into memory.
//!
//! The cache holds, per key, the entries that were touched: an overlay over the rows of the store.

use std::any::Any;
use std::ops::{Bound, ControlFlow, RangeBounds};
use std::rc::Rc;

use super::cache::{ALLOCATION_BYTES, Cache, Content, Keyspace};
use super::cached::Cached;
use super::cold::{RowVisitor, WriteBatch};
use super::layout::Layout;
use super::ordered_map::OrderedMap;
use super::paged::Mark;
use super::payload::{Form, Reach, decode_key};
use super::{Bounds, Control, Frozen, Initial, MapTable, WriteBack, is_nothing, no_initial};
use crate::Result;
use crate::context::KeyContext;
use crate::key::Key;
use crate::key_group::KeyGroup;

/// The touched entries of one key's map.
#[derive(Clone)]
struct Overlay<UK, UV>(OrderedMap<UK, Cached<UV>>);

impl<UK: Key, UV: Form> Reach for Overlay<UK, UV> {
    const STEPS: usize = 1;

    #[inline]
    fn reach(&self, _: usize) {
        self.0.touch();
    }
}

impl<UK: Key, UV: Form> Content for Overlay<UK, UV> {
    const HAS_HEAP: bool = true;

    /// Takes the first entry for all of them.
    fn heap_bytes(&self) -> usize {
        let heap = |(user_key, cached): (&UK, &Cached<UV>)| {
            let (mut bytes, mut own) = (Vec::new(), 0);
            if std::mem::needs_drop::<UK>() {
                user_key.encode_ordered(&mut bytes);
                own += ALLOCATION_BYTES;
            }
            own + bytes.len() + cached.get().map_or(0, UV::heap_bytes)
        };
        let first = self.0.iter().next().map_or(0, heap);
        self.0.heap_bytes() + self.0.len() * first + ALLOCATION_BYTES
    }

    fn write(&self, layout: &Layout, row_key: &mut Vec<u8>, batch: &mut WriteBatch) -> Result<()> {
        let key_bytes = row_key.len();
        for (user_key, cached) in self.0.iter() {
            row_key.truncate(key_bytes);
            user_key.encode_ordered(row_key);
            cached.write(row_key, batch, |value, out| value.write(layout, out))?;
        }
        Ok(())
    }

    fn note_written(&mut self) {
        self.0.retain(|_, cached| {
            cached.note_written();
            true
        });
    }
}

/// A map per key, touched entries live in a cache, all others at rest in a cold store.
pub(crate) struct CachedMap<K, UK, UV> {
    cache: Cache<K, Overlay<UK, UV>>,
}

impl<K: Key, UK: Key, UV: Form> CachedMap<K, UK, UV> {
    pub(crate) fn new(context: Rc<KeyContext<K>>, keyspace: Keyspace) -> Self {
        Self { cache: Cache::new(context, keyspace) }
    }

    /// Runs `f` on the touched entries of the current key.
    fn overlay<R>(&mut self, f: impl FnOnce(&mut OrderedMap<UK, Cached<UV>>) -> R) -> Result<R> {
        let empty = |_: &Keyspace, _: &[u8]| Ok(Overlay(OrderedMap::default()));
        self.cache.change(empty, |overlay| Ok(f(&mut overlay.0)))
    }

    /// Looks at one entry, which is read from the store if it has not been touched yet.
    fn look<R>(&mut self, user_key: &UK, look: impl FnOnce(Option<&UV>) -> R) -> Result<R> {
        if let Some(cached) = self.cache.peek()?.and_then(|overlay| overlay.0.get(user_key)) {
            return Ok(look(cached.get()));
        }
        let cached = self.load(user_key)?;
        let result = look(cached.get());
        self.overlay(|touched| touched.insert(user_key.clone(), cached))?;
        Ok(result)
    }

    /// Reads one entry from the store.
    fn load(&self, user_key: &UK) -> Result<Cached<UV>> {
        let (keyspace, mut row_key) = (self.cache.keyspace(), Vec::new());
        self.cache.context().row_key(&mut row_key)?;
        user_key.encode_ordered(&mut row_key);
        let mut value = None;
        keyspace.store.borrow().get(&keyspace.state, &row_key, &mut |bytes| {
            value = Some(UV::read(&keyspace.layout, bytes)?);
            Ok(())
        })?;
        Ok(Cached::loaded(value))
    }

    /// Replaces one entry without a look at it.
    fn set(&mut self, user_key: UK, value: Option<UV>) -> Result<()> {
        self.overlay(|touched| match touched.get_mut(&user_key) {
            Some(cached) => cached.set(value),
            None => _ = touched.insert(user_key, Cached::written(value)),
        })
    }

    /// The rows of the current key in the store, from a user key on: user key and value bytes.
    fn stored_from(&self, start: Bound<&UK>, visit: RowVisitor<'_>) -> Result<()> {
        let (Bound::Included(start) | Bound::Excluded(start)) = start else { return self.stored(visit) };
        let mut row_key = Vec::new();
        self.cache.context().row_key(&mut row_key)?;
        let key_bytes = row_key.len();
        start.encode_ordered(&mut row_key);
        let keyspace = self.cache.keyspace();
        let mut visit = |row_key: &[u8], value: &[u8]| visit(&row_key[key_bytes..], value);
        keyspace.store.borrow().scan_from(&keyspace.state, &row_key[..key_bytes], &row_key, &mut visit)
    }

    /// The rows of the current key in the store: user key and value bytes.
    fn stored(&self, visit: RowVisitor<'_>) -> Result<()> {
        let mut prefix = Vec::new();
        self.cache.context().row_key(&mut prefix)?;
        let keyspace = self.cache.keyspace();
        keyspace
            .store
            .borrow()
            .scan(&keyspace.state, &prefix, &mut |row_key, value| visit(&row_key[prefix.len()..], value))
    }
}

impl<K: Key, UK: Key, UV: Form> MapTable<UK, UV> for CachedMap<K, UK, UV> {
    fn get(&mut self, user_key: &UK) -> Result<Option<UV>> {
        self.look(user_key, |value| value.cloned())
    }

    fn contains(&mut self, user_key: &UK) -> Result<bool> {
        self.look(user_key, |value| value.is_some())
    }

    fn insert(&mut self, user_key: UK, value: UV) -> Result<()> {
        self.set(user_key, Some(value))
    }

    fn modify(
        &mut self,
        user_key: UK,
        initial: Initial<'_, UV>,
        change: &mut dyn FnMut(&mut UV),
    ) -> Result<()> {
        let touched = self.cache.peek()?.is_some_and(|overlay| overlay.0.contains_key(&user_key));
        let loaded = if touched { None } else { Some(self.load(&user_key)?) };
        self.overlay(|touched| {
            let mut change = |cached: &mut Cached<UV>| {
                if let Some(value) = cached.get_mut() {
                    change(value);
                    return Ok(());
                }
                let mut value = initial().ok_or_else(no_initial)?;
                change(&mut value);
                cached.set(Some(value));
                Ok(())
            };
            if let Some(cached) = touched.get_mut(&user_key) {
                return change(cached);
            }
            let mut cached = loaded.unwrap_or(Cached::loaded(None));
            change(&mut cached)?;
            touched.insert(user_key, cached);
            Ok(())
        })?
    }

    fn remove(&mut self, user_key: &UK) -> Result<()> {
        self.set(user_key.clone(), None)
    }

    fn range(&mut self, bounds: Bounds<'_, UK>, most: usize) -> Result<Vec<(UK, UV)>> {
        let mut entries = Vec::new();
        if most == 0 || is_nothing(&bounds) {
            return Ok(entries);
        }
        let touched = self.cache.peek()?.map(|overlay| overlay.0.range(bounds));
        // A merge of two ascending sequences; a touched entry hides the stored one.
        let mut touched = touched.into_iter().flatten().peekable();
        let layout = &self.cache.keyspace().layout;
        self.stored_from(bounds.0, &mut |user_key, value| {
            let user_key = decode_key::<UK>(user_key)?;
            while let Some((newer, cached)) = touched.next_if(|(newer, _)| **newer < user_key) {
                entries.extend(cached.get().map(|value| (newer.clone(), value.clone())));
                if entries.len() == most {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if !bounds.contains(&user_key) {
                // At the start that is not included, or behind the end.
                let goes_on = matches!(bounds.0, Bound::Excluded(start) if *start == user_key);
                return Ok(if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) });
            }
            match touched.next_if(|(newer, _)| **newer == user_key) {
                Some((_, cached)) => entries.extend(cached.get().map(|value| (user_key, value.clone()))),
                None => entries.push((user_key, UV::read(layout, value)?)),
            }
            Ok(if entries.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        let rest = touched.filter_map(|(user_key, cached)| Some((user_key.clone(), cached.get()?.clone())));
        let room = most - entries.len();
        entries.extend(rest.take(room));
        Ok(entries)
    }

    fn is_empty(&mut self) -> Result<bool> {
        let overlay = self.cache.peek()?;
        if overlay.is_some_and(|overlay| overlay.0.values().any(|cached| cached.get().is_some())) {
            return Ok(false);
        }
        let mut is_empty = true;
        self.stored(&mut |user_key, _| {
            // What was touched and still has a value would have been seen above.
            if overlay.is_some_and(|overlay| !overlay.0.is_empty()) {
                let user_key = decode_key(user_key)?;
                if overlay.is_some_and(|overlay| overlay.0.contains_key(&user_key)) {
                    return Ok(ControlFlow::Continue(()));
                }
            }
            is_empty = false;
            Ok(ControlFlow::Break(()))
        })?;
        Ok(is_empty)
    }

    fn clear(&mut self) -> Result<()> {
        let mut batch = WriteBatch::default();
        let mut row_key = Vec::new();
        self.cache.context().row_key(&mut row_key)?;
        let key_bytes = row_key.len();
        self.stored(&mut |user_key, _| {
            row_key.truncate(key_bytes);
            row_key.extend_from_slice(user_key);
            batch.delete(&row_key);
            Ok(ControlFlow::Continue(()))
        })?;
        if self.cache.peek()?.is_some() {
            self.overlay(|touched| *touched = OrderedMap::default())?;
        }
        let keyspace = self.cache.keyspace();
        if batch.is_empty() { Ok(()) } else { keyspace.store.borrow_mut().write(&keyspace.state, &batch) }
    }
}

impl<K: Key, UK: Key, UV: Form> Control for CachedMap<K, UK, UV> {
    fn freeze(&mut self, mark: Mark) -> Result<Frozen> {
        self.cache.freeze(mark)
    }

    fn write_back(&mut self, budget: usize) -> Result<WriteBack> {
        self.cache.write_back(budget)
    }

    /// Which entry will be asked for is not known.
    fn touch(&mut self, hashes: &[u64]) -> u64 {
        self.cache.touch(hashes);
        0
    }

    fn keys(&self, group: KeyGroup) -> Result<Box<dyn Any>> {
        Ok(Box::new(self.cache.keys(group)?))
    }

    fn is_present(&mut self) -> Result<bool> {
        Ok(!MapTable::is_empty(self)?)
    }
}

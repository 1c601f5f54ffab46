//! Map states over a cold store: one row per entry, so that a key's map need not fit into memory.
//!
//! The cache holds, per key, the entries that were touched: an overlay over the rows of the store.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::ControlFlow;
use std::rc::Rc;

use super::cached::{Cache, Cached, Content, Keyspace};
use super::cold::{RowVisitor, WriteBatch};
use super::payload::decode_key;
use super::{Control, Initial, MapTable};
use crate::Result;
use crate::codec::{self, State};
use crate::context::KeyContext;
use crate::key::Key;
use crate::snapshot::FrozenTable;

/// The touched entries of one key's map.
struct Overlay<UK, UV>(BTreeMap<UK, Cached<UV>>);

impl<UK: Key, UV: State> Content for Overlay<UK, UV> {
    fn weight(&self) -> usize {
        self.0.len() + 1
    }

    fn flush(&mut self, row_key: &mut Vec<u8>, batch: &mut WriteBatch) -> Result<()> {
        let key_bytes = row_key.len();
        for (user_key, cached) in &mut self.0 {
            row_key.truncate(key_bytes);
            user_key.encode_ordered(row_key);
            cached.flush(row_key, batch, |value, out| codec::encode(value, out))?;
        }
        Ok(())
    }
}

/// A map per key, touched entries live in a cache, all others at rest in a cold store.
pub(crate) struct CachedMap<K, UK, UV> {
    cache: Cache<K, Overlay<UK, UV>>,
}

impl<K: Key, UK: Key, UV: State> CachedMap<K, UK, UV> {
    pub(crate) fn new(context: Rc<KeyContext<K>>, keyspace: Keyspace) -> Self {
        Self { cache: Cache::new(context, keyspace) }
    }

    fn overlay<R>(&mut self, f: impl FnOnce(&mut Overlay<UK, UV>) -> Result<R>) -> Result<R> {
        self.cache.with(|_, _| Ok(Overlay(BTreeMap::new())), f)
    }

    /// Runs `f` on one entry, read from the store if it has not been touched yet.
    fn entry<R>(&mut self, user_key: UK, f: impl FnOnce(&mut Cached<UV>) -> Result<R>) -> Result<R> {
        let mut row_key = Vec::new();
        let keyspace = self.cache.keyspace().clone();
        let context = self.cache.context();
        self.overlay(|overlay| match overlay.0.entry(user_key) {
            Entry::Occupied(entry) => f(entry.into_mut()),
            Entry::Vacant(entry) => {
                context.row_key(&mut row_key)?;
                entry.key().encode_ordered(&mut row_key);
                let mut value = None;
                keyspace.store.borrow().get(&keyspace.state, &row_key, &mut |bytes| {
                    value = Some(codec::decode(bytes)?);
                    Ok(())
                })?;
                f(entry.insert(Cached::loaded(value)))
            }
        })
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

impl<K: Key, UK: Key, UV: State> MapTable<UK, UV> for CachedMap<K, UK, UV> {
    fn get(&mut self, user_key: &UK) -> Result<Option<UV>> {
        self.entry(user_key.clone(), |cached| Ok(cached.value.clone()))
    }

    fn contains(&mut self, user_key: &UK) -> Result<bool> {
        self.entry(user_key.clone(), |cached| Ok(cached.value.is_some()))
    }

    fn insert(&mut self, user_key: UK, value: UV) -> Result<()> {
        self.overlay(|overlay| {
            overlay.0.entry(user_key).or_insert_with(|| Cached::written(None)).set(Some(value));
            Ok(())
        })
    }

    fn modify(
        &mut self,
        user_key: UK,
        initial: Initial<'_, UV>,
        change: &mut dyn FnMut(&mut UV),
    ) -> Result<()> {
        self.entry(user_key, |cached| cached.modify(initial, change))
    }

    fn remove(&mut self, user_key: &UK) -> Result<()> {
        let user_key = user_key.clone();
        self.overlay(|overlay| {
            overlay.0.entry(user_key).or_insert_with(|| Cached::written(None)).set(None);
            Ok(())
        })
    }

    fn entries(&mut self) -> Result<Vec<(UK, UV)>> {
        let mut entries = BTreeMap::new();
        self.stored(&mut |user_key, value| {
            entries.insert(decode_key::<UK>(user_key)?, codec::decode(value)?);
            Ok(ControlFlow::Continue(()))
        })?;
        self.overlay(|overlay| {
            for (user_key, cached) in &overlay.0 {
                match &cached.value {
                    Some(value) => drop(entries.insert(user_key.clone(), value.clone())),
                    None => drop(entries.remove(user_key)),
                }
            }
            Ok(())
        })?;
        Ok(entries.into_iter().collect())
    }

    fn is_empty(&mut self) -> Result<bool> {
        if self.overlay(|overlay| Ok(overlay.0.values().any(|cached| cached.value.is_some())))? {
            return Ok(false);
        }
        let mut gone: Vec<UK> = Vec::new();
        self.overlay(|overlay| {
            gone.extend(overlay.0.keys().cloned());
            Ok(())
        })?;
        let mut is_empty = true;
        self.stored(&mut |user_key, _| {
            if gone.binary_search(&decode_key(user_key)?).is_ok() {
                return Ok(ControlFlow::Continue(()));
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
        self.overlay(|overlay| {
            overlay.0.clear();
            Ok(())
        })?;
        let keyspace = self.cache.keyspace();
        if batch.is_empty() { Ok(()) } else { keyspace.store.borrow_mut().write(&keyspace.state, &batch) }
    }
}

impl<K: Key, UK: Key, UV: State> Control for CachedMap<K, UK, UV> {
    fn freeze(&mut self) -> Result<Option<Box<dyn FrozenTable>>> {
        self.cache.flush().map(|()| None)
    }
}

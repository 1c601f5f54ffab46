//! [`BroadcastState`]: a map that every subtask has a copy of.

use crate::error::Result;
use crate::function::operator_states::in_use;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use tidegate_state::{Key, State, codec};

/// The map of a broadcast state, ordered by its keys. It is kept in memory.
///
/// Every subtask has its own, and changes it by what arrives on the broadcast input alone: the handle only reads;
/// [`BroadcastContext::writable`](crate::function::BroadcastContext::writable) gives the view that writes. Subtasks do
/// not talk to each other. Their maps are equal as long as all of them do the same with each broadcast record, and the
/// outcome does not depend on the order of records from different broadcasting subtasks, which may differ.
///
/// The handle is cheap to clone; clones are the same map. All methods fail with a config error inside of
/// [`WritableBroadcastState::update`].
pub struct BroadcastState<K: Key, V: State> {
    entries: Rc<RefCell<Arc<BTreeMap<K, V>>>>,
}

impl<K: Key, V: State> BroadcastState<K, V> {
    /// An element is the ordered form of the key, then the value.
    pub(super) fn restore(elements: &[Vec<u8>]) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for bytes in elements {
            let mut rest = bytes.as_slice();
            let key = K::decode_ordered(&mut rest)?;
            entries.insert(key, codec::decode(rest)?);
        }
        Ok(Self { entries: Rc::new(RefCell::new(Arc::new(entries))) })
    }

    /// Shares the map as it is; the first change behind it copies the map, if the image is still in use.
    pub(super) fn freeze(&self) -> Result<Arc<BTreeMap<K, V>>> {
        Ok(self.entries.try_borrow().map_err(|_| in_use())?.clone())
    }

    pub(super) fn encode(entries: &BTreeMap<K, V>) -> Result<Vec<Vec<u8>>> {
        let encode = |(key, value): (&K, &V)| {
            let mut bytes = Vec::new();
            key.encode_ordered(&mut bytes);
            codec::encode(value, &mut bytes).map(|()| bytes)
        };
        entries.iter().map(encode).collect()
    }

    /// A copy of the value under `key`, if there is one.
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        self.with(key, |value| value.cloned())
    }

    /// Looks at the value under `key` without copying it.
    pub fn with<R>(&self, key: &K, look: impl FnOnce(Option<&V>) -> R) -> Result<R> {
        Ok(look(self.entries.try_borrow().map_err(|_| in_use())?.get(key)))
    }

    /// Whether there is a value under `key`.
    pub fn contains_key(&self, key: &K) -> Result<bool> {
        self.with(key, |value| value.is_some())
    }

    /// Looks at the whole map without copying it.
    pub fn with_all<R>(&self, look: impl FnOnce(&BTreeMap<K, V>) -> R) -> Result<R> {
        Ok(look(&*self.entries.try_borrow().map_err(|_| in_use())?))
    }

    /// Copies of the entries as they are now, in the order of the keys; later changes are not seen.
    pub fn iter(&self) -> Result<impl Iterator<Item = (K, V)> + use<K, V>> {
        let copy = |(key, value): (&K, &V)| (key.clone(), value.clone());
        let copies: Vec<(K, V)> = self.with_all(|entries| entries.iter().map(copy).collect())?;
        Ok(copies.into_iter())
    }

    /// Number of entries.
    pub fn len(&self) -> Result<usize> {
        Ok(self.entries.try_borrow().map_err(|_| in_use())?.len())
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    fn change<R>(&self, change: impl FnOnce(&mut BTreeMap<K, V>) -> R) -> Result<R> {
        Ok(change(Arc::make_mut(&mut *self.entries.try_borrow_mut().map_err(|_| in_use())?)))
    }
}

impl<K: Key, V: State> Clone for BroadcastState<K, V> {
    fn clone(&self) -> Self {
        Self { entries: self.entries.clone() }
    }
}

impl<K: Key, V: State> fmt::Debug for BroadcastState<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BroadcastState").finish_non_exhaustive()
    }
}

/// A [`BroadcastState`] that can be written, for as long as a broadcast record is processed.
#[derive(Debug)]
pub struct WritableBroadcastState<'a, K: Key, V: State>(&'a BroadcastState<K, V>);

impl<'a, K: Key, V: State> WritableBroadcastState<'a, K, V> {
    pub(super) fn new(state: &'a BroadcastState<K, V>) -> Self {
        Self(state)
    }

    /// Puts `value` under `key`, in the place of what was there.
    pub fn insert(&mut self, key: K, value: V) -> Result<()> {
        self.0.change(|entries| drop(entries.insert(key, value)))
    }

    /// Changes the value under `key` in place, starting from `initial()` if there is none. Returns what `change`
    /// returns.
    pub fn update<R>(
        &mut self,
        key: K,
        initial: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        self.0.change(|entries| change(entries.entry(key).or_insert_with(initial)))
    }

    /// Removes the value under `key`, if any.
    pub fn remove(&mut self, key: &K) -> Result<()> {
        self.0.change(|entries| drop(entries.remove(key)))
    }

    /// Removes all entries.
    pub fn clear(&mut self) -> Result<()> {
        // Not the entries themselves: a frozen map is let go, not copied.
        *self.0.entries.try_borrow_mut().map_err(|_| in_use())? = Arc::default();
        Ok(())
    }
}

impl<K: Key, V: State> Deref for WritableBroadcastState<'_, K, V> {
    type Target = BroadcastState<K, V>;

    fn deref(&self) -> &BroadcastState<K, V> {
        self.0
    }
}

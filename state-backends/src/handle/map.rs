//! [`MapState`]: an ordered map per key.

use std::fmt;

use super::called;
use crate::Result;
use crate::codec::State;
use crate::key::Key;
use crate::table::{MapTable, Shared, borrow};

/// A map from `UK` to `UV` per key, ordered by `UK`. A map without entries takes no room.
///
/// A backend on disk reads and writes single entries, so a key's map may be larger than memory as long as it is not
/// iterated.
pub struct MapState<UK: Key, UV: State> {
    table: Shared<dyn MapTable<UK, UV>>,
}

impl<UK: Key, UV: State> MapState<UK, UV> {
    pub(crate) fn new(table: Shared<dyn MapTable<UK, UV>>) -> Self {
        Self { table }
    }

    /// A copy of the value under `user_key`.
    pub fn get(&self, user_key: &UK) -> Result<Option<UV>> {
        borrow(&self.table)?.get(user_key)
    }

    /// Whether there is a value under `user_key`.
    pub fn contains_key(&self, user_key: &UK) -> Result<bool> {
        borrow(&self.table)?.contains(user_key)
    }

    /// Puts a value under `user_key`. The value before it is not returned, as it need not be in memory.
    pub fn insert(&mut self, user_key: UK, value: UV) -> Result<()> {
        borrow(&self.table)?.insert(user_key, value)
    }

    /// Changes the value under `user_key` in place, starting from `initial()` if there is none.
    pub fn update<R>(
        &mut self,
        user_key: UK,
        initial: impl FnOnce() -> UV,
        change: impl FnOnce(&mut UV) -> R,
    ) -> Result<R> {
        let (mut initial, mut change, mut result) = (Some(initial), Some(change), None);
        borrow(&self.table)?.modify(
            user_key,
            &mut || initial.take().map(|initial| initial()),
            &mut |value| {
                result = change.take().map(|change| change(value));
            },
        )?;
        called(result)
    }

    /// Removes the value under `user_key`, if any.
    pub fn remove(&mut self, user_key: &UK) -> Result<()> {
        borrow(&self.table)?.remove(user_key)
    }

    /// The entries as they are now, in the order of the user keys; later changes are not seen.
    pub fn iter(&self) -> Result<impl Iterator<Item = (UK, UV)> + use<UK, UV>> {
        borrow(&self.table)?.entries().map(Vec::into_iter)
    }

    /// The user keys in their order.
    pub fn keys(&self) -> Result<impl Iterator<Item = UK> + use<UK, UV>> {
        Ok(self.iter()?.map(|(user_key, _)| user_key))
    }

    /// The values in the order of their user keys.
    pub fn values(&self) -> Result<impl Iterator<Item = UV> + use<UK, UV>> {
        Ok(self.iter()?.map(|(_, value)| value))
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> Result<bool> {
        borrow(&self.table)?.is_empty()
    }

    /// Removes all entries.
    pub fn clear(&mut self) -> Result<()> {
        borrow(&self.table)?.clear()
    }
}

impl<UK: Key, UV: State> Clone for MapState<UK, UV> {
    fn clone(&self) -> Self {
        Self { table: self.table.clone() }
    }
}

impl<UK: Key, UV: State> fmt::Debug for MapState<UK, UV> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapState").finish_non_exhaustive()
    }
}

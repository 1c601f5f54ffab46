//! [`MapState`]: an ordered map per key.

use std::fmt;
use std::ops::{Bound, ControlFlow, RangeBounds};
use std::rc::Rc;

use super::called;
use super::identity::Identity;
use crate::Result;
use crate::codec::State;
use crate::key::{Key, KeyPrefix};
use crate::table::{MapTable, Shared, borrow};

/// How many entries [`MapState::for_each`] holds at a time.
const VISITED_AT_ONCE: usize = 256;

/// How many entries are looked at together in search of the end of a prefix.
const PREFIX_AT_ONCE: usize = 32;

/// A map from `UK` to `UV` per key, ordered by `UK`. A map without entries takes no room.
///
/// A backend on disk reads and writes single entries, so a key's map may be larger than memory: use
/// [`for_each`](Self::for_each) or [`range`](Self::range) to go through it.
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
        borrow(&self.table)?.range((Bound::Unbounded, Bound::Unbounded), usize::MAX).map(Vec::into_iter)
    }

    /// The entries whose user keys lie in `range`, as they are now, in order; later changes are not seen. No others are
    /// read, however many there are. A range that ends before it starts is empty.
    pub fn range<R: RangeBounds<UK>>(
        &self,
        range: R,
    ) -> Result<impl Iterator<Item = (UK, UV)> + use<UK, UV, R>> {
        borrow(&self.table)?.range((range.start_bound(), range.end_bound()), usize::MAX).map(Vec::into_iter)
    }

    /// The entries whose user keys begin with `prefix`, as they are now, in order: `map.prefix("ab")` for user keys of
    /// type `String`, `map.prefix(&(7,))` for tuples whose first field is 7. No others are read, but for a few.
    pub fn prefix<P: KeyPrefix<UK> + ?Sized>(
        &self,
        prefix: &P,
    ) -> Result<impl Iterator<Item = (UK, UV)> + use<UK, UV, P>> {
        let mut entries = Vec::new();
        self.visit(Bound::Included(prefix.least()), Bound::Unbounded, PREFIX_AT_ONCE, |user_key, value| {
            if !prefix.begins(&user_key) {
                return Ok(ControlFlow::Break(()));
            }
            entries.push((user_key, value));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(entries.into_iter())
    }

    /// The entry with the lowest user key.
    pub fn first(&self) -> Result<Option<(UK, UV)>> {
        Ok(borrow(&self.table)?.range((Bound::Unbounded, Bound::Unbounded), 1)?.pop())
    }

    /// Calls `visit` with the entries whose user keys lie in `range`, in order, until it says
    /// [`ControlFlow::Break`] or fails. However many there are, a few hundred at a time are held in memory.
    ///
    /// `visit` may change the map. Changes to entries that are still to come may be seen or not.
    pub fn for_each(
        &self,
        range: impl RangeBounds<UK>,
        visit: impl FnMut(UK, UV) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.visit(range.start_bound().cloned(), range.end_bound(), VISITED_AT_ONCE, visit)
    }

    fn visit(
        &self,
        mut start: Bound<UK>,
        end: Bound<&UK>,
        at_once: usize,
        mut visit: impl FnMut(UK, UV) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        loop {
            let entries = borrow(&self.table)?.range((start.as_ref(), end), at_once)?;
            let is_last = entries.len() < at_once;
            if let Some((last, _)) = entries.last() {
                start = Bound::Excluded(last.clone());
            }
            for (user_key, value) in entries {
                if visit(user_key, value)? == ControlFlow::Break(()) {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
        }
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

impl<UK: Key, UV: State> Identity for MapState<UK, UV> {
    fn address(&self) -> *const () {
        Rc::as_ptr(&self.table).cast()
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

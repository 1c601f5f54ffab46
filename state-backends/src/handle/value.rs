//! [`ValueState`]: one value per key.

use std::fmt;
use std::rc::Rc;

use super::identity::Identity;
use crate::Result;
use crate::codec::State;
use crate::table::payload::Single;
use crate::table::{Shared, Table, borrow};

/// One value of type `T` per key.
pub struct ValueState<T: State> {
    table: Shared<dyn Table<Single<T>>>,
}

impl<T: State> ValueState<T> {
    pub(crate) fn new(table: Shared<dyn Table<Single<T>>>) -> Self {
        Self { table }
    }

    /// A copy of the value, or `None` if the key has none.
    #[inline]
    pub fn get(&self) -> Result<Option<T>> {
        Ok(borrow(&self.table)?.get()?.map(|value| value.0.clone()))
    }

    /// Looks at the value without copying it.
    #[inline]
    pub fn with<R>(&self, look: impl FnOnce(Option<&T>) -> R) -> Result<R> {
        Ok(look(borrow(&self.table)?.get()?.map(|value| &value.0)))
    }

    /// Replaces the value.
    #[inline]
    pub fn set(&mut self, value: T) -> Result<()> {
        borrow(&self.table)?.put(Single(value))
    }

    /// Changes the value in place, starting from `initial()` if the key has none; one look-up where [`get`](Self::get)
    /// and [`set`](Self::set) take two. Returns what `change` returns.
    #[inline]
    pub fn update<R>(&mut self, initial: impl FnOnce() -> T, change: impl FnOnce(&mut T) -> R) -> Result<R> {
        let mut table = borrow(&self.table)?;
        if let Some(value) = table.get_mut()? {
            return Ok(change(&mut value.0));
        }
        let mut value = Single(initial());
        let result = change(&mut value.0);
        table.put(value)?;
        Ok(result)
    }

    /// Removes the value.
    pub fn clear(&mut self) -> Result<()> {
        borrow(&self.table)?.remove()
    }
}

impl<T: State> Identity for ValueState<T> {
    fn address(&self) -> *const () {
        Rc::as_ptr(&self.table).cast()
    }
}

impl<T: State> Clone for ValueState<T> {
    fn clone(&self) -> Self {
        Self { table: self.table.clone() }
    }
}

impl<T: State> fmt::Debug for ValueState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValueState").finish_non_exhaustive()
    }
}

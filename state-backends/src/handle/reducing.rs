//! [`ReducingState`]: one value per key, into which everything that is added is folded.

use std::fmt;
use std::rc::Rc;

use super::identity::Identity;
use crate::Result;
use crate::codec::State;
use crate::table::payload::Single;
use crate::table::{Shared, Table, borrow};

/// Folds a value into one of the same type.
pub(crate) type Reduce<T> = dyn Fn(&mut T, T);

/// One value of type `T` per key: the first one that was added, with all later ones folded into it.
///
/// The function that folds is given where the state is registered. It is not part of the state: a restored job folds
/// on with the function it has then.
pub struct ReducingState<T: State> {
    table: Shared<dyn Table<Single<T>>>,
    reduce: Rc<Reduce<T>>,
}

impl<T: State> ReducingState<T> {
    pub(crate) fn new(table: Shared<dyn Table<Single<T>>>, reduce: Rc<Reduce<T>>) -> Self {
        Self { table, reduce }
    }

    /// Folds `value` into that of the key, or makes it that of a key without one.
    #[inline]
    pub fn add(&mut self, value: T) -> Result<()> {
        let mut table = borrow(&self.table)?;
        if let Some(present) = table.get_mut()? {
            (self.reduce)(&mut present.0, value);
            return Ok(());
        }
        table.put(Single(value))
    }

    /// A copy of what was folded so far, or `None` if nothing was added.
    #[inline]
    pub fn get(&self) -> Result<Option<T>> {
        Ok(borrow(&self.table)?.get()?.map(|value| value.0.clone()))
    }

    /// Removes the value.
    pub fn clear(&mut self) -> Result<()> {
        borrow(&self.table)?.remove()
    }
}

impl<T: State> Identity for ReducingState<T> {
    fn address(&self) -> *const () {
        Rc::as_ptr(&self.table).cast()
    }
}

impl<T: State> Clone for ReducingState<T> {
    fn clone(&self) -> Self {
        Self { table: self.table.clone(), reduce: Rc::clone(&self.reduce) }
    }
}

impl<T: State> fmt::Debug for ReducingState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReducingState").finish_non_exhaustive()
    }
}

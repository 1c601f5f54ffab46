//! What a state handle talks to: tables that know the key type and hide it behind object-safe traits.
//!
//! A handle is generic over the value only. It holds a [`Table`] (or a [`MapTable`]) that finds the current key in
//! the shared context. The memory backend keeps live objects in [`paged`] tables; a backend with a cold store keeps
//! a bounded number of them in a write-back [`cached`] table.

pub(crate) mod cached;
pub(crate) mod cached_map;
pub(crate) mod cold;
pub(crate) mod memory;
pub(crate) mod memory_map;
pub(crate) mod paged;
pub(crate) mod payload;

use std::cell::{RefCell, RefMut};
use std::rc::Rc;

use crate::snapshot::FrozenTable;
use crate::{Error, Result};

/// One `V` per key; every method acts on the current key.
pub(crate) trait Table<V> {
    /// Hands the value to `f`, or `None` if the key has none.
    fn read(&mut self, f: &mut dyn FnMut(Option<&V>)) -> Result<()>;

    /// Replaces the value.
    fn put(&mut self, value: V) -> Result<()>;

    /// Changes the value in place, starting from `initial` if the key has none. `change` says whether the value is to
    /// stay; a value that is not to stay is removed.
    fn modify(&mut self, initial: Initial<'_, V>, change: &mut dyn FnMut(&mut V) -> Keep) -> Result<()>;

    /// Removes the value.
    fn remove(&mut self) -> Result<()>;
}

/// Makes a first value; `None` if it was called before, which no table does.
pub(crate) type Initial<'a, V> = &'a mut dyn FnMut() -> Option<V>;

/// Whether a changed value stays in its table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    Yes,
    No,
}

/// An ordered map per key; every method acts on the map of the current key.
pub(crate) trait MapTable<UK, UV> {
    fn get(&mut self, user_key: &UK) -> Result<Option<UV>>;
    fn contains(&mut self, user_key: &UK) -> Result<bool>;
    fn insert(&mut self, user_key: UK, value: UV) -> Result<()>;
    fn modify(
        &mut self,
        user_key: UK,
        initial: Initial<'_, UV>,
        change: &mut dyn FnMut(&mut UV),
    ) -> Result<()>;
    fn remove(&mut self, user_key: &UK) -> Result<()>;
    /// Every entry in the order of the user keys.
    fn entries(&mut self) -> Result<Vec<(UK, UV)>>;
    fn is_empty(&mut self) -> Result<bool>;
    fn clear(&mut self) -> Result<()>;
}

/// The side of a table that the backend sees.
pub(crate) trait Control {
    /// Makes the present content part of the snapshot being taken: as an image of its own, or (`None`) by writing
    /// what is dirty to the cold store, whose own freeze follows.
    fn freeze(&mut self) -> Result<Option<Box<dyn FrozenTable>>>;
}

/// A table as its handles share it.
pub(crate) type Shared<T> = Rc<RefCell<T>>;

/// Borrows a table for one operation.
#[inline]
pub(crate) fn borrow<T: ?Sized>(table: &RefCell<T>) -> Result<RefMut<'_, T>> {
    table.try_borrow_mut().map_err(|_| {
        Error::config("a state is used inside its own update")
            .hint("take what the closure needs out of it first")
    })
}

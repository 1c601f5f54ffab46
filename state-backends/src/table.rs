//! What a state handle talks to: tables that know the key type and hide it behind object-safe traits.
//!
//! A handle is generic over the value only. It holds a [`Table`] (or a [`MapTable`]) that finds the current key in
//! the shared context. The memory backend keeps live objects in [`paged`] tables; a backend with a cold store keeps
//! a bounded number of them in a write-back [`cache`].

mod ahead;
pub(crate) mod budget;
pub(crate) mod cache;
pub(crate) mod cached;
pub(crate) mod cached_map;
mod change_mark;
pub(crate) mod cold;
pub(crate) mod expiring;
pub(crate) mod expiring_map;
pub(crate) mod layout;
pub(crate) mod memory;
pub(crate) mod memory_map;
mod ordered_map;
pub(crate) mod page;
pub(crate) mod paged;
pub(crate) mod payload;
pub(crate) mod stamped;

use std::any::Any;
use std::cell::{RefCell, RefMut};
use std::ops::Bound;
use std::rc::Rc;

use self::cold::WriteBatch;
use self::paged::{Mark, PagedMap};
use self::payload::Reach;
use crate::context::KeyContext;
use crate::key::Key;
use crate::key_group::KeyGroup;
use crate::snapshot::FrozenTable;
use crate::ttl::Horizon;
use crate::{Error, Result};

/// One `V` per key; every method acts on the current key.
pub(crate) trait Table<V> {
    /// The value, if the key has one.
    fn get(&mut self) -> Result<Option<&V>>;

    /// The value, if the key has one, to be changed.
    fn get_mut(&mut self) -> Result<Option<&mut V>>;

    /// Puts a value in the place of the present one.
    fn put(&mut self, value: V) -> Result<()>;

    /// Has `add` put something behind the value, or behind `empty()` if there is none. A table that can do so leaves
    /// the value unread.
    fn append(&mut self, empty: fn() -> V, add: &mut dyn FnMut(&mut V)) -> Result<()> {
        if let Some(value) = self.get_mut()? {
            add(value);
            return Ok(());
        }
        let mut value = empty();
        add(&mut value);
        self.put(value)
    }

    /// Removes the value.
    fn remove(&mut self) -> Result<()>;

    /// Like [`get`](Self::get), but never waits for a store: `None` may mean that it would have to be asked.
    fn peek(&mut self) -> Result<Option<&V>> {
        self.get()
    }

    /// Like [`put`](Self::put), for a key that is known to have no value.
    fn put_new(&mut self, value: V) -> Result<()> {
        self.put(value)
    }
}

/// Makes a first value; `None` if it was called before, which no table does.
pub(crate) type Initial<'a, V> = &'a mut dyn FnMut() -> Option<V>;

/// Where a range of a map begins and ends.
pub(crate) type Bounds<'a, UK> = (Bound<&'a UK>, Bound<&'a UK>);

/// Whether nothing can lie within these bounds.
pub(crate) fn is_nothing<UK: Key>(bounds: &Bounds<'_, UK>) -> bool {
    match bounds {
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => {
            start >= end
        }
        _ => false,
    }
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
    /// The first entries within `bounds`, `most` of them, in the order of the user keys.
    fn range(&mut self, bounds: Bounds<'_, UK>, most: usize) -> Result<Vec<(UK, UV)>>;
    fn is_empty(&mut self) -> Result<bool>;
    fn clear(&mut self) -> Result<()>;
}

/// The side of a table that the backend sees.
pub(crate) trait Control {
    /// Takes an image of the present content. Must not visit entries.
    fn freeze(&mut self, mark: Mark) -> Result<Frozen>;

    /// Writes some of what has not changed for a while to the store, if there is one: looks at about so many objects.
    fn write_back(&mut self, _budget: usize) -> Result<WriteBack> {
        Ok(WriteBack::Done)
    }

    /// Brings what is in memory of the keys with these hashes, 64 at most, into the processor's caches. Returns those
    /// whose rows should be [read ahead](Self::read_ahead), the first one as the lowest bit.
    fn touch(&mut self, hashes: &[u64]) -> u64;

    /// Marks the current key as one whose row is to be read ahead.
    fn want(&mut self) -> Result<()> {
        Ok(())
    }

    /// Reads the rows of the marked keys out of the store, all at once.
    fn read_ahead(&mut self) -> Result<()> {
        Ok(())
    }

    /// Keys of one key group: all that have something here, and perhaps others, in any order and more than once. A
    /// `Vec` of the type of the table's keys.
    fn keys(&self, group: KeyGroup) -> Result<Box<dyn Any>>;

    /// Whether the current key has something here.
    fn is_present(&mut self) -> Result<bool>;

    /// Leaves out of the next image what has expired. Stores leave it out by themselves.
    fn set_horizon(&mut self, _: Horizon) {}

    /// Looks at about so many live objects and removes what has expired of them. Rows of a store are swept there.
    fn sweep(&mut self, _: Horizon, _budget: usize) {}
}

/// How far the writing back of a table has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteBack {
    /// There is nothing to do before the next freeze.
    Done,
    /// Something was done, and there may be more.
    More,
    /// There may be something to do, when the image that was taken last is being written.
    Waits,
}

/// The image of a table.
pub(crate) enum Frozen {
    /// Everything.
    Whole(Box<dyn FrozenTable>),
    /// What has to be laid over the rows of an image of the cold store taken at the same moment.
    Overlay(Box<dyn FrozenOverlay>),
}

/// The rows of one state that were not in the cold store at the moment of a freeze.
pub(crate) trait FrozenOverlay: Send {
    /// Adds the puts and deletes of one key group to `batch`, in any order. Called once per group.
    fn take_group(&mut self, group: KeyGroup, batch: &mut WriteBatch) -> Result<()>;
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

#[cold]
pub(crate) fn no_initial() -> Error {
    Error::bug("a state update has no initial value")
}

/// What [`Control::touch`] does to the live objects of a table; returns those that are not there.
pub(crate) fn touch<K: Key, V: Clone + Reach>(
    context: &KeyContext<K>,
    map: &PagedMap<K, V>,
    hashes: &[u64],
) -> u64 {
    if !map.is_large() {
        return 0;
    }
    let Ok(other) = context.current() else { return 0 };
    map.touch(hashes, |hash| context.position_of(hash).ok(), &other)
}

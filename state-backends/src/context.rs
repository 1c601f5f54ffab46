//! The current key: which key, or namespace of a key, the handles of one subtask act on right now.

use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;

use crate::key::{BorrowedKey, Key};
use crate::key_group::{KeyGroup, KeyGroupRange, key_group_of};
use crate::namespace::{Namespaced, spaced_hash};
use crate::{Error, Result};

/// Where a key is: its hash, and its key group counted from the start of the subtask's range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) hash: u64,
    pub(crate) group: KeyGroup,
    pub(crate) group_index: usize,
}

/// A context that holds a part of the current key and must be set anew when that changes.
trait Follower {
    fn leave(&self) -> Result<()>;
}

/// Shared by the backend and all of its tables.
pub(crate) struct KeyContext<K> {
    key: RefCell<Option<K>>,
    /// A key that was current and whose memory can be used again; only followers keep one.
    left: Cell<Option<K>>,
    /// Two cells, not one of a [`Position`]: a struct is read back by loads wider than the stores that wrote it, and
    /// such a load waits until every store before it, also one that missed the cache, is done.
    hash: Cell<u64>,
    group: Cell<KeyGroup>,
    range: KeyGroupRange,
    max_parallelism: u16,
    followers: RefCell<Vec<Rc<dyn Follower>>>,
    is_followed: Cell<bool>,
    /// What is said when no key is current.
    missing: fn() -> Error,
}

impl<K: Key> KeyContext<K> {
    pub(crate) fn new(range: KeyGroupRange, max_parallelism: u16) -> Self {
        Self {
            key: RefCell::new(None),
            left: Cell::new(None),
            hash: Cell::new(0),
            group: Cell::new(KeyGroup(range.start)),
            range,
            max_parallelism,
            followers: RefCell::default(),
            is_followed: Cell::new(false),
            missing: no_key,
        }
    }

    /// Lets `follower` lose its key whenever this context changes its own.
    pub(crate) fn follow<A: Key>(&self, follower: Rc<KeyContext<A>>) {
        self.followers.borrow_mut().push(follower);
        self.is_followed.set(true);
    }

    #[inline]
    fn changed(&self) -> Result<()> {
        if self.is_followed.get() { self.leave_followers() } else { Ok(()) }
    }

    fn leave_followers(&self) -> Result<()> {
        self.followers.borrow().iter().try_for_each(|follower| follower.leave())
    }

    pub(crate) fn range(&self) -> KeyGroupRange {
        self.range
    }

    pub(crate) fn max_parallelism(&self) -> u16 {
        self.max_parallelism
    }

    #[inline]
    pub(crate) fn position_of(&self, hash: u64) -> Result<Position> {
        let group = key_group_of(hash, self.max_parallelism);
        if self.range.contains(group) {
            Ok(Position { hash, group, group_index: usize::from(group.0 - self.range.start) })
        } else {
            Err(not_mine(group, self.range))
        }
    }

    #[inline]
    pub(crate) fn set(&self, key: K, hash: u64) -> Result<()> {
        self.check_hash(hash, || key.hash64())?;
        let position = self.position_of(hash)?;
        *self.key.try_borrow_mut().map_err(|_| key_in_use())? = Some(key);
        self.hash.set(position.hash);
        self.group.set(position.group);
        self.changed()
    }

    #[inline]
    pub(crate) fn set_ref<Q: BorrowedKey<Owned = K> + ?Sized>(&self, key: &Q, hash: u64) -> Result<()> {
        self.check_hash(hash, || key.hash64())?;
        let position = self.position_of(hash)?;
        match &mut *self.key.try_borrow_mut().map_err(|_| key_in_use())? {
            Some(current) => key.clone_into(current),
            none => *none = Some(key.to_owned()),
        }
        self.hash.set(position.hash);
        self.group.set(position.group);
        self.changed()
    }

    /// Puts another key in place, or none, and returns the one before it with its hash.
    pub(crate) fn replace(&self, key: Option<(K, u64)>) -> Result<Option<(K, u64)>> {
        let (key, position) = match key {
            Some((key, hash)) => (Some(key), Some(self.position_of(hash)?)),
            None => (None, None),
        };
        let mut current = self.key.try_borrow_mut().map_err(|_| key_in_use())?;
        let before = std::mem::replace(&mut *current, key).map(|key| (key, self.hash.get()));
        if let Some(position) = position {
            self.hash.set(position.hash);
            self.group.set(position.group);
        }
        drop(current);
        self.changed()?;
        Ok(before)
    }

    #[inline]
    pub(crate) fn current(&self) -> Result<Ref<'_, K>> {
        Ref::filter_map(self.key.borrow(), Option::as_ref).map_err(|_| (self.missing)())
    }

    #[inline]
    pub(crate) fn position(&self) -> Position {
        let group = self.group.get();
        Position { hash: self.hash.get(), group, group_index: usize::from(group.0 - self.range.start) }
    }

    /// Puts the row key of the current key into `out`.
    pub(crate) fn row_key(&self, out: &mut Vec<u8>) -> Result<()> {
        row_key(self.group.get(), &*self.current()?, out);
        Ok(())
    }

    /// Debug builds hash the key again; release builds trust the hash that travelled with the record.
    #[inline]
    fn check_hash(&self, hash: u64, compute: impl FnOnce() -> u64) -> Result<()> {
        if cfg!(debug_assertions) && compute() != hash {
            return Err(Error::bug("a key arrived with the hash of another one"));
        }
        Ok(())
    }
}

impl<K: Key, N: Key> KeyContext<Namespaced<K, N>> {
    /// A context of namespaces in the same key groups.
    pub(crate) fn spaced(keys: &KeyContext<K>) -> Self {
        Self { missing: no_namespace, ..Self::new(keys.range, keys.max_parallelism) }
    }

    /// Makes a namespace of the key that has this hash the current one.
    #[inline]
    pub(crate) fn set_spaced(&self, key: &K, hash: u64, namespace: N) -> Result<()> {
        let position = self.position_of(spaced_hash(hash, namespace.hash64()))?;
        let mut current = self.key.try_borrow_mut().map_err(|_| key_in_use())?;
        match current.take().or_else(|| self.left.take()) {
            Some(mut old) => {
                old.key.clone_from(key);
                old.namespace = namespace;
                *current = Some(old);
            }
            None => *current = Some(Namespaced { key: key.clone(), namespace }),
        }
        self.hash.set(position.hash);
        self.group.set(position.group);
        Ok(())
    }
}

impl<K: Key> Follower for KeyContext<K> {
    fn leave(&self) -> Result<()> {
        let mut current = self.key.try_borrow_mut().map_err(|_| key_in_use())?;
        if current.is_some() {
            self.left.set(current.take());
        }
        Ok(())
    }
}

/// Puts what a cold store knows a key by into `out`: the key group, then the ordered form.
pub(crate) fn row_key<K: Key>(group: KeyGroup, key: &K, out: &mut Vec<u8>) {
    out.clear();
    add_row_key(group, key, out);
}

/// The same, behind what is in `out`.
pub(crate) fn add_row_key<K: Key>(group: KeyGroup, key: &K, out: &mut Vec<u8>) {
    out.extend_from_slice(&group.0.to_be_bytes());
    key.encode_ordered(out);
}

#[cold]
fn not_mine(group: KeyGroup, range: KeyGroupRange) -> Error {
    Error::bug(format!("a key of group {} reached the subtask that owns {range}", group.0))
        .hint("the record was routed by another hash or another maximum parallelism")
}

#[cold]
fn no_key() -> Error {
    Error::config("keyed state is used while no record or timer is being processed")
}

#[cold]
fn no_namespace() -> Error {
    Error::config("state of a namespace is used before one was set for the current key")
}

#[cold]
fn key_in_use() -> Error {
    Error::config("the current key is changed while state of it is in use")
        .hint("do not keep the result of current_key() across records")
}

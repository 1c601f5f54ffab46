//! Timers: keyed state that comes due.
//!
//! A timer is a row of its own: nothing, kept under key, namespace and time. So it costs the same however many timers
//! its key has, and timers are snapshotted, restored and rescaled like any other state. Beside the rows lies an index
//! by (time, key, namespace) over the whole subtask, which is rebuilt at restore and never persisted. It knows every
//! timer, so a store on disk is written but never asked.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;

use crate::Result;
use crate::context::KeyContext;
use crate::key::Key;
use crate::namespace::Namespaced;
use crate::table::payload::Presence;
use crate::table::{Shared, Table, borrow};

/// What a timer's row is found by.
pub(crate) type TimerKey<K, N> = Namespaced<K, (N, i64)>;

/// A timer that has come due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DueTimer<K, N = ()> {
    /// When it was due, in milliseconds.
    pub time: i64,
    /// Whose it is.
    pub key: K,
    /// In which namespace.
    pub namespace: N,
    /// The [`Key::hash64`] of the key.
    pub hash: u64,
}

/// All timers that are set.
pub(crate) type TimerIndex<K, N> = BTreeSet<DueTimer<K, N>>;

/// The timers of one name (for example "event" or "processing") of a subtask, one per key, namespace and time. Clones
/// are the same timers.
pub struct TimerQueue<K: Key, N: Key = ()> {
    context: Rc<KeyContext<K>>,
    /// Which timer the table acts on.
    address: Rc<KeyContext<TimerKey<K, N>>>,
    table: Shared<dyn Table<Presence>>,
    index: Rc<RefCell<TimerIndex<K, N>>>,
}

impl<K: Key> TimerQueue<K> {
    /// Sets a timer for the current key at `time` (milliseconds). A timer that is set already is not set twice.
    pub fn register(&self, time: i64) -> Result<()> {
        self.register_in((), time)
    }

    /// Deletes the timer of the current key at `time`, if it is set.
    pub fn delete(&self, time: i64) -> Result<()> {
        self.delete_in((), time)
    }
}

impl<K: Key, N: Key> TimerQueue<K, N> {
    pub(crate) fn new(
        context: Rc<KeyContext<K>>,
        address: Rc<KeyContext<TimerKey<K, N>>>,
        table: Shared<dyn Table<Presence>>,
        index: TimerIndex<K, N>,
    ) -> Self {
        Self { context, address, table, index: Rc::new(RefCell::new(index)) }
    }

    /// Sets a timer for the current key in `namespace` at `time` (milliseconds). A timer that is set already is not
    /// set twice.
    pub fn register_in(&self, namespace: N, time: i64) -> Result<()> {
        let (key, hash) = (self.context.current()?, self.context.position().hash);
        self.address.set_spaced(&*key, hash, (namespace.clone(), time))?;
        let mut table = borrow(&self.table)?;
        if table.peek()?.is_some() {
            return Ok(());
        }
        if borrow(&self.index)?.insert(DueTimer { time, key: key.clone(), namespace, hash }) {
            table.put_new(Presence)?;
        }
        Ok(())
    }

    /// Deletes the timer of the current key in `namespace` at `time`, if it is set.
    pub fn delete_in(&self, namespace: N, time: i64) -> Result<()> {
        let (key, hash) = (self.context.current()?, self.context.position().hash);
        let timer = DueTimer { time, key: key.clone(), namespace, hash };
        if borrow(&self.index)?.remove(&timer) { self.forget(&timer) } else { Ok(()) }
    }

    /// The time of the earliest timer of any key, in milliseconds.
    pub fn next_due(&self) -> Option<i64> {
        self.index.borrow().first().map(|timer| timer.time)
    }

    /// Removes and returns the earliest timer that is due at `up_to` or before. Timers come in the order of time, key
    /// and namespace. The current key is left as it is.
    pub fn pop_due(&self, up_to: i64) -> Result<Option<DueTimer<K, N>>> {
        let mut index = borrow(&self.index)?;
        if index.first().is_none_or(|timer| timer.time > up_to) {
            return Ok(None);
        }
        let Some(timer) = index.pop_first() else { return Ok(None) };
        self.forget(&timer)?;
        Ok(Some(timer))
    }

    /// How many timers are set, over all keys.
    pub fn len(&self) -> usize {
        self.index.borrow().len()
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.index.borrow().is_empty()
    }

    /// Removes the row of a timer.
    fn forget(&self, timer: &DueTimer<K, N>) -> Result<()> {
        self.address.set_spaced(&timer.key, timer.hash, (timer.namespace.clone(), timer.time))?;
        borrow(&self.table)?.remove()
    }
}

impl<K: Key, N: Key> Clone for TimerQueue<K, N> {
    fn clone(&self) -> Self {
        Self {
            context: Rc::clone(&self.context),
            address: Rc::clone(&self.address),
            table: self.table.clone(),
            index: Rc::clone(&self.index),
        }
    }
}

impl<K: Key, N: Key> fmt::Debug for TimerQueue<K, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerQueue").field("set", &self.len()).finish_non_exhaustive()
    }
}

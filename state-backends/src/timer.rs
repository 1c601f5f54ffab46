//! Timers: keyed state that comes due.
//!
//! The times of a key are an ordinary keyed state, so they are snapshotted, restored and rescaled like any other.
//! Beside it lies an index by (time, key) over the whole subtask, which is rebuilt at restore and never persisted.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;

use crate::Result;
use crate::context::KeyContext;
use crate::key::Key;
use crate::table::payload::Times;
use crate::table::{Shared, Table, borrow};

/// Time in milliseconds, key, hash of the key.
pub(crate) type TimerIndex<K> = BTreeSet<(i64, K, u64)>;

/// The timers of one name (for example "event" or "processing") of a subtask. Clones are the same timers.
pub struct TimerQueue<K: Key> {
    context: Rc<KeyContext<K>>,
    table: Shared<dyn Table<Times>>,
    index: Rc<RefCell<TimerIndex<K>>>,
}

impl<K: Key> TimerQueue<K> {
    pub(crate) fn new(
        context: Rc<KeyContext<K>>,
        table: Shared<dyn Table<Times>>,
        index: TimerIndex<K>,
    ) -> Self {
        Self { context, table, index: Rc::new(RefCell::new(index)) }
    }

    /// Sets a timer for the current key at `time` (milliseconds). A timer that is set already is not set twice.
    pub fn register(&self, time: i64) -> Result<()> {
        let is_new = {
            let mut table = borrow(&self.table)?;
            match table.get_mut()? {
                Some(times) => match times.0.binary_search(&time) {
                    Ok(_) => false,
                    Err(at) => {
                        times.0.insert(at, time);
                        true
                    }
                },
                None => {
                    table.put(Times(vec![time]))?;
                    true
                }
            }
        };
        if is_new {
            let entry = (time, self.context.current()?.clone(), self.context.position().hash);
            borrow(&self.index)?.insert(entry);
        }
        Ok(())
    }

    /// Deletes the timer of the current key at `time`, if it is set.
    pub fn delete(&self, time: i64) -> Result<()> {
        if self.forget(time)? {
            let entry = (time, self.context.current()?.clone(), self.context.position().hash);
            borrow(&self.index)?.remove(&entry);
        }
        Ok(())
    }

    /// The time of the earliest timer of any key, in milliseconds.
    pub fn next_due(&self) -> Option<i64> {
        self.index.borrow().first().map(|(time, _, _)| *time)
    }

    /// Removes the earliest timer that is due at `up_to` or before and returns its key, the hash of the key and its
    /// time. Timers come in the order of (time, key). The current key is left as it was.
    pub fn pop_due(&self, up_to: i64) -> Result<Option<(K, u64, i64)>> {
        let mut index = borrow(&self.index)?;
        if index.first().is_none_or(|(time, _, _)| *time > up_to) {
            return Ok(None);
        }
        let Some((time, key, hash)) = index.pop_first() else { return Ok(None) };
        let before = self.context.replace(Some((key, hash)))?;
        let forgotten = self.forget(time);
        let popped = self.context.replace(before)?;
        forgotten?;
        Ok(popped.map(|(key, hash)| (key, hash, time)))
    }

    /// How many timers are set, over all keys.
    pub fn len(&self) -> usize {
        self.index.borrow().len()
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.index.borrow().is_empty()
    }

    /// Takes a time from the current key's set; whether it was there.
    fn forget(&self, time: i64) -> Result<bool> {
        let mut table = borrow(&self.table)?;
        let Some(times) = table.get_mut()? else { return Ok(false) };
        let Ok(at) = times.0.binary_search(&time) else { return Ok(false) };
        times.0.remove(at);
        if times.0.is_empty() {
            table.remove()?;
        }
        Ok(true)
    }
}

impl<K: Key> Clone for TimerQueue<K> {
    fn clone(&self) -> Self {
        Self { context: Rc::clone(&self.context), table: self.table.clone(), index: Rc::clone(&self.index) }
    }
}

impl<K: Key> fmt::Debug for TimerQueue<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerQueue").field("set", &self.len()).finish_non_exhaustive()
    }
}

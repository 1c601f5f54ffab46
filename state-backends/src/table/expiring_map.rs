//! Map states with a time to live: every entry has a stamp.

use std::cell::RefCell;
use std::ops::Bound;

use super::expiring::Expiring;
use super::stamped::Stamped;
use super::{Bounds, Initial, MapTable, no_initial};
use crate::Result;
use crate::codec::State;
use crate::key::Key;

/// How many entries are read together where only some may be alive.
const READ_AT_ONCE: usize = 64;

/// The entries of a key's map.
pub(crate) struct Entries;

pub(crate) type ExpiringMap<T> = Expiring<T, Entries>;

impl<T> ExpiringMap<T> {
    /// Gives an entry that was read the stamp of now, if reads count.
    fn refresh<UK: Key, UV: State>(&mut self, user_key: &UK, stamp: i64) -> Result<()>
    where
        T: MapTable<UK, Stamped<UV>>,
    {
        if !self.expiry.refreshes(stamp) {
            return Ok(());
        }
        let now = self.expiry.now();
        self.inner.modify(user_key.clone(), &mut || None, &mut |stamped| stamped.stamp = now)
    }
}

impl<UK: Key, UV: State, T: MapTable<UK, Stamped<UV>>> MapTable<UK, UV> for ExpiringMap<T> {
    fn get(&mut self, user_key: &UK) -> Result<Option<UV>> {
        let Some(stamped) = self.inner.get(user_key)? else { return Ok(None) };
        if self.expiry.hidden().is_behind(stamped.stamp) {
            self.inner.remove(user_key)?;
            return Ok(None);
        }
        self.refresh(user_key, stamped.stamp)?;
        Ok(Some(stamped.value))
    }

    fn contains(&mut self, user_key: &UK) -> Result<bool> {
        Ok(self.get(user_key)?.is_some())
    }

    fn insert(&mut self, user_key: UK, value: UV) -> Result<()> {
        self.inner.insert(user_key, Stamped { stamp: self.expiry.now(), value })
    }

    fn modify(
        &mut self,
        user_key: UK,
        initial: Initial<'_, UV>,
        change: &mut dyn FnMut(&mut UV),
    ) -> Result<()> {
        let (hidden, now) = (self.expiry.hidden(), self.expiry.now());
        let initial = RefCell::new(initial);
        let first = || (*initial.borrow_mut())();
        let mut missing = false;
        self.inner.modify(
            user_key,
            &mut || first().map(|value| Stamped { stamp: now, value }),
            &mut |stamped| {
                if hidden.is_behind(stamped.stamp) {
                    match first() {
                        Some(value) => stamped.value = value,
                        None => missing = true,
                    }
                }
                stamped.stamp = now;
                change(&mut stamped.value);
            },
        )?;
        if missing { Err(no_initial()) } else { Ok(()) }
    }

    fn remove(&mut self, user_key: &UK) -> Result<()> {
        self.inner.remove(user_key)
    }

    fn range(&mut self, bounds: Bounds<'_, UK>, most: usize) -> Result<Vec<(UK, UV)>> {
        let hidden = self.expiry.hidden();
        let at_once = if most == usize::MAX { most } else { most.max(READ_AT_ONCE) };
        let mut start = bounds.0.cloned();
        let mut living = Vec::new();
        loop {
            let entries = self.inner.range((start.as_ref(), bounds.1), at_once)?;
            let is_last = entries.len() < at_once;
            if let Some((last, _)) = entries.last() {
                start = Bound::Excluded(last.clone());
            }
            for (user_key, stamped) in entries {
                if hidden.is_behind(stamped.stamp) {
                    self.inner.remove(&user_key)?;
                    continue;
                }
                if living.len() == most {
                    return Ok(living);
                }
                self.refresh(&user_key, stamped.stamp)?;
                living.push((user_key, stamped.value));
            }
            if is_last || living.len() == most {
                return Ok(living);
            }
        }
    }

    fn is_empty(&mut self) -> Result<bool> {
        if self.inner.is_empty()? {
            return Ok(true);
        }
        // Asking whether there is anything reads nothing.
        let hidden = self.expiry.hidden();
        let mut start = Bound::Unbounded;
        loop {
            let entries = self.inner.range((start.as_ref(), Bound::Unbounded), READ_AT_ONCE)?;
            if entries.iter().any(|(_, stamped)| !hidden.is_behind(stamped.stamp)) {
                return Ok(false);
            }
            match entries.into_iter().next_back() {
                Some((last, _)) => start = Bound::Excluded(last),
                None => return Ok(true),
            }
        }
    }

    fn clear(&mut self) -> Result<()> {
        self.inner.clear()
    }
}

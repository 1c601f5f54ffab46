//! Tables of states with a time to live: they stamp what goes into the table behind them and hide what has expired.

use std::any::Any;
use std::marker::PhantomData;

use super::paged::Mark;
use super::payload::{Cell, Items, Life};
use super::stamped::{Stamped, StampedItems};
use super::{Control, Frozen, Table, WriteBack};
use crate::Result;
use crate::codec::State;
use crate::key_group::KeyGroup;
use crate::ttl::{Expiry, Horizon};

/// A table in front of one whose parts `P` have stamps.
pub(crate) struct Expiring<T, P> {
    pub(super) inner: T,
    pub(super) expiry: Expiry,
    parts: PhantomData<fn() -> P>,
}

/// The value of a key.
pub(crate) struct Values;
/// The elements of a key's list.
pub(crate) struct Elements;

pub(crate) type ExpiringValue<T> = Expiring<T, Values>;
pub(crate) type ExpiringList<T> = Expiring<T, Elements>;

impl<T, P> Expiring<T, P> {
    pub(crate) fn new(inner: T, expiry: Expiry) -> Self {
        Self { inner, expiry, parts: PhantomData }
    }
}

/// The side of the backend is that of the table behind, whatever is stamped.
impl<T: Control, P> Control for Expiring<T, P> {
    fn freeze(&mut self, mark: Mark) -> Result<Frozen> {
        self.inner.freeze(mark)
    }

    fn write_back(&mut self, budget: usize) -> Result<WriteBack> {
        self.inner.write_back(budget)
    }

    fn touch(&mut self, hashes: &[u64]) -> u64 {
        self.inner.touch(hashes)
    }

    fn want(&mut self) -> Result<()> {
        self.inner.want()
    }

    fn read_ahead(&mut self) -> Result<()> {
        self.inner.read_ahead()
    }

    fn keys(&self, group: KeyGroup) -> Result<Box<dyn Any>> {
        self.inner.keys(group)
    }

    /// Also if all of it has expired and was not removed yet.
    fn is_present(&mut self) -> Result<bool> {
        self.inner.is_present()
    }

    fn set_horizon(&mut self, horizon: Horizon) {
        self.inner.set_horizon(horizon);
    }

    fn sweep(&mut self, horizon: Horizon, budget: usize) {
        self.inner.sweep(horizon, budget);
    }
}

impl<V: Cell, T: Table<Stamped<V>>> Table<V> for ExpiringValue<T> {
    fn get(&mut self) -> Result<Option<&V>> {
        let Some(stamp) = self.inner.get()?.map(|stamped| stamped.stamp) else { return Ok(None) };
        if self.expiry.hidden().is_behind(stamp) {
            self.inner.remove()?;
            return Ok(None);
        }
        if self.expiry.refreshes(stamp) {
            return self.get_mut().map(|value| value.map(|value| &*value));
        }
        Ok(self.inner.get()?.map(|stamped| &stamped.value))
    }

    fn get_mut(&mut self) -> Result<Option<&mut V>> {
        let (hidden, now) = (self.expiry.hidden(), self.expiry.now());
        // What is hidden is overwritten by the caller, or stays hidden.
        let live = |stamped: &&mut Stamped<V>| !hidden.is_behind(stamped.stamp);
        Ok(self.inner.get_mut()?.filter(live).map(|stamped| {
            stamped.stamp = now;
            &mut stamped.value
        }))
    }

    fn put(&mut self, value: V) -> Result<()> {
        self.inner.put(Stamped { stamp: self.expiry.now(), value })
    }

    fn remove(&mut self) -> Result<()> {
        self.inner.remove()
    }
}

impl<T> ExpiringList<T> {
    /// Removes the elements that must not be returned any more.
    fn expire<X: State>(&mut self) -> Result<()>
    where
        T: Table<StampedItems<X>>,
    {
        let hidden = self.expiry.hidden();
        match self.inner.get()?.map_or(Life::Whole, |list| list.life(hidden)) {
            Life::Whole => {}
            Life::Part => {
                if let Some(list) = self.inner.get_mut()? {
                    list.expire(hidden);
                }
            }
            Life::Gone => self.inner.remove()?,
        }
        Ok(())
    }
}

impl<X: State, T: Table<StampedItems<X>>> Table<Items<X>> for ExpiringList<T> {
    fn get(&mut self) -> Result<Option<&Items<X>>> {
        self.expire::<X>()?;
        let expiry = &self.expiry;
        if self.inner.get()?.is_some_and(|list| list.refreshes(expiry))
            && let Some(list) = self.inner.get_mut()?
        {
            list.refresh(expiry);
        }
        Ok(self.inner.get()?.map(|list| &list.items))
    }

    fn get_mut(&mut self) -> Result<Option<&mut Items<X>>> {
        self.expire::<X>()?;
        let now = self.expiry.now();
        Ok(self.inner.get_mut()?.map(|list| {
            list.stamp_next(now);
            &mut list.items
        }))
    }

    fn put(&mut self, items: Items<X>) -> Result<()> {
        self.inner.put(StampedItems::new(items, self.expiry.now()))
    }

    fn remove(&mut self) -> Result<()> {
        self.inner.remove()
    }
}

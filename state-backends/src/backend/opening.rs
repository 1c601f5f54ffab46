//! Opens the table of one state: which kind it is, and what was restored into it.

use std::cell::RefCell;
use std::rc::Rc;

use super::cold::Cold;
use crate::Result;
use crate::codec::State;
use crate::context::KeyContext;
use crate::key::Key;
use crate::snapshot::RestoredState;
use crate::table::cached::CachedTable;
use crate::table::cached_map::CachedMap;
use crate::table::expiring::{ExpiringList, ExpiringValue};
use crate::table::expiring_map::ExpiringMap;
use crate::table::layout::Layout;
use crate::table::memory::MemoryTable;
use crate::table::payload::{Cell, Entries, Form, Items, Payload, Single};
use crate::table::stamped::{Stamped, StampedItems};
use crate::table::{Control, MapTable, Shared, Table};
use crate::ttl::Expiry;

/// A table as its handles and as the backend see it.
pub(super) type Opened<T> = (Shared<T>, Shared<dyn Control>);

/// Sees every key of a table.
type Visitor<'a, K, V> = &'a mut dyn FnMut(&K, &V);

/// What it takes to open one state's table.
pub(super) struct Opening<'a, K> {
    context: &'a Rc<KeyContext<K>>,
    cold: Option<&'a Cold>,
    restored: Option<&'a RestoredState>,
    name: &'a str,
    layout: &'a Layout,
    /// The layout of what was restored.
    reading: &'a Layout,
    expiry: Option<Expiry>,
}

impl<'a, K: Key> Opening<'a, K> {
    pub(super) fn new(
        context: &'a Rc<KeyContext<K>>,
        cold: Option<&'a Cold>,
        restored: Option<&'a RestoredState>,
        name: &'a str,
        layout: &'a Layout,
        reading: &'a Layout,
        expiry: Option<Expiry>,
    ) -> Self {
        Self { context, cold, restored, name, layout, reading, expiry }
    }

    /// Opens a table of one value per key.
    pub(super) fn table<T: State>(&self) -> Result<Opened<dyn Table<Single<T>>>> {
        match (&self.expiry, self.cold) {
            (None, _) => self.visited_table(None),
            (Some(expiry), Some(cold)) => {
                Ok(shared(ExpiringValue::new(self.cached::<Stamped<Single<T>>>(cold)?, expiry.clone())))
            }
            (Some(expiry), None) => {
                Ok(shared(ExpiringValue::new(self.memory::<Stamped<Single<T>>>()?, expiry.clone())))
            }
        }
    }

    /// Opens a table of one list per key.
    pub(super) fn list_table<T: State>(&self) -> Result<Opened<dyn Table<Items<T>>>> {
        match (&self.expiry, self.cold) {
            (None, _) => self.visited_table(None),
            (Some(expiry), Some(cold)) => {
                Ok(shared(ExpiringList::new(self.cached::<StampedItems<T>>(cold)?, expiry.clone())))
            }
            (Some(expiry), None) => {
                Ok(shared(ExpiringList::new(self.memory::<StampedItems<T>>()?, expiry.clone())))
            }
        }
    }

    fn cached<V: Cell>(&self, cold: &Cold) -> Result<CachedTable<K, V>> {
        let keyspace = cold.keyspace(self.name, self.layout)?;
        if self.reading.converts() {
            cold.rewrite(self.name, |bytes, out| V::decode(self.reading, bytes)?.encode(self.layout, out))?;
        }
        Ok(CachedTable::new(Rc::clone(self.context), keyspace))
    }

    fn cached_map<UK: Key, F: Form>(&self, cold: &Cold) -> Result<CachedMap<K, UK, F>> {
        let keyspace = cold.keyspace(self.name, self.layout)?;
        if self.reading.converts() {
            cold.rewrite(self.name, |bytes, out| F::read(self.reading, bytes)?.write(self.layout, out))?;
        }
        Ok(CachedMap::new(Rc::clone(self.context), keyspace))
    }

    /// Opens a table of one row per key; `visit` sees everything that is in it.
    pub(super) fn visited_table<V: Cell>(
        &self,
        visit: Option<Visitor<'_, K, V>>,
    ) -> Result<Opened<dyn Table<V>>> {
        if let Some(cold) = self.cold {
            if let Some(visit) = visit {
                cold.visit(&cold.keyspace(self.name, self.layout)?, visit)?;
            }
            let table = Rc::new(RefCell::new(self.cached(cold)?));
            return Ok((table.clone(), table));
        }
        let table = self.memory()?;
        if let Some(visit) = visit {
            table.for_each(visit);
        }
        let table = Rc::new(RefCell::new(table));
        Ok((table.clone(), table))
    }

    /// Opens a table of one row per entry of each key's map.
    pub(super) fn map_table<UK: Key, UV: State>(&self) -> Result<Opened<dyn MapTable<UK, UV>>> {
        match (&self.expiry, self.cold) {
            (None, None) => {
                let table = Rc::new(RefCell::new(self.memory::<Entries<UK, UV>>()?));
                Ok((table.clone(), table))
            }
            (None, Some(cold)) => {
                let table = Rc::new(RefCell::new(self.cached_map::<UK, UV>(cold)?));
                Ok((table.clone(), table))
            }
            (Some(expiry), None) => {
                let table = self.memory::<Entries<UK, Stamped<UV>>>()?;
                let table = Rc::new(RefCell::new(ExpiringMap::new(table, expiry.clone())));
                Ok((table.clone(), table))
            }
            (Some(expiry), Some(cold)) => {
                let table = self.cached_map::<UK, Stamped<UV>>(cold)?;
                let table = Rc::new(RefCell::new(ExpiringMap::new(table, expiry.clone())));
                Ok((table.clone(), table))
            }
        }
    }

    fn memory<V: Payload>(&self) -> Result<MemoryTable<K, V>> {
        let mut table = MemoryTable::new(Rc::clone(self.context), self.layout.clone());
        for group in self.restored.iter().flat_map(|state| state.groups.values()) {
            group.rows(|row_key, value| table.restore(self.reading, row_key, value))?;
        }
        Ok(table)
    }
}

fn shared<V, T: Table<V> + Control + 'static>(table: T) -> Opened<dyn Table<V>> {
    let table = Rc::new(RefCell::new(table));
    (table.clone(), table)
}

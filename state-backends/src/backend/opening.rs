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
use crate::table::layout::Layout;
use crate::table::memory::MemoryTable;
use crate::table::payload::{Cell, Entries, Payload};
use crate::table::{Control, MapTable, Shared, Table};

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
}

impl<'a, K: Key> Opening<'a, K> {
    pub(super) fn new(
        context: &'a Rc<KeyContext<K>>,
        cold: Option<&'a Cold>,
        restored: Option<&'a RestoredState>,
        name: &'a str,
        layout: &'a Layout,
        reading: &'a Layout,
    ) -> Self {
        Self { context, cold, restored, name, layout, reading }
    }

    /// Opens a table of one row per key.
    pub(super) fn table<V: Cell>(&self) -> Result<Opened<dyn Table<V>>> {
        self.visited_table(None)
    }

    /// Opens a table of one row per key; `visit` sees everything that is in it.
    pub(super) fn visited_table<V: Cell>(
        &self,
        visit: Option<Visitor<'_, K, V>>,
    ) -> Result<Opened<dyn Table<V>>> {
        if let Some(cold) = self.cold {
            let keyspace = cold.keyspace(self.name, self.layout)?;
            if self.reading.converts() {
                cold.rewrite(self.name, |bytes, out| {
                    V::decode(self.reading, bytes)?.encode(self.layout, out)
                })?;
            }
            if let Some(visit) = visit {
                cold.visit(&keyspace, visit)?;
            }
            let table = Rc::new(RefCell::new(CachedTable::new(Rc::clone(self.context), keyspace)));
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
        if let Some(cold) = self.cold {
            let keyspace = cold.keyspace(self.name, self.layout)?;
            if self.reading.converts() {
                let convert = |bytes: &[u8], out: &mut Vec<u8>| {
                    self.layout.encode(&self.reading.decode::<UV>(bytes)?, out)
                };
                cold.rewrite(self.name, convert)?;
            }
            let table = Rc::new(RefCell::new(CachedMap::new(Rc::clone(self.context), keyspace)));
            return Ok((table.clone(), table));
        }
        let table = Rc::new(RefCell::new(self.memory::<Entries<UK, UV>>()?));
        Ok((table.clone(), table))
    }

    fn memory<V: Payload>(&self) -> Result<MemoryTable<K, V>> {
        let mut table = MemoryTable::new(Rc::clone(self.context), self.layout.clone());
        for group in self.restored.iter().flat_map(|state| state.groups.values()) {
            group.rows(|row_key, value| table.restore(self.reading, row_key, value))?;
        }
        Ok(table)
    }
}

//! Map states of the memory backend: a memory table whose payload is an ordered map.

use super::memory::MemoryTable;
use super::ordered_map::OrderedMap;
use super::payload::{Entries, Form};
use super::{Bounds, Initial, MapTable, Table, is_nothing, no_initial};
use crate::Result;
use crate::key::Key;

impl<K: Key, UK: Key, UV: Form> MemoryTable<K, Entries<UK, UV>> {
    fn map(&mut self) -> Result<Option<&OrderedMap<UK, UV>>> {
        Ok(Table::get(self)?.map(|entries| &entries.0))
    }

    /// The map of the current key, if it has one, to be changed.
    fn map_mut(&mut self) -> Result<Option<&mut OrderedMap<UK, UV>>> {
        Ok(Table::get_mut(self)?.map(|entries| &mut entries.0))
    }

    /// Gives a key without a map one of a single entry.
    fn first(&mut self, user_key: UK, value: UV) -> Result<()> {
        let mut entries = OrderedMap::default();
        entries.insert(user_key, value);
        self.put(Entries(entries))
    }
}

impl<K: Key, UK: Key, UV: Form> MapTable<UK, UV> for MemoryTable<K, Entries<UK, UV>> {
    fn get(&mut self, user_key: &UK) -> Result<Option<UV>> {
        Ok(self.map()?.and_then(|map| map.get(user_key).cloned()))
    }

    fn contains(&mut self, user_key: &UK) -> Result<bool> {
        Ok(self.map()?.is_some_and(|map| map.contains_key(user_key)))
    }

    fn insert(&mut self, user_key: UK, value: UV) -> Result<()> {
        match self.map_mut()? {
            Some(map) => {
                map.insert(user_key, value);
                Ok(())
            }
            None => self.first(user_key, value),
        }
    }

    fn modify(
        &mut self,
        user_key: UK,
        initial: Initial<'_, UV>,
        change: &mut dyn FnMut(&mut UV),
    ) -> Result<()> {
        match self.map_mut()? {
            Some(map) => match map.get_mut(&user_key) {
                Some(value) => change(value),
                None => {
                    let mut value = initial().ok_or_else(no_initial)?;
                    change(&mut value);
                    map.insert(user_key, value);
                }
            },
            None => {
                let mut value = initial().ok_or_else(no_initial)?;
                change(&mut value);
                self.first(user_key, value)?;
            }
        }
        Ok(())
    }

    fn remove(&mut self, user_key: &UK) -> Result<()> {
        // Looking first keeps a map that an image has from being copied when there is nothing to remove.
        if !self.contains(user_key)? {
            return Ok(());
        }
        if let Some(map) = self.map_mut()? {
            map.remove(user_key);
            if map.is_empty() {
                return Table::remove(self);
            }
        }
        Ok(())
    }

    fn range(&mut self, bounds: Bounds<'_, UK>, most: usize) -> Result<Vec<(UK, UV)>> {
        let Some(map) = self.map()?.filter(|_| !is_nothing(&bounds)) else { return Ok(Vec::new()) };
        Ok(map.range(bounds).take(most).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    fn is_empty(&mut self) -> Result<bool> {
        Ok(self.map()?.is_none_or(OrderedMap::is_empty))
    }

    fn clear(&mut self) -> Result<()> {
        Table::remove(self)
    }
}

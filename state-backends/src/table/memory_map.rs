//! Map states of the memory backend: a memory table whose payload is an ordered map.

use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::memory::MemoryTable;
use super::payload::Entries;
use super::{Initial, Keep, MapTable, Table};
use crate::Result;
use crate::codec::State;
use crate::key::Key;

impl<K: Key, UK: Key, UV: State> MemoryTable<K, Entries<UK, UV>> {
    fn look<R>(&mut self, f: impl FnOnce(&Entries<UK, UV>) -> R) -> Result<Option<R>> {
        let (mut f, mut result) = (Some(f), None);
        self.read(&mut |entries| {
            result = entries.and_then(|entries| f.take().map(|f| f(entries)));
        })?;
        Ok(result)
    }
}

impl<K: Key, UK: Key, UV: State> MapTable<UK, UV> for MemoryTable<K, Entries<UK, UV>> {
    fn get(&mut self, user_key: &UK) -> Result<Option<UV>> {
        Ok(self.look(|entries| entries.0.get(user_key).cloned())?.flatten())
    }

    fn contains(&mut self, user_key: &UK) -> Result<bool> {
        Ok(self.look(|entries| entries.0.contains_key(user_key))?.unwrap_or(false))
    }

    fn insert(&mut self, user_key: UK, value: UV) -> Result<()> {
        let mut entry = Some((user_key, value));
        Table::modify(self, &mut || Some(Entries(Arc::default())), &mut |entries| {
            if let Some((user_key, value)) = entry.take() {
                Arc::make_mut(&mut entries.0).insert(user_key, value);
            }
            Keep::Yes
        })
    }

    fn modify(
        &mut self,
        user_key: UK,
        initial: Initial<'_, UV>,
        change: &mut dyn FnMut(&mut UV),
    ) -> Result<()> {
        let mut user_key = Some(user_key);
        Table::modify(self, &mut || Some(Entries(Arc::default())), &mut |entries| {
            let entries = Arc::make_mut(&mut entries.0);
            if let Some(user_key) = user_key.take() {
                match entries.entry(user_key) {
                    Entry::Occupied(mut entry) => change(entry.get_mut()),
                    Entry::Vacant(entry) => {
                        if let Some(mut value) = initial() {
                            change(&mut value);
                            entry.insert(value);
                        }
                    }
                }
            }
            Keep::Yes
        })
    }

    fn remove(&mut self, user_key: &UK) -> Result<()> {
        if !self.contains(user_key)? {
            return Ok(());
        }
        Table::modify(self, &mut || Some(Entries(Arc::default())), &mut |entries| {
            Arc::make_mut(&mut entries.0).remove(user_key);
            if entries.0.is_empty() { Keep::No } else { Keep::Yes }
        })
    }

    fn entries(&mut self) -> Result<Vec<(UK, UV)>> {
        let copy =
            |entries: &Entries<UK, UV>| entries.0.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        Ok(self.look(copy)?.unwrap_or_default())
    }

    fn is_empty(&mut self) -> Result<bool> {
        Ok(self.look(|entries| entries.0.is_empty())?.unwrap_or(true))
    }

    fn clear(&mut self) -> Result<()> {
        Table::remove(self)
    }
}

//! The memory backend's table: live objects in a [`PagedMap`], nothing behind it.

use std::any::Any;
use std::rc::Rc;

use super::layout::Layout;
use super::page::Layers;
use super::paged::{FrozenPage, FrozenPages, Hand, Mark, PagedMap};
use super::payload::{Life, Payload};
use super::{Control, Frozen, Table, touch};
use crate::Result;
use crate::context::KeyContext;
use crate::key::Key;
use crate::key_group::KeyGroup;
use crate::snapshot::{FrozenTable, RowWriter, Slices};
use crate::ttl::Horizon;

pub(crate) struct MemoryTable<K, V> {
    context: Rc<KeyContext<K>>,
    map: PagedMap<K, V>,
    layout: Layout,
    /// The page that is looked at next for what has expired.
    hand: Hand,
}

impl<K: Key, V: Payload> MemoryTable<K, V> {
    pub(crate) fn new(context: Rc<KeyContext<K>>, layout: Layout) -> Self {
        let map = PagedMap::new(context.range().len());
        Self { context, map, layout, hand: Hand::default() }
    }

    pub(crate) fn for_each(&self, visit: &mut dyn FnMut(&K, &V)) {
        self.map.iter().for_each(|(key, payload)| visit(key, payload));
    }

    /// Adds one row of a snapshot, whose value is read in the layout `reading`.
    pub(crate) fn restore(&mut self, reading: &Layout, mut row_key: &[u8], value: &[u8]) -> Result<()> {
        let key = K::decode_ordered(&mut row_key)?;
        let at = self.context.position_of(key.hash64())?;
        match self.map.get_mut(at, &key) {
            Some(payload) => payload.add_row(reading, row_key, value),
            None => {
                self.map.insert(at, key, V::of_row(reading, row_key, value)?);
                Ok(())
            }
        }
    }
}

impl<K: Key, V: Payload> Table<V> for MemoryTable<K, V> {
    #[inline]
    fn get(&mut self) -> Result<Option<&V>> {
        let key = self.context.current()?;
        Ok(self.map.get(self.context.position(), &key))
    }

    #[inline]
    fn get_mut(&mut self) -> Result<Option<&mut V>> {
        let key = self.context.current()?;
        Ok(self.map.get_mut(self.context.position(), &key))
    }

    #[inline]
    fn put(&mut self, value: V) -> Result<()> {
        let key = self.context.current()?;
        self.map.put(self.context.position(), &key, value);
        Ok(())
    }

    fn remove(&mut self) -> Result<()> {
        let key = self.context.current()?;
        self.map.remove(self.context.position(), &key);
        Ok(())
    }
}

impl<K: Key, V: Payload> Control for MemoryTable<K, V> {
    fn freeze(&mut self, mark: Mark) -> Result<Frozen> {
        let groups = self.map.freeze(mark);
        let (first, layout) = (self.context.range().start, self.layout.clone());
        Ok(Frozen::Whole(Box::new(MemoryImage { first, layout, groups, released: Layers::default() })))
    }

    fn touch(&mut self, hashes: &[u64]) -> u64 {
        touch(&self.context, &self.map, hashes);
        0
    }

    fn keys(&self, group: KeyGroup) -> Result<Box<dyn Any>> {
        let index = usize::from(group.0 - self.context.range().start);
        let keys: Vec<K> = self.map.group(index).map(|(key, _)| key.clone()).collect();
        Ok(Box::new(keys))
    }

    fn is_present(&mut self) -> Result<bool> {
        Ok(Table::get(self)?.is_some())
    }

    fn set_horizon(&mut self, horizon: Horizon) {
        self.layout.set_horizon(horizon);
    }

    fn sweep(&mut self, horizon: Horizon, budget: usize) {
        let mut looked_at = 0;
        for _ in 0..self.map.pages() {
            if looked_at >= budget {
                break;
            }
            self.map.advance(&mut self.hand);
            // A page from which nothing goes stays shared with an image.
            let mut expired = false;
            for (_, payload) in self.map.page(self.hand) {
                looked_at += 1;
                expired |= payload.life(horizon) != Life::Whole;
            }
            // An empty page is work too.
            looked_at += 1;
            if expired {
                self.map.retain(
                    self.hand,
                    |_, payload| payload.life(horizon),
                    |payload| payload.expire(horizon),
                );
            }
        }
    }
}

/// A frozen memory table.
struct MemoryImage<K, V> {
    first: u16,
    layout: Layout,
    groups: Vec<FrozenPages<K, V>>,
    /// Takes the place of pages that are no longer needed.
    released: Layers<K, V>,
}

impl<K, V> MemoryImage<K, V> {
    fn page(&self, group: KeyGroup, page: usize) -> &FrozenPage<K, V> {
        &self.groups[usize::from(group.0 - self.first)][page]
    }
}

impl<K: Key, V: Payload> FrozenTable for MemoryImage<K, V> {
    fn pages(&self, group: KeyGroup) -> usize {
        self.groups[usize::from(group.0 - self.first)].len()
    }

    fn keys(&self, group: KeyGroup, page: usize) -> usize {
        self.page(group, page).entries.len()
    }

    fn changed(&self, group: KeyGroup, page: usize) -> Slices {
        self.page(group, page).changed
    }

    fn write_page(
        &mut self,
        group: KeyGroup,
        page: usize,
        slices: &Slices,
        rows: &mut RowWriter<'_>,
    ) -> Result<()> {
        let mut key_bytes = Vec::new();
        for (key, payload) in self.page(group, page).entries.iter() {
            let slice = Slices::slice_of(key.hash64());
            if slices.contains(slice) {
                key_bytes.clear();
                key.encode_ordered(&mut key_bytes);
                rows.set_slice(slice);
                payload.write_rows(&self.layout, &key_bytes, rows)?;
            }
        }
        Ok(())
    }

    /// Pages are let go one by one, so that the owner copies as few as possible.
    fn release_page(&mut self, group: KeyGroup, page: usize) {
        let index = usize::from(group.0 - self.first);
        self.groups[index][page].entries = self.released.clone();
    }
}

//! The cold store behind a backend: opened, filled from restored files, frozen.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use super::{BackendOptions, BackendScope};
use crate::Result;
use crate::descriptor::StateDescriptor;
use crate::key::Key;
use crate::key_group::KeyGroup;
use crate::snapshot::{FrozenTable, RestoredState, RowWriter, rows};
use crate::table::FrozenOverlay;
use crate::table::cache::Keyspace;
use crate::table::cold::{ColdStore, FrozenStore, WriteBatch};
use crate::table::layout::Layout;
use crate::table::payload::Cell;

/// Bytes of a key group in front of a row key.
const GROUP_BYTES: usize = 2;

/// Restored rows go to the store in batches of about this many bytes.
const RESTORE_BATCH_BYTES: usize = 1 << 20;

/// The cold store of one backend.
pub(super) struct Cold {
    store: Rc<RefCell<Box<dyn ColdStore>>>,
    cache_entries: usize,
}

impl Cold {
    /// Opens the store that the options ask for; none for the memory backend.
    pub(super) fn open(options: &BackendOptions, scope: &BackendScope) -> Result<Option<Self>> {
        let (store, cache_entries) = match options {
            BackendOptions::Memory => return Ok(None),
            #[cfg(feature = "rocksdb")]
            BackendOptions::RocksDb(options) => {
                (super::rocksdb::RocksDbStore::open(options, scope)?, options.cache_entries)
            }
            #[cfg(not(feature = "rocksdb"))]
            BackendOptions::RocksDb(_) => {
                return Err(crate::Error::config("the RocksDB backend is not part of this build")
                    .hint("build with the cargo feature `rocksdb`"));
            }
            BackendOptions::Custom(custom) => ((custom.open)(scope)?, custom.cache_entries),
        };
        Ok(Some(Self { store: Rc::new(RefCell::new(store)), cache_entries: cache_entries.max(1) }))
    }

    pub(super) fn keyspace(&self, state: &str, layout: &Layout) -> Result<Keyspace> {
        self.store.borrow_mut().create(state)?;
        let (store, layout) = (Rc::clone(&self.store), layout.clone());
        Ok(Keyspace { store, state: state.into(), layout, capacity: self.cache_entries })
    }

    /// Moves the rows of a restored state into the store.
    pub(super) fn restore(&self, state: &mut RestoredState) -> Result<()> {
        let name = &state.descriptor.name;
        let mut store = self.store.borrow_mut();
        store.create(name)?;
        let (mut batch, mut key) = (WriteBatch::default(), Vec::new());
        for (group, blocks) in std::mem::take(&mut state.blocks) {
            for (block, _) in blocks {
                rows(&block, |row_key, value| {
                    key.clear();
                    key.extend_from_slice(&group.0.to_be_bytes());
                    key.extend_from_slice(row_key);
                    batch.put(&key, |out| {
                        out.extend_from_slice(value);
                        Ok(())
                    })?;
                    if batch.bytes() >= RESTORE_BATCH_BYTES {
                        store.write(name, &batch)?;
                        batch.clear();
                    }
                    Ok(())
                })?;
            }
        }
        store.write(name, &batch)
    }

    /// Visits every key of a state of one row per key.
    pub(super) fn visit<K: Key, V: Cell>(
        &self,
        keyspace: &Keyspace,
        visit: &mut dyn FnMut(&K, &V),
    ) -> Result<()> {
        self.store.borrow().scan(&keyspace.state, &[], &mut |row_key, value| {
            let key = K::decode_ordered(&mut row_key.get(GROUP_BYTES..).unwrap_or_default())?;
            visit(&key, &V::decode(&keyspace.layout, value)?);
            Ok(ControlFlow::Continue(()))
        })
    }

    /// An image of the store, as the images of these states, each under what its cache adds to it.
    pub(super) fn freeze(
        &self,
        states: impl Iterator<Item = (StateDescriptor, Option<Box<dyn FrozenOverlay>>)>,
    ) -> Result<Vec<(StateDescriptor, Box<dyn FrozenTable>)>> {
        let image: Arc<dyn FrozenStore> = self.store.borrow_mut().freeze()?.into();
        let table = |(state, overlay): (StateDescriptor, _)| {
            let batch = WriteBatch::default();
            let table = ColdImage { image: Arc::clone(&image), state: state.name.clone(), overlay, batch };
            (state, Box::new(table) as Box<dyn FrozenTable>)
        };
        Ok(states.map(table).collect())
    }
}

/// One state in the image of a cold store and of the cache over it.
struct ColdImage {
    image: Arc<dyn FrozenStore>,
    state: String,
    overlay: Option<Box<dyn FrozenOverlay>>,
    batch: WriteBatch,
}

impl FrozenTable for ColdImage {
    fn write_group(&mut self, group: KeyGroup, rows: &mut RowWriter<'_>) -> Result<()> {
        self.batch.clear();
        if let Some(overlay) = &mut self.overlay {
            overlay.take_group(group, &mut self.batch)?;
            self.batch.sort();
        }
        let mut row = |row_key: &[u8], value: &[u8]| {
            rows.row(row_key.get(GROUP_BYTES..).unwrap_or_default(), &[], |out| {
                out.extend_from_slice(value);
                Ok(())
            })
        };
        // A merge of two ascending sequences; a row of the overlay hides the stored one of the same key.
        let mut overlay = self.batch.iter().peekable();
        self.image.scan(&self.state, &group.0.to_be_bytes(), &mut |row_key, value| {
            while let Some((newer, put)) = overlay.next_if(|(newer, _)| *newer < row_key) {
                put.map_or(Ok(()), |put| row(newer, put))?;
            }
            match overlay.next_if(|(newer, _)| *newer == row_key) {
                Some((_, put)) => put.map_or(Ok(()), |put| row(row_key, put))?,
                None => row(row_key, value)?,
            }
            Ok(ControlFlow::Continue(()))
        })?;
        overlay.try_for_each(|(row_key, put)| put.map_or(Ok(()), |put| row(row_key, put)))
    }
}

//! The cold store behind a backend: opened, filled from restored files, frozen.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use super::native::{ChangedKeys, NativeImage, NativeStore, RestoredTables};
#[cfg(feature = "rocksdb")]
use super::rocksdb::RocksDbStore;
use super::row_prefix::RowPrefix;
use super::{BackendOptions, BackendScope};
use crate::descriptor::{StateDescriptor, StateKind};
use crate::key::Key;
use crate::key_group::{KeyGroup, KeyGroupRange};
use crate::snapshot::{APPENDED, FrozenTable, NO_ROW, ROW, RestoredState, RowWriter, Slices, SnapshotMode};
use crate::table::FrozenOverlay;
use crate::table::budget::CacheBudget;
use crate::table::cache::Keyspace;
use crate::table::cold::{ColdStore, FrozenStore, Operation, WriteBatch};
use crate::table::layout::Layout;
use crate::table::payload::Cell;
use crate::ttl::Horizon;
use crate::{Error, Result};

/// Bytes of a key group in front of a row key.
pub(super) const GROUP_BYTES: usize = 2;

/// Restored rows go to the store in batches of about this many bytes.
const RESTORE_BATCH_BYTES: usize = 1 << 20;

/// Visits rows: row key and value.
pub(super) type EachRow<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<()>;

/// A state and its image.
pub(super) type StateImage = (StateDescriptor, Box<dyn FrozenTable>);

/// The images of all states, and that of the store's own files.
pub(super) type Images = (Vec<StateImage>, Option<Box<dyn NativeImage>>);

/// The cold store of one backend.
pub(super) struct Cold {
    store: Rc<RefCell<Box<dyn ColdStore>>>,
    /// The same store, if it has files of its own.
    native: Option<Box<dyn NativeStore>>,
    range: KeyGroupRange,
    budget: Arc<CacheBudget>,
}

impl Cold {
    /// Opens the store that the options ask for, with the files restored; none for the memory backend. Without a prefix
    /// the keys may be of any type.
    pub(super) fn open(
        options: &BackendOptions,
        scope: &BackendScope,
        prefix: Option<RowPrefix>,
        restored: &RestoredTables,
    ) -> Result<Option<Self>> {
        let (store, native, budget) = match options {
            BackendOptions::Memory => {
                restored.expect_none()?;
                return Ok(None);
            }
            #[cfg(feature = "rocksdb")]
            BackendOptions::RocksDb(options) => {
                let store = RocksDbStore::open(options, scope, prefix, restored)?;
                let (native, budget) = (store.native(), CacheBudget::shared(options.cache_bytes));
                (Box::new(store) as Box<dyn ColdStore>, Some(native), budget)
            }
            #[cfg(not(feature = "rocksdb"))]
            BackendOptions::RocksDb(_) => {
                drop(prefix);
                return Err(Error::config("the RocksDB backend is not part of this build")
                    .hint("build with the cargo feature `rocksdb`"));
            }
            BackendOptions::Custom(custom) => {
                restored.expect_none()?;
                ((custom.open)(scope)?, None, CacheBudget::new(custom.cache_bytes))
            }
        };
        Ok(Some(Self { store: Rc::new(RefCell::new(store)), native, range: scope.range, budget }))
    }

    pub(super) fn keyspace(&self, state: &str, layout: &Layout) -> Result<Keyspace> {
        self.store.borrow_mut().create(state)?;
        let (store, layout, budget) = (Rc::clone(&self.store), layout.clone(), Arc::clone(&self.budget));
        Ok(Keyspace { store, state: state.into(), layout, budget })
    }

    /// Moves the rows of a restored state into the store, where they lie over those of files restored.
    pub(super) fn restore(&self, state: &mut RestoredState, files: &RestoredTables) -> Result<()> {
        let name = &state.descriptor.name;
        let mut store = self.store.borrow_mut();
        store.create(name)?;
        let (mut batch, mut key) = (WriteBatch::default(), Vec::new());
        for (group, restored) in std::mem::take(&mut state.groups) {
            let lies_over_files = files.cover(group);
            restored.rows(|row_key, value| {
                key.clear();
                key.extend_from_slice(&group.0.to_be_bytes());
                key.extend_from_slice(row_key);
                match (lies_over_files, value) {
                    (false, value) | (true, [ROW, value @ ..]) => batch.put(&key, |out| {
                        out.extend_from_slice(value);
                        Ok(())
                    })?,
                    (true, [NO_ROW]) => batch.delete(&key),
                    (true, [APPENDED, value @ ..]) => batch.append(&key, |out| {
                        out.extend_from_slice(value);
                        Ok(())
                    })?,
                    _ => return Err(Error::data("a row that is neither there nor not there").at(name)),
                }
                if batch.bytes() >= RESTORE_BATCH_BYTES {
                    store.write(name, &batch)?;
                    batch.clear();
                }
                Ok(())
            })?;
        }
        store.write(name, &batch)
    }

    /// Looks at so many rows of a state, from `cursor` on, and removes those that have expired. The cache may have
    /// newer objects: they are dirty and lie over the rows, whether these are there or not.
    pub(super) fn sweep(
        &self,
        state: &StateDescriptor,
        horizon: Horizon,
        cursor: &mut Vec<u8>,
        budget: usize,
    ) -> Result<()> {
        if let Some(native) = &self.native {
            native.expire(&state.name, state.kind, horizon);
        }
        let (mut batch, mut left, start) = (WriteBatch::default(), budget, std::mem::take(cursor));
        self.store.borrow().scan_from(&state.name, &[], &start, &mut |row_key, value| {
            if left == 0 {
                cursor.extend_from_slice(row_key);
                return Ok(ControlFlow::Break(()));
            }
            left -= 1;
            // Files restored may hold rows of other key groups, which are as they were.
            let group = row_key.first_chunk().map(|group| KeyGroup(u16::from_be_bytes(*group)));
            if !group.is_some_and(|group| self.range.contains(group)) {
                return Ok(ControlFlow::Continue(()));
            }
            if horizon.is_dead(state.kind, value)? {
                batch.delete(row_key);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if batch.is_empty() { Ok(()) } else { self.store.borrow_mut().write(&state.name, &batch) }
    }

    /// Puts what `convert` makes of it in the place of every value of a state.
    pub(super) fn rewrite(
        &self,
        state: &str,
        convert: impl Fn(&[u8], &mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let image = self.store.borrow_mut().freeze()?;
        let mut batch = WriteBatch::default();
        // Files restored may hold rows of other key groups.
        for group in self.range.groups() {
            image.scan(state, &group.0.to_be_bytes(), &mut |row_key, value| {
                batch.put(row_key, |out| convert(value, out))?;
                if batch.bytes() >= RESTORE_BATCH_BYTES {
                    self.store.borrow_mut().write(state, &batch)?;
                    batch.clear();
                }
                Ok(ControlFlow::Continue(()))
            })?;
        }
        self.store.borrow_mut().write(state, &batch)
    }

    /// Visits the rows of one key group of a state: row key without the group, and value.
    pub(super) fn rows(&self, state: &str, group: KeyGroup, visit: EachRow<'_>) -> Result<()> {
        self.store.borrow().scan(state, &group.0.to_be_bytes(), &mut |row_key, value| {
            visit(row_key.get(GROUP_BYTES..).unwrap_or_default(), value)?;
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Visits every key of a state of one row per key.
    pub(super) fn visit<K: Key, V: Cell>(
        &self,
        keyspace: &Keyspace,
        visit: &mut dyn FnMut(&K, &V),
    ) -> Result<()> {
        let store = self.store.borrow();
        // Files restored may hold rows of other key groups.
        self.range.groups().try_for_each(|group| {
            store.scan(&keyspace.state, &group.0.to_be_bytes(), &mut |row_key, value| {
                let key = K::decode_ordered(&mut row_key.get(GROUP_BYTES..).unwrap_or_default())?;
                visit(&key, &V::decode(&keyspace.layout, value)?);
                Ok(ControlFlow::Continue(()))
            })
        })
    }

    /// An image of the store, as the images of these states, each under what its cache adds to it.
    ///
    /// With files of the store itself, if it has some and they are wanted.
    pub(super) fn freeze(
        &self,
        checkpoint: u64,
        mode: SnapshotMode,
        states: impl Iterator<Item = (StateDescriptor, Option<Box<dyn FrozenOverlay>>, Option<Horizon>)>,
    ) -> Result<Images> {
        let (image, files): (Arc<dyn FrozenStore>, _) = match (&self.native, mode) {
            (Some(native), SnapshotMode::Native { base }) => {
                let (image, files) = native.freeze(checkpoint, base);
                (image, Some(files))
            }
            _ => (self.store.borrow_mut().freeze()?.into(), None),
        };
        let changed = files.as_ref().map(|files| files.changed()).unwrap_or_default();
        let table = |(state, overlay, horizon): (StateDescriptor, _, Option<Horizon>)| {
            let (image, changed, batch) = (Arc::clone(&image), Arc::clone(&changed), WriteBatch::default());
            let expiring = horizon.map(|horizon| (state.kind, horizon));
            let table = ColdImage { image, changed, state: state.name.clone(), overlay, expiring, batch };
            (state, Box::new(table) as Box<dyn FrozenTable>)
        };
        Ok((states.map(table).collect(), files))
    }
}

/// One state in the image of a cold store and of the cache over it.
struct ColdImage {
    image: Arc<dyn FrozenStore>,
    /// Set if the store's files are stored: only what lies over them has to be written then.
    changed: Arc<OnceLock<ChangedKeys>>,
    state: String,
    overlay: Option<Box<dyn FrozenOverlay>>,
    /// What is left out.
    expiring: Option<(StateKind, Horizon)>,
    batch: WriteBatch,
}

impl ColdImage {
    /// Writes what makes the image of the stored files: what the cache had not written yet, and what was written since.
    fn write_over_files(
        &self,
        group: KeyGroup,
        changed: Option<&BTreeSet<Vec<u8>>>,
        rows: &mut RowWriter<'_>,
    ) -> Result<()> {
        let prefix = group.0.to_be_bytes();
        let changed = changed.into_iter().flat_map(|keys| keys.range(prefix.to_vec()..));
        let mut changed = changed.take_while(|key| key.starts_with(&prefix)).peekable();
        let mut write = |key: &[u8], tag: u8, parts: [&[u8]; 2]| {
            rows.row(key.get(GROUP_BYTES..).unwrap_or_default(), &[], |out| {
                out.push(tag);
                parts.iter().for_each(|part| out.extend_from_slice(part));
                Ok(())
            })
        };
        for (key, operation) in self.batch.iter() {
            while let Some(written) = changed.next_if(|written| written.as_slice() < key) {
                match self.stored(written)? {
                    Some(value) => write(written, ROW, [&value, &[]])?,
                    None => write(written, NO_ROW, [&[], &[]])?,
                }
            }
            let is_changed = changed.next_if(|written| written.as_slice() == key).is_some();
            match operation {
                Operation::Put(value) => write(key, ROW, [value, &[]])?,
                Operation::Append(more) if is_changed => {
                    write(key, ROW, [&self.stored(key)?.unwrap_or_default(), more])?;
                }
                Operation::Append(more) => write(key, APPENDED, [more, &[]])?,
                Operation::Delete => write(key, NO_ROW, [&[], &[]])?,
            }
        }
        changed.try_for_each(|written| match self.stored(written)? {
            Some(value) => write(written, ROW, [&value, &[]]),
            None => write(written, NO_ROW, [&[], &[]]),
        })
    }

    /// The value in the image of the store.
    fn stored(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut value = None;
        self.image.get(&self.state, key, &mut |found| {
            value = Some(found.to_vec());
            Ok(())
        })?;
        Ok(value)
    }
}

impl FrozenTable for ColdImage {
    fn write_page(&mut self, group: KeyGroup, _: usize, _: &Slices, rows: &mut RowWriter<'_>) -> Result<()> {
        self.batch.clear();
        if let Some(overlay) = &mut self.overlay {
            overlay.take_group(group, &mut self.batch)?;
            self.batch.sort();
        }
        if let Some(changed) = self.changed.get() {
            return self.write_over_files(group, changed.get(&self.state), rows);
        }
        let (expiring, mut whole) = (self.expiring, Vec::new());
        let mut row = |row_key: &[u8], parts: [&[u8]; 2]| {
            let row_key = row_key.get(GROUP_BYTES..).unwrap_or_default();
            let Some((kind, horizon)) = expiring else {
                return rows.row(row_key, &[], |out| {
                    parts.iter().for_each(|part| out.extend_from_slice(part));
                    Ok(())
                });
            };
            whole.clear();
            parts.iter().for_each(|part| whole.extend_from_slice(part));
            if horizon.is_dead(kind, &whole)? {
                return Ok(());
            }
            rows.row(row_key, &[], |out| horizon.copy_living(kind, &whole, out))
        };
        let mut over = |row_key: &[u8], stored: &[u8], operation: Operation<'_>| match operation {
            Operation::Put(value) => row(row_key, [value, &[]]),
            Operation::Append(more) => row(row_key, [stored, more]),
            Operation::Delete => Ok(()),
        };
        // A merge of two ascending sequences.
        let mut overlay = self.batch.iter().peekable();
        self.image.scan(&self.state, &group.0.to_be_bytes(), &mut |row_key, value| {
            while let Some((newer, operation)) = overlay.next_if(|(newer, _)| *newer < row_key) {
                over(newer, &[], operation)?;
            }
            let operation = overlay.next_if(|(newer, _)| *newer == row_key);
            over(row_key, value, operation.map_or(Operation::Put(value), |(_, operation)| operation))?;
            Ok(ControlFlow::Continue(()))
        })?;
        overlay.try_for_each(|(row_key, operation)| over(row_key, &[], operation))
    }
}

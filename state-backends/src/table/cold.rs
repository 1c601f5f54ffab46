//! The seam for stores that keep state outside of live objects: ordered byte strings, nothing more.
//!
//! A third party brings a backend by implementing [`ColdStore`] and [`FrozenStore`] and handing a constructor to
//! [`BackendOptions::Custom`](crate::BackendOptions::Custom); caching, encoding, snapshots and rescaling come for
//! free. Keys are the key group (u16, big endian) followed by the row key of the snapshot format.

use std::ops::{ControlFlow, Range};

use crate::Result;

/// Visits one row, key and value, and says whether to go on.
pub type RowVisitor<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>;

/// An ordered byte store with a keyspace per state. One instance serves one keyed subtask on one thread.
pub trait ColdStore {
    /// Makes the keyspace `state` exist. Called before any other use of it, and again for one that exists.
    fn create(&mut self, state: &str) -> Result<()>;

    /// Hands the value under `key` to `found`, if there is one.
    fn get(&self, state: &str, key: &[u8], found: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;

    /// Hands the values under `keys`, which are in ascending order, to `found` with the indices of their keys, in any
    /// order. A store that can read many at once cheaper than one by one should.
    fn get_many(
        &self,
        state: &str,
        keys: &[&[u8]],
        found: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut keys = keys.iter().enumerate();
        keys.try_for_each(|(index, key)| self.get(state, key, &mut |value| found(index, value)))
    }

    /// Applies all operations of the batch in order.
    fn write(&mut self, state: &str, batch: &WriteBatch) -> Result<()>;

    /// Visits the rows whose key starts with `prefix` in ascending order of the keys.
    fn scan(&self, state: &str, prefix: &[u8], visit: RowVisitor<'_>) -> Result<()>;

    /// Like [`scan`](Self::scan), from the first row on whose key is at or behind `start`, which starts with `prefix`
    /// too. A store that can go there should: a small part of a large map is read this way.
    fn scan_from(&self, state: &str, prefix: &[u8], start: &[u8], visit: RowVisitor<'_>) -> Result<()> {
        self.scan(state, prefix, &mut |key, value| {
            if key < start { Ok(ControlFlow::Continue(())) } else { visit(key, value) }
        })
    }

    /// An image of everything written so far, which later writes do not change. Must not take long.
    fn freeze(&mut self) -> Result<Box<dyn FrozenStore>>;
}

/// An image of a [`ColdStore`], read on another thread. Dropping it releases what it holds.
pub trait FrozenStore: Send + Sync {
    /// Like [`ColdStore::scan`].
    fn scan(&self, state: &str, prefix: &[u8], visit: RowVisitor<'_>) -> Result<()>;

    /// Like [`ColdStore::get`].
    fn get(&self, state: &str, key: &[u8], found: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        // The key itself comes before all that it is a prefix of.
        self.scan(state, key, &mut |row_key, value| {
            if row_key == key {
                found(value)?;
            }
            Ok(ControlFlow::Break(()))
        })
    }
}

/// What is to become of the row under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// This becomes its value.
    Put(&'a [u8]),
    /// This goes behind its value; if there is no row it becomes the value of one.
    Append(&'a [u8]),
    /// It goes, if it is there.
    Delete,
}

/// Operations on one keyspace, in one buffer.
#[derive(Debug, Default)]
pub struct WriteBatch {
    bytes: Vec<u8>,
    operations: Vec<(Range<usize>, Kind, Range<usize>)>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Put,
    Append,
    Delete,
}

impl WriteBatch {
    /// Adds a put of what `write_value` writes.
    ///
    /// # Errors
    /// Those of `write_value`; the batch is then as before.
    pub fn put(&mut self, key: &[u8], write_value: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        self.write(key, Kind::Put, write_value)
    }

    /// Adds an append of what `write_value` writes.
    ///
    /// # Errors
    /// Those of `write_value`; the batch is then as before.
    pub fn append(&mut self, key: &[u8], write_value: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
        self.write(key, Kind::Append, write_value)
    }

    fn write(
        &mut self,
        key: &[u8],
        kind: Kind,
        write_value: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let key = self.add(key);
        let start = self.bytes.len();
        if let Err(e) = write_value(&mut self.bytes) {
            self.bytes.truncate(key.start);
            return Err(e);
        }
        self.operations.push((key, kind, start..self.bytes.len()));
        Ok(())
    }

    /// Adds a delete.
    pub fn delete(&mut self, key: &[u8]) {
        let key = self.add(key);
        self.operations.push((key, Kind::Delete, 0..0));
    }

    /// The operations in order, each with its key.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Operation<'_>)> {
        self.operations.iter().map(|(key, kind, value)| {
            let value = &self.bytes[value.clone()];
            let operation = match kind {
                Kind::Put => Operation::Put(value),
                Kind::Append => Operation::Append(value),
                Kind::Delete => Operation::Delete,
            };
            (&self.bytes[key.clone()], operation)
        })
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.operations.clear();
    }

    /// Puts the operations into the order of their keys, of which no two are equal.
    pub(crate) fn sort(&mut self) {
        let bytes = &self.bytes;
        self.operations.sort_unstable_by(|a, b| bytes[a.0.clone()].cmp(&bytes[b.0.clone()]));
    }

    fn add(&mut self, key: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        start..self.bytes.len()
    }
}

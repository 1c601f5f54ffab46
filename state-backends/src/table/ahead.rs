//! Reading the rows of announced keys together, before they are asked for one by one.
//!
//! Whether that pays depends on what the function does with the state: one that only appends, or seldom looks, needs no
//! rows. So some of the announcements are samples: nothing is read ahead for them, and what was missing then is compared
//! with what had to be read.

use std::ops::Range;

use super::cold::ColdStore;
use crate::Result;
use crate::context::{Position, add_row_key};
use crate::key::Key;

/// One announcement of so many is a sample.
const SAMPLED: u32 = 16;

/// The rows to be read, and whether to read any.
pub(crate) struct Ahead<K> {
    announced: u32,
    /// Of the last sample: keys that were not in the cache, and rows that were read since.
    missing: u32,
    read: u32,
    is_on: bool,
    /// Whether rows are read for the last announcement: other states may read where this one does not.
    is_reading: bool,
    rows: Vec<Row<K>>,
    /// The row keys, one behind the other.
    bytes: Vec<u8>,
}

struct Row<K> {
    row_key: Range<usize>,
    key: K,
    at: Position,
}

impl<K: Key> Ahead<K> {
    pub(crate) fn new() -> Self {
        let (rows, bytes) = (Vec::new(), Vec::new());
        Self { announced: 0, missing: 0, read: 0, is_on: false, is_reading: false, rows, bytes }
    }

    /// Keys are announced, those with a bit in `missing` are not in the cache; returns those to be read ahead.
    pub(crate) fn announce(&mut self, missing: u64) -> u64 {
        let turn = self.announced % SAMPLED;
        self.announced = self.announced.wrapping_add(1);
        self.is_reading = false;
        match turn {
            0 => {
                (self.missing, self.read) = (missing.count_ones(), 0);
                return 0;
            }
            // A sample without a miss says nothing.
            1 if self.missing > 0 => self.is_on = self.read * 2 >= self.missing,
            _ => {}
        }
        self.is_reading = self.is_on && missing != 0;
        if self.is_reading { missing } else { 0 }
    }

    /// Whether rows of the keys announced last are to be read.
    pub(crate) fn is_reading(&self) -> bool {
        self.is_reading
    }

    /// A row was read because it was asked for.
    #[inline]
    pub(crate) fn note_read(&mut self) {
        self.read += 1;
    }

    /// The row of this key will be read.
    pub(crate) fn want(&mut self, at: Position, key: K) {
        let start = self.bytes.len();
        add_row_key(at.group, &key, &mut self.bytes);
        self.rows.push(Row { row_key: start..self.bytes.len(), key, at });
    }

    /// Reads the rows that are wanted, in the order of their keys; returns what `decode` makes of each.
    pub(crate) fn read<V>(
        &mut self,
        store: &dyn ColdStore,
        state: &str,
        decode: impl Fn(&[u8]) -> Result<V>,
    ) -> Result<Vec<(Position, K, Option<V>)>> {
        let (mut rows, bytes) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.bytes));
        let row_key = |row: &Row<K>| bytes.get(row.row_key.clone()).unwrap_or_default();
        rows.sort_unstable_by(|a, b| row_key(a).cmp(row_key(b)));
        // A batch may have a key more than once.
        rows.dedup_by(|a, b| row_key(a) == row_key(b));
        let keys: Vec<&[u8]> = rows.iter().map(row_key).collect();
        let mut values: Vec<Option<V>> = rows.iter().map(|_| None).collect();
        store.get_many(state, &keys, &mut |index, value| {
            if let Some(slot) = values.get_mut(index) {
                *slot = Some(decode(value)?);
            }
            Ok(())
        })?;
        Ok(rows.into_iter().zip(values).map(|(row, value)| (row.at, row.key, value)).collect())
    }
}

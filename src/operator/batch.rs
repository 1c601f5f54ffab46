//! The unit of exchange: many records under one header.

use crate::function::{NO_TIMESTAMP, Timestamp};

/// Records that travel together. Timestamps and hashes are kept beside the values, and only if there are any.
#[derive(Debug)]
pub struct Batch<T> {
    pub(crate) values: Vec<T>,
    /// Empty (none has a timestamp) or as long as `values`.
    timestamps: Vec<Timestamp>,
    /// Empty (not keyed) or as long as `values`.
    hashes: Vec<u64>,
    /// Estimated size in memory; set when the batch is sealed.
    pub(crate) bytes: usize,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { values: Vec::new(), timestamps: Vec::new(), hashes: Vec::new(), bytes: 0 }
    }
}

impl<T> Batch<T> {
    #[inline]
    pub(crate) fn push(&mut self, value: T, timestamp: Timestamp) {
        if timestamp != NO_TIMESTAMP || !self.timestamps.is_empty() {
            self.push_timestamp(timestamp);
        }
        self.values.push(value);
    }

    #[inline]
    pub(crate) fn push_hashed(&mut self, value: T, timestamp: Timestamp, hash: u64) {
        self.hashes.push(hash);
        self.push(value, timestamp);
    }

    fn push_timestamp(&mut self, timestamp: Timestamp) {
        self.timestamps.resize(self.values.len(), NO_TIMESTAMP);
        self.timestamps.push(timestamp);
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// What it takes in memory, in bytes, if each of its values takes so many.
    pub(crate) fn bytes_of(&self, value_bytes: usize) -> usize {
        self.values.len() * value_bytes
            + size_of_val(self.timestamps.as_slice())
            + size_of_val(self.hashes.as_slice())
    }

    /// Timestamps: none, or one per record.
    pub(crate) fn timestamps(&self) -> &[Timestamp] {
        &self.timestamps
    }

    /// Key hashes: none, or one per record.
    pub(crate) fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// The lists of timestamps and hashes, to be filled with none or as many as there are values.
    pub(crate) fn columns_mut(&mut self) -> (&mut Vec<T>, &mut Vec<Timestamp>, &mut Vec<u64>) {
        (&mut self.values, &mut self.timestamps, &mut self.hashes)
    }

    /// Empties the batch and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.values.clear();
        self.timestamps.clear();
        self.hashes.clear();
        self.bytes = 0;
    }

    /// Takes the records out one by one, in order, with timestamp and hash. `ahead` sees the next `few` records and their
    /// hashes before the first of them is taken.
    #[inline]
    pub(crate) fn drain_few<C, E>(
        &mut self,
        few: usize,
        context: &mut C,
        ahead: impl Fn(&C, &[T], &[u64]) -> Result<(), E>,
        take: impl Fn(&mut C, T, Timestamp, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { values, timestamps, hashes, .. } = self;
        let mut values = values.drain(..);
        let mut timestamps = timestamps.drain(..);
        for few in hashes.chunks(few) {
            ahead(context, values.as_slice(), few)?;
            for hash in few {
                let Some(value) = values.next() else { break };
                take(context, value, timestamps.next().unwrap_or(NO_TIMESTAMP), *hash)?;
            }
        }
        Ok(())
    }

    /// Shows the records one by one, in order, with timestamp and hash.
    pub(crate) fn each<E>(
        &self,
        mut show: impl FnMut(&T, Timestamp, Option<u64>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut timestamps, mut hashes) = (self.timestamps.iter(), self.hashes.iter());
        let mut next =
            |value| show(value, timestamps.next().copied().unwrap_or(NO_TIMESTAMP), hashes.next().copied());
        self.values.iter().try_for_each(&mut next)
    }

    /// Whether the records come with the hashes of their keys.
    pub(crate) fn is_hashed(&self) -> bool {
        !self.hashes.is_empty()
    }

    /// Takes the records out one by one, in order, with timestamp and hash (0 if not keyed).
    #[inline]
    pub(crate) fn drain_each<E>(
        &mut self,
        mut take: impl FnMut(T, Timestamp, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { values, timestamps, hashes, .. } = self;
        match (timestamps.is_empty(), hashes.is_empty()) {
            (true, true) => values.drain(..).try_for_each(|v| take(v, NO_TIMESTAMP, 0)),
            (true, false) => {
                values.drain(..).zip(hashes.drain(..)).try_for_each(|(v, h)| take(v, NO_TIMESTAMP, h))
            }
            (false, true) => values.drain(..).zip(timestamps.drain(..)).try_for_each(|(v, t)| take(v, t, 0)),
            (false, false) => values
                .drain(..)
                .zip(timestamps.drain(..))
                .zip(hashes.drain(..))
                .try_for_each(|((v, t), h)| take(v, t, h)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_that_start_late_do_not_shift() {
        let mut batch = Batch::default();
        batch.push("a", NO_TIMESTAMP);
        batch.push("b", 7);
        batch.push("c", NO_TIMESTAMP);
        let mut seen = Vec::new();
        let drained = batch.drain_each(|v, t, _| {
            seen.push((v, t));
            Ok::<_, ()>(())
        });
        drained.unwrap();
        assert_eq!(seen, [("a", NO_TIMESTAMP), ("b", 7), ("c", NO_TIMESTAMP)]);
        assert!(batch.is_empty());
    }

    #[test]
    fn a_few_at_a_time_are_announced_before_they_are_taken() {
        let mut batch = Batch::default();
        for n in 0..5u64 {
            let timestamp = if n < 2 { NO_TIMESTAMP } else { n as Timestamp };
            batch.push_hashed(n, timestamp, n * 10);
        }
        let seen = std::cell::RefCell::new(Vec::new());
        let mut taken = Vec::new();
        let announce = |taken: &Vec<_>, values: &[_], hashes: &[u64]| {
            seen.borrow_mut().push((taken.len(), values[..hashes.len()].to_vec(), hashes.to_vec()));
            Ok(())
        };
        let take = |taken: &mut Vec<_>, value, timestamp, hash| {
            taken.push((value, timestamp, hash));
            Ok::<_, ()>(())
        };
        batch.drain_few(2, &mut taken, announce, take).unwrap();
        let expected = [(0, vec![0, 1], vec![0, 10]), (2, vec![2, 3], vec![20, 30]), (4, vec![4], vec![40])];
        assert_eq!(seen.into_inner(), expected);
        assert_eq!(taken, [(0, NO_TIMESTAMP, 0), (1, NO_TIMESTAMP, 10), (2, 2, 20), (3, 3, 30), (4, 4, 40)]);
        assert!(batch.is_empty());
        batch.clear();
        assert!(!batch.is_hashed());
    }
}

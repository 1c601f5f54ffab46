//! Slices: the parts of a page in which changes are told apart.
//!
//! A key belongs to one of 256 slices by bits 8 to 15 of its hash. A page has about one key per slice, so to write
//! the changed slices of a page is little more than to write its changed keys; and a slice says of a removed key that
//! it is gone, by leaving it out.

use crate::{Error, Result};

/// A set of slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slices([u64; 4]);

impl Slices {
    pub(crate) const NONE: Self = Self([0; 4]);
    pub(crate) const ALL: Self = Self([u64::MAX; 4]);

    /// The slice of a key with this hash.
    #[inline]
    pub(crate) fn slice_of(hash: u64) -> u8 {
        (hash >> 8) as u8
    }

    /// Adds the slice of a key with this hash.
    #[inline]
    pub(crate) fn add(&mut self, hash: u64) {
        self.insert(Self::slice_of(hash));
    }

    #[inline]
    pub(crate) fn insert(&mut self, slice: u8) {
        self.0[usize::from(slice >> 6)] |= 1 << (slice & 63);
    }

    #[inline]
    pub(crate) fn contains(&self, slice: u8) -> bool {
        self.0[usize::from(slice >> 6)] & (1 << (slice & 63)) != 0
    }

    pub(crate) fn union(self, other: Self) -> Self {
        let mut all = self;
        all.0.iter_mut().zip(other.0).for_each(|(word, more)| *word |= more);
        all
    }

    pub(crate) fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Appends the number of slices less one in a byte, then each of them in ascending order. The set is not empty.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.len().saturating_sub(1) as u8);
        out.extend((0..=u8::MAX).filter(|slice| self.contains(*slice)));
    }

    pub(crate) fn decode(input: &mut &[u8]) -> Result<Self> {
        let short = || Error::data("a set of slices ends early");
        let (count, rest) = input.split_first().ok_or_else(short)?;
        let (slices, rest) = rest.split_at_checked(usize::from(*count) + 1).ok_or_else(short)?;
        let mut set = Self::NONE;
        slices.iter().for_each(|slice| set.insert(*slice));
        *input = rest;
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_come_back() {
        for set in [vec![0u8], vec![255], vec![3, 64, 65, 200], (0..=255).collect()] {
            let mut slices = Slices::NONE;
            set.iter().for_each(|slice| slices.add(u64::from(*slice) << 8));
            assert_eq!(slices.len() as usize, set.len());
            let mut bytes = Vec::new();
            slices.encode(&mut bytes);
            assert_eq!(bytes.len(), set.len() + 1);
            let input = &mut bytes.as_slice();
            assert_eq!(Slices::decode(input).unwrap(), slices);
            assert!(input.is_empty());
            assert!(Slices::decode(&mut &bytes[..set.len()]).is_err());
        }
    }
}

//! Key groups: the unit in which keyed state is spread over subtasks and moved when a job is rescaled.
//!
//! A key belongs to one of `max_parallelism` key groups for the life of the state; a subtask owns a contiguous
//! range of groups. The group comes from the **middle** 32 bits (16 to 47) of the hash: hash tables take their
//! in-table tag from the top 7 bits and the bucket from the low bits, and both must stay random among the keys of
//! one group, or every probe would have to compare whole keys.

use std::fmt;

use crate::{Error, Result};

/// The number of one key group, from 0 up to the maximum parallelism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyGroup(pub u16);

/// A contiguous range of key groups, `start` inclusive and `end` exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyGroupRange {
    /// First group of the range.
    pub start: u16,
    /// First group behind the range.
    pub end: u16,
}

impl KeyGroupRange {
    /// Every group of a job with this maximum parallelism.
    pub fn all(max_parallelism: u16) -> Self {
        Self { start: 0, end: max_parallelism }
    }

    /// Whether `group` lies in the range.
    #[inline]
    pub fn contains(self, group: KeyGroup) -> bool {
        self.start <= group.0 && group.0 < self.end
    }

    /// How many groups the range has.
    pub fn len(self) -> usize {
        usize::from(self.end.saturating_sub(self.start))
    }

    /// Whether the range has no group at all.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Whether the two ranges share a group.
    pub fn overlaps(self, other: Self) -> bool {
        self.start.max(other.start) < self.end.min(other.end)
    }

    /// The groups of the range in ascending order.
    pub fn groups(self) -> impl Iterator<Item = KeyGroup> {
        (self.start..self.end).map(KeyGroup)
    }
}

impl fmt::Display for KeyGroupRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// The group of a key with this hash (see [`Key::hash64`](crate::Key::hash64)).
#[inline]
pub fn key_group_of(hash: u64, max_parallelism: u16) -> KeyGroup {
    let middle = u64::from((hash >> 16) as u32);
    KeyGroup(((middle * u64::from(max_parallelism)) >> 32) as u16)
}

/// The groups that subtask `subtask` of `parallelism` owns.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) if `subtask` is not below `parallelism`, or `parallelism` exceeds
/// `max_parallelism`.
pub fn range_of(subtask: u32, parallelism: u32, max_parallelism: u16) -> Result<KeyGroupRange> {
    if parallelism > u32::from(max_parallelism) {
        return Err(Error::config(format!(
            "parallelism {parallelism} exceeds the maximum parallelism {max_parallelism}"
        ))
        .hint("lower the parallelism; the maximum is fixed for the life of the state"));
    }
    if subtask >= parallelism {
        return Err(Error::config(format!("there is no subtask {subtask} at parallelism {parallelism}")));
    }
    // Both products fit: parallelism <= max_parallelism < 2^16. Each bound is at most max_parallelism.
    let first = |i: u32| (i * u32::from(max_parallelism)).div_ceil(parallelism) as u16;
    Ok(KeyGroupRange { start: first(subtask), end: first(subtask + 1) })
}

/// The subtask that owns `group` when the operator runs with this parallelism; the inverse of [`range_of`].
#[inline]
pub fn subtask_of(group: KeyGroup, parallelism: u32, max_parallelism: u16) -> u32 {
    (u64::from(group.0) * u64::from(parallelism) / u64::from(max_parallelism.max(1))) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_partition_the_groups(max in 1u16..=u16::MAX, parallelism in 1u32..300) {
            prop_assume!(parallelism <= u32::from(max));
            let mut next = 0;
            for subtask in 0..parallelism {
                let range = range_of(subtask, parallelism, max).unwrap();
                prop_assert_eq!(range.start, next);
                prop_assert!(!range.is_empty());
                prop_assert_eq!(subtask_of(KeyGroup(range.start), parallelism, max), subtask);
                prop_assert_eq!(subtask_of(KeyGroup(range.end - 1), parallelism, max), subtask);
                next = range.end;
            }
            prop_assert_eq!(next, max);
        }

        #[test]
        fn groups_stay_below_the_maximum(hash: u64, max in 1u16..) {
            prop_assert!(key_group_of(hash, max).0 < max);
        }
    }

    #[test]
    fn golden_groups() {
        assert_eq!(key_group_of(0x2d29_f133_6b02_29f9, 128), KeyGroup(120));
        assert_eq!(key_group_of(0, 128), KeyGroup(0));
        assert_eq!(key_group_of(u64::MAX, 128), KeyGroup(127));
        assert_eq!(key_group_of(0xffff_0000_0000_ffff, 128), KeyGroup(0), "only the middle bits count");
    }

    #[test]
    fn tags_stay_random_inside_a_group() {
        let mut tags = [0u32; 128];
        for i in 0..100_000u64 {
            let hash = crate::Key::hash64(&i);
            if key_group_of(hash, 128) == KeyGroup(5) {
                tags[(hash >> 57) as usize] += 1;
            }
        }
        assert!(tags.iter().filter(|n| **n > 0).count() > 100);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(range_of(0, 129, 128).is_err());
        assert!(range_of(2, 2, 128).is_err());
        assert!(range_of(0, 0, 128).is_err());
    }
}

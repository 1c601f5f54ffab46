//! What the cache knows of an object besides its content: when it was changed, or since when the store has it.
//!
//! Time is counted in freezes, and in nothing finer. Two questions have to be answered: has an object been quiet for so
//! long that it should be written, and may an image leave an object out because the image of the store has it.

use std::sync::atomic::{AtomicU32, Ordering};

/// How many freezes there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Freezes(u32);

impl Freezes {
    /// One bit of a mark says which kind it is. Then nothing is written early any more.
    const LAST: Self = Self(u32::MAX >> 1);

    /// Counts another freeze, and returns its number: how many there were before it.
    pub(super) fn add_one(&mut self) -> Self {
        let number = *self;
        self.0 = (self.0 + 1).min(Self::LAST.0);
        number
    }
}

/// How many freezes there were when an object was last changed or, with the lowest bit set, when it was written.
///
/// It is atomic because the mark of a written object is set in pages that images share. To an image from before that
/// says nothing new: it is written for the images to come.
#[derive(Debug)]
pub(super) struct ChangeMark(AtomicU32);

impl Clone for ChangeMark {
    fn clone(&self) -> Self {
        Self(AtomicU32::new(self.0.load(Ordering::Relaxed)))
    }
}

impl ChangeMark {
    /// That of an object that the store may not have.
    pub(super) fn changed(now: Freezes) -> Self {
        Self(AtomicU32::new(now.0 << 1))
    }

    fn get(&self) -> (Freezes, bool) {
        let mark = self.0.load(Ordering::Relaxed);
        (Freezes(mark >> 1), mark & 1 == 1)
    }

    /// The object is about to be changed. Returns whether it was written, and all that is dirty of it is so no longer.
    #[inline]
    pub(super) fn change(&mut self, now: Freezes) -> bool {
        let mark = self.0.get_mut();
        std::mem::replace(mark, now.0 << 1) & 1 == 1
    }

    /// The store has all of it now.
    pub(super) fn note_written(&self, now: Freezes) {
        self.0.store(now.0 << 1 | 1, Ordering::Relaxed);
    }

    pub(super) fn is_written(&self) -> bool {
        self.get().1
    }

    /// Whether it is not written and has not been changed from one freeze to another one. What changes between any two
    /// freezes would only be written twice.
    pub(super) fn is_quiet(&self, now: Freezes) -> bool {
        let (since, is_written) = self.get();
        !is_written && now < Freezes::LAST && now.0 - since.0 >= 2
    }

    /// Whether the image of the store taken at this freeze has it.
    pub(super) fn is_written_before(&self, freeze: Freezes) -> bool {
        let (since, is_written) = self.get();
        is_written && since <= freeze
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_quiet_from_the_second_freeze_on_and_left_out_from_the_next_one_on() {
        let mut now = Freezes::default();
        let mark = ChangeMark::changed(now);
        assert!(!mark.is_quiet(now));
        let first = now.add_one();
        assert!(!mark.is_quiet(now), "it may change between any two freezes");
        let second = now.add_one();
        assert!(mark.is_quiet(now));
        mark.note_written(now);
        assert!(mark.is_written() && !mark.is_quiet(now));
        let third = now.add_one();
        let left_out =
            |mark: &ChangeMark| [first, second, third].map(|freeze| mark.is_written_before(freeze));
        assert_eq!(left_out(&mark), [false, false, true]);
        let mut copy = mark.clone();
        assert!(copy.change(now));
        assert!(!copy.change(now), "once");
        assert_eq!(left_out(&copy), [false; 3]);
        assert_eq!(left_out(&mark), [false, false, true], "that of an image");
    }

    #[test]
    fn behind_the_last_freeze_that_can_be_counted_nothing_is_quiet() {
        let mut now = Freezes(Freezes::LAST.0 - 3);
        let mark = ChangeMark::changed(now);
        (0..2).for_each(|_| _ = now.add_one());
        assert!(mark.is_quiet(now));
        (0..5).for_each(|_| _ = now.add_one());
        assert!(!mark.is_quiet(now));
        assert!(!mark.is_written_before(now));
    }
}

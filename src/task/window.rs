//! How many bytes of records a sender may have under way, as the receiver of a channel decides.
//!
//! The sender begins with [`WINDOW_BYTES`] of credit, and gets back what was taken. Where that is less than fits between two
//! grants, because the way is long, the receiver finds its queue empty when it gives credit: the window doubles. Where records
//! wait because the receiver is slow, all that may come is there each time: the window halves, back to what it was, for what
//! waits is what a barrier waits for. Neither needs a clock, and the sender does not know of it.

/// Bytes of records that may be under way or wait in one channel, to begin with.
pub(crate) const WINDOW_BYTES: u32 = 256 << 10;
/// And at most: 4 MiB in 5 ms are 800 MB a second.
const MOST_WINDOW_BYTES: u32 = 4 << 20;

/// The receiver's account of one channel.
#[derive(Debug)]
pub(super) struct Window {
    bytes: u32,
    /// What the sender may still send, so far as it has heard: below zero behind a batch that crossed the line.
    granted: i64,
    /// Taken out of the queue since the last credit.
    taken: u64,
    /// In the queue.
    waiting: u64,
    /// Whether all that could come was there when credit was last given. Once is nothing: a window comes in one go.
    was_full: bool,
}

impl Default for Window {
    fn default() -> Self {
        Self { bytes: WINDOW_BYTES, granted: i64::from(WINDOW_BYTES), taken: 0, waiting: 0, was_full: false }
    }
}

impl Window {
    /// Records have arrived; whether there was credit for them.
    pub(super) fn arrive(&mut self, bytes: u64) -> bool {
        let covered = self.granted > 0;
        self.granted = self.granted.saturating_sub_unsigned(bytes);
        self.waiting += bytes;
        covered
    }

    /// Records were taken out of the queue. What the sender is to be given for it, once it is enough to speak of.
    pub(super) fn take(&mut self, bytes: u64) -> Option<u32> {
        self.waiting = self.waiting.saturating_sub(bytes);
        self.taken += bytes;
        if self.taken < u64::from(self.bytes / 2) {
            return None;
        }
        let before = self.bytes;
        let is_full = self.waiting >= u64::from(before / 2);
        if self.waiting == 0 {
            self.bytes = (before * 2).min(MOST_WINDOW_BYTES);
        } else if is_full && self.was_full {
            self.bytes = (before / 2).max(WINDOW_BYTES);
        }
        self.was_full = is_full;
        // At least half of the window was taken, so what it shrinks by is there.
        let credit = (self.taken + u64::from(self.bytes)).saturating_sub(u64::from(before));
        let given = u32::try_from(credit).unwrap_or(u32::MAX);
        self.taken = credit - u64::from(given);
        self.granted = self.granted.saturating_add(i64::from(given));
        Some(given).filter(|given| *given > 0)
    }

    /// How large it is now, in bytes.
    pub(super) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// What waits in the queue, in bytes.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PIECE: u64 = 32 << 10;

    /// A sender that always has more, over a way on which so many pieces can be.
    fn run(window: &mut Window, way: usize, rounds: usize, takes: usize) {
        let mut credit = window.granted;
        let mut under_way = std::collections::VecDeque::new();
        for _ in 0..rounds {
            while credit > 0 && under_way.len() < way {
                credit -= PIECE as i64;
                under_way.push_back(PIECE);
            }
            // All of it comes over in one go, and the credit goes back as late.
            under_way.drain(..).for_each(|piece| assert!(window.arrive(piece)));
            for _ in 0..takes {
                if window.waiting() > 0 {
                    credit += i64::from(window.take(PIECE).unwrap_or(0));
                }
            }
            assert_eq!(credit, window.granted, "both keep the same account");
        }
    }

    #[test]
    fn it_grows_while_the_receiver_waits_and_shrinks_while_records_do() {
        let mut window = Window::default();
        run(&mut window, 1_000, 50, 1_000);
        assert_eq!(window.bytes(), MOST_WINDOW_BYTES);
        run(&mut window, 1_000, 2_000, 1);
        assert_eq!(window.bytes(), WINDOW_BYTES);
        assert!(window.waiting() <= u64::from(WINDOW_BYTES) + PIECE, "{} wait", window.waiting());
    }

    proptest! {
        /// Whatever comes and goes: a sender without credit gets some when everything is taken.
        #[test]
        fn a_sender_never_waits_for_ever(steps in proptest::collection::vec((1u64..2_000_000, 0usize..20), 1..200)) {
            let mut window = Window::default();
            let (mut credit, mut queue) = (window.granted, std::collections::VecDeque::new());
            for (bytes, takes) in steps {
                if credit > 0 {
                    credit -= bytes as i64;
                    prop_assert!(window.arrive(bytes));
                    queue.push_back(bytes);
                }
                for _ in 0..takes {
                    let Some(bytes) = queue.pop_front() else { break };
                    credit += i64::from(window.take(bytes).unwrap_or(0));
                }
                prop_assert_eq!(credit, window.granted);
                prop_assert!((WINDOW_BYTES..=MOST_WINDOW_BYTES).contains(&window.bytes()));
            }
            for bytes in queue {
                credit += i64::from(window.take(bytes).unwrap_or(0));
            }
            prop_assert!(credit > 0, "{credit} left, and nothing under way");
        }
    }
}

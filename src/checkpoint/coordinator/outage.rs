//! Whether the checkpoint store can be used, as far as checkpoints show.
//!
//! Failures that ask to be repeated are those of a store that is away. They do not count against the job, however long
//! they last: it goes on, is told once, and once again when a checkpoint has completed.

/// From the first failure to the next completed checkpoint.
#[derive(Debug, Default)]
pub(super) struct Outage {
    since_ms: Option<u64>,
    missed: u64,
}

impl Outage {
    /// The store has failed; whether that is news.
    pub(super) fn failed(&mut self, now_ms: u64) -> bool {
        let first = self.since_ms.is_none();
        self.since_ms.get_or_insert(now_ms);
        first
    }

    /// A checkpoint was given up for it.
    pub(super) fn missed(&mut self) {
        self.missed = self.missed.saturating_add(1);
    }

    /// A checkpoint has completed: how long the store was away, in milliseconds, and how many were missed.
    pub(super) fn over(&mut self, now_ms: u64) -> Option<(u64, u64)> {
        let since_ms = self.since_ms.take()?;
        Some((now_ms.saturating_sub(since_ms), std::mem::take(&mut self.missed)))
    }
}

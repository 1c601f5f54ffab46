//! Where user functions put their output.

use crate::error::{Error, Result};
use crate::function::{NO_TIMESTAMP, Timestamp};

/// Takes records. Implemented by whatever comes next in a chain.
pub trait Emit<T> {
    /// Takes one record with its timestamp ([`NO_TIMESTAMP`] if it has none).
    ///
    /// # Errors
    /// Whatever the operators behind it report; the caller stops at once and hands the error on.
    fn emit(&mut self, value: T, timestamp: Timestamp) -> Result<()>;

    /// Takes a record whose key hash was computed at the exchange. Keyed operators use it; all others ignore it.
    ///
    /// # Errors
    /// As [`Emit::emit`].
    #[inline]
    fn emit_hashed(&mut self, value: T, timestamp: Timestamp, _hash: u64) -> Result<()> {
        self.emit(value, timestamp)
    }
}

/// Hands output records to the next operator, at once and without copying.
///
/// An error behind it does not come back from [`Collector::collect`], so that user code stays plain; it is kept,
/// later records are dropped, and the task fails as soon as the user function returns.
pub struct Collector<'a, T> {
    next: &'a mut dyn Emit<T>,
    timestamp: Timestamp,
    error: Option<Error>,
}

impl<'a, T> Collector<'a, T> {
    /// A collector that stamps records with `timestamp` unless told otherwise.
    #[inline]
    pub fn new(next: &'a mut dyn Emit<T>, timestamp: Timestamp) -> Self {
        Self { next, timestamp, error: None }
    }

    /// Emits a record with the timestamp of the record or timer being processed.
    #[inline]
    pub fn collect(&mut self, value: T) {
        self.collect_at(value, self.timestamp);
    }

    /// Emits a record with a timestamp of its own.
    #[inline]
    pub fn collect_at(&mut self, value: T, timestamp: Timestamp) {
        if self.error.is_none()
            && let Err(e) = self.next.emit(value, timestamp)
        {
            self.error = Some(e);
        }
    }

    /// Emits a record without a timestamp.
    #[inline]
    pub fn collect_untimed(&mut self, value: T) {
        self.collect_at(value, NO_TIMESTAMP);
    }

    /// Whether an operator further down has failed: a loop that collects without end may stop.
    pub fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    /// The first error behind this collector, if any.
    ///
    /// # Errors
    /// The kept error.
    #[inline]
    pub fn finish(self) -> Result<()> {
        match self.error {
            None => Ok(()),
            Some(e) => Err(e),
        }
    }
}

impl<T> std::fmt::Debug for Collector<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").field("timestamp", &self.timestamp).field("error", &self.error).finish()
    }
}

/// A plain vector takes records too: handy in tests of functions and readers.
impl<T> Emit<T> for Vec<T> {
    fn emit(&mut self, value: T, _timestamp: Timestamp) -> Result<()> {
        self.push(value);
        Ok(())
    }
}

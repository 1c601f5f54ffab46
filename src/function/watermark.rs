//! Event-time strategies: where timestamps come from and how far event time has got.

use crate::function::{NO_WATERMARK, Timestamp};
use std::sync::Arc;

/// Derives watermarks from the timestamps seen. Implement it for a custom strategy.
///
/// The generator's only state is what [`WatermarkGenerator::watermark`] returned last, which the runtime keeps and
/// checkpoints; it never lets event time run backwards.
pub trait WatermarkGenerator: Send {
    /// A record with this timestamp has passed.
    fn on_event(&mut self, timestamp: Timestamp);

    /// The watermark now: no record at or below it is expected any more. [`NO_WATERMARK`] while unknown.
    fn watermark(&self) -> Timestamp;
}

type Assigner<T> = Arc<dyn Fn(&T) -> Timestamp + Send + Sync>;
type GeneratorFactory = Arc<dyn Fn() -> Box<dyn WatermarkGenerator> + Send + Sync>;

/// How a stream gets timestamps and watermarks.
pub struct WatermarkStrategy<T> {
    pub(crate) timestamps: Option<Assigner<T>>,
    pub(crate) generator: GeneratorFactory,
    pub(crate) idle_after_ms: Option<i64>,
}

impl<T> WatermarkStrategy<T> {
    /// Records may be up to `milliseconds` late relative to the latest one seen.
    pub fn bounded_out_of_orderness(milliseconds: i64) -> Self {
        Self::custom(move || Bounded { delay: milliseconds, latest: NO_WATERMARK })
    }

    /// Timestamps never fall within a subtask.
    pub fn monotonous() -> Self {
        Self::bounded_out_of_orderness(0)
    }

    /// A strategy of one's own; the closure makes a generator for every subtask.
    pub fn custom<G: WatermarkGenerator + 'static>(make: impl Fn() -> G + Send + Sync + 'static) -> Self {
        Self { timestamps: None, generator: Arc::new(move || Box::new(make())), idle_after_ms: None }
    }

    /// Takes the timestamp (milliseconds since the Unix epoch) out of the record; without it the records keep those
    /// they have.
    #[must_use]
    pub fn with_timestamps(mut self, timestamp: impl Fn(&T) -> Timestamp + Send + Sync + 'static) -> Self {
        self.timestamps = Some(Arc::new(timestamp));
        self
    }

    /// After so many milliseconds without a record the subtask no longer holds back event time downstream.
    #[must_use]
    pub fn with_idleness(mut self, milliseconds: i64) -> Self {
        self.idle_after_ms = Some(milliseconds);
        self
    }
}

impl<T> Clone for WatermarkStrategy<T> {
    fn clone(&self) -> Self {
        Self {
            timestamps: self.timestamps.clone(),
            generator: self.generator.clone(),
            idle_after_ms: self.idle_after_ms,
        }
    }
}

impl<T> std::fmt::Debug for WatermarkStrategy<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatermarkStrategy")
            .field("assigns_timestamps", &self.timestamps.is_some())
            .field("idle_after_ms", &self.idle_after_ms)
            .finish_non_exhaustive()
    }
}

/// The latest timestamp minus a bound, minus one: a later record with the same timestamp is not late.
struct Bounded {
    delay: i64,
    latest: Timestamp,
}

impl WatermarkGenerator for Bounded {
    fn on_event(&mut self, timestamp: Timestamp) {
        self.latest = self.latest.max(timestamp);
    }

    fn watermark(&self) -> Timestamp {
        if self.latest == NO_WATERMARK {
            NO_WATERMARK
        } else {
            self.latest.saturating_sub(self.delay).saturating_sub(1)
        }
    }
}

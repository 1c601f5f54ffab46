//! The operator that assigns timestamps and makes watermarks.

use crate::error::Result;
use crate::function::{
    Data, Emit, MAX_WATERMARK, NO_TIMESTAMP, NO_WATERMARK, Timestamp, WatermarkGenerator, WatermarkStrategy,
};
use crate::id::OperatorUid;
use crate::operator::{Control, Operator, OperatorSnapshot, OperatorState, RestoredState, named_panic};
use std::sync::Arc;

/// Between two watermarks at least so many milliseconds of processing time pass, as Flink's auto-watermark interval;
/// shorter, since a watermark here costs little.
const INTERVAL_MS: i64 = 50;

/// Applies a [`WatermarkStrategy`].
pub(crate) struct WatermarkOperator<T> {
    uid: OperatorUid,
    name: Arc<str>,
    strategy: WatermarkStrategy<T>,
    generator: Box<dyn WatermarkGenerator>,
    next: Box<dyn Operator<T>>,
    /// The last watermark emitted; part of the checkpoint, so that event time does not run back after a restore.
    emitted: Timestamp,
    /// Downstream knows `emitted`. After a restore it has to be told again, or it would wait for a higher one.
    announced: bool,
    now_ms: i64,
    /// Processing time of the last record seen; `None` before the first step.
    active_ms: Option<i64>,
    seen_record: bool,
    idle: bool,
}

impl<T: Data> WatermarkOperator<T> {
    pub(crate) fn new(
        uid: OperatorUid,
        name: Arc<str>,
        strategy: WatermarkStrategy<T>,
        next: Box<dyn Operator<T>>,
        restored: &RestoredState,
    ) -> Self {
        let generator = (strategy.generator)();
        let emitted = restored.watermark();
        Self {
            uid,
            name,
            strategy,
            generator,
            next,
            emitted,
            announced: emitted == NO_WATERMARK,
            now_ms: 0,
            active_ms: None,
            seen_record: false,
            idle: false,
        }
    }

    fn advance(&mut self) -> Result<()> {
        let watermark = named_panic(&self.name, || self.generator.watermark());
        if watermark > self.emitted && watermark != NO_WATERMARK {
            self.emitted = watermark;
            self.next.watermark(watermark)?;
        }
        Ok(())
    }
}

impl<T: Data> Emit<T> for WatermarkOperator<T> {
    #[inline]
    fn emit(&mut self, value: T, timestamp: Timestamp) -> Result<()> {
        let timestamp = match &self.strategy.timestamps {
            Some(assign) => named_panic(&self.name, || assign(&value)),
            None => timestamp,
        };
        self.seen_record = true;
        if self.idle {
            self.idle = false;
            self.next.control(&mut Control::Idle(false))?;
        }
        if timestamp != NO_TIMESTAMP {
            self.generator.on_event(timestamp);
        }
        self.next.emit(value, timestamp)
    }
}

impl<T: Data> Operator<T> for WatermarkOperator<T> {
    /// Watermarks from further up are replaced by this operator's own, but for the end of all time.
    fn watermark(&mut self, watermark: Timestamp) -> Result<()> {
        if watermark == MAX_WATERMARK && self.emitted != MAX_WATERMARK {
            self.emitted = MAX_WATERMARK;
            self.next.watermark(MAX_WATERMARK)?;
        }
        Ok(())
    }

    fn control(&mut self, control: &mut Control<'_>) -> Result<()> {
        match control {
            // Idleness from further up is decided anew here.
            Control::Idle(_) => return Ok(()),
            Control::Time { now_ms, next_ms } => {
                let now_ms = *now_ms;
                if !std::mem::replace(&mut self.announced, true) {
                    self.next.watermark(self.emitted)?;
                }
                if self.seen_record || self.active_ms.is_none() {
                    self.active_ms = Some(now_ms);
                }
                if self.emitted != MAX_WATERMARK {
                    if std::mem::take(&mut self.seen_record) || now_ms - self.now_ms >= INTERVAL_MS {
                        self.advance()?;
                    }
                    let idle_at =
                        self.strategy.idle_after_ms.zip(self.active_ms).map(|(after, since)| since + after);
                    if let Some(idle_at) = idle_at
                        && !self.idle
                    {
                        if now_ms >= idle_at {
                            self.idle = true;
                            self.next.control(&mut Control::Idle(true))?;
                        } else {
                            **next_ms = Some(next_ms.map_or(idle_at, |next| next.min(idle_at)));
                        }
                    }
                    let again = now_ms + INTERVAL_MS;
                    **next_ms = Some(next_ms.map_or(again, |next| next.min(again)));
                }
                self.now_ms = now_ms;
            }
            Control::Barrier { snapshot, .. } => {
                let state = OperatorState { watermark: self.emitted, ..OperatorState::default() };
                snapshot.operators.push(OperatorSnapshot::new(self.uid.clone(), state));
            }
            _ => {}
        }
        self.next.control(control)
    }
}

#[cfg(test)]
#[path = "watermark_tests.rs"]
mod tests;

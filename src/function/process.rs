//! Process functions: the general form of a transformation.

use crate::error::Result;
use crate::function::{Collector, KeyedContext, ProcessContext, Timestamp};
use tidegate_state::Key;

/// Processes records one by one, without keyed state.
pub trait ProcessFunction<I, O> {
    /// Takes one record and emits any number.
    ///
    /// # Errors
    /// Fails the task; the job restarts from the last checkpoint if the error's kind allows.
    fn process(
        &mut self,
        value: I,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, O>,
    ) -> Result<()>;

    /// The input has ended: emit what is left. Called once in the life of the job, also across restarts.
    ///
    /// # Errors
    /// As [`ProcessFunction::process`].
    fn finish(&mut self, _out: &mut Collector<'_, O>) -> Result<()> {
        Ok(())
    }
}

/// Processes records of a keyed stream with state and timers per key.
pub trait KeyedProcessFunction<K: Key, I, O> {
    /// Takes one record; state handles refer to its key.
    ///
    /// # Errors
    /// Fails the task; the job restarts from the last checkpoint if the error's kind allows.
    fn process(
        &mut self,
        value: I,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> Result<()>;

    /// A timer of the current key is due. `time` is the time it was registered for, in milliseconds;
    /// [`KeyedContext::is_event_timer`] tells its kind.
    ///
    /// # Errors
    /// As [`KeyedProcessFunction::process`].
    fn on_timer(
        &mut self,
        _time: Timestamp,
        _context: &mut KeyedContext<'_, K>,
        _out: &mut Collector<'_, O>,
    ) -> Result<()> {
        Ok(())
    }
}

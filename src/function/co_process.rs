//! Functions over two connected streams of different types that share state.

use crate::error::Result;
use crate::function::{Collector, KeyedContext, ProcessContext, Timestamp};
use tidegate_state::Key;

/// Processes the records of two streams, without keyed state. Nothing is said about the order between the two.
pub trait CoProcessFunction<A, B, O> {
    /// Takes one record of the first stream and emits any number.
    ///
    /// # Errors
    /// Fails the task; the job restarts from the last checkpoint if the error's kind allows.
    fn process_first(
        &mut self,
        value: A,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, O>,
    ) -> Result<()>;

    /// Takes one record of the second stream and emits any number.
    ///
    /// # Errors
    /// As [`CoProcessFunction::process_first`].
    fn process_second(
        &mut self,
        value: B,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, O>,
    ) -> Result<()>;

    /// The first stream has ended. Called once in the life of the job, also across restarts.
    ///
    /// # Errors
    /// As [`CoProcessFunction::process_first`].
    fn finish_first(&mut self, _out: &mut Collector<'_, O>) -> Result<()> {
        Ok(())
    }

    /// The second stream has ended. Called once in the life of the job, also across restarts.
    ///
    /// # Errors
    /// As [`CoProcessFunction::process_first`].
    fn finish_second(&mut self, _out: &mut Collector<'_, O>) -> Result<()> {
        Ok(())
    }
}

/// Processes the records of two streams with keys of one type; state and timers belong to a key, whichever stream it
/// came in. Nothing is said about the order between the two streams.
pub trait KeyedCoProcessFunction<K: Key, A, B, O> {
    /// Takes one record of the first stream; state handles refer to its key.
    ///
    /// # Errors
    /// Fails the task; the job restarts from the last checkpoint if the error's kind allows.
    fn process_first(
        &mut self,
        value: A,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> Result<()>;

    /// Takes one record of the second stream; state handles refer to its key.
    ///
    /// # Errors
    /// As [`KeyedCoProcessFunction::process_first`].
    fn process_second(
        &mut self,
        value: B,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> Result<()>;

    /// A timer of the current key is due, as in
    /// [`KeyedProcessFunction::on_timer`](crate::function::KeyedProcessFunction::on_timer).
    ///
    /// # Errors
    /// As [`KeyedCoProcessFunction::process_first`].
    fn on_timer(
        &mut self,
        _time: Timestamp,
        _context: &mut KeyedContext<'_, K>,
        _out: &mut Collector<'_, O>,
    ) -> Result<()> {
        Ok(())
    }
}

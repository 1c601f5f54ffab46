//! Operators: what a chain is made of. Each owns the ones behind it, so that a record passes by plain calls.

mod batch;
mod control;
mod keyed;
mod keyed_broadcast;
mod panic;
mod process;
mod restored;
mod side_outputs;
mod sink;
mod state;
mod stateless;
#[cfg(test)]
pub(crate) mod test_chain;
mod two_inputs;
mod watermark;

pub use batch::Batch;
pub use control::{ChainSnapshot, Control, OperatorSnapshot};
pub(crate) use keyed::{KeyPart, KeyedOperator};
pub(crate) use keyed_broadcast::KeyedBroadcastOperator;
pub(crate) use panic::{named_panic, take_panicked_operator};
pub(crate) use process::{ProcessOperator, Steps};
pub use restored::RestoredState;
pub(crate) use side_outputs::SideOutputs;
pub(crate) use sink::SinkOperator;
pub use state::OperatorState;
pub(crate) use stateless::{Discard, FlatOperator, Fork};
pub use two_inputs::InputSide;
pub(crate) use two_inputs::{
    BroadcastSteps, CoSteps, Either, EitherKey, ElementSteps, KeyedCoSteps, PlainSteps,
};
pub(crate) use watermark::WatermarkOperator;

use crate::error::Result;
use crate::function::{Emit, Timestamp};

/// One operator of a chain, with everything behind it.
///
/// Records come through [`Emit`]; everything else comes through the two methods here, in order with the records. An
/// operator reacts, then hands the same on to what is behind it.
pub trait Operator<T>: Emit<T> {
    /// Event time has reached `watermark`; it never falls.
    ///
    /// # Errors
    /// Fails the task.
    fn watermark(&mut self, watermark: Timestamp) -> Result<()>;

    /// Anything that is neither record nor watermark.
    ///
    /// # Errors
    /// Fails the task.
    fn control(&mut self, control: &mut Control<'_>) -> Result<()>;

    /// One of two inputs has ended. Called on the first operator of a chain that takes two, and goes no further.
    ///
    /// # Errors
    /// Fails the task.
    fn end_of_side(&mut self, _side: InputSide) -> Result<()> {
        Ok(())
    }

    /// Takes all records of a batch, in order.
    ///
    /// # Errors
    /// As [`Emit::emit`].
    fn batch(&mut self, batch: &mut Batch<T>) -> Result<()> {
        batch.drain_each(|value, timestamp, hash| self.emit_hashed(value, timestamp, hash))
    }
}

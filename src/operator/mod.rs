//! Operators: what a chain is made of. Each owns the ones behind it, so that a record passes by plain calls.

mod batch;
mod control;
mod keyed;
mod panic;
mod process;
mod side_outputs;
mod sink;
mod state;
mod stateless;
#[cfg(test)]
pub(crate) mod test_chain;
mod watermark;

pub use batch::Batch;
pub use control::{ChainSnapshot, Control, OperatorSnapshot};
pub(crate) use keyed::{KeyPart, KeyedOperator};
pub(crate) use panic::{named_panic, take_panicked_operator};
pub(crate) use process::ProcessOperator;
pub(crate) use side_outputs::SideOutputs;
pub(crate) use sink::SinkOperator;
pub use state::{OperatorState, RestoredState};
pub(crate) use stateless::{Discard, FlatOperator, Fork};
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

    /// Takes all records of a batch, in order.
    ///
    /// # Errors
    /// As [`Emit::emit`].
    fn batch(&mut self, batch: &mut Batch<T>) -> Result<()> {
        batch.drain_each(|value, timestamp, hash| self.emit_hashed(value, timestamp, hash))
    }
}

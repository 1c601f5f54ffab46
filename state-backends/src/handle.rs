//! The handles user code holds: value, list, map, reducing and aggregating state of the current key.
//!
//! A handle is cheap to clone; clones are the same state. All of its methods act on the key that is being
//! processed. Methods fail with [`ErrorKind::Config`](crate::ErrorKind::Config) outside of a record or timer, and
//! when a state is used inside its own `update`; with a backend that keeps state on disk they fail with
//! [`ErrorKind::RestartTask`](crate::ErrorKind::RestartTask) if the disk does.

mod aggregating;
mod list;
mod map;
mod reducing;
mod value;

pub use aggregating::{AggregateFunction, AggregatingState};
pub use list::ListState;
pub use map::MapState;
pub use reducing::ReducingState;
pub use value::ValueState;

use crate::{Error, Result};
use identity::Identity;

/// A handle of keyed state, whatever its kind.
pub trait KeyedState: Clone + Identity {}

impl<H: Clone + Identity> KeyedState for H {}

pub(crate) mod identity {
    /// Tells states apart; not to be implemented elsewhere.
    pub trait Identity {
        /// Where the state's table is.
        fn address(&self) -> *const ();
    }
}

/// What a closure that a table was to call once has left behind.
#[inline]
fn called<R>(result: Option<R>) -> Result<R> {
    result.ok_or_else(not_called)
}

#[cold]
fn not_called() -> Error {
    Error::bug("a state table did not call back")
}

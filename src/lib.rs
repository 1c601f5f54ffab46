//! Tidegate: fault-tolerant stateful stream processing.

pub mod error {
    //! The error type shared by every part of Tidegate.
    pub use tidegate_state::error::{Error, ErrorKind, Result};
}

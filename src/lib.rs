//! Tidegate: fault-tolerant stateful stream processing.

pub mod checkpoint;
pub mod cluster;
pub mod config;
pub mod connector;
mod environment;
pub mod function;
pub mod graph;
pub mod id;
pub mod operator;
pub mod prelude;
pub mod stream;
pub mod task;
pub mod testing;

pub use environment::{CrashSite, Environment, JobSummary};

pub mod error {
    //! The error type shared by every part of Tidegate.
    pub use tidegate_state::error::{Error, ErrorKind, Result};
}

/// The programs in the book compile and do what it says.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../docs/start.md")]
    struct Start;
}

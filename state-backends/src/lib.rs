//! Keyed state for Tidegate: keys and key groups, serializers, state handles, backends and snapshot files.

pub mod error;

pub use error::{Error, ErrorKind, Result};

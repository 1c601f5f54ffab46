//! What a record may be, and how event time is written.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A record type. Implemented for every type that can be cloned, sent to another thread and serialised; records
/// are serialised only where they leave a process.
pub trait Data: Clone + Send + Serialize + DeserializeOwned + 'static {}

impl<T: Clone + Send + Serialize + DeserializeOwned + 'static> Data for T {}

/// Event time in milliseconds since the Unix epoch.
pub type Timestamp = i64;

/// The timestamp of a record that has none.
pub const NO_TIMESTAMP: Timestamp = i64::MIN;

/// The watermark before any has arrived.
pub const NO_WATERMARK: Timestamp = i64::MIN;

/// The watermark after the last record: event time is complete.
pub const MAX_WATERMARK: Timestamp = i64::MAX;

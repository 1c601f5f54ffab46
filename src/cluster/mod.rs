//! The jobmanager and its taskmanagers: deployment, failure, restart.

pub mod jobmaster;
pub mod message;
mod restart;

pub use restart::{RestartDecision, RestartStrategy, RestartStrategyConfig};

use crate::error::Result;
use crate::function::NextSplit;

/// Encoded split.
pub type NextSplitBytes = NextSplit<Vec<u8>>;

/// TEMPORARY until merged.
pub trait EnumeratorDriver: Send {
    /// next
    fn next(&mut self, subtask: u32) -> Result<NextSplitBytes>;
    /// snapshot
    fn snapshot(&self) -> Result<Vec<u8>>;
    /// restore
    fn restore(&mut self, state: Option<&[u8]>) -> Result<()>;
}

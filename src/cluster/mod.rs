//! The jobmanager and its taskmanagers: deployment, failure, restart.

pub mod jobmaster;
pub mod message;
mod restart;

pub use restart::{RestartDecision, RestartStrategy, RestartStrategyConfig};

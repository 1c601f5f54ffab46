//! The jobmanager and its taskmanagers: deployment, failure, restart.

pub mod jobmaster;
mod local;
pub mod message;
mod restart;
pub(crate) mod taskmanager;

pub(crate) use jobmaster::EnumeratorDriver;
pub use jobmaster::{JobNotice, JobResult};
pub use local::{JobController, JobHandle};
pub(crate) use local::{LocalCluster, LocalClusterOptions};
pub use restart::{RestartDecision, RestartStrategy, RestartStrategyConfig};

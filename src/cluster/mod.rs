//! The jobmanager and its taskmanagers: deployment, failure, restart.

#[cfg(unix)]
pub mod control;
#[allow(dead_code)]
mod data_plane;
pub mod jobmaster;
mod local;
pub mod message;
mod restart;
pub(crate) mod taskmanager;

pub(crate) use jobmaster::EnumeratorDriver;
pub use jobmaster::{JobNotice, JobResult};
pub use local::{JobController, JobHandle, JobReport};
pub(crate) use local::{LocalCluster, LocalClusterOptions};
pub use restart::{RestartDecision, RestartStrategy, RestartStrategyConfig};

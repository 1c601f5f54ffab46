//! The jobmanager and its taskmanagers: deployment, failure, restart.

pub mod control;
pub(crate) mod data_plane;
#[cfg(unix)]
pub mod dispatcher;
mod jobmanager;
pub mod jobmaster;
mod local_cluster;
pub mod message;
mod restart;
mod rpc;
pub(crate) mod taskmanager;
#[cfg(test)]
pub(crate) mod test_certificates;
pub(crate) mod tls;

pub(crate) use jobmanager::{
    InProcess, InProcessOptions, Inbox, JobManager, JobManagerOptions, Remote, TaskManagers,
};
pub use jobmanager::{
    JobController, JobException, JobHandle, JobInfo, JobReport, RunningSubtask, TaskManagerAddress,
    TaskManagerInfo,
};
pub(crate) use jobmaster::EnumeratorDriver;
pub use jobmaster::{JobNotice, JobResult};
pub use local_cluster::LocalCluster;
pub use restart::{RestartDecision, RestartStrategy, RestartStrategyConfig};
pub(crate) use rpc::{Admission, RpcServer, Sessions, Settings, Standing, read_token, who};
pub(crate) use taskmanager::TaskManagerProcess;
pub use tls::TlsFiles;

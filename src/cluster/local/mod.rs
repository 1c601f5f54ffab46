//! A whole cluster in one process: the jobmanager on a thread, taskmanagers as groups of threads.

mod handle;
mod shell;

pub use handle::{JobController, JobHandle};
pub(crate) use shell::{LocalCluster, LocalClusterOptions};

//! A whole cluster in one process: the jobmanager on a thread, taskmanagers as groups of threads.

mod handle;
mod shell;

#[cfg(unix)]
pub(crate) use handle::answer;
pub use handle::{JobController, JobHandle, JobReport};
pub(crate) use shell::{LocalCluster, LocalClusterOptions};

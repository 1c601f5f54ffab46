//! The jobmanager: the thread around the pure jobmaster, the taskmanagers it commands, and its caller's grip on it.

mod handle;
mod in_process;
mod observed;
mod remote;
mod shell;

pub(crate) use handle::answer;
pub use handle::{JobController, JobHandle, JobReport};
pub(crate) use in_process::{InProcess, InProcessOptions};
pub use observed::{JobException, JobInfo, RunningSubtask, TaskManagerAddress, TaskManagerInfo};
pub(crate) use remote::Remote;
pub(crate) use shell::{Inbox, JobManager, JobManagerOptions, ShellEvent, TaskManagers};

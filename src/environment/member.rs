//! Processes that do not lead the job: a taskmanager, and one that starts a cluster of others.

use super::launch::{backend_name, io_runtime, process_seed, token};
use super::{CrashSite, Environment, slots_per_taskmanager};
use crate::cluster::taskmanager::ProcessClock;
use crate::cluster::{LocalCluster, TaskManagerProcess};
use crate::error::{Error, Result};
use crate::id::JobId;
use std::sync::Arc;
use std::time::Duration;

impl Environment {
    /// Takes part in the job until it is over. Comes back only if it could not.
    pub(super) fn serve<T>(self, job_name: &str) -> Result<T> {
        let (program, config, mut crash_points) = self.compile(job_name)?;
        let cluster = &config.cluster;
        let process = TaskManagerProcess {
            slots: slots_per_taskmanager(&config, program.job_graph.slots_needed())?,
            program: Arc::new(program),
            jobmanagers: cluster.jobmanager.split(',').map(|at| at.trim().to_owned()).collect(),
            listen: cluster.listen_address().to_owned(),
            token: token(cluster.token_file.as_deref())?,
            backend: config.state.backend.clone(),
            backend_name: backend_name(&config.state.backend),
            local_dir: config.state.local_dir.clone(),
            crash_points: crash_points.remove(&CrashSite::TaskManager(0)).unwrap_or_default(),
            patience: Duration::from_millis(cluster.registration_timeout_ms),
            seed: process_seed(),
            clock: ProcessClock::start(),
        };
        let runtime = io_runtime()?;
        let outcome = runtime.block_on(process.run(runtime.handle()));
        if let Err(e) = &outcome {
            eprintln!("tidegate: the taskmanager ends: {e}");
        }
        // Subtasks that do not stop must not keep the process.
        std::process::exit(i32::from(outcome.is_err()))
    }

    /// Starts this program again as a jobmanager and as taskmanagers. Comes back only if it could not.
    pub(super) fn start_processes<T>(self, job_name: &str) -> Result<T> {
        // What is wrong with the program is better said once than by every process.
        let (_, config, _) = self.compile(job_name)?;
        let program = std::env::current_exe()
            .map_err(|e| Error::config("cannot tell which program this is").with_source(e))?;
        let cluster = LocalCluster {
            program,
            arguments: without_member_flags(std::env::args().skip(1)),
            taskmanagers: config.cluster.taskmanagers,
            job: config.job_id.unwrap_or_else(|| JobId::new(job_name, process_seed() as u32).to_string()),
            listen: config.cluster.listen,
        };
        let runtime = io_runtime()?;
        let code = runtime.block_on(cluster.run());
        // With the runtime its processes go.
        drop(runtime);
        let code = code?;
        std::process::exit(code)
    }
}

/// A command line without the flags that say which member of a cluster a process is.
fn without_member_flags(arguments: impl Iterator<Item = String>) -> Vec<String> {
    const FLAGS: [&str; 10] = [
        "--role",
        "--cluster.role",
        "--listen",
        "--cluster.listen",
        "--jobmanager",
        "--cluster.jobmanager",
        "--taskmanagers",
        "--cluster.taskmanagers",
        "--job-id",
        "--job.id",
    ];
    let mut kept = Vec::new();
    let mut is_value = false;
    for argument in arguments {
        let name = argument.split('=').next().unwrap_or_default();
        if is_value {
            is_value = false;
        } else if FLAGS.contains(&name) {
            is_value = name == argument;
        } else {
            kept.push(argument);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_get_the_command_line_without_what_makes_this_process_their_parent() {
        let given = [
            "--input",
            "a",
            "--role",
            "local-cluster",
            "--taskmanagers=3",
            "--job-id=x",
            "--parallelism",
            "2",
        ];
        let kept = without_member_flags(given.iter().map(|s| (*s).to_owned()));
        assert_eq!(kept, ["--input", "a", "--parallelism", "2"]);
    }
}

//! Processes that do not lead the job: a taskmanager, and one that starts a cluster of others.

use super::launch::{backend_name, io_runtime, process_seed, token};
use super::{CrashSite, Environment};
use crate::cluster::taskmanager::ProcessClock;
use crate::cluster::{LocalCluster, TaskManagerProcess};
use crate::error::{Error, Result};
use crate::id::JobId;
use crate::say::say;
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::sync::Arc;
use std::time::Duration;

impl Environment {
    /// Takes part in the job until it is over. Comes back only if it could not.
    pub(super) fn serve<T>(self, job_name: &str) -> Result<T> {
        let (program, config, mut crash_points) = self.compile(job_name)?;
        let cluster = &config.cluster;
        let process = TaskManagerProcess {
            // How many others there are is not known here: the jobmanager waits for slots.
            slots: config.cluster.slots_for(program.job_graph.slots_needed()),
            program: Arc::new(program),
            jobmanagers: cluster.jobmanager.split(',').map(|at| at.trim().to_owned()).collect(),
            listen: cluster.listen_address().to_owned(),
            advertise: cluster.advertise.clone(),
            job: config.job_id.clone(),
            token: token(cluster.token_file.as_deref())?,
            tls: cluster.tls(),
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
            say(format_args!("the taskmanager ends: {e}"));
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
            arguments: std::env::args().skip(1).collect(),
            taskmanagers: config.cluster.taskmanagers,
            job: config.job_id.unwrap_or_else(|| JobId::new(job_name, process_seed() as u32).to_string()),
            listen: config.cluster.listen,
            advertise: config.cluster.advertise,
            live: std::io::stderr().is_terminal(),
        };
        let runtime = io_runtime()?;
        let code = runtime.block_on(cluster.run());
        // With the runtime its processes go.
        drop(runtime);
        let code = code?;
        std::process::exit(code)
    }
}

/// Ends this process when its standard input is closed.
pub(super) fn end_with_stdin() -> Result<()> {
    let watch = || {
        let mut ignored = [0; 64];
        loop {
            match std::io::stdin().read(&mut ignored) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        // Whoever started this process may have read what it says, too.
        _ = writeln!(std::io::stderr(), "tidegate: standard input is closed; this process ends");
        std::process::exit(1)
    };
    std::thread::Builder::new()
        .name("watch-stdin".to_owned())
        .spawn(watch)
        .map(drop)
        .map_err(|e| Error::restart_job("no thread to watch standard input").with_source(e))
}

//! The members of a job's cluster, each a process of this program, with a scratch directory for what they write.

use std::error::Error as StdError;
use std::fs::File;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tidegate::cluster::JobInfo;
use tidegate::cluster::control::{ControlReply, ControlRequest, JobManagerAddress, JobManagerClient};
use tidegate::error::{Error, Result};

pub(crate) type Outcome<T> = std::result::Result<T, Box<dyn StdError>>;

/// Longer than any of them takes for anything.
pub(crate) const LONGEST: Duration = Duration::from_secs(120);

/// They go with it.
pub(crate) struct Members {
    /// `host:port` of the jobmanager.
    pub(crate) address: String,
    scratch: TempDir,
    /// The command of this program that is the job, with its arguments.
    job: Vec<String>,
    pub(crate) processes: Vec<Child>,
}

impl Drop for Members {
    fn drop(&mut self) {
        for process in &mut self.processes {
            _ = process.kill();
            _ = process.wait();
        }
    }
}

impl Members {
    /// None yet.
    pub(crate) fn of(job: &str) -> Outcome<Self> {
        let scratch = tempfile::Builder::new().prefix("tidegate-members").tempdir()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        Ok(Self { address, scratch, job: vec![job.to_owned()], processes: Vec::new() })
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.scratch.path().join(name).to_string_lossy().into_owned()
    }

    /// One more argument of the job.
    pub(crate) fn arg(&mut self, name: &str, value: impl ToString) {
        self.job.extend([name.to_owned(), value.to_string()]);
    }

    pub(crate) fn spawn_jobmanager(&mut self) -> Outcome<()> {
        let address = self.address.clone();
        self.spawn(&["--role", "jobmanager", "--listen", &address])
    }

    /// One with one slot.
    pub(crate) fn spawn_taskmanager(&mut self) -> Outcome<()> {
        let address = self.address.clone();
        self.spawn(&["--role", "taskmanager", "--jobmanager", &address, "--slots", "1"])
    }

    /// Any process of the job.
    pub(crate) fn spawn(&mut self, role: &[&str]) -> Outcome<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(&self.job).args(["--checkpoint.dir", &self.path("checkpoints")]).args(role);
        let log = File::options().create(true).append(true).open(self.path("log"))?;
        self.processes.push(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?);
        Ok(())
    }

    /// What all of them have said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until the process with this number has ended well.
    pub(crate) fn wait(&mut self, number: usize) -> Outcome<()> {
        let start = Instant::now();
        while start.elapsed() < LONGEST {
            let process = self.processes.get_mut(number).ok_or("no such process")?;
            match process.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("{status}:\n{}", self.log()).into()),
                None => sleep(Duration::from_millis(5)),
            }
        }
        Err(format!("it did not end:\n{}", self.log()).into())
    }

    /// What the jobmanager knows.
    pub(crate) fn info(&self) -> Result<JobInfo> {
        let address = JobManagerAddress::new(&self.address, None)?;
        match JobManagerClient::find(&address)?.ask(&ControlRequest::Info)?.reply()? {
            ControlReply::Info(info) => Ok(info),
            other => Err(Error::data(format!("an unexpected reply: {other:?}"))),
        }
    }
}

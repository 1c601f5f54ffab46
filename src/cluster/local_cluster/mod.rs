//! A cluster of processes on this machine: a program started as a jobmanager and as taskmanagers, watched, and started again
//! when one of them dies.
//!
//! The processes do not outlive this one, however it ends: their standard input is a pipe from here, and they end when it is
//! closed (`cluster.watch-stdin`).

mod console;
mod flags;

use crate::error::{Error, Result};
use console::Console;
use flags::without_member_flags;
use std::collections::BTreeMap;
use std::fmt;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Pause before a process that has died is started again, the first time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The pause doubles with every death up to this one: a process that dies of too little memory is not helped by haste.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// One that has lived for so long begins with the first pause again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// How long the taskmanagers may take to leave after the jobmanager.
const FAREWELL: Duration = Duration::from_secs(5);

/// A cluster of processes on this machine, to be started.
#[derive(Clone, Debug)]
pub struct LocalCluster {
    /// The program.
    pub program: PathBuf,
    /// Its command line. What says which member of a cluster a process is is left out.
    pub arguments: Vec<String>,
    /// How many taskmanagers.
    pub taskmanagers: u32,
    /// The job's id: a jobmanager that is started again goes on with it.
    pub job: String,
    /// `host:port` of the jobmanager; a free port of this machine if absent.
    pub listen: Option<String>,
    /// Where others reach the jobmanager, if that is not where it listens.
    pub advertise: Option<String>,
    /// Shows a line per process on standard error, kept up to date, instead of everything that they say.
    pub live: bool,
}

/// Which process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Member {
    JobManager,
    TaskManager(u32),
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::JobManager => "jobmanager",
            Self::TaskManager(_) => "taskmanager",
        })
    }
}

/// How often a member has died lately.
#[derive(Debug, Default)]
pub(super) struct Deaths {
    pause: Option<Duration>,
}

impl Deaths {
    /// The pause before it is started again, after a life that long.
    pub(super) fn next_pause(&mut self, life: Duration) -> Duration {
        let pause = match self.pause {
            Some(last) if life < HEALTHY_AFTER => (last * 2).min(LONGEST_PAUSE),
            _ => FIRST_PAUSE,
        };
        self.pause = Some(pause);
        pause
    }
}

/// What a process has come to.
struct Ended {
    member: Member,
    pid: u32,
    life: Duration,
    status: std::io::Result<ExitStatus>,
}

impl LocalCluster {
    /// A program's command line without what says which member of a cluster a process is.
    pub fn common_arguments(arguments: &[String]) -> Vec<String> {
        without_member_flags(arguments.iter().cloned())
    }

    /// Runs until the jobmanager has ended by itself, and returns its exit code; 130 or 143 if this process was asked to stop by
    /// Ctrl-C or SIGTERM. No process is left then.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub async fn run(mut self) -> Result<i32> {
        let address = match self.listen.take() {
            Some(address) => address,
            None => free_port()?,
        };
        self.arguments = Self::common_arguments(&self.arguments);
        let console = Console::start(self.live, self.taskmanagers);
        let mut processes: JoinSet<Ended> = JoinSet::new();
        let outcome = self.watch(&mut processes, &address, &console).await;
        // Those that are left are killed with their tasks.
        processes.shutdown().await;
        console.finish();
        outcome
    }

    async fn watch(
        &self,
        processes: &mut JoinSet<Ended>,
        address: &str,
        console: &Arc<Console>,
    ) -> Result<i32> {
        let mut stop = std::pin::pin!(asked_to_stop());
        let mut deaths: BTreeMap<Member, Deaths> = BTreeMap::new();
        self.start(processes, Member::JobManager, address, Duration::ZERO, console)?;
        for index in 0..self.taskmanagers {
            self.start(processes, Member::TaskManager(index), address, Duration::ZERO, console)?;
        }
        loop {
            let ended = tokio::select! {
                ended = processes.join_next() => ended,
                code = &mut stop => {
                    console.say("stopped");
                    return Ok(code);
                }
            };
            let Some(Ok(Ended { member, pid, life, status })) = ended else {
                return Err(Error::bug("a process of the cluster was not watched"));
            };
            let status =
                status.map_err(|e| Error::restart_job(format!("{member} is lost")).with_source(e))?;
            if member == Member::JobManager
                && let Some(code) = status.code()
            {
                console.ended(member, &death(status));
                self.farewell(processes, console).await;
                return Ok(code);
            }
            if status.success() {
                // It has been told that the job is over; the jobmanager will end, too.
                console.ended(member, "ended");
                continue;
            }
            let pause = deaths.entry(member).or_default().next_pause(life);
            console.died(member, pid, &death(status), pause);
            self.start(processes, member, address, pause, console)?;
        }
    }

    /// Waits a moment for the taskmanagers, which have been told that the job is over.
    async fn farewell(&self, processes: &mut JoinSet<Ended>, console: &Console) {
        let all = async {
            while let Some(ended) = processes.join_next().await {
                if let Ok(Ended { member, status: Ok(status), .. }) = ended {
                    console.ended(member, &death(status));
                }
            }
        };
        _ = tokio::time::timeout(FAREWELL, all).await;
    }

    fn start(
        &self,
        processes: &mut JoinSet<Ended>,
        member: Member,
        address: &str,
        pause: Duration,
        console: &Arc<Console>,
    ) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args(["--job-id", &self.job]);
        command.args(["--taskmanagers", &self.taskmanagers.to_string()]);
        match member {
            Member::JobManager => {
                let advertise = self.advertise.iter().flat_map(|at| ["--advertise", at]);
                command.args(["--role", "jobmanager", "--listen", address]).args(advertise)
            }
            Member::TaskManager(_) => command.args(["--role", "taskmanager", "--jobmanager", address]),
        };
        command.arg("--cluster.watch-stdin");
        command.stdin(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        if member != Member::JobManager || console.takes_output() {
            command.stdout(Stdio::piped());
        }
        let program = self.program.display().to_string();
        let console = console.clone();
        let spawn = move |mut command: Command| -> Result<Child> {
            let mut child = command
                .spawn()
                .map_err(|e| Error::config(format!("cannot start {program}")).with_source(e))?;
            let pid = child.id().unwrap_or_default();
            console.started(member, pid);
            if let Some(output) = child.stderr.take() {
                pass_on(console.clone(), member, pid, false, output);
            }
            if let Some(output) = child.stdout.take() {
                pass_on(console.clone(), member, pid, member == Member::JobManager, output);
            }
            Ok(child)
        };
        // What cannot be started at all is said at once; later it is a death like others.
        let first = if pause.is_zero() {
            Some(spawn(std::mem::replace(&mut command, Command::new("")))?)
        } else {
            None
        };
        processes.spawn(async move {
            tokio::time::sleep(pause).await;
            let start = Instant::now();
            let child = first.map_or_else(|| spawn(command).map_err(std::io::Error::other), Ok);
            let (pid, status) = match child {
                Ok(mut child) => {
                    let pid = child.id().unwrap_or_default();
                    // Waiting would close it.
                    let _pipe = child.stdin.take();
                    (pid, child.wait().await)
                }
                Err(e) => (0, Err(e)),
            };
            Ended { member, pid, life: start.elapsed(), status }
        });
        Ok(())
    }
}

/// An address of this machine that nobody listens at.
fn free_port() -> Result<String> {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = port.map_err(|e| Error::config("no port is free for the jobmanager").with_source(e))?;
    Ok(port.to_string())
}

/// Shows what a process prints, line by line.
fn pass_on(
    console: Arc<Console>,
    member: Member,
    pid: u32,
    is_result: bool,
    output: impl AsyncRead + Send + Unpin + 'static,
) {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is called on the runtime, and the task ends with the process"
    )]
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if is_result {
                console.result(&line);
            } else {
                console.says(member, pid, &line);
            }
        }
    });
}

pub(super) fn death(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("was killed by signal {signal}");
    }
    match status.code() {
        Some(code) => format!("ended with exit code {code}"),
        None => "was killed".to_owned(),
    }
}

/// Returns when a person or a service manager wants this process to stop, with the exit code that says so.
pub(super) async fn asked_to_stop() -> i32 {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            return tokio::select! {
                _ = terminate.recv() => 143,
                _ = tokio::signal::ctrl_c() => 130,
            };
        }
    }
    _ = tokio::signal::ctrl_c().await;
    130
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_dies_again_and_again_waits_longer_and_longer() {
        let mut deaths = Deaths::default();
        let short = Duration::from_secs(1);
        let pauses: Vec<u64> = (0..9).map(|_| deaths.next_pause(short).as_millis() as u64).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(deaths.next_pause(HEALTHY_AFTER), FIRST_PAUSE);
        assert_eq!(deaths.next_pause(short), FIRST_PAUSE * 2);
    }
}

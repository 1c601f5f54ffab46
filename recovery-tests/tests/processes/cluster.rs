//! A jobmanager and taskmanagers as real processes on one job, and what can be done to them.

use crate::common::{LONG, free_address, wait};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tidegate::cluster::control::{ControlReply, ControlRequest, JobManagerAddress, JobManagerClient};
use tidegate::error::Result;
use tidegate_recovery_tests::{oracle, snapshots};

const COUNTING_JOB: &str = env!("CARGO_BIN_EXE_counting_job");
/// Keys of the job.
const KEYS: u64 = 100;

/// Failures follow each other without a pause.
pub(crate) const FIXED_DELAY: &[&str] = &[
    "--restart.strategy",
    "fixed-delay",
    "--restart.fixed-delay.attempts",
    "1000",
    "--restart.fixed-delay.delay",
    "10ms",
];

/// What the job counts, and how it is started.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) job: &'static str,
    pub(crate) records: u64,
    /// Records per second.
    pub(crate) rate: u64,
    pub(crate) checkpoint_interval: &'static str,
    /// Whether every checkpoint is kept and looked into at the end.
    pub(crate) keeps_all: bool,
    /// Whether the job counts everything once more, apart from it.
    pub(crate) beside: bool,
    /// More flags of all members.
    pub(crate) flags: &'static [&'static str],
}

impl Default for Setup {
    /// Ten seconds of work.
    fn default() -> Self {
        Self {
            job: "counting-1",
            records: 60_000,
            rate: 6_000,
            checkpoint_interval: "200ms",
            keeps_all: true,
            beside: false,
            flags: &[],
        }
    }
}

/// A cluster of processes on one job.
pub(crate) struct Cluster {
    pub(crate) setup: Setup,
    pub(crate) directory: TempDir,
    pub(crate) address: String,
    /// Where a second jobmanager would be.
    pub(crate) standby_address: String,
    pub(crate) jobmanager: Child,
    pub(crate) taskmanagers: Vec<Child>,
}

impl Cluster {
    pub(crate) fn start(taskmanagers: usize) -> Self {
        let mut cluster = Self::of_jobmanager(Setup::default(), None);
        cluster.taskmanagers = (0..taskmanagers).map(|_| cluster.spawn_taskmanager(None)).collect();
        cluster
    }

    /// Without taskmanagers. The jobmanager dies at `crash_point`, if there is one.
    pub(crate) fn of_jobmanager(setup: Setup, crash_point: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (address, standby_address) = (free_address(), free_address());
        let role = ["--role", "jobmanager", "--listen", &address];
        let jobmanager = spawn(setup, directory.path(), &role, crash_point);
        Self { setup, directory, address, standby_address, jobmanager, taskmanagers: Vec::new() }
    }

    pub(crate) fn spawn_jobmanager(&self, address: &str, flags: &[&str]) -> Child {
        self.spawn_armed_jobmanager(address, flags, None)
    }

    /// One that dies at `crash_point`, if there is one.
    pub(crate) fn spawn_armed_jobmanager(
        &self,
        address: &str,
        flags: &[&str],
        crash_point: Option<&str>,
    ) -> Child {
        let role = [&["--role", "jobmanager", "--listen", address], flags].concat();
        spawn(self.setup, self.directory.path(), &role, crash_point)
    }

    pub(crate) fn spawn_taskmanager(&self, crash_point: Option<&str>) -> Child {
        let both = format!("{},{}", self.address, self.standby_address);
        let role = ["--role", "taskmanager", "--jobmanager", &both];
        spawn(self.setup, self.directory.path(), &role, crash_point)
    }

    /// One with a variable in its environment.
    pub(crate) fn spawn_taskmanager_with(&self, variable: &str, value: &str) -> Child {
        let mut command = Command::new(COUNTING_JOB);
        command.env(variable, value);
        let role = ["--role", "taskmanager", "--jobmanager", &self.address];
        start(command, self.setup, self.directory.path(), &role)
    }

    /// One that looks for the jobmanager there.
    pub(crate) fn spawn_taskmanager_at(&self, jobmanager: &str, flags: &[&str]) -> Child {
        let role = [&["--role", "taskmanager", "--jobmanager", jobmanager], flags].concat();
        spawn(self.setup, self.directory.path(), &role, None)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Waits until the members have said `text` so often.
    pub(crate) fn wait_for(&self, text: &str, times: usize) {
        let start = Instant::now();
        while self.log().matches(text).count() < times {
            assert!(start.elapsed() < LONG, "never said: {text}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the job has published something more.
    pub(crate) fn wait_for_output(&self) {
        let published = || std::fs::read_dir(self.directory.path().join("out")).map_or(0, |d| d.count());
        let (before, start) = (published(), Instant::now());
        while published() < before + 2 {
            assert!(start.elapsed() < LONG, "nothing is published\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn kill_taskmanager(&mut self, index: usize) {
        self.taskmanagers[index].kill().unwrap();
        self.taskmanagers[index].wait().unwrap();
        self.taskmanagers[index] = self.spawn_taskmanager(None);
    }

    pub(crate) fn kill_jobmanager(&mut self) {
        self.jobmanager.kill().unwrap();
        self.jobmanager.wait().unwrap();
        self.jobmanager = self.spawn_jobmanager(&self.address, &[]);
    }

    /// What the jobmanager answers.
    pub(crate) fn ask(&self, request: &ControlRequest) -> Result<ControlReply> {
        ask(&self.address, request)
    }

    /// The parallelism at which the job runs, once it does.
    pub(crate) fn parallelism(&self) -> u32 {
        match self.ask(&ControlRequest::Plan) {
            Ok(ControlReply::Plan(graph)) => graph.parallelism(),
            other => panic!("{other:?}\n{}", self.log()),
        }
    }

    /// Waits for the end of every process, and compares what was published.
    pub(crate) fn finish(mut self) {
        self.end();
        self.check_output();
    }

    /// Waits for the end of every process.
    pub(crate) fn end(&mut self) {
        let log = |this: &Self| format!("{}\nin {}", this.log(), this.directory.path().display());
        let ended = wait(&mut self.jobmanager);
        assert!(ended.is_some_and(|status| status.success()), "the jobmanager: {ended:?}\n{}", log(self));
        let mut taskmanagers = std::mem::take(&mut self.taskmanagers);
        for taskmanager in &mut taskmanagers {
            let ended = wait(taskmanager);
            assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{}", log(self));
        }
    }

    /// The lines published in a directory, sorted.
    pub(crate) fn published(&self, directory: &str) -> Vec<String> {
        oracle::published(&self.directory.path().join(directory)).unwrap()
    }

    /// Compares what was published with what should be, and every checkpoint with a model of the records before it.
    pub(crate) fn check_output(&self) {
        let records = self.setup.records;
        let mut lines = Vec::new();
        for entry in std::fs::read_dir(self.directory.path().join("out")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "csv") {
                lines.extend(std::fs::read_to_string(path).unwrap().lines().map(str::to_owned));
            }
        }
        let different: BTreeSet<&String> = lines.iter().collect();
        let expected =
            (0..KEYS).flat_map(|key| (1..=records / KEYS).map(move |count| format!("{key},{count}")));
        let missing = expected.filter(|line| !different.contains(line)).count();
        let what = format!("lines, missing ones\n{}\nin {}", self.log(), self.directory.path().display());
        assert_eq!((lines.len() as u64, missing), (records, 0), "{what}");
        if self.setup.keeps_all {
            let place = self.directory.path().join("checkpoints").join(self.setup.job);
            let check = |stored| snapshots::check_counting(stored, records, KEYS);
            let kept = snapshots::check_kept(&place, &check);
            assert!(kept.as_ref().is_ok_and(|kept| *kept > 3), "{kept:?}: {what}");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.taskmanagers.iter_mut().chain([&mut self.jobmanager]) {
            _ = process.kill();
            _ = process.wait();
        }
    }
}

/// What the jobmanager at an address answers.
pub(crate) fn ask(address: &str, request: &ControlRequest) -> Result<ControlReply> {
    let address = JobManagerAddress::new(address, None)?;
    JobManagerClient::find(&address)?.ask(request)?.reply()
}

fn spawn(setup: Setup, directory: &Path, role: &[&str], crash_point: Option<&str>) -> Child {
    let mut command = Command::new(COUNTING_JOB);
    if let Some(crash_point) = crash_point {
        command.env("TIDEGATE_CRASH_POINT", crash_point);
    }
    start(command, setup, directory, role)
}

/// Starts a member in a network namespace.
pub(crate) fn spawn_in(namespace: &str, setup: Setup, directory: &Path, role: &[&str]) -> Child {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, COUNTING_JOB]);
    start(command, setup, directory, role)
}

fn start(mut command: Command, setup: Setup, directory: &Path, role: &[&str]) -> Child {
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let log = std::fs::File::options().create(true).append(true).open(directory.join("log")).unwrap();
    command.args(["--output", &path("out"), "--checkpoint.dir", &path("checkpoints")]);
    command.args(["--records", &setup.records.to_string(), "--rate", &setup.rate.to_string()]);
    command.args(["--parallelism", "2", "--slots", "1", "--job-id", setup.job]);
    command.args(["--checkpoint.interval", setup.checkpoint_interval, "--control.dir", &path("control")]);
    command.args(["--state.local-dir", &path("local")]);
    command.args(["--cluster.heartbeat-interval", "100ms", "--cluster.heartbeat-timeout", "1s"]);
    if setup.keeps_all {
        command.args(["--checkpoint.retained", "1000", "--checkpoint.retain", "always"]);
    }
    if setup.beside {
        command.args(["--beside", &path("beside")]);
    }
    command.args(setup.flags).args(role);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

pub(crate) fn signal(process: &Child, signal: &str) {
    let pid = process.id().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

//! A cluster of real processes on the counting job, and the command `tidegate` beside it.

#![allow(dead_code, reason = "each test program uses its part")]

#[path = "../../../src/cluster/test_certificates.rs"]
pub(crate) mod certificates;

use certificates::{Authority, Certificate};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Far more than anything takes.
pub(crate) const LONG: Duration = Duration::from_secs(120);

pub(crate) struct Cluster {
    pub(crate) directory: TempDir,
    /// Of the first jobmanager.
    pub(crate) address: String,
    /// Flags of all members.
    flags: Vec<String>,
    pub(crate) jobmanager: Child,
    pub(crate) taskmanagers: Vec<Child>,
    /// Killed at the end.
    others: Vec<Child>,
}

impl Cluster {
    /// Two taskmanagers for a job that does not end by itself.
    pub(crate) fn endless(flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = free_address();
        let mut all = vec!["--records", "1000000000", "--rate", "6000"];
        all.extend(flags);
        let flags: Vec<String> = all.iter().map(|flag| (*flag).to_owned()).collect();
        let jobmanager = member(directory.path(), &flags, &["--role", "jobmanager", "--listen", &address]);
        let mut this = Self { directory, address, flags, jobmanager, taskmanagers: vec![], others: vec![] };
        for _ in 0..2 {
            let taskmanager = this.taskmanager(&this.address, &[]);
            this.taskmanagers.push(taskmanager);
        }
        this
    }

    /// Starts a jobmanager at this address.
    pub(crate) fn jobmanager_at(&self, address: &str) -> Child {
        member(self.directory.path(), &self.flags, &["--role", "jobmanager", "--listen", address])
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn taskmanager(&self, jobmanagers: &str, flags: &[&str]) -> Child {
        let mut all = vec!["--role", "taskmanager", "--jobmanager", jobmanagers];
        all.extend(flags);
        member(self.directory.path(), &self.flags, &all)
    }

    /// Starts a taskmanager that is not told what the others are.
    pub(crate) fn stranger(&mut self, flags: &[&str]) -> ExitStatus {
        let mut all = vec!["--role", "taskmanager", "--jobmanager", &self.address];
        all.extend(["--records", "1000000000", "--rate", "6000"]);
        all.extend(flags);
        let mut stranger = member(self.directory.path(), &[], &all);
        let ended = wait(&mut stranger);
        self.others.push(stranger);
        ended.unwrap()
    }

    /// Starts a jobmanager that stands by, and returns its address.
    pub(crate) fn standby(&mut self) -> String {
        let address = free_address();
        let flags = ["--role", "jobmanager", "--listen", &address, "--standby"];
        self.others.push(member(self.directory.path(), &self.flags, &flags));
        address
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until the members have said `text` so often.
    pub(crate) fn wait_for(&self, text: &str, times: usize) {
        self.wait_until(text, || self.log().matches(text).count() >= times);
    }

    pub(crate) fn wait_until(&self, what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < LONG, "never: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the job has published something more.
    pub(crate) fn wait_for_output(&self) {
        let published = || std::fs::read_dir(self.path("out")).map_or(0, |d| d.count());
        let before = published();
        self.wait_until("something more is published", || published() >= before + 2);
    }

    /// Runs the command on the job of this cluster.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        let mut all = arguments.to_vec();
        all.extend(["--jobmanager", &self.address]);
        command(&all)
    }

    /// See [`check_output`].
    pub(crate) fn check_output(&self) -> u64 {
        check_output(self.directory.path())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let members = self.taskmanagers.iter_mut().chain(&mut self.others).chain([&mut self.jobmanager]);
        for process in members {
            _ = process.kill();
            _ = process.wait();
        }
    }
}

pub(crate) fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn member(directory: &Path, flags: &[String], role: &[&str]) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(directory.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_counting_job"));
    command.args(job_flags(directory)).args(flags).args(role);
    command.args(["--slots", "1", "--taskmanagers", "2"]);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// What every member of a cluster on the counting job is told.
pub(crate) fn job_flags(directory: &Path) -> Vec<String> {
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let flags = [
        ["--output", &path("out")],
        ["--checkpoint.dir", &path("checkpoints")],
        ["--control.dir", &path("control")],
        ["--parallelism", "2"],
        ["--job-id", "counting-1"],
        ["--checkpoint.interval", "200ms"],
        ["--cluster.heartbeat-interval", "100ms"],
        ["--cluster.heartbeat-timeout", "1s"],
    ];
    flags.iter().flatten().map(|flag| (*flag).to_owned()).collect()
}

/// Runs the command `tidegate`.
pub(crate) fn command(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate_command")).args(arguments).output().unwrap()
}

/// What a command printed; it must have ended with this exit code.
#[track_caller]
pub(crate) fn out(output: &Output, code: i32) -> String {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}{error}");
    text
}

/// What a command said was wrong; it must have ended with this exit code.
#[track_caller]
pub(crate) fn error(output: &Output, code: i32) -> String {
    out(output, code);
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
pub(crate) fn json(output: &Output) -> serde_json::Value {
    serde_json::from_str(&out(output, 0)).unwrap()
}

pub(crate) fn wait(process: &mut Child) -> Option<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < LONG {
        if let Some(status) = process.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

pub(crate) fn signal(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

/// Whether there is such a process. One that only waits for its parent to look at it is none.
pub(crate) fn lives(pid: u32) -> bool {
    let found = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
    let state = String::from_utf8_lossy(&found.stdout);
    !state.trim().is_empty() && !state.starts_with('Z')
}

/// What was published is the counts of each key from 1, each once; returns how many.
pub(crate) fn check_output(directory: &Path) -> u64 {
    let mut counts: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for entry in std::fs::read_dir(directory.join("out")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "csv") {
            for line in std::fs::read_to_string(path).unwrap().lines() {
                let (key, count) = line.split_once(',').unwrap();
                counts.entry(key.parse().unwrap()).or_default().push(count.parse().unwrap());
            }
        }
    }
    let mut sum = 0;
    for (key, mut found) in counts {
        found.sort_unstable();
        let expected: Vec<u64> = (1..=found.len() as u64).collect();
        assert_eq!(found, expected, "counts of key {key} in {}", directory.display());
        sum += found.len() as u64;
    }
    sum
}

/// The options of encryption: of members, or with another prefix of the command.
pub(crate) fn tls(prefix: &str, certificate: &Certificate, authority: &Authority) -> Vec<String> {
    let files =
        [("certificate", &certificate.file), ("key", &certificate.key), ("authority", &authority.file)];
    let flags = files.iter().map(|(name, path)| format!("--{prefix}{name}={}", path.display()));
    flags.collect()
}

pub(crate) fn strs(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

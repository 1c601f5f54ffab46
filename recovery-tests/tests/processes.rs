//! The process lane: a jobmanager and taskmanagers as real processes, killed and stopped while the job runs. What the
//! exactly-once sink has published must be exact.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::disallowed_methods, reason = "real processes take real time")]

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const RECORDS: u64 = 60_000;
const RATE: u64 = 6_000;
/// Far more than a run takes.
const LONG: Duration = Duration::from_secs(120);

/// A cluster of processes on one job.
struct Cluster {
    directory: TempDir,
    address: String,
    jobmanager: Child,
    taskmanagers: Vec<Child>,
}

impl Cluster {
    fn start(taskmanagers: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let address = port.to_string();
        let jobmanager = Self::spawn(directory.path(), &address, true);
        let taskmanagers =
            (0..taskmanagers).map(|_| Self::spawn(directory.path(), &address, false)).collect();
        Self { directory, address, jobmanager, taskmanagers }
    }

    fn spawn(directory: &Path, address: &str, is_jobmanager: bool) -> Child {
        let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
        let log = std::fs::File::options().create(true).append(true).open(directory.join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_counting_job"));
        command.args(["--output", &path("out"), "--checkpoint.dir", &path("checkpoints")]);
        command.args(["--records", &RECORDS.to_string(), "--rate", &RATE.to_string()]);
        command.args(["--parallelism", "2", "--slots", "1", "--taskmanagers", "2", "--job-id", "counting-1"]);
        command.args(["--checkpoint.interval", "200ms", "--control.dir", &path("control")]);
        command.args(["--cluster.heartbeat-interval", "100ms", "--cluster.heartbeat-timeout", "1s"]);
        match is_jobmanager {
            true => command.args(["--role", "jobmanager", "--listen", address]),
            false => command.args(["--role", "taskmanager", "--jobmanager", address]),
        };
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Waits until the members have said `text` so often.
    fn wait_for(&self, text: &str, times: usize) {
        let start = Instant::now();
        while self.log().matches(text).count() < times {
            assert!(start.elapsed() < LONG, "never said: {text}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the job has published something more.
    fn wait_for_output(&self) {
        let published = || std::fs::read_dir(self.directory.path().join("out")).map_or(0, |d| d.count());
        let (before, start) = (published(), Instant::now());
        while published() < before + 2 {
            assert!(start.elapsed() < LONG, "nothing is published\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn kill_taskmanager(&mut self, index: usize) {
        self.taskmanagers[index].kill().unwrap();
        self.taskmanagers[index].wait().unwrap();
        self.taskmanagers[index] = Self::spawn(self.directory.path(), &self.address, false);
    }

    fn kill_jobmanager(&mut self) {
        self.jobmanager.kill().unwrap();
        self.jobmanager.wait().unwrap();
        self.jobmanager = Self::spawn(self.directory.path(), &self.address, true);
    }

    fn signal(&self, index: usize, signal: &str) {
        let pid = self.taskmanagers[index].id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits for the end of every process, and compares what was published.
    fn finish(mut self) {
        let log = |this: &Self| format!("{}\nin {}", this.log(), this.directory.path().display());
        let ended = wait(&mut self.jobmanager);
        assert!(ended.is_some_and(|status| status.success()), "the jobmanager: {ended:?}\n{}", log(&self));
        let mut taskmanagers = std::mem::take(&mut self.taskmanagers);
        for taskmanager in &mut taskmanagers {
            let ended = wait(taskmanager);
            assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{}", log(&self));
        }
        let mut lines = Vec::new();
        for entry in std::fs::read_dir(self.directory.path().join("out")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "csv") {
                lines.extend(std::fs::read_to_string(path).unwrap().lines().map(str::to_owned));
            }
        }
        let different: BTreeSet<&String> = lines.iter().collect();
        let expected =
            (0..100).flat_map(|key| (1..=RECORDS / 100).map(move |count| format!("{key},{count}")));
        let missing = expected.filter(|line| !different.contains(line)).count();
        assert_eq!((lines.len() as u64, missing), (RECORDS, 0), "lines, missing ones\n{}", log(&self));
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

fn wait(process: &mut Child) -> Option<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < LONG {
        if let Some(status) = process.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

#[test]
fn nothing_happens() {
    let cluster = Cluster::start(2);
    cluster.wait_for_output();
    cluster.finish();
}

#[test]
fn taskmanagers_are_killed() {
    let mut cluster = Cluster::start(2);
    for victim in [0, 1, 0] {
        cluster.wait_for_output();
        cluster.kill_taskmanager(victim);
    }
    cluster.wait_for("restored from checkpoint", 3);
    cluster.finish();
}

#[test]
fn the_jobmanager_is_killed_and_what_was_published_before_stays() {
    let mut cluster = Cluster::start(2);
    for _ in 0..2 {
        cluster.wait_for_output();
        cluster.kill_jobmanager();
    }
    cluster.wait_for("restored from checkpoint", 2);
    cluster.finish();
}

#[test]
fn a_jobmanager_and_a_taskmanager_are_killed_at_once() {
    let mut cluster = Cluster::start(2);
    cluster.wait_for_output();
    cluster.kill_jobmanager();
    cluster.kill_taskmanager(1);
    cluster.wait_for("restored from checkpoint", 1);
    cluster.finish();
}

/// It is given up, and the job waits for slots; when it wakes up it has no part in the job any more until it has joined
/// again, and the job goes on by itself.
#[test]
fn a_taskmanager_is_frozen_and_wakes_up_as_a_zombie() {
    let cluster = Cluster::start(2);
    cluster.wait_for_output();
    cluster.signal(0, "-STOP");
    cluster.wait_for("waiting for slots: 1 of 2 there", 2);
    cluster.signal(0, "-CONT");
    cluster.wait_for("lost the jobmanager", 1);
    cluster.finish();
}

#[test]
fn a_second_jobmanager_is_refused_while_the_first_lives() {
    let cluster = Cluster::start(2);
    cluster.wait_for_output();
    let mut second = Cluster::spawn(cluster.directory.path(), "127.0.0.1:0", true);
    let ended = wait(&mut second);
    assert_eq!(ended.and_then(|status| status.code()), Some(1), "{}", cluster.log());
    cluster.wait_for("job counting-1 has a jobmanager, at ", 1);
    cluster.finish();
}

//! `tidegate local-cluster` with real processes: it starts them again when they die, and leaves none behind.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "real processes take real time")]

mod common;

use common::{LONG, check_output, command, error, job_flags, lives, signal, wait};
use rustix::pty::{self, OpenptFlags};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tempfile::TempDir;

struct Supervisor {
    directory: TempDir,
    process: Child,
}

impl Supervisor {
    fn start(records: &str) -> Self {
        Self::start_with(records, &[])
    }

    /// With variables in the environment of all members.
    fn start_with(records: &str, variables: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate_command"));
        command.args(["local-cluster", "--taskmanagers", "2", "--", env!("CARGO_BIN_EXE_counting_job")]);
        command.args(job_flags(directory.path())).args(["--records", records, "--rate", "6000"]);
        command.envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self { process: command.spawn().unwrap(), directory }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn wait_until(&self, what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < LONG, "never: {what}\n{}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn wait_for_output(&self) {
        let published = || std::fs::read_dir(self.directory.path().join("out")).map_or(0, |d| d.count());
        let before = published();
        self.wait_until("something more is published", || published() >= before + 2);
    }

    /// Process ids of all members of this kind that were ever started.
    fn started(&self, kind: &str) -> Vec<u32> {
        let log = self.log();
        let lines = log.lines().filter_map(|line| line.strip_prefix("[cluster] ")?.strip_prefix(kind));
        lines.filter_map(|line| line.trim().strip_suffix(" started")?.parse().ok()).collect()
    }

    fn all(&self) -> Vec<u32> {
        self.started("jobmanager").into_iter().chain(self.started("taskmanager")).collect()
    }

    fn wait_for_nobody(&self) {
        let all = self.all();
        assert!(all.len() >= 3, "{}", self.log());
        self.wait_until("no process is left", || all.iter().all(|pid| !lives(*pid)));
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

#[test]
fn what_dies_is_started_again_and_the_exit_code_is_that_of_the_job() {
    let mut cluster = Supervisor::start("30000");
    cluster.wait_for_output();
    signal(cluster.started("taskmanager")[0], "-KILL");
    cluster.wait_until("another taskmanager", || cluster.started("taskmanager").len() == 3);
    cluster.wait_until("it goes on", || cluster.log().contains("restored from checkpoint"));
    signal(cluster.started("jobmanager")[0], "-KILL");
    cluster.wait_until("another jobmanager", || cluster.started("jobmanager").len() == 2);
    let ended = wait(&mut cluster.process);
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "{}", cluster.log());
    assert!(cluster.log().contains("was killed by signal 9; another starts in 500 ms"), "{}", cluster.log());
    cluster.wait_for_nobody();
    assert_eq!(check_output(cluster.directory.path()), 30_000);
}

/// Haste does not help one that gets no memory: every death makes the next pause longer, which is said.
#[test]
fn a_taskmanager_that_dies_as_soon_as_it_starts_is_started_ever_more_slowly() {
    let mut cluster = Supervisor::start_with("6000", &[("TIDEGATE_NO_MEMORY", "1")]);
    for pause in [500, 1000, 2000] {
        let said = format!("was killed by signal 6; another starts in {pause} ms");
        cluster.wait_until(&said, || cluster.log().matches(&said).count() >= 2);
    }
    assert_eq!(cluster.started("jobmanager").len(), 1, "{}", cluster.log());
    signal(cluster.process.id(), "-TERM");
    assert_eq!(wait(&mut cluster.process).unwrap().code(), Some(143));
    cluster.wait_for_nobody();
}

#[test]
fn no_process_outlives_it_whatever_ends_it() {
    for (how, code) in [("-TERM", Some(143)), ("-INT", Some(130)), ("-KILL", None)] {
        let mut cluster = Supervisor::start("1000000000");
        cluster.wait_for_output();
        assert!(cluster.all().iter().all(|pid| lives(*pid)));
        signal(cluster.process.id(), how);
        assert_eq!(wait(&mut cluster.process).unwrap().code(), code, "{how}\n{}", cluster.log());
        cluster.wait_for_nobody();
        check_output(cluster.directory.path());
    }
}

#[test]
fn what_cannot_be_run_is_told_once() {
    let missing = error(&command(&["local-cluster", "--", "/no/such/program"]), 2);
    assert!(missing.contains("/no/such/program: cannot be started"), "{missing}");
    let stranger = error(&command(&["local-cluster", "--", "echo"]), 2);
    assert!(
        stranger.contains("echo: does not print a plan when it is called with --plan json"),
        "{stranger}"
    );
    // A program that is wrong says so itself.
    let program = env!("CARGO_BIN_EXE_counting_job");
    let wrong = error(&command(&["local-cluster", "--", program, "--output", "/tmp/x"]), 2);
    assert!(
        wrong.contains("needs a checkpoint directory") && wrong.contains("does not start, see above"),
        "{wrong}"
    );
    assert!(!Path::new("/tmp/x").exists());
}

/// A terminal, and what stands on it: the lines since it was last cleared, with process, pid, state and restarts.
struct Terminal {
    shown: Arc<Mutex<String>>,
    end: File,
}

impl Terminal {
    fn new() -> Self {
        let ours = pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        pty::grantpt(&ours).unwrap();
        pty::unlockpt(&ours).unwrap();
        let name = pty::ptsname(&ours, Vec::new()).unwrap();
        let end = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut from, screen) = (File::from(ours), Arc::clone(&shown));
        _ = std::thread::Builder::new()
            .spawn(move || {
                let mut piece = [0; 4096];
                // An error is the end of the other side.
                while let Ok(read @ 1..) = from.read(&mut piece) {
                    screen.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..read]));
                }
            })
            .unwrap();
        Self { shown, end }
    }

    fn text(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    /// The words of the line of a process, as last drawn.
    fn line_of(&self, process: &str) -> Vec<String> {
        let text = self.text();
        let last = text.rsplit("\x1b[J").next().unwrap_or_default().to_owned();
        let line = last.lines().find_map(|line| line.strip_prefix(process)).unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect()
    }
}

#[test]
fn a_terminal_has_one_line_per_process_that_is_kept_up_to_date() {
    let terminal = Terminal::new();
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate_command"));
    command.args(["local-cluster", "--taskmanagers", "2", "--", env!("CARGO_BIN_EXE_counting_job")]);
    command.args(job_flags(directory.path())).args(["--records", "30000", "--rate", "6000"]);
    command.stdin(Stdio::null());
    command.stdout(terminal.end.try_clone().unwrap()).stderr(terminal.end.try_clone().unwrap());
    let mut process = command.spawn().unwrap();
    let wait_until = |what: &str, is_so: &dyn Fn() -> bool| {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < LONG, "never: {what}\n{}", terminal.text());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    let is_running = |process: &str| terminal.line_of(process).get(1).is_some_and(|state| state == "running");
    let all = ["jobmanager", "taskmanager 1", "taskmanager 2"];
    wait_until("all run", &|| all.iter().all(|process| is_running(process)));
    let published = || std::fs::read_dir(directory.path().join("out")).map_or(0, |files| files.count());
    wait_until("something is published", &|| published() >= 2);
    signal(terminal.line_of("taskmanager 2")[0].parse().unwrap(), "-KILL");
    let is_back = || is_running("taskmanager 2") && terminal.line_of("taskmanager 2")[2] == "1";
    wait_until("the second one is back", &is_back);
    assert_eq!(terminal.line_of("taskmanager 1")[2], "0");
    assert_eq!(wait(&mut process).and_then(|status| status.code()), Some(0), "{}", terminal.text());
    assert!(all.iter().all(|process| !is_running(process)), "{}", terminal.text());
    assert!(terminal.text().contains("\x1b[4A\x1b[J"), "drawn over the four lines before");
    assert_eq!(check_output(directory.path()), 30_000);
}

//! `tidegate cluster` with real processes: it takes programs of its allow-list by name and hash, and whatever is killed, its
//! jobs give the same output.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "real processes take real time")]

mod common;

use common::certificates::Authority;
use common::{LONG, check_output, command, error, free_address, json, lives, out, signal, strs, tls, wait};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A cluster, and what it needs.
struct Standing {
    directory: TempDir,
    address: String,
    slots: &'static str,
    /// For the cluster and for commands to it.
    flags: Vec<String>,
    process: Child,
}

impl Standing {
    fn start(slots: &'static str) -> Self {
        Self::start_with(slots, Vec::new())
    }

    fn start_with(slots: &'static str, flags: Vec<String>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("list")).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_counting_job"), directory.path().join("list/counting")).unwrap();
        let address = free_address();
        let process = serve(directory.path(), &address, slots, &strs(&flags));
        let this = Self { directory, address, slots, flags, process };
        this.wait_until("it listens", || this.log().contains("tidegate: cluster at"));
        this
    }

    /// Kills the cluster and starts it again.
    fn kill_and_start(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.start_again();
    }

    fn start_again(&mut self) {
        let before = self.log().matches("tidegate: cluster at").count();
        self.process = serve(self.directory.path(), &self.address, self.slots, &strs(&self.flags));
        self.wait_until("it listens again", || self.log().matches("tidegate: cluster at").count() > before);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn wait_until(&self, what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < LONG, "never: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a command on the cluster.
    fn command(&self, arguments: &[&str]) -> Output {
        let mut all = arguments.to_vec();
        let end = all.iter().position(|a| *a == "--").unwrap_or(all.len());
        let mut reach = vec!["--cluster", &self.address];
        reach.extend(strs(&self.flags));
        all.splice(end..end, reach);
        command(&all)
    }

    /// Submits the counting job with its output in a directory called after it.
    fn run(&self, job: &str, flags: &[&str], records: &str) -> Output {
        std::fs::create_dir_all(self.path(job)).unwrap();
        let output = self.path(job).join("out");
        let mut all = vec!["run", "counting", "--json", "--job-id", job, "--taskmanagers", "2"];
        all.extend(flags);
        let control = self.path("control");
        all.extend(["--", "--output", output.to_str().unwrap(), "--control.dir", control.to_str().unwrap()]);
        all.extend(["--records", records, "--rate", "6000", "--parallelism", "2"]);
        all.extend(["--checkpoint.interval", "200ms"]);
        self.command(&all)
    }

    fn list(&self) -> Value {
        json(&self.command(&["list", "--json"]))
    }

    fn job(&self, job: &str) -> Value {
        let list = self.list();
        list["jobs"].as_array().unwrap().iter().find(|found| found["job"] == job).unwrap().clone()
    }

    fn wait_for_status(&self, job: &str, status: &str) {
        self.wait_until(&format!("{job} is {status}"), || self.job(job)["status"] == status);
    }

    fn wait_for_output(&self, job: &str) {
        let published = || std::fs::read_dir(self.path(job).join("out")).map_or(0, |d| d.count());
        let before = published();
        self.wait_until("something more is published", || published() >= before + 2);
    }

    /// Process ids of all members of this kind that were ever started for a job.
    fn started(&self, kind: &str, job: &str) -> Vec<u32> {
        let log = self.log();
        let lines = log.lines().filter_map(|line| line.strip_prefix("[cluster] ")?.strip_prefix(kind));
        let end = format!(" of job {job} started");
        lines.filter_map(|line| line.trim().strip_suffix(&end)?.parse().ok()).collect()
    }

    fn processes(&self, job: &str) -> Vec<u32> {
        let mut all = self.started("jobmanager", job);
        all.extend(self.started("taskmanager", job));
        all
    }

    fn wait_for_nobody(&self, job: &str) {
        let all = self.processes(job);
        self.wait_until("no process is left", || all.iter().all(|pid| !lives(*pid)));
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn serve(directory: &Path, address: &str, slots: &str, flags: &[&str]) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(directory.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate_command"));
    command.args(["cluster", "--slots", slots, "--listen", address]).args(flags);
    command.arg("--jobs").arg(directory.join("list")).arg("--data").arg(directory.join("data"));
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// Another file in the place of a program.
fn exchange(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    _ = std::fs::remove_file(path);
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_program_runs_by_name_and_hash_and_no_other_does() {
    let cluster = Standing::start("2");
    let sum = Command::new("sha256sum").arg(cluster.path("list/counting")).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    let hash = sum.split_whitespace().next().unwrap();

    let wrong = error(&cluster.run("a", &["--sha256", &"0".repeat(64)], "20000"), 2);
    assert!(wrong.contains(&format!("its hash is {hash}")), "{wrong}");
    let absent = error(&cluster.command(&["run", "other"]), 2);
    assert!(absent.contains("program 'other': is not in the allow-list (it has counting)"), "{absent}");
    let outside = error(&cluster.command(&["run", "../data/lock"]), 2);
    assert!(outside.contains("is no plain name"), "{outside}");
    let flag = error(&cluster.command(&["run", "counting", "--", "--role", "local"]), 2);
    assert!(flag.contains("cluster.role is set by the cluster"), "{flag}");
    let program = error(&cluster.command(&["run", "counting"]), 2);
    assert!(program.contains("does not start") && program.contains("--output"), "{program}");
    exchange(&cluster.path("list/stranger"), "#!/bin/sh\necho hello\n");
    let stranger = error(&cluster.command(&["run", "stranger"]), 2);
    assert!(stranger.contains("does not say what its job needs"), "{stranger}");
    assert_eq!(cluster.list()["jobs"].as_array().unwrap().len(), 0);

    let submitted = json(&cluster.run("a", &["--sha256", hash], "20000"));
    assert_eq!((&submitted["job"], &submitted["sha256"]), (&"a".into(), &hash.into()));
    assert_eq!((&submitted["slots"], &submitted["status"]), (&2.into(), &"running".into()));
    let again = error(&cluster.run("a", &[], "20000"), 2);
    assert!(again.contains("job a is here already"), "{again}");
    // What is exchanged now is not what runs, nor what is started again.
    exchange(&cluster.path("list/counting"), "#!/bin/sh\nexit 9\n");
    cluster.wait_for_output("a");
    signal(cluster.started("jobmanager", "a")[0], "-KILL");
    cluster.wait_until("another jobmanager", || cluster.started("jobmanager", "a").len() == 2);
    signal(cluster.started("taskmanager", "a")[0], "-KILL");
    cluster.wait_until("another taskmanager", || cluster.started("taskmanager", "a").len() >= 3);
    cluster.wait_for_status("a", "finished");
    assert_eq!(check_output(&cluster.path("a")), 20_000);
    cluster.wait_for_nobody("a");
    let ended = error(&cluster.run("a", &[], "20000"), 2);
    assert!(ended.contains("does not start"), "the exchanged file: {ended}");
    assert_eq!(cluster.list()["free_slots"], 2);
    cluster.wait_until("the program is removed", || {
        std::fs::read_dir(cluster.path("data/programs")).unwrap().count() == 0
    });
}

#[test]
fn a_cluster_that_is_killed_goes_on_with_its_jobs_and_starts_no_ended_one() {
    let mut cluster = Standing::start("2");
    out(&cluster.run("ended", &[], "2000"), 0);
    let submitted = std::fs::read(cluster.path("data/jobs/ended.json")).unwrap();
    cluster.wait_for_status("ended", "finished");
    out(&cluster.run("a", &[], "30000"), 0);
    out(&cluster.run("queued", &[], "2000"), 0);
    cluster.wait_for_output("a");
    let before = cluster.processes("a");
    assert_eq!(before.len(), 3);
    cluster.kill_and_start();
    cluster.wait_until("the old processes are gone", || before.iter().all(|pid| !lives(*pid)));
    cluster.wait_for_status("queued", "queued");
    cluster.wait_until("it goes on", || cluster.log().contains("restored from checkpoint"));
    cluster.wait_for_output("a");
    cluster.kill_and_start();
    for job in ["a", "queued"] {
        cluster.wait_for_status(job, "finished");
        cluster.wait_for_nobody(job);
    }
    assert_eq!(check_output(&cluster.path("a")), 30_000);
    assert_eq!(check_output(&cluster.path("queued")), 2_000);
    assert_eq!(cluster.started("jobmanager", "ended").len(), 1, "it had ended");
    // As if it had been killed before it noted the end: the word of the job's store is enough.
    _ = cluster.process.kill();
    _ = cluster.process.wait();
    std::fs::write(cluster.path("data/jobs/ended.json"), submitted).unwrap();
    cluster.start_again();
    cluster.wait_for_status("ended", "finished");
    assert_eq!(cluster.started("jobmanager", "ended").len(), 1, "it had ended");
}

#[test]
fn a_job_waits_for_slots_and_a_person_can_withdraw_or_cancel_it() {
    let cluster = Standing::start("3");
    out(&cluster.run("first", &[], "1000000000"), 0);
    let second = json(&cluster.run("second", &[], "2000"));
    assert_eq!(second["status"], "queued");
    assert_eq!(second["why"], "it needs 2 slots, and 1 of 3 are free");
    out(&cluster.run("third", &[], "2000"), 0);
    let huge = error(&cluster.run("huge", &["--slots", "4"], "2000"), 2);
    assert!(huge.contains("job huge needs 4 slots, and the cluster has 3"), "{huge}");
    let few = error(&cluster.run("few", &["--slots", "1", "--taskmanagers", "1"], "1"), 2);
    assert!(few.contains("cannot be used multiple times") || few.contains("it needs 2 slots"), "{few}");
    // Commands reach the jobs through the cluster, through their jobmanagers, and on this machine.
    cluster.wait_for_output("first");
    let info = json(&cluster.command(&["info", "first", "--json"]));
    assert_eq!((&info["job"], &info["taskmanagers"].as_array().unwrap().len()), (&"first".into(), &2));
    let jobmanager = cluster.job("first")["jobmanager"].as_str().unwrap().to_owned();
    assert_eq!(json(&command(&["list", "--jobmanager", &jobmanager, "--json"]))[0]["job"], "first");
    let control = cluster.path("control");
    let sockets = ["list", "--control-dir", control.to_str().unwrap(), "--json"];
    assert_eq!(json(&command(&sockets))[0]["job"], "first");
    let target = cluster.path("savepoints");
    out(&cluster.command(&["savepoint", "first", "--target", target.to_str().unwrap()]), 0);
    let none = error(&cluster.command(&["info", "second"]), 2);
    assert!(none.contains("job second has no jobmanager that could be asked: it is queued"), "{none}");
    let mistaken = error(&command(&["list", "--jobmanager", &cluster.address]), 2);
    assert!(mistaken.contains("this is a standing cluster"), "{mistaken}");
    let mistaken = error(&command(&["list", "--cluster", &jobmanager]), 2);
    assert!(mistaken.contains("is none, but a jobmanager"), "{mistaken}");

    out(&cluster.command(&["cancel", "third"]), 0);
    assert_eq!(cluster.job("third")["status"], "withdrawn");
    out(&cluster.command(&["cancel", "first"]), 0);
    cluster.wait_for_status("second", "finished");
    assert_eq!(check_output(&cluster.path("second")), 2_000);
    cluster.wait_for_status("first", "canceled");
    assert_eq!(cluster.processes("third").len(), 0);
    // It has not ended: under its id it can be submitted again.
    out(&cluster.run("third", &[], "2000"), 0);
    cluster.wait_for_status("third", "finished");
    assert_eq!(check_output(&cluster.path("third")), 2_000);
}

#[test]
fn stopping_leaves_no_process_and_ends_no_job() {
    let mut cluster = Standing::start("2");
    out(&cluster.run("a", &[], "20000"), 0);
    cluster.wait_for_output("a");
    signal(cluster.process.id(), "-TERM");
    assert_eq!(wait(&mut cluster.process).unwrap().code(), Some(143), "{}", cluster.log());
    assert!(cluster.processes("a").iter().all(|pid| !lives(*pid)), "{}", cluster.log());
    assert!(!cluster.path("data/checkpoints/a/status.json").exists());
    cluster.start_again();
    cluster.wait_for_status("a", "finished");
    assert_eq!(check_output(&cluster.path("a")), 20_000);
}

#[test]
fn a_cluster_is_refused_that_others_could_reach_or_that_another_one_runs_on() {
    let cluster = Standing::start("1");
    let ends = |address: &str| {
        let before = cluster.log().len();
        let code = wait(&mut serve(cluster.directory.path(), address, "1", &[])).unwrap().code();
        (code, cluster.log()[before..].to_owned())
    };
    let (code, log) = ends("0.0.0.0:0");
    assert!(code == Some(2) && log.contains("--listen 0.0.0.0:0 is open to other machines"), "{log}");
    let (code, log) = ends(&free_address());
    assert!(code == Some(2) && log.contains("another cluster runs on it"), "{log}");
}

#[test]
fn a_token_is_asked_of_commands_and_given_to_processes() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("list")).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_counting_job"), directory.path().join("list/counting")).unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, "tide").unwrap();
    let token = token.to_str().unwrap().to_owned();
    let address = free_address();
    let process = serve(directory.path(), &address, "2", &["--token-file", &token]);
    let cluster = Standing { directory, address, slots: "2", flags: Vec::new(), process };
    cluster.wait_until("it listens", || cluster.log().contains("tidegate: cluster at"));
    let stranger = error(&cluster.command(&["list"]), 2);
    assert!(stranger.contains("does not have the cluster's token"), "{stranger}");
    out(&cluster.run("a", &["--token-file", &token], "5000"), 0);
    let finished = || {
        let list = json(&cluster.command(&["list", "--token-file", &token, "--json"]));
        list["jobs"][0]["status"] == "finished"
    };
    cluster.wait_until("it is finished", finished);
    assert_eq!(check_output(&cluster.path("a")), 5_000);
}

/// Its own port, the jobmanagers it starts and their taskmanagers.
#[test]
fn an_encrypted_cluster_serves_its_own_only() {
    let files = tempfile::tempdir().unwrap();
    let own = Authority::new(files.path(), "own");
    let mut cluster = Standing::start_with("2", tls("tls-", &own.sign(files.path(), "own-member"), &own));
    out(&cluster.run("a", &[], "1000000000"), 0);
    cluster.wait_for_output("a");
    cluster.kill_and_start();
    cluster.wait_until("it goes on", || cluster.log().contains("restored from checkpoint"));
    cluster.wait_for_output("a");
    let jobmanager = cluster.job("a")["jobmanager"].as_str().unwrap().to_owned();
    for reach in [["--cluster", &cluster.address], ["--jobmanager", &jobmanager]] {
        let refused = error(&command(&[&["list"], &reach[..]].concat()), 2);
        assert!(refused.contains("it takes encrypted connections only"), "{refused}");
    }
    let other = Authority::new(files.path(), "other");
    let foreign = tls("tls-", &other.sign(files.path(), "foreign"), &own);
    let refused =
        error(&command(&[&["list", "--cluster", &cluster.address], &strs(&foreign)[..]].concat()), 2);
    assert!(refused.contains("refuses the certificate of this process: UnknownCA"), "{refused}");
    let stopped = json(&cluster.command(&["stop", "a", "--json"]));
    assert!(stopped["location"].is_string(), "{stopped}");
    cluster.wait_for_status("a", "finished");
    assert!(check_output(&cluster.path("a")) > 0);
}

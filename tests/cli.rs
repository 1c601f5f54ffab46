//! The command `tidegate`, run as people run it, on stores that a job in this process has made and on running jobs.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{Gate, Log, gated, published, run_out};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tidegate::Environment;
use tidegate::cluster::JobHandle;
use tidegate::cluster::jobmaster::JobResult;
use tidegate::error::Result;
use tidegate::prelude::*;

const RECORDS: u64 = 1_000;

/// Counts per key, and says so.
struct Count {
    count: ValueState<u64>,
    log: Log<u64>,
}

impl KeyedProcessFunction<u64, u64, String> for Count {
    fn process(
        &mut self,
        n: u64,
        _: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let count = self.count.get()?.unwrap_or(0) + 1;
        self.count.set(count)?;
        out.collect(format!("{n} is number {count}"));
        self.log.push(n);
        Ok(())
    }
}

/// Lets some time go by. Never true.
fn pause() -> bool {
    std::thread::sleep(Duration::from_millis(20));
    false
}

struct Life {
    job: JobHandle,
    gate: Gate,
    log: Log<u64>,
}

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    fn start(&self, restore: Option<&Path>) -> Life {
        let mut env = Environment::new();
        let config = env.config_mut();
        config.parallelism = 2;
        config.checkpoint_dir = Some(self.path("checkpoints").to_string_lossy().into_owned());
        config.checkpoint.interval_ms = Some(5);
        config.checkpoint.retained = 2;
        config.control_dir = Some(self.path("run"));
        config.restore.path = restore.map(|path| path.to_string_lossy().into_owned());
        let (source, gate) = gated(RECORDS, 2, |n| n);
        let log = Log::new();
        let shared = log.clone();
        env.source(source)
            .uid("numbers")
            .key_by(|n| n % 10)
            .process(move |open| Ok(Count { count: open.value_state("count")?, log: shared.clone() }))
            .uid("count")
            .sink(FileSink::lines(self.path("out")))
            .uid("lines");
        Life { job: env.start("numbers").unwrap(), gate, log }
    }

    /// The directory of a job that was cancelled after it had completed two checkpoints or more.
    fn cancelled(&self) -> PathBuf {
        let life = self.start(None);
        life.gate.open_to(100);
        life.log.wait_for(100);
        for _ in 0..2 {
            life.gate.wait_for_checkpoint(2);
        }
        let directory = self.path("checkpoints").join(life.job.job_id().as_str());
        life.job.controller().cancel();
        assert_eq!(run_out(life.job).0, JobResult::Canceled);
        directory
    }

    fn tidegate(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(arguments)
            .env("XDG_RUNTIME_DIR", self.path("nowhere"))
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }

    /// Runs a command with the test's control directory.
    fn control(&self, arguments: &[&str]) -> Output {
        let run = self.path("run");
        let mut all = arguments.to_vec();
        all.extend(["--control-dir", run.to_str().unwrap()]);
        self.tidegate(&all)
    }
}

#[track_caller]
fn out(output: &Output, code: i32) -> String {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}{error}");
    text
}

#[track_caller]
fn json(output: &Output, code: i32) -> Value {
    serde_json::from_str(&out(output, code)).unwrap()
}

fn checkpoints(job: &Path) -> Vec<PathBuf> {
    let mut found: Vec<(u64, PathBuf)> = std::fs::read_dir(job)
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let number = path.file_name()?.to_str()?.strip_prefix("chk-")?.parse().ok()?;
            path.join("manifest.json").exists().then_some((number, path))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

fn str(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Makes everything in the directory look as if it had been written two hours ago.
fn age(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            age(&path);
        } else {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)).unwrap();
        }
    }
}

#[test]
fn checkpoints_are_listed_shown_verified_and_compared() {
    let place = Place::new();
    let job = place.cancelled();
    let kept = checkpoints(&job);
    assert_eq!(kept.len(), 2);

    let listed = json(&place.tidegate(&["checkpoint", "ls", str(&job), "--json"]), 0);
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(listed[1]["newest"], true);
    assert_eq!(listed[1]["location"], str(&kept[1]));
    let table = out(&place.tidegate(&["checkpoint", "ls", "checkpoints"]), 0);
    assert!(table.lines().count() == 3 && table.contains("newest  checkpoint  20"), "{table}");

    let shown = json(&place.tidegate(&["checkpoint", "show", str(&kept[1]), "--json"]), 0);
    assert_eq!(shown["manifest"]["operators"].as_array().unwrap().len(), 3, "{shown}");
    let subtasks = shown["manifest"]["subtasks"].as_array().unwrap();
    assert!(subtasks.len() == 4 && subtasks[0]["sync_us"].is_u64(), "four times for every subtask: {shown}");
    let history = shown["history"].as_array().unwrap();
    assert!(history.iter().any(|entry| entry["failure"].is_null()), "{shown}");
    let text = out(&place.tidegate(&["checkpoint", "show", str(&job), "--files"]), 0);
    for part in
        ["Operators", "count", "Times of each subtask", "start delay", "Files", "crc32", "last checkpoints"]
    {
        assert!(text.contains(part), "'{part}' is missing in\n{text}");
    }

    let verified = json(&place.tidegate(&["checkpoint", "verify", str(&job), "--json"]), 0);
    assert!(verified.as_array().unwrap().iter().all(|v| v["problems"].as_array().unwrap().is_empty()));

    let diff = json(&place.tidegate(&["checkpoint", "diff", str(&kept[0]), str(&kept[1]), "--json"]), 0);
    assert!(diff["operators"].as_array().unwrap().iter().all(|o| o["presence"] == "both"), "{diff}");
}

#[test]
fn damage_is_found_named_and_told_by_the_exit_code() {
    let place = Place::new();
    let job = place.cancelled();
    let newest = checkpoints(&job).pop().unwrap();
    assert!(out(&place.tidegate(&["fsck", "checkpoints"]), 0).contains("whole: 2 checkpoints"));
    let files: Vec<PathBuf> = std::fs::read_dir(&newest)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("manifest.json"))
        .collect();
    let victim = files.iter().find(|path| std::fs::metadata(path).unwrap().len() > 100).unwrap();
    let name = victim.file_name().unwrap().to_str().unwrap();
    let good = std::fs::read(victim).unwrap();
    let mut flipped = good.clone();
    flipped[50] ^= 1;
    type Damage<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let damages: [Damage<'_>; 3] = [
        ("the CRC32 of", Box::new(|| std::fs::write(victim, &flipped).unwrap())),
        ("bytes long instead of", Box::new(|| std::fs::write(victim, &good[..60]).unwrap())),
        ("the file is missing", Box::new(|| std::fs::remove_file(victim).unwrap())),
    ];
    for (what, damage) in damages {
        damage();
        for command in [vec!["fsck", "checkpoints"], vec!["checkpoint", "verify", str(&newest)]] {
            let text = out(&place.tidegate(&command), 1);
            assert!(text.contains("DAMAGED") && text.contains(what) && text.contains(name), "{text}");
        }
    }
    std::fs::write(newest.join("manifest.json"), "nonsense").unwrap();
    let checked = json(&place.tidegate(&["fsck", str(&job), "--json"]), 1);
    assert!(checked[0]["orphans"].is_null(), "nothing is called an orphan then: {checked}");
    let text = out(&place.tidegate(&["checkpoint", "ls", str(&job)]), 1);
    assert!(text.contains("DAMAGED") && text.contains("manifest.json"), "{text}");
}

#[test]
fn wrong_places_and_wrong_usage_have_an_exit_code_of_their_own() {
    let place = Place::new();
    std::fs::create_dir(place.path("empty")).unwrap();
    for arguments in [
        &["checkpoint", "ls", "empty"][..],
        &["checkpoint", "show", "not/there"],
        &["fsck", "empty"],
        &["fsck", "s3://bucket/dir"],
        &["fsck", "empty", "--grace", "soon"],
        &["checkpoint", "explode"],
        &["savepoint", "nobody", "--control-dir", "run"],
    ] {
        let output = place.tidegate(arguments);
        assert_eq!(out(&output, 2), "", "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn orphans_are_deleted_in_jobs_that_have_ended_and_only_there() {
    let place = Place::new();
    let job = place.cancelled();
    let kept = checkpoints(&job);
    std::fs::create_dir(job.join("chk-1")).ok();
    std::fs::write(job.join("chk-1/left-over"), "abc").unwrap();
    std::fs::write(kept[1].join("stray"), "abcd").unwrap();
    // Too young to judge.
    let young = json(&place.control(&["fsck", "checkpoints", "--delete", "--json"]), 0);
    assert!(young[0]["young"].as_u64() >= Some(2) && young[0]["orphans"].as_array().unwrap().is_empty());
    age(&job);
    let listed = json(&place.tidegate(&["fsck", "checkpoints", "--json"]), 0);
    let paths: Vec<&str> =
        listed[0]["orphans"].as_array().unwrap().iter().map(|o| o["path"].as_str().unwrap()).collect();
    let stray = format!("{}/stray", kept[1].file_name().unwrap().to_str().unwrap());
    assert!(paths.contains(&"chk-1/left-over") && paths.contains(&stray.as_str()), "{paths:?}");
    let count = paths.len();
    assert!(kept[1].join("stray").exists(), "only asked");

    let terms = || std::fs::read_dir(job.join("leader")).unwrap().count();
    let before = terms();
    let deleted = json(&place.control(&["fsck", "checkpoints", "--delete", "--json"]), 0);
    assert_eq!(deleted[0]["deleted"].as_array().unwrap().len(), count, "{deleted}");
    assert!(deleted[0]["orphans"].as_array().unwrap().is_empty(), "{deleted}");
    assert!(!kept[1].join("stray").exists() && terms() == before + 1, "a leader's term was taken for it");
    out(&place.tidegate(&["checkpoint", "verify", str(&job)]), 0);

    // A job that runs: its socket says so, however old everything looks.
    let life = place.start(None);
    life.gate.open_to(10);
    life.log.wait_for(10);
    life.gate.wait_for_checkpoint(2);
    let running = place.path("checkpoints").join(life.job.job_id().as_str());
    std::fs::create_dir(running.join("odd")).unwrap();
    std::fs::write(running.join("odd/stray"), "abc").unwrap();
    let refused = json(&place.control(&["fsck", str(&running), "--delete", "--grace", "0s", "--json"]), 1);
    assert!(refused[0]["refused"].as_str().unwrap().contains("the job is running"), "{refused}");
    // One that has not ended and has written lately, seen from where its socket is not.
    let elsewhere = place.path("elsewhere");
    let refused =
        place.tidegate(&["fsck", str(&running), "--delete", "--control-dir", str(&elsewhere), "--json"]);
    assert_eq!(json(&refused, 0)[0]["deleted"].as_array().unwrap().len(), 0, "it is too young, too");
    assert!(running.join("odd/stray").exists());
    life.gate.open();
    assert_eq!(run_out(life.job).0, JobResult::Finished, "nobody has taken the job's leadership");
}

#[test]
fn a_running_job_is_listed_saved_stopped_and_goes_on_elsewhere() {
    let place = Place::new();
    let life = place.start(None);
    let id = life.job.job_id().as_str().to_owned();
    life.gate.open_to(400);
    life.log.wait_for(400);

    let listed = json(&place.control(&["list", "--json"]), 0);
    assert_eq!(
        (listed[0]["job"].as_str(), listed[0]["status"].as_str()),
        (Some(id.as_str()), Some("running"))
    );
    assert!(out(&place.control(&["list"]), 0).contains(&id));
    let info = json(&place.control(&["info", &id, "--json"]), 0);
    assert_eq!((&info["jobmanager"], &info["taskmanagers"][0]["process"]), (&Value::Null, &Value::Null));
    assert_eq!(info["taskmanagers"][0]["subtasks"].as_array().unwrap().len(), 4, "{info}");
    assert!(out(&place.control(&["info", &id]), 0).contains("in the jobmanager's process"));
    let plan = json(&place.control(&["plan", &id, "--json"]), 0);
    assert_eq!(plan["vertices"][1]["operators"][0]["uid"], "count", "{plan}");
    life.job.controller().crash_taskmanager(0);
    let failures = || json(&place.control(&["exceptions", &id, "--json"]), 0).as_array().unwrap().len();
    assert!((0..500).any(|_| failures() == 1 || pause()), "the failure is remembered");

    // Named by the beginning of its id, by its directory, by the checkpoint directory.
    let saved = json(&place.control(&["savepoint", &id[..id.len() - 2], "--target", "saved", "--json"]), 0);
    let saved = PathBuf::from(saved["location"].as_str().unwrap());
    assert!(saved.starts_with(place.path("saved")) && saved.join("manifest.json").exists(), "{saved:?}");
    let directory = place.path("checkpoints").join(&id);
    let default = json(&place.control(&["savepoint", str(&directory), "--json"]), 0);
    let default = default["location"].as_str().unwrap().to_owned();
    assert!(default.starts_with(str(&place.path("checkpoints/savepoints"))), "{default}");
    let stopped = json(&place.control(&["stop", str(&place.path("checkpoints")), "--json"]), 0);
    let stopped = PathBuf::from(stopped["location"].as_str().unwrap());
    assert_eq!(run_out(life.job).0, JobResult::Finished);
    assert_eq!(published(&place.path("out")).len(), 400, "the stop has published everything before its cut");
    assert_eq!(json(&place.control(&["list", "--json"]), 0), Value::Array(vec![]));
    assert!(std::fs::read_dir(place.path("run")).unwrap().next().is_none(), "the socket is gone");

    let table = out(&place.tidegate(&["checkpoint", "ls", "checkpoints"]), 0);
    assert!(table.contains("savepoint") && table.contains("stop"), "savepoints are listed: {table}");
    out(&place.tidegate(&["checkpoint", "verify", str(&saved)]), 0);
    assert!(out(&place.tidegate(&["fsck", str(&stopped)]), 0).contains("whole: 1 checkpoints"));

    // The way to it is in the message of who tries the job's directory.
    let moved = place.path("moved here");
    std::fs::rename(&stopped, &moved).unwrap();
    let life = place.start(Some(&moved));
    life.gate.open();
    life.log.wait_for(600);
    assert_eq!(run_out(life.job).0, JobResult::Finished);
    let mut expected: Vec<String> = (0..RECORDS).map(|n| format!("{n} is number {}", n / 10 + 1)).collect();
    expected.sort();
    assert!(published(&place.path("out")) == expected, "every record once, counted from the savepoint on");
}

#[test]
fn a_running_job_is_drained_and_another_cancelled() {
    let place = Place::new();
    let life = place.start(None);
    life.gate.open_to(100);
    life.log.wait_for(100);
    let id = life.job.job_id().as_str().to_owned();
    let text = out(&place.control(&["stop", &id, "--drain", "--target", "saved"]), 0);
    assert!(text.contains(str(&place.path("saved"))), "{text}");
    assert_eq!(run_out(life.job).0, JobResult::Finished);
    let shown = out(&place.tidegate(&["checkpoint", "show", text.lines().last().unwrap()]), 0);
    assert!(shown.starts_with("drain "), "{shown}");

    let life = place.start(None);
    let id = life.job.job_id().as_str().to_owned();
    life.gate.open_to(1);
    life.log.wait_for(1);
    assert!(out(&place.control(&["cancel", &id]), 0).contains("is canceled"));
    assert_eq!(run_out(life.job).0, JobResult::Canceled);
    let output = place.control(&["stop", &id]);
    assert_eq!(out(&output, 2), "");
    assert!(String::from_utf8_lossy(&output.stderr).contains("is no running job"));
}

#[test]
fn a_savepoint_that_fails_is_told_and_the_job_goes_on() {
    let place = Place::new();
    let life = place.start(None);
    life.gate.open_to(10);
    life.log.wait_for(10);
    std::fs::write(place.path("a-file"), "").unwrap();
    let output = place.control(&["savepoint", life.job.job_id().as_str(), "--target", "a-file"]);
    assert_eq!(out(&output, 2), "");
    assert!(String::from_utf8_lossy(&output.stderr).contains("choose a directory"));
    life.gate.open();
    assert_eq!(run_out(life.job).0, JobResult::Finished);
    assert_eq!(published(&place.path("out")).len(), RECORDS as usize);
}

#[test]
fn state_is_listed_dumped_and_looked_up() {
    let place = Place::new();
    let directory = place.cancelled();
    let directory = str(&directory);
    let state = |arguments: &[&str]| place.tidegate(&[&["state"], arguments].concat());
    let of_count = ["--operator", "count", "--state", "count"];

    let listed = out(&state(&["ls", directory]), 0);
    let mut rows = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(
        rows.next().unwrap(),
        ["operator", "state", "kind", "keys", "rows", "bytes", "codec", "values"]
    );
    let rows: Vec<_> = rows.filter(|row| row[0] == "count").collect();
    let row = ["count", "count", "value", "u64", "10", "90", "B", "bincode", "u64"];
    assert!(rows.contains(&row.to_vec()), "{listed}");
    let listed = json(&state(&["ls", directory, "--json"]), 0);
    let of_json = listed.as_array().unwrap().iter().find(|o| o["uid"] == "count").unwrap();
    assert_eq!(of_json["states"][0]["rows"], 10, "{listed}");

    let dumped = out(&state(&[&["dump", directory][..], &of_count].concat()), 0);
    let mut lines: Vec<_> = dumped.lines().collect();
    lines.sort_unstable();
    let line = |key| format!(r#"{{"operator":"count","state":"count","key":{key},"value":10}}"#);
    assert_eq!(lines, (0..10).map(line).collect::<Vec<_>>());
    let everything = out(&state(&["dump", directory]), 0);
    assert!(everything.contains(r#""operator":"numbers","state":"splits""#), "{everything}");
    assert_eq!(out(&state(&["get", directory, "7", "--state", "count"]), 0), line(7) + "\n");
}

#[test]
fn state_that_is_not_there_is_told_by_the_exit_code() {
    let place = Place::new();
    let directory = place.cancelled();
    let directory = str(&directory);
    let refused = |arguments: &[&str], code: i32, names: &[&str]| {
        let output = place.tidegate(&[&["state"], arguments].concat());
        assert_eq!(out(&output, code), "", "{arguments:?}");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(names.iter().all(|name| error.contains(name)), "{arguments:?}: {error}");
    };
    refused(&["get", directory, "77", "--operator", "count"], 2, &["nothing is kept under key \"77\""]);
    refused(
        &["get", directory, "x", "--operator", "count"],
        2,
        &["\"x\" is not a key of type u64", "decimal"],
    );
    refused(&["get", directory, "7", "--operator", "lines"], 2, &["'lines'", "no keyed state"]);
    refused(&["dump", directory, "--operator", "other"], 2, &["no operator \"other\"", "count"]);
    refused(&["dump", directory, "--state", "other"], 2, &["no state \"other\"", "count/count"]);
    refused(&["ls", str(&place.path("nothing"))], 2, &["nothing"]);
    refused(&["ls", "checkpoints"], 2, &["the directory of many jobs"]);
    refused(&["get", directory], 2, &["<KEY>"]);

    let shown = json(&place.tidegate(&["checkpoint", "show", directory, "--files", "--json"]), 0);
    let operators = shown["manifest"]["operators"].as_array().unwrap();
    let of_count = operators.iter().find(|o| o["uid"] == "count").unwrap();
    let file = of_count["subtasks"][0]["files"].as_array().unwrap().iter().find(|f| f["kind"] == "keyed");
    let file = file.unwrap()["path"].as_str().unwrap();
    let path = Path::new(directory).join(file);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    refused(&["ls", directory], 1, &[file, "'count'"]);
    refused(&["dump", directory, "--operator", "count"], 1, &[file]);
}

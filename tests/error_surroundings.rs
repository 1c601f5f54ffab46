//! Mistakes in configuration, files and directories: each error names the thing, the place and what to do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{assert_error, gated, run_out};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use tidegate::cluster::RestartStrategyConfig;
use tidegate::cluster::jobmaster::JobResult;
use tidegate::config::Arguments;
use tidegate::connector::InvalidUtf8;
use tidegate::error::Result;
use tidegate::prelude::*;
use tidegate::testing::example;
use tidegate::{Environment, JobSummary};

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Runs a small job with its checkpoints in `directory`.
fn checkpoints_in(directory: &Path) -> Result<JobSummary> {
    let mut env = Environment::new();
    env.config_mut().checkpoint_dir = Some(text(directory));
    env.source(Generator::sequence(0..10)).sink(CollectSink::new().0);
    env.execute("checkpoints")
}

#[test]
fn a_checkpoint_directory_that_is_a_file() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    for path in [file.clone(), file.join("below")] {
        let names = [&text(&path), "checkpoint directory", "is a file: choose a directory"]
            .map(|s: &str| s.to_owned());
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_error(checkpoints_in(&path), ErrorKind::Config, &names);
    }
}

/// A file system mounted for one test; `None`, said aloud, where that is not possible.
struct Mount(PathBuf, #[expect(dead_code, reason = "goes last")] tempfile::TempDir);

impl Mount {
    fn new(options: &str) -> Option<Self> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().canonicalize().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&path).output();
        if mounted.is_ok_and(|out| out.status.success()) {
            return Some(Self(path, place));
        }
        eprintln!("SKIPPED: no right to mount a file system with {options}");
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_checkpoint_directory_that_is_read_only() {
    let Some(mount) = Mount::new("ro") else { return };
    let directory = mount.0.join("checkpoints");
    assert_error(
        checkpoints_in(&directory),
        ErrorKind::Config,
        &[&text(&directory), "Read-only", "choose another"],
    );
    // The directory itself exists, so that only writing fails.
    let names = [&*text(&mount.0), "not writable", "Read-only"];
    assert_error(checkpoints_in(&mount.0), ErrorKind::Config, &names);
}

#[test]
fn a_checkpoint_directory_that_is_full_from_the_start() {
    let Some(mount) = Mount::new("size=64k") else { return };
    std::fs::write(mount.0.join("ballast"), vec![0; 60 << 10]).unwrap();
    _ = std::fs::write(mount.0.join("rest"), vec![0; 8 << 10]);
    let names = [&*text(&mount.0), "not writable", "No space left", "free some space"];
    assert_error(checkpoints_in(&mount.0), ErrorKind::Config, &names);
}

#[test]
fn a_checkpoint_directory_that_fills_up_and_is_freed_again() {
    let Some(mount) = Mount::new("size=256k") else { return };
    let mut env = Environment::new();
    env.config_mut().checkpoint_dir = Some(text(&mount.0));
    env.config_mut().checkpoint.interval_ms = Some(5);
    env.config_mut().restart = Some(RestartStrategyConfig::FixedDelay { attempts: 1_000_000, delay_ms: 5 });
    let (source, gate) = gated(10, 1, |n| n);
    let (sink, out) = CollectSink::new();
    env.source(source).sink(sink);
    let job = env.start("fills up").unwrap();
    gate.open_to(5);
    gate.wait_for_checkpoint(1);
    let ballast = mount.0.join("ballast");
    std::fs::write(&ballast, vec![0; 4 << 10]).unwrap();
    let mut file = std::fs::File::options().append(true).open(&ballast).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    // Whichever file of a checkpoint does not fit: a state file, the manifest or the record of the commit.
    let why =
        job.notices().map(|notice| notice.to_string()).find(|text| text.contains("No space left")).unwrap();
    println!("{why}");
    assert!(why.contains(&text(&mount.0)) && why.contains("free some space"), "{why}");
    // The space is free only once nobody has the file open.
    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    gate.open();
    assert_eq!(run_out(job).0, JobResult::Finished);
    assert!(out.values().into_iter().eq(0..10));
}

#[test]
fn an_input_that_is_missing() {
    let place = tempfile::tempdir().unwrap();
    let missing = text(&place.path().join("nowhere.txt"));
    let read = |input: &str| {
        let mut env = Environment::new();
        // Ends at once all the same.
        env.config_mut().restart =
            Some(RestartStrategyConfig::FixedDelay { attempts: 1_000_000, delay_ms: 0 });
        env.source(FileSource::lines(input)).name("book").uid("book").sink(CollectSink::new().0);
        env.execute("read")
    };
    let text = assert_error(
        read(&missing),
        ErrorKind::Config,
        &[
            &format!("there is no file or directory '{missing}'"),
            "source 'book'",
            "working directory",
            "check the spelling",
        ],
    );
    assert!(text.matches("nowhere.txt").count() <= 2, "{text}");
    let pattern = format!("{}/*.txt", place.path().display());
    assert_error(read(&pattern), ErrorKind::Config, &["no file matches the pattern", &pattern]);
}

#[test]
fn an_input_that_is_not_utf8() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("latin1.txt");
    std::fs::write(&path, b"caf\xc3\xa9\ncaf\xe9\nend\n").unwrap();
    let read = |policy| {
        let env = Environment::new();
        let source = FileSource::lines(text(&path)).with_invalid_utf8(policy);
        let skipped = source.skipped();
        let (sink, lines) = CollectSink::new();
        env.source(source).name("book").sink(sink);
        env.execute("read").map(|_| (lines.values(), skipped.load(Ordering::Relaxed)))
    };
    let names = [&*text(&path), "byte 9", "UTF-8", "'book'", "SkipAndCount"];
    assert_error(read(InvalidUtf8::Fail), ErrorKind::Data, &names);
    assert_eq!(read(InvalidUtf8::SkipAndCount).unwrap(), (vec!["café".to_owned(), "end".to_owned()], 1));
}

#[test]
fn an_output_directory_that_is_a_file() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("file");
    std::fs::write(&path, "in the way").unwrap();
    let env = Environment::new();
    env.source(Generator::sequence(0..3)).map(|n| n.to_string()).sink(FileSink::lines(&path)).name("lines");
    let names = [&*text(&path), "operator 'lines'", "not a file"];
    assert_error(env.execute("write"), ErrorKind::Config, &names);
}

#[test]
fn too_few_slots() {
    let run = |slots, taskmanagers| {
        let mut env = Environment::new();
        env.config_mut().cluster.slots = slots;
        env.config_mut().cluster.taskmanagers = taskmanagers;
        env.source(Generator::sequence(0..3)).map(|n| n).parallelism(5);
        env.execute("slots").map(drop)
    };
    assert_error(run(Some(0), 1), ErrorKind::Config, &["cluster.slots = 0", "at least 1", "code"]);
    assert_error(run(None, 0), ErrorKind::Config, &["cluster.taskmanagers = 0", "at least 1"]);
    let names = ["needs 5 slots", "has 4", "taskmanagers is 2", "2 slots each", "raise cluster.slots"];
    assert_error(run(Some(2), 2), ErrorKind::Config, &names);
    run(Some(3), 2).unwrap();
}

#[test]
fn an_unknown_key_or_flag_names_the_nearest() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("job.yaml");
    std::fs::write(&file, "parallelism: 2\ncheckpoint:\n  intervall: 10s\n").unwrap();
    let parse = |words: &[&str]| {
        let line = ["program"].iter().chain(words).map(|word| word.into());
        Arguments::new("program", "").parse(line).map(drop)
    };
    let names = [&*text(&file), "checkpoint.intervall", "3", "did you mean 'checkpoint.interval'"];
    assert_error(parse(&["--config", &text(&file)]), ErrorKind::Config, &names);
    let names = ["--paralelism", "did you mean '--parallelism'"];
    assert_error(parse(&["--paralelism", "2"]), ErrorKind::Config, &names);
    assert_error(parse(&["--parallelism", "two"]), ErrorKind::Config, &["--parallelism", "two"]);
    assert_error(parse(&["--parallelism", "0"]), ErrorKind::Config, &["--parallelism", "0", "at least 1"]);
}

#[test]
fn an_error_of_a_program_is_reported_once_by_example() {
    let result = example(vec![1u64], |s| s.map(|_| -> u64 { panic!("once") }));
    let text = assert_error(result, ErrorKind::RestartJob, &["operator 'map'"]);
    assert_eq!(text.matches("once").count(), 1, "{text}");
}

//! Restoring what cannot be restored: each error names the thing, the place and what to do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{assert_error, gated, run_out};
use std::path::{Path, PathBuf};
use tidegate::cluster::RestartStrategyConfig;
use tidegate::cluster::jobmaster::JobResult;
use tidegate::error::Result;
use tidegate::prelude::*;
use tidegate::{Environment, JobSummary};
use tidegate_state::{State, ValueState};

struct Last<T: State> {
    last: ValueState<T>,
}

impl<T: State + From<u8>> KeyedProcessFunction<u64, u64, u64> for Last<T> {
    fn process(&mut self, n: u64, _: &mut KeyedContext<'_, u64>, out: &mut Collector<'_, u64>) -> Result<()> {
        self.last.set(T::from(n as u8))?;
        out.collect(n);
        Ok(())
    }
}

/// A program with `T` in the state `name` of the operator with this uid.
fn program<T: State + From<u8>>(
    env: &Environment,
    uid: &str,
    name: &'static str,
    max: Option<u16>,
) -> common::Gate {
    let (source, gate) = gated(10, 1, |n| n);
    let keyed = env
        .source(source)
        .uid("numbers")
        .parallelism(1)
        .key_by(|n| n % 3)
        .process(move |open| Ok(Last::<T> { last: open.value_state(name)? }))
        .name("keep last")
        .uid(uid);
    let keyed = match max {
        Some(max) => keyed.max_parallelism(max),
        None => keyed,
    };
    keyed.sink(CollectSink::new().0).uid("out");
    gate
}

fn environment(directory: &Path, restore: Option<&Path>) -> Environment {
    let mut env = Environment::new();
    env.config_mut().checkpoint_dir = Some(directory.to_string_lossy().into_owned());
    env.config_mut().checkpoint.interval_ms = Some(5);
    env.config_mut().restart = Some(RestartStrategyConfig::FixedDelay { attempts: 1_000_000, delay_ms: 0 });
    env.config_mut().restore.path = restore.map(|path| path.to_string_lossy().into_owned());
    env
}

/// A cancelled job with a checkpoint of `program::<u64>(.., "keep", "last", Some(16))`; its directory.
fn cancelled(directory: &Path) -> PathBuf {
    let env = environment(directory, None);
    let gate = program::<u64>(&env, "keep", "last", Some(16));
    let job = env.start("first").unwrap();
    gate.open_to(5);
    gate.wait_for_checkpoint(1);
    let place = directory.join(job.job_id().as_str());
    job.controller().cancel();
    assert_eq!(run_out(job).0, JobResult::Canceled);
    place
}

fn again(
    directory: &Path,
    restore: &Path,
    change: impl FnOnce(&mut Environment) -> common::Gate,
) -> Result<JobSummary> {
    let mut env = environment(directory, Some(restore));
    change(&mut env).open();
    env.execute("second")
}

#[test]
fn a_path_that_is_no_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let job = cancelled(directory.path());
    let restore =
        |path: &Path| again(directory.path(), path, |env| program::<u64>(env, "keep", "last", None));
    let shown = |path: &Path| format!("cannot restore from {}", path.display());

    let nowhere = directory.path().join("nowhere");
    assert_error(
        restore(&nowhere),
        ErrorKind::Config,
        &[
            &shown(&nowhere),
            "no such file or directory",
            "there are: ",
            &*job.file_name().unwrap().to_string_lossy(),
        ],
    );
    let gone = job.join("chk-998");
    assert_error(restore(&gone), ErrorKind::Config, &[&shown(&gone), "there are: chk-", "epochs"]);
    let deep = nowhere.join("below");
    assert_error(
        restore(&deep),
        ErrorKind::Config,
        &[&shown(&deep), "no such file or directory", "check the path"],
    );
    // What is above is the root of the file system.
    assert_error(
        restore(Path::new("/tmp")),
        ErrorKind::Config,
        &["cannot restore from /tmp", "no completed checkpoint"],
    );

    let empty = directory.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let names = [&*shown(&empty), "no completed checkpoint there", "nothing at that place"];
    assert_error(restore(&empty), ErrorKind::Config, &names);

    let file = directory.path().join("file");
    std::fs::write(&file, "not a checkpoint").unwrap();
    assert_error(
        restore(&file),
        ErrorKind::Config,
        &[&shown(&file), "it is a file", "name a savepoint, a chk-N directory"],
    );

    let unfinished = job.join("chk-999");
    std::fs::create_dir(&unfinished).unwrap();
    std::fs::write(unfinished.join("0.0-state"), "half").unwrap();
    let names = [&*shown(&unfinished), "chk-999 is no complete checkpoint", "found there: chk-"];
    assert_error(restore(&unfinished), ErrorKind::Config, &names);

    // The directory above that of the job: what is in it are jobs.
    assert_error(
        restore(directory.path()),
        ErrorKind::Config,
        &["no completed checkpoint there", "found there"],
    );
}

#[test]
fn a_damaged_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let job = cancelled(directory.path());
    let newest = std::fs::read_dir(&job).unwrap().map(|e| e.unwrap().path());
    let chk = newest.filter(|p| p.join("manifest.json").exists()).max().unwrap();
    let files = std::fs::read_dir(&chk).unwrap().map(|e| e.unwrap().path());
    let keyed = files.filter(|p| p.extension().is_some_and(|e| e == "keyed")).max().unwrap();
    let mut bytes = std::fs::read(&keyed).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&keyed, bytes).unwrap();
    let result = again(directory.path(), &job, |env| program::<u64>(env, "keep", "last", None));
    let file = keyed.file_name().unwrap().to_string_lossy().into_owned();
    assert_error(result, ErrorKind::Data, &[&file, "the CRC32 of the trailer is", "operator 'keep'", "chk-"]);
}

#[test]
fn state_that_has_no_owner_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let job = cancelled(directory.path());
    let renamed = |env: &mut Environment| program::<u64>(env, "renamed", "last", None);
    assert_error(
        again(directory.path(), &job, renamed),
        ErrorKind::Config,
        &[
            "cannot restore checkpoint",
            "  LEFT OVER: not in the program  keep     keep last  1         16          last, ",
            "  new: starts empty              renamed  keep last  1         128\n",
            "  matched                        numbers  source     1         128         ",
            "or leave it behind with --allow-non-restored-state",
        ],
    );
    let allowed = again(directory.path(), &job, |env| {
        env.config_mut().restore.allow_non_restored_state = true;
        renamed(env)
    });
    assert_eq!(allowed.unwrap().restarts, 0);
}

#[test]
fn state_of_another_type() {
    let directory = tempfile::tempdir().unwrap();
    let job = cancelled(directory.path());
    let other = again(directory.path(), &job, |env| program::<i64>(env, "keep", "last", None));
    assert_error(
        other,
        ErrorKind::Config,
        &["`last`", "u64", "i64", "operator 'keep last'", "subtask 1 of 1"],
    );
}

#[test]
fn another_number_of_key_groups() {
    let directory = tempfile::tempdir().unwrap();
    let job = cancelled(directory.path());
    let explicit = again(directory.path(), &job, |env| program::<u64>(env, "keep", "last", Some(32)));
    let names =
        ["keep last", "16 key groups", "asks for 32", "set its max parallelism to 16 or leave it unset"];
    assert_error(explicit, ErrorKind::Config, &names);
    let too_parallel = again(directory.path(), &job, |env| {
        env.config_mut().parallelism = 17;
        program::<u64>(env, "keep", "last", None)
    });
    let names = ["keep last", "parallelism 17", "16 key groups", "at most 16 subtasks"];
    assert_error(too_parallel, ErrorKind::Config, &names);
    again(directory.path(), &job, |env| program::<u64>(env, "keep", "last", None)).unwrap();
}

/// Where the process that [`operators_without_a_uid_are_named_at_the_start`] starts keeps its checkpoints; empty for none.
const CHILD: &str = "TIDEGATE_TEST_UIDS";

#[test]
fn operators_without_a_uid_are_named_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let said = |checkpoints: &Path| {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_program_without_uids", "--nocapture"])
            .env(CHILD, checkpoints)
            .output()
            .unwrap();
        let said = String::from_utf8(child.stderr).unwrap();
        assert!(child.status.success(), "{said}");
        said
    };
    let warned = said(directory.path());
    for part in ["warning", "'source' (auto-0-source), 'sink' (auto-3-sink)", "no longer found", ".uid("] {
        assert!(warned.contains(part), "{part} is missing: {warned}");
    }
    // Only what outlives the process can be restored by another program.
    assert!(!said(Path::new("")).contains("uid"));
}

#[test]
fn the_program_without_uids() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let mut env = Environment::new();
    env.config_mut().checkpoint_dir =
        (!directory.is_empty()).then(|| directory.to_string_lossy().into_owned());
    let numbers = env.source(Generator::sequence(0..3)).map(|n| n + 1);
    numbers.key_by(|n| n % 2).process(|_| Ok(Nothing)).uid("nothing").sink(CollectSink::new().0);
    env.execute("no uids").unwrap();
}

struct Nothing;

impl KeyedProcessFunction<u64, u64, u64> for Nothing {
    fn process(&mut self, n: u64, _: &mut KeyedContext<'_, u64>, out: &mut Collector<'_, u64>) -> Result<()> {
        out.collect(n);
        Ok(())
    }
}

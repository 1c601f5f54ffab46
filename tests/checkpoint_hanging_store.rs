//! Restoring from a store that does not answer: a clear error in time, and the job runs once the store has healed.
//!
//! A named pipe in the place of a file is such a store: whoever opens it waits for a writer that does not come.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{assert_error, gated, run_out};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tidegate::Environment;
use tidegate::cluster::RestartStrategyConfig;
use tidegate::cluster::jobmaster::{JobNotice, JobResult};
use tidegate::connector::CollectHandle;
use tidegate::error::Result;
use tidegate::prelude::*;

const RECORDS: u64 = 40;
const O_NONBLOCK: i32 = 0o4000;

struct Sum {
    sum: ValueState<u64>,
}

impl KeyedProcessFunction<u64, u64, u64> for Sum {
    fn process(&mut self, n: u64, _: &mut KeyedContext<'_, u64>, out: &mut Collector<'_, u64>) -> Result<()> {
        let sum = self.sum.get()?.unwrap_or(0) + n;
        self.sum.set(sum)?;
        out.collect(sum);
        Ok(())
    }
}

fn program(directory: &Path, restore: Option<&Path>) -> (Environment, common::Gate, CollectHandle<u64>) {
    let mut env = Environment::new();
    let config = env.config_mut();
    config.checkpoint_dir = Some(directory.to_string_lossy().into_owned());
    config.checkpoint.interval_ms = Some(5);
    config.checkpoint.storage_timeout_ms = 200;
    config.restart = Some(RestartStrategyConfig::FixedDelay { attempts: 1_000_000, delay_ms: 5 });
    config.restore.path = restore.map(|path| path.to_string_lossy().into_owned());
    let (source, gate) = gated(RECORDS, 1, |n| n);
    let (sink, out) = CollectSink::new();
    let sums = env
        .source(source)
        .uid("numbers")
        .key_by(|_| 0u64)
        .process(|open| Ok(Sum { sum: open.value_state("sum")? }))
        .uid("sum");
    sums.sink(sink).uid("out");
    (env, gate, out)
}

/// A cancelled job with a checkpoint of the first ten records; the directory of that.
fn cancelled(directory: &Path) -> PathBuf {
    let (env, gate, out) = program(directory, None);
    let job = env.start("first").unwrap();
    gate.open_to(10);
    while out.values().len() < 10 {
        gate.wait_for_checkpoint(1);
    }
    gate.wait_for_checkpoint(1);
    let place = directory.join(job.job_id().as_str());
    job.controller().cancel();
    assert_eq!(run_out(job).0, JobResult::Canceled);
    let newest = std::fs::read_dir(&place).unwrap().map(|e| e.unwrap().path());
    let number = |p: &PathBuf| p.to_str()?.rsplit_once("chk-")?.1.parse::<u64>().ok();
    newest.filter(|p| p.join("manifest.json").exists()).max_by_key(number).unwrap()
}

/// A file that does not answer.
struct Hanging {
    file: PathBuf,
    content: Vec<u8>,
}

impl Hanging {
    fn new(file: PathBuf) -> Self {
        let content = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
        Self { file, content }
    }

    fn heal(&self) {
        let pipe = self.file.with_extension("pipe");
        std::fs::rename(&self.file, &pipe).unwrap();
        std::fs::write(&self.file, &self.content).unwrap();
        // Threads that still wait in it would keep the process from its end.
        while OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(&pipe).is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        std::fs::remove_file(&pipe).unwrap();
    }
}

#[test]
fn a_state_file_that_does_not_answer_holds_the_job_up_until_it_does() {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = cancelled(directory.path());
    let files = std::fs::read_dir(&checkpoint).unwrap().map(|e| e.unwrap().path());
    let keyed = files.filter(|p| p.extension().is_some_and(|e| e == "keyed")).max().unwrap();
    let hanging = Hanging::new(keyed.clone());
    let (env, gate, out) = program(directory.path(), Some(&checkpoint));
    let job = env.start("second").unwrap();
    let mut restarts = 0;
    for notice in job.notices() {
        if let JobNotice::Failed { failure, .. } = &notice {
            let name = keyed.file_name().unwrap().to_string_lossy();
            for part in ["no answer within 200 ms", &name, "operator 'sum'"] {
                assert!(failure.message.contains(part), "{part} is missing: {}", failure.message);
            }
        }
        restarts += u32::from(matches!(notice, JobNotice::Restarting { .. }));
        if restarts == 2 {
            break;
        }
    }
    assert_eq!((restarts, out.values().len()), (2, 0), "it is tried again, and nothing is processed");
    hanging.heal();
    gate.open();
    assert_eq!(run_out(job).0, JobResult::Finished);
    let sums: Vec<u64> = (0..RECORDS).map(|n| n * (n + 1) / 2).skip(10).collect();
    assert_eq!(out.values(), sums, "it goes on where the checkpoint ends");
}

#[test]
fn a_manifest_that_does_not_answer_is_an_error_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = cancelled(directory.path());
    let hanging = Hanging::new(checkpoint.join("manifest.json"));
    let refused = program(directory.path(), Some(&checkpoint)).0.start("second").map(drop);
    let names = ["cannot restore from", "manifest.json", "no answer within 200 ms"];
    assert_error(refused, ErrorKind::Retry, &names);
    hanging.heal();
    let (env, gate, out) = program(directory.path(), Some(&checkpoint));
    gate.open();
    env.execute("third").unwrap();
    assert_eq!(out.values().len() as u64, RECORDS - 10);
}

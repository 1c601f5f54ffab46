//! A checkpoint in which some subtasks of a source have ended is restored at other parallelisms.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{Log, gated_and_short, published, run_out, wait_for_checkpoints};
use std::path::{Path, PathBuf};
use tidegate::Environment;
use tidegate::cluster::jobmaster::JobResult;
use tidegate::error::Result;
use tidegate::prelude::*;

const RECORDS: u64 = 400;
/// Number of the first record that the first of two lanes does not have any more.
const SHORT: u64 = 60;

/// Holds numbers until the end. Does not clear its list then.
struct Hold {
    held: OperatorListState<u64>,
    log: Log<u64>,
}

impl ProcessFunction<u64, String> for Hold {
    fn process(
        &mut self,
        n: u64,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        assert!(context.watermark() < MAX_WATERMARK, "{n} comes behind the end of time");
        out.collect(format!("record {n}"));
        self.log.push(n);
        self.held.push(n)
    }

    fn finish(&mut self, out: &mut Collector<'_, String>) -> Result<()> {
        self.held.iter()?.for_each(|n| out.collect(format!("held {n}")));
        Ok(())
    }
}

fn expected() -> Vec<String> {
    let numbers = (0..RECORDS).filter(|n| n % 2 == 1 || *n < SHORT);
    let mut lines: Vec<String> = numbers.flat_map(|n| [format!("record {n}"), format!("held {n}")]).collect();
    lines.sort();
    lines
}

/// Runs at parallelism 2 until the first subtask has ended, then at `parallelism` to the end.
fn rescale(parallelism: u32) {
    let directory = tempfile::tempdir().unwrap();
    let start = |parallelism: u32, restore: Option<&Path>| {
        let mut env = Environment::new();
        let config = env.config_mut();
        config.parallelism = parallelism;
        config.checkpoint_dir = Some(directory.path().join("checkpoints").to_string_lossy().into_owned());
        config.checkpoint.interval_ms = Some(5);
        config.restore.path = restore.map(|path| path.to_string_lossy().into_owned());
        let (source, gate) = gated_and_short(RECORDS, 2, SHORT, |n| n);
        let log = Log::new();
        let shared = log.clone();
        env.source(source)
            .uid("numbers")
            .assign_timestamps_and_watermarks(WatermarkStrategy::monotonous().with_timestamps(|n| *n as i64))
            .uid("time")
            .process(move |open| Ok(Hold { held: open.operator_list_state("held")?, log: shared.clone() }))
            .uid("hold")
            .sink(FileSink::lines(directory.path().join("out")))
            .uid("lines");
        (env.start("ended").unwrap(), gate, log)
    };
    let published = || published(&directory.path().join("out"));
    let (job, gate, log) = start(2, None);
    gate.open_to(RECORDS / 2);
    log.wait_for((RECORDS / 4 + SHORT / 2) as usize);
    wait_for_checkpoints(&job, 3);
    // The first subtask has put out what it held, so it had ended before these checkpoints.
    let held = published().into_iter().filter(|line| line.starts_with("held")).count() as u64;
    assert_eq!(held, SHORT / 2);
    let from: PathBuf = directory.path().join("checkpoints").join(job.job_id().as_str());
    job.controller().cancel();
    assert_eq!(run_out(job).0, JobResult::Canceled);
    let (job, gate, _) = start(parallelism, Some(&from));
    gate.open();
    assert_eq!(run_out(job).0, JobResult::Finished);
    assert_eq!(published(), expected(), "parallelism {parallelism}");
}

#[test]
fn what_has_ended_in_some_subtasks_goes_on_at_the_same_parallelism() {
    rescale(2);
}

#[test]
fn what_has_ended_in_some_subtasks_goes_on_at_another_parallelism() {
    rescale(1);
    rescale(3);
}

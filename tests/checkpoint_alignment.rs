//! Barriers over sources that are as different as can be: checkpoints keep completing, and a crash loses nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{gated, published, run_out};
use std::collections::BTreeMap;
use std::path::Path;
use tidegate::Environment;
use tidegate::cluster::RestartStrategyConfig;
use tidegate::cluster::jobmaster::{JobNotice, JobResult};
use tidegate::error::Result;
use tidegate::prelude::*;

/// Numbers the records of each key.
struct Number {
    next: ValueState<u64>,
}

type Record = (String, u64);

impl KeyedProcessFunction<String, Record, String> for Number {
    fn process(
        &mut self,
        (source, n): Record,
        _: &mut KeyedContext<'_, String>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let nth = self.next.update(
            || 0,
            |next| {
                *next += 1;
                *next
            },
        )?;
        if source != "many" && nth != n + 1 {
            return Err(Error::data(format!("{source}: record {n} came as number {nth}")));
        }
        out.collect(format!("{source} {nth}"));
        Ok(())
    }
}

/// Records of the fast source.
const FAST: u64 = 40_000;

fn expected() -> Vec<String> {
    let counts: BTreeMap<&str, u64> = [("finished", 5), ("silent", 1), ("slow", 200), ("many", FAST)].into();
    let mut lines: Vec<String> =
        counts.into_iter().flat_map(|(source, n)| (1..=n).map(move |i| format!("{source} {i}"))).collect();
    lines.sort();
    lines
}

fn environment(directory: &Path, parallelism: u32) -> Environment {
    let mut env = Environment::new();
    let config = env.config_mut();
    config.parallelism = parallelism;
    // Each has subtasks, whichever is crashed.
    config.cluster.taskmanagers = parallelism.min(2);
    config.checkpoint_dir = Some(directory.join("checkpoints").to_string_lossy().into_owned());
    config.checkpoint.interval_ms = Some(5);
    config.restart = Some(RestartStrategyConfig::FixedDelay { attempts: 20, delay_ms: 1 });
    env
}

fn run(parallelism: u32) {
    let directory = tempfile::tempdir().unwrap();
    let env = environment(directory.path(), parallelism);
    let one = |source: &'static str| move |n: u64| (source.to_owned(), n);
    let (silent, silent_gate) = gated(1, 1, one("silent"));
    let (many, many_gate) = gated(FAST, 4, one("many"));
    let finished = env.source(Generator::new(Some(5), one("finished"))).parallelism(1);
    let slow = env.source(Generator::new(Some(200), one("slow")).with_rate(400.0)).parallelism(1);
    env.source(silent)
        .parallelism(1)
        .union(finished)
        .union(slow)
        .union(env.source(many))
        .key_by(|(source, _)| source.clone())
        .process(|open| Ok(Number { next: open.value_state("next")? }))
        .sink(FileSink::lines(directory.path().join("out")));
    let job = env.start("speeds").unwrap();
    many_gate.open_to(FAST / 2);

    // Nothing ends here: the silent source is not let on, and still checkpoints complete, before a crash and after.
    let (mut completed, mut crashes, mut seen) = (0, 0, Vec::new());
    for notice in job.notices() {
        match &notice {
            JobNotice::CheckpointCompleted(_) => completed += 1,
            JobNotice::Restored { .. } => completed = 0,
            _ => {}
        }
        seen.push(notice);
        if completed == 5 {
            completed = 0;
            crashes += 1;
            match crashes {
                1 | 2 => job.controller().crash_taskmanager(crashes % parallelism.min(2)),
                _ => break,
            }
        }
    }
    many_gate.open();
    silent_gate.open();
    let (result, notices) = run_out(job);
    seen.extend(notices);
    assert_eq!(result, JobResult::Finished);
    let aborted = seen
        .iter()
        .filter(|n| matches!(n, JobNotice::CheckpointAborted { why, .. } if why != "the attempt ended"));
    assert_eq!(aborted.collect::<Vec<_>>(), Vec::<&JobNotice>::new());
    assert_eq!(seen.iter().filter(|n| matches!(n, JobNotice::Restored { .. })).count(), 2);
    assert!(
        published(&directory.path().join("out")) == expected(),
        "output differs at parallelism {parallelism}"
    );
}

#[test]
fn checkpoints_complete_over_fast_slow_silent_and_finished_sources() {
    run(1);
}

#[test]
fn checkpoints_complete_over_many_channels() {
    run(4);
}

#[test]
fn checkpoints_complete_when_every_source_but_one_has_finished_before_the_restart() {
    let directory = tempfile::tempdir().unwrap();
    let env = environment(directory.path(), 2);
    let (held, gate) = gated(10, 2, |n| n);
    let short = env.source(Generator::sequence(100..120));
    env.source(held)
        .union(short)
        .rebalance()
        .map(|n| n.to_string())
        .sink(FileSink::lines(directory.path().join("out")));
    let job = env.start("finished").unwrap();
    gate.open_to(5);
    gate.wait_for_checkpoint(2);
    job.controller().crash_taskmanager(0);
    let restored = job.notices().find(|n| matches!(n, JobNotice::Restored { .. }));
    assert!(restored.is_some());
    common::wait_for_checkpoints(&job, 3);
    gate.open();
    assert_eq!(run_out(job).0, JobResult::Finished);
    let mut expected: Vec<String> = (0..10).chain(100..120).map(|n| n.to_string()).collect();
    expected.sort();
    assert_eq!(published(&directory.path().join("out")), expected);
}

//! A program that is cancelled and started again with `--restore` goes on exactly where it was, also with another
//! parallelism.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{Gate, Log, gated, published, run_out};
use std::path::{Path, PathBuf};
use tidegate::Environment;
use tidegate::cluster::JobHandle;
use tidegate::cluster::jobmaster::{JobNotice, JobResult};
use tidegate::config::Arguments;
use tidegate::error::Result;
use tidegate::prelude::*;
use tidegate_state::BackendOptions;

const RECORDS: u64 = 4_000;
const KEYS: u64 = 50;

/// Numbers the records of a key, keeps sums in a map and the last numbers in a list, and emits totals at the end and
/// a line for every hundred of event time.
struct Totals {
    count: ValueState<u64>,
    sums: MapState<u64, u64>,
    last: ListState<u64>,
    log: Log<u64>,
}

impl KeyedProcessFunction<u64, u64, String> for Totals {
    fn process(
        &mut self,
        n: u64,
        c: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        self.count.update(|| 0, |count| *count += 1)?;
        let slot = n % 3;
        let sum = self.sums.get(&slot)?.unwrap_or(0);
        self.sums.insert(slot, sum + n)?;
        self.last.push(n)?;
        c.register_event_timer(i64::MAX)?;
        c.register_event_timer(n as i64 / 100 * 100 + 99)?;
        out.collect(format!("record {n}"));
        self.log.push(n);
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: i64,
        c: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let key = *c.key();
        if time < i64::MAX {
            out.collect(format!("window {key} {time}"));
            return Ok(());
        }
        let sums: Vec<u64> =
            (0..3).map(|slot| Ok(self.sums.get(&slot)?.unwrap_or(0))).collect::<Result<_>>()?;
        let mut all: Vec<u64> = self.last.iter()?.collect();
        all.sort();
        all.dedup();
        out.collect(format!("total {key} {} {sums:?} {}", self.count.get()?.unwrap_or(0), all.len()));
        Ok(())
    }
}

fn expected() -> Vec<String> {
    let mut lines: Vec<String> = (0..RECORDS).map(|n| format!("record {n}")).collect();
    for key in 0..KEYS {
        let mine: Vec<u64> = (0..RECORDS).filter(|n| n % KEYS == key).collect();
        let mut windows: Vec<u64> = mine.iter().map(|n| n / 100 * 100 + 99).collect();
        windows.dedup();
        lines.extend(windows.into_iter().map(|time| format!("window {key} {time}")));
        let sums: Vec<u64> = (0..3).map(|slot| mine.iter().filter(|n| *n % 3 == slot).sum()).collect();
        lines.push(format!("total {key} {} {sums:?} {}", mine.len(), mine.len()));
    }
    lines.sort();
    lines
}

/// One life of the program.
struct Life {
    job: JobHandle,
    gate: Gate,
    /// Records processed in this life.
    log: Log<u64>,
}

struct Setup<'a> {
    directory: &'a Path,
    parallelism: u32,
    restore: Option<PathBuf>,
    backend: BackendOptions,
}

impl Setup<'_> {
    fn start(&self) -> Life {
        let mut env = Environment::new();
        let config = env.config_mut();
        config.parallelism = self.parallelism;
        config.cluster.taskmanagers = 2;
        config.state.backend = self.backend.clone();
        config.state.local_dir = Some(self.directory.join("local"));
        config.checkpoint_dir = Some(self.directory.join("checkpoints").to_string_lossy().into_owned());
        config.checkpoint.interval_ms = Some(5);
        config.restore.path = self.restore.as_ref().map(|path| path.to_string_lossy().into_owned());
        let (source, gate) = gated(RECORDS, 4, |n| n);
        let log = Log::new();
        let shared = log.clone();
        env.source(source)
            .uid("numbers")
            // Splits advance together, but one may be a poll ahead of the others.
            .assign_timestamps_and_watermarks(
                WatermarkStrategy::bounded_out_of_orderness(RECORDS as i64).with_timestamps(|n| *n as i64),
            )
            .uid("time")
            .key_by(|n| n % KEYS)
            .process(move |open| {
                Ok(Totals {
                    count: open.value_state("count")?,
                    sums: open.map_state("sums")?,
                    last: open.list_state("last")?,
                    log: shared.clone(),
                })
            })
            .uid("totals")
            .sink(FileSink::lines(self.directory.join("out")))
            .uid("lines");
        Life { job: env.start("totals").unwrap(), gate, log }
    }
}

impl Life {
    /// Goes on to record `to`, takes a checkpoint, is cancelled; returns the job's checkpoint directory.
    fn until(self, to: u64, from: u64, setup: &Setup<'_>) -> PathBuf {
        self.gate.open_to(to);
        let processed = self.log.wait_for((to - from) as usize);
        assert!(processed.iter().all(|n| (from..to).contains(n)), "starts over: {processed:?}");
        self.gate.wait_for_checkpoint(setup.parallelism as usize);
        let directory = setup.directory.join("checkpoints").join(self.job.job_id().as_str());
        self.job.controller().cancel();
        let (result, _) = run_out(self.job);
        assert_eq!(result, JobResult::Canceled);
        directory
    }

    /// Goes on to record `to` and is stopped with a savepoint, which is then moved to another place.
    fn stop_at(self, to: u64, from: u64, setup: &Setup<'_>) -> PathBuf {
        self.gate.open_to(to);
        self.log.wait_for((to - from) as usize);
        let savepoint = self.job.controller().stop(None, false).unwrap();
        let (result, notices) = run_out(self.job);
        assert_eq!(result, JobResult::Finished);
        assert!(
            notices
                .iter()
                .any(|n| matches!(n, JobNotice::SavepointCompleted { savepoint: s, .. } if *s == savepoint))
        );
        let moved = setup.directory.join("moved").join(to.to_string());
        std::fs::create_dir_all(moved.parent().unwrap()).unwrap();
        std::fs::rename(&savepoint.location, &moved).unwrap();
        moved
    }

    fn run_to_the_end(self) {
        self.gate.open();
        assert_eq!(run_out(self.job).0, JobResult::Finished);
    }
}

fn newest_checkpoint(job: &Path) -> PathBuf {
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("chk-")?.parse::<u64>().ok();
    let complete = std::fs::read_dir(job).unwrap().map(|entry| entry.unwrap().path());
    complete.filter(|p| p.join("manifest.json").exists()).max_by_key(number).unwrap()
}

/// Lives with these parallelisms, one after the other, each from the last checkpoint of the one before.
fn lives(parallelisms: &[u32], backend: &BackendOptions, checkpoint_of: fn(&Path) -> PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let step = RECORDS / parallelisms.len() as u64;
    let mut restore = None;
    for (number, parallelism) in (0u64..).zip(parallelisms) {
        let setup = Setup {
            directory: directory.path(),
            parallelism: *parallelism,
            restore,
            backend: backend.clone(),
        };
        let life = setup.start();
        if number + 1 == parallelisms.len() as u64 {
            life.run_to_the_end();
            break;
        }
        let job = life.until((number + 1) * step, number * step, &setup);
        restore = Some(checkpoint_of(&job));
    }
    let published = published(&directory.path().join("out"));
    let expected = expected();
    let lost: Vec<_> =
        expected.iter().filter(|line| published.binary_search(line).is_err()).take(5).collect();
    assert_eq!(lost, Vec::<&String>::new(), "lost");
    assert!(published == expected, "{} lines instead of {}", published.len(), expected.len());
}

/// As [`lives`], but each is stopped with a savepoint that is moved before the next one starts.
fn stopped_lives(lives: &[(u32, BackendOptions)]) {
    let directory = tempfile::tempdir().unwrap();
    let step = RECORDS / lives.len() as u64;
    let mut restore = None;
    for (number, (parallelism, backend)) in (0u64..).zip(lives) {
        let (parallelism, backend) = (*parallelism, backend.clone());
        let setup = Setup { directory: directory.path(), parallelism, restore, backend };
        let life = setup.start();
        if number + 1 == lives.len() as u64 {
            life.run_to_the_end();
            break;
        }
        restore = Some(life.stop_at((number + 1) * step, number * step, &setup));
        let out = published(&directory.path().join("out"));
        let records = out.iter().filter(|line| line.starts_with("record")).count() as u64;
        assert_eq!(records, (number + 1) * step, "all that was processed is published, and nothing else");
    }
    assert!(published(&directory.path().join("out")) == expected());
}

#[test]
fn a_stopped_job_goes_on_from_its_savepoint_wherever_that_is_moved() {
    stopped_lives(&[2, 4, 1, 3].map(|parallelism| (parallelism, BackendOptions::Memory)));
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_savepoint_carries_a_job_from_one_backend_to_the_other() {
    let rocksdb = || BackendOptions::RocksDb(tidegate_state::RocksDbOptions::small());
    stopped_lives(&[
        (2, BackendOptions::Memory),
        (3, rocksdb()),
        (1, BackendOptions::Memory),
        (2, rocksdb()),
    ]);
}

#[test]
fn a_savepoint_that_cannot_be_stored_is_refused_and_the_job_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let setup =
        Setup { directory: directory.path(), parallelism: 2, restore: None, backend: BackendOptions::Memory };
    let life = setup.start();
    let file = directory.path().join("a file");
    std::fs::write(&file, "").unwrap();
    let refused = life.job.controller().savepoint(file.to_str()).unwrap_err().to_string();
    assert!(refused.contains("a file") && refused.contains("choose a directory"), "{refused}");
    let in_memory = life.job.controller().stop(Some("memory:///"), false).unwrap_err().to_string();
    assert!(in_memory.contains("would be lost"), "{in_memory}");
    life.run_to_the_end();
    assert!(published(&directory.path().join("out")) == expected());
}

#[test]
fn a_job_goes_on_from_its_directory() {
    lives(&[2, 2, 2], &BackendOptions::Memory, Path::to_path_buf);
}

#[test]
fn a_job_goes_on_from_a_named_checkpoint() {
    lives(&[2, 2], &BackendOptions::Memory, newest_checkpoint);
}

#[test]
fn a_job_goes_on_from_a_manifest() {
    lives(&[1, 1], &BackendOptions::Memory, |job| newest_checkpoint(job).join("manifest.json"));
}

#[test]
fn a_job_goes_on_with_another_parallelism() {
    lives(&[1, 2, 4, 1], &BackendOptions::Memory, Path::to_path_buf);
    lives(&[4, 3], &BackendOptions::Memory, Path::to_path_buf);
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_job_goes_on_with_another_parallelism_in_rocksdb() {
    lives(
        &[1, 2, 4, 1],
        &BackendOptions::RocksDb(tidegate_state::RocksDbOptions::small()),
        Path::to_path_buf,
    );
}

#[test]
fn the_restored_checkpoint_is_said_and_stays() {
    let directory = tempfile::tempdir().unwrap();
    let backend = BackendOptions::Memory;
    let first = Setup { directory: directory.path(), parallelism: 1, restore: None, backend };
    let job = first.start().until(100, 0, &first);
    let from = newest_checkpoint(&job);
    let second = Setup { restore: Some(from.clone()), ..first };
    let life = second.start();
    life.gate.open();
    let (result, notices) = run_out(life.job);
    assert_eq!(result, JobResult::Finished);
    let restored = notices.iter().find_map(|n| match n {
        JobNotice::Restored { checkpoint, base } => Some((format!("chk-{checkpoint}"), base.clone())),
        _ => None,
    });
    let name = from.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(restored, Some((name, job.canonicalize().unwrap().to_str().unwrap().to_owned())));
    assert!(from.join("manifest.json").exists(), "a checkpoint of another job is not this one's to delete");
}

#[test]
fn restore_is_a_flag() {
    let line = ["program", "--restore", "/some/where", "--allow-non-restored-state"].map(Into::into);
    let config = Arguments::new("program", "").parse(line).unwrap().config;
    assert_eq!(config.restore.path.as_deref(), Some("/some/where"));
    assert!(config.restore.allow_non_restored_state);
}

#[test]
fn checkpoints_of_a_finished_job_are_deleted_and_of_a_cancelled_one_kept() {
    let directory = tempfile::tempdir().unwrap();
    let setup =
        Setup { directory: directory.path(), parallelism: 1, restore: None, backend: BackendOptions::Memory };
    let kept = setup.start().until(10, 0, &setup);
    assert!(newest_checkpoint(&kept).exists());
    let life = setup.start();
    let job = directory.path().join("checkpoints").join(life.job.job_id().as_str());
    life.run_to_the_end();
    let left = std::fs::read_dir(&job).map_or(0, |entries| {
        entries.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("chk-")).count()
    });
    assert_eq!(left, 0);
}

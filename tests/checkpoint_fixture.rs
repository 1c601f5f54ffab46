//! What a release has written, later ones read: `golden/checkpoints-1` holds the checkpoint directory of a job that was
//! cancelled half-way, and a savepoint of it, in version 1 of every control file and of keyed and operator state (table files
//! and records in flight are not among them). They are never written again; another version gets a directory of its own (`TIDEGATE_WRITE_FIXTURES=1 cargo nextest run --test checkpoint_fixture`, with `VERSION` raised).

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{Log, files_below, gated, run_out};
use std::path::{Path, PathBuf};
use std::process::Command;
use tidegate::Environment;
use tidegate::checkpoint::Retention;
use tidegate::cluster::jobmaster::{JobNotice, JobResult};
use tidegate::connector::CollectSink;
use tidegate::error::Result;
use tidegate::prelude::*;
use tidegate_state::BackendOptions;

const VERSION: u32 = 1;
const RECORDS: u64 = 400;
const HALF: u64 = 200;
const KEYS: u64 = 10;

/// State of several kinds, and a timer that tells all of it in the end.
struct Totals {
    count: ValueState<u64>,
    sums: MapState<String, u64>,
    last: ListState<u64>,
    log: Log<u64>,
}

impl KeyedProcessFunction<u64, u64, String> for Totals {
    fn process(
        &mut self,
        n: u64,
        context: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        self.count.update(|| 0, |count| *count += 1)?;
        let slot = format!("slot {}", n % 3);
        let sum = self.sums.get(&slot)?.unwrap_or(0);
        self.sums.insert(slot, sum + n)?;
        self.last.push(n)?;
        context.register_event_timer(i64::MAX)?;
        self.log.push(n);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: i64,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let sums: Vec<(String, u64)> = self.sums.iter()?.collect();
        let last: Vec<u64> = self.last.iter()?.collect();
        out.collect(format!("{}: {:?} {sums:?} {}", context.key(), self.count.get()?, last.len()));
        Ok(())
    }
}

fn expected() -> Vec<String> {
    let of_key = |key: u64| {
        let mine: Vec<u64> = (0..RECORDS).filter(|n| n % KEYS == key).collect();
        let sum = |slot| (format!("slot {slot}"), mine.iter().filter(|n| *n % 3 == slot).sum::<u64>());
        format!("{key}: {:?} {:?} {}", Some(mine.len() as u64), [sum(0), sum(1), sum(2)], mine.len())
    };
    (0..KEYS).map(of_key).collect()
}

fn fixture(version: u32, backend: &str) -> PathBuf {
    let name = format!("tests/golden/checkpoints-{version}/{backend}");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn options(backend: &str) -> BackendOptions {
    match backend {
        "memory" => BackendOptions::Memory,
        _ => BackendOptions::RocksDb(tidegate_state::RocksDbOptions::small()),
    }
}

/// Runs the job until the gate is at its half, and writes the fixture, or from what is restored to its end.
fn run(backend: &str, directory: &Path, restore: Option<&Path>, to: Option<&Path>) -> Vec<String> {
    let mut env = Environment::new();
    let config = env.config_mut();
    config.parallelism = 2;
    config.state.backend = options(backend);
    config.state.local_dir = Some(directory.join("local"));
    config.checkpoint_dir = Some(to.unwrap_or(directory).to_string_lossy().into_owned());
    config.checkpoint.interval_ms = Some(50);
    config.checkpoint.retention = Retention::Always;
    config.restore.path = restore.map(|path| path.to_string_lossy().into_owned());
    let (source, gate) = gated(RECORDS, 4, |n| n);
    let (sink, collected) = CollectSink::new();
    let log = Log::new();
    let shared = log.clone();
    env.source(source)
        .uid("numbers")
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
        .sink(sink)
        .uid("lines");
    let job = env.start("fixture").unwrap();
    match to {
        Some(to) => {
            gate.open_to(HALF);
            log.wait_for(HALF as usize);
            gate.wait_for_checkpoint(2);
            job.controller().savepoint(to.join("savepoints").to_str()).unwrap();
            job.controller().cancel();
            assert_eq!(run_out(job).0, JobResult::Canceled);
            Vec::new()
        }
        None => {
            gate.open();
            let (result, notices) = run_out(job);
            assert_eq!(result, JobResult::Finished);
            let restored = |n: &JobNotice| matches!(n, JobNotice::Restored { base, .. } if !base.is_empty());
            assert!(notices.iter().any(restored), "{notices:?}");
            assert!(log.entries().iter().all(|n| *n >= HALF), "it has begun anew");
            let mut lines: Vec<String> = collected.take();
            lines.sort();
            lines
        }
    }
}

/// The directory below that is called like this.
fn child(of: &Path, prefix: &str) -> PathBuf {
    let mut found = std::fs::read_dir(of).unwrap().map(|entry| entry.unwrap().path());
    found.find(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix)).unwrap()
}

fn tidegate(arguments: &[&str], place: &Path) -> String {
    let command = Command::new(env!("CARGO_BIN_EXE_tidegate")).args(arguments).arg(place).output().unwrap();
    let (text, error) = (String::from_utf8_lossy(&command.stdout), String::from_utf8_lossy(&command.stderr));
    assert!(command.status.success(), "{arguments:?}: {text}{error}");
    text.into_owned()
}

fn copy_all(from: &Path, to: &Path) {
    for file in files_below(from) {
        let to = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(file, to).unwrap();
    }
}

fn is_read(version: u32, backend: &str) {
    // Where it lies does not matter, and what is committed is not written to.
    let copy = tempfile::tempdir().unwrap();
    copy_all(&fixture(version, backend), copy.path());
    let job = child(copy.path(), "fixture-");
    let savepoint = child(&copy.path().join("savepoints"), "savepoint-");
    tidegate(&["fsck"], &job);
    for place in [&job, &savepoint] {
        tidegate(&["checkpoint", "verify"], place);
        let shown = tidegate(&["checkpoint", "show"], place);
        assert!(shown.contains("totals") && shown.contains("numbers"), "{shown}");
        let rows = tidegate(&["state", "dump", "--operator", "totals", "--state", "count"], place);
        assert_eq!(rows.lines().count() as u64, KEYS, "{rows}");
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(run(backend, directory.path(), Some(place), None), expected(), "from {}", place.display());
    }
}

fn check(backend: &str) {
    if std::env::var_os("TIDEGATE_WRITE_FIXTURES").is_some() {
        let to = fixture(VERSION, backend);
        assert!(!to.exists(), "{} was written by a release, and stays", to.display());
        // Places are named in it: this one is nobody's.
        let place = std::env::temp_dir().join(format!("tidegate-fixture-{backend}"));
        run(backend, tempfile::tempdir().unwrap().path(), None, Some(&place));
        copy_all(&place, &to);
        std::fs::remove_dir_all(place).unwrap();
    }
    (1..=VERSION).for_each(|version| is_read(version, backend));
}

#[test]
fn checkpoints_of_the_memory_backend() {
    check("memory");
}

#[cfg(feature = "rocksdb")]
#[test]
fn checkpoints_of_rocksdb() {
    check("rocksdb");
}

//! Local recovery: a subtask that starts again in the same taskmanager has the table files of RocksDB on its own disk.

#![cfg(feature = "rocksdb")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{Log, assert_error, files_below, gated, run_out};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tidegate::cluster::RestartStrategyConfig as Restart;
use tidegate::cluster::jobmaster::JobResult;
use tidegate::error::Result;
use tidegate::prelude::*;
use tidegate_state::{BackendOptions, RocksDbOptions};

const RECORDS: u64 = 400;
const KEYS: u64 = 100;

struct Count {
    count: ValueState<u64>,
    is_unlucky: Arc<AtomicBool>,
    processed: Log<u64>,
}

impl KeyedProcessFunction<u64, u64, (u64, u64)> for Count {
    fn process(
        &mut self,
        key: u64,
        _: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, (u64, u64)>,
    ) -> Result<()> {
        assert!(!self.is_unlucky.swap(false, Ordering::SeqCst), "an unlucky record");
        let count = self.count.get()?.unwrap_or_default() + 1;
        self.count.set(count)?;
        out.collect((key, count));
        self.processed.push(key);
        Ok(())
    }
}

/// The table files in the checkpoint directory.
fn tables(directory: &Path) -> Vec<PathBuf> {
    let is_table = |path: &PathBuf| path.extension().is_some_and(|suffix| suffix == "table");
    files_below(directory).into_iter().filter(is_table).collect()
}

/// Runs a job to a checkpoint, does `harm` to the job's checkpoints and what is below the local directory, lets a record
/// panic, and lets the job run on.
fn run(harm: impl Fn(&Path, &Path)) -> (JobResult, Vec<(u64, u64)>) {
    let directory = tempfile::tempdir().unwrap();
    let [checkpoints, local] = ["checkpoints", "local"].map(|name| directory.path().join(name));
    let mut env = Environment::new();
    let config = env.config_mut();
    config.parallelism = 2;
    // Without room for live objects everything is in tables.
    let options = RocksDbOptions { cache_bytes: 1, ..RocksDbOptions::default() };
    config.state.backend = BackendOptions::RocksDb(options);
    config.state.local_dir = Some(local.clone());
    config.checkpoint_dir = Some(checkpoints.to_string_lossy().into_owned());
    config.checkpoint.interval_ms = Some(10);
    config.restart = Some(Restart::FixedDelay { attempts: 3, delay_ms: 1 });
    let (source, gate) = gated(RECORDS, 1, |n| n % KEYS);
    let (is_unlucky, processed) = (Arc::new(AtomicBool::new(false)), Log::new());
    let (sink, counts) = CollectSink::new();
    let (unlucky, log) = (is_unlucky.clone(), processed.clone());
    env.source(source)
        .uid("numbers")
        .parallelism(1)
        .key_by(|key: &u64| *key)
        .process(move |open| {
            let (is_unlucky, processed) = (unlucky.clone(), log.clone());
            Ok(Count { count: open.value_state("count")?, is_unlucky, processed })
        })
        .uid("count")
        .sink(sink);
    let job = env.start("local").unwrap();
    gate.open_to(RECORDS / 2);
    processed.wait_for(RECORDS as usize / 2);
    gate.wait_for_checkpoint(1);
    harm(&checkpoints, &local);
    is_unlucky.store(true, Ordering::SeqCst);
    gate.open();
    let (result, _) = run_out(job);
    let mut counts = counts.values();
    counts.sort_unstable();
    (result, counts)
}

fn expected() -> Vec<(u64, u64)> {
    (0..KEYS).flat_map(|key| (1..=RECORDS / KEYS).map(move |count| (key, count))).collect()
}

fn lose_tables(checkpoints: &Path, _: &Path) {
    let tables = tables(checkpoints);
    assert!(tables.len() >= 2, "one of each subtask at least");
    tables.into_iter().for_each(|table| fs::remove_file(table).unwrap());
}

/// All files of a directory that is called as those of local copies are.
fn copies(local: &Path) -> Vec<PathBuf> {
    let directories = fs::read_dir(local).unwrap().map(|entry| entry.unwrap().path());
    let directories = directories.filter(|path| path.to_str().unwrap().contains("tidegate-local-copies-"));
    let files = directories.flat_map(|path| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
    files.filter(|path| !path.ends_with("owner.lock")).collect()
}

#[test]
fn a_restart_in_the_same_process_downloads_no_table() {
    let (result, counts) = run(lose_tables);
    assert_eq!(result, JobResult::Finished);
    assert_eq!(counts, expected());
}

#[test]
fn copies_that_are_damaged_or_gone_are_downloaded() {
    let damage = |_: &Path, local: &Path| {
        let copies = copies(local);
        assert!(copies.len() >= 2);
        for (number, copy) in copies.into_iter().enumerate() {
            let whole = fs::read(&copy).unwrap();
            // They are links: the database must keep what it has.
            fs::remove_file(&copy).unwrap();
            if number % 2 == 0 {
                fs::write(copy, &whole[..whole.len() / 2]).unwrap();
            }
        }
    };
    let (result, counts) = run(damage);
    assert_eq!(result, JobResult::Finished);
    assert_eq!(counts, expected());
}

#[test]
fn without_copies_a_lost_table_is_told() {
    let (result, _) = run(|checkpoints, local| {
        copies(local).into_iter().for_each(|copy| fs::remove_file(copy).unwrap());
        lose_tables(checkpoints, local);
    });
    let JobResult::Failed(failure) = result else { panic!("{result:?}") };
    assert_error(Err::<(), _>(failure.into()), ErrorKind::Data, &["the file is missing", ".table"]);
}

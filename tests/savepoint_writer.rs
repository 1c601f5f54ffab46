//! A savepoint that no job has taken is restored by one, and goes on from the state that was put into it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::assert_error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tidegate::checkpoint::{KeyedStateWriter, SavepointWriter, StateReader};
use tidegate::error::{ErrorKind, Result};
use tidegate::prelude::*;
use tidegate_state::BackendOptions;
#[cfg(feature = "rocksdb")]
use tidegate_state::RocksDbOptions;

const KEYS: u64 = 300;
const HOUR: Duration = Duration::from_secs(3600);

/// The states of the operator `visits`, in the program and out of it.
struct Visits {
    count: ValueState<u64>,
    all: ListState<String>,
    by_day: MapState<u32, u64>,
    session: ValueState<u64>,
}

fn open(open: &mut KeyedOpenContext<'_, u64>) -> Result<Visits> {
    let expiring = StateOptions::new().ttl(Ttl::new(HOUR));
    Ok(Visits {
        count: open.value_state("count")?,
        all: open.list_state("all")?,
        by_day: open.map_state("by day")?,
        session: open.value_state_with("session", expiring)?,
    })
}

impl KeyedProcessFunction<u64, u64, String> for Visits {
    fn process(
        &mut self,
        key: u64,
        _: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let count = self.count.get()?.unwrap_or_default() + 1;
        self.count.set(count)?;
        let (all, days): (Vec<_>, Vec<_>) = (self.all.iter()?.collect(), self.by_day.iter()?.collect());
        out.collect(format!("{key}: {count} {all:?} {days:?} {:?}", self.session.get()?));
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: i64,
        c: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        out.collect(format!("{}: timer at {time}", c.key()));
        Ok(())
    }
}

struct Seen(OperatorListState<u64>);

impl ProcessFunction<String, String> for Seen {
    fn process(
        &mut self,
        line: String,
        _: &mut ProcessContext<'_>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        out.collect(line);
        Ok(())
    }

    fn finish(&mut self, out: &mut Collector<'_, String>) -> Result<()> {
        self.0.iter()?.for_each(|seen| out.collect(format!("seen {seen}")));
        Ok(())
    }
}

/// Runs the program from the savepoint; returns its output, sorted.
fn run(from: &str, directory: &Path, parallelism: u32, backend: &BackendOptions) -> Result<Vec<String>> {
    let mut env = Environment::new();
    let config = env.config_mut();
    config.parallelism = parallelism;
    config.state.backend = backend.clone();
    config.state.local_dir = Some(directory.join("local"));
    config.checkpoint_dir = Some(directory.join("checkpoints").to_string_lossy().into_owned());
    config.restore.path = Some(from.to_owned());
    let (sink, lines) = CollectSink::new();
    env.source(Generator::of((0..KEYS).collect()))
        .uid("numbers")
        .key_by(|key: &u64| *key)
        .process(open)
        .uid("visits")
        .process(|open| Ok(Seen(open.operator_list_state("seen")?)))
        .uid("seen")
        .sink(sink)
        .uid("lines");
    env.execute("visits")?;
    let mut lines = lines.take();
    lines.sort();
    Ok(lines)
}

/// Every third key has been here before.
fn fill(visits: &mut KeyedStateWriter<'_, u64, Visits>) -> Result<()> {
    // Also in an order that has nothing to do with key groups.
    for key in (0..KEYS).rev().filter(|key| key % 3 == 0) {
        let state = visits.key(key)?;
        state.count.set(key)?;
        state.all.extend([format!("a{key}"), "b".to_owned()])?;
        state.by_day.insert(2, key)?;
        state.by_day.insert(1, 7)?;
        state.session.set(key)?;
        visits.register_event_timer(key as i64)?;
    }
    Ok(())
}

fn expected() -> Vec<String> {
    let mut lines = Vec::new();
    for key in 0..KEYS {
        if key % 3 == 0 {
            let (count, all) = (key + 1, [format!("a{key}"), "b".to_owned()]);
            lines.push(format!("{key}: {count} {all:?} [(1, 7), (2, {key})] Some({key})"));
            lines.push(format!("{key}: timer at {key}"));
        } else {
            lines.push(format!("{key}: 1 [] [] None"));
        }
    }
    lines.extend((0..10).map(|seen| format!("seen {seen}")));
    lines.sort();
    lines
}

fn target(directory: &TempDir) -> String {
    directory.path().join("savepoints").to_string_lossy().into_owned()
}

/// A whole savepoint; returns its location.
fn savepoint(directory: &TempDir, backend: BackendOptions) -> String {
    let writer = SavepointWriter::create(&target(directory), "Visits", &[]).unwrap();
    let mut savepoint = writer.with_backend(backend).with_max_parallelism(7);
    let mut visits = savepoint.keyed_operator("visits", open).unwrap();
    fill(&mut visits).unwrap();
    visits.finish().unwrap();
    savepoint.operator("seen", |open| open.operator_list_state("seen")?.replace(0..10u64)).unwrap();
    let written = savepoint.write().unwrap();
    assert!(written.location.contains("savepoint-visits-"), "{}", written.location);
    let reader = StateReader::open(&written.location, &[]).unwrap();
    assert_eq!(reader.manifest().state_bytes(), written.state_bytes);
    assert_eq!(reader.manifest().operators.iter().map(|o| o.max_parallelism).collect::<Vec<_>>(), [7, 7]);
    written.location
}

#[test]
fn a_program_goes_on_from_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let location = savepoint(&directory, BackendOptions::Memory);
    for parallelism in [1, 2, 7] {
        let lines = run(&location, directory.path(), parallelism, &BackendOptions::Memory).unwrap();
        assert_eq!(lines, expected(), "parallelism {parallelism}");
    }
    let e = run(&location, directory.path(), 8, &BackendOptions::Memory);
    assert_error(e, ErrorKind::Config, &["visits", "parallelism 8", "7 key groups"]);
}

#[cfg(feature = "rocksdb")]
#[test]
fn every_backend_writes_it_and_every_backend_restores_it() {
    let directory = tempfile::tempdir().unwrap();
    let rocksdb = || BackendOptions::RocksDb(RocksDbOptions::small());
    let [memory, other] = [BackendOptions::Memory, rocksdb()].map(|backend| savepoint(&directory, backend));
    assert_eq!(run(&memory, directory.path(), 2, &rocksdb()).unwrap(), expected());
    assert_eq!(run(&other, directory.path(), 3, &BackendOptions::Memory).unwrap(), expected());
}

#[test]
fn an_operator_of_a_savepoint_is_exchanged_and_the_others_stay() {
    let directory = tempfile::tempdir().unwrap();
    let location = savepoint(&directory, BackendOptions::Memory);
    let reader = StateReader::open(&location, &[]).unwrap();
    let again = |keep: &str| {
        SavepointWriter::from_existing(&reader, &target(&directory), &[], |uid| uid.as_str() == keep).unwrap()
    };
    let mut savepoint = again("visits");
    savepoint.operator("seen", |open| open.operator_list_state("seen")?.replace([77u64])).unwrap();
    let written = savepoint.write().unwrap();
    assert!(written.checkpoint > reader.manifest().checkpoint);
    // It stands for itself.
    fs::remove_dir_all(&location).unwrap();
    let lines = run(&written.location, directory.path(), 2, &BackendOptions::Memory).unwrap();
    let mut wanted = expected();
    wanted.retain(|line| !line.starts_with("seen"));
    wanted.push("seen 77".to_owned());
    assert_eq!(lines, wanted);
}

#[test]
fn a_damaged_file_is_not_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let location = PathBuf::from(savepoint(&directory, BackendOptions::Memory));
    let reader = StateReader::open(location.to_str().unwrap(), &[]).unwrap();
    let file = location.join(&reader.manifest().files().next().unwrap().path);
    let whole = fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    for damaged in [&flipped[..], &whole[1..], &[]] {
        fs::write(&file, damaged).unwrap();
        let e = SavepointWriter::from_existing(&reader, &target(&directory), &[], |_| true);
        assert_error(e, ErrorKind::Data, &["operator seen", file.file_name().unwrap().to_str().unwrap()]);
    }
    fs::remove_file(&file).unwrap();
    let e = SavepointWriter::from_existing(&reader, &target(&directory), &[], |_| true);
    assert_error(e, ErrorKind::Data, &["missing"]);
    assert_eq!(fs::read_dir(target(&directory)).unwrap().count(), 1, "nothing is left of what was begun");
}

#[test]
fn nothing_is_left_of_a_savepoint_that_was_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let mut savepoint = SavepointWriter::create(&target(&directory), "", &[]).unwrap();
    let mut visits = savepoint.keyed_operator("visits", open).unwrap();
    fill(&mut visits).unwrap();
    visits.finish().unwrap();
    let files = || {
        let found = fs::read_dir(target(&directory)).unwrap().map(|entry| entry.unwrap().path());
        found.filter(|path| path.is_dir()).map(|path| fs::read_dir(path).unwrap().count()).sum::<usize>()
    };
    assert_eq!(files(), 1);
    drop(savepoint);
    assert_eq!(files(), 0);
}

#[test]
fn what_cannot_be_written_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut savepoint = SavepointWriter::create(&target(&directory), "refused", &[]).unwrap();
    savepoint.operator("seen", |open| open.operator_list_state("seen")?.replace([1u64])).unwrap();
    let e = savepoint.keyed_operator("seen", open);
    assert_error(e, ErrorKind::Config, &["operator seen", "already"]);
    let e = savepoint.keyed_operator::<u64, _>("twice", |open| {
        open.value_state::<u64>("count")?;
        open.value_state::<String>("count")
    });
    assert_error(e, ErrorKind::Config, &["operator twice", "count", "u64", "String"]);
    let mut visits = savepoint.keyed_operator("visits", open).unwrap();
    let e = visits.register_event_timer(5);
    assert_error(e, ErrorKind::Config, &["no record or timer is being processed"]);
    drop(visits);
    let e = savepoint.operator("other", |_| Ok(()));
    assert_error(e, ErrorKind::Config, &["operator visits", "finish()"]);
    assert_error(savepoint.write(), ErrorKind::Config, &["operator visits", "finish()"]);
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let e = SavepointWriter::create(file.to_str().unwrap(), "name", &[]);
    assert_error(e, ErrorKind::Config, &["file"]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let e = runtime.block_on(async { SavepointWriter::create(&target(&directory), "name", &[]) });
    assert_error(e, ErrorKind::Config, &["asynchronous runtime"]);
}

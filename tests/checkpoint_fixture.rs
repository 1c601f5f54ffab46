//! What a release has written, later ones read: `golden/checkpoints-1` holds checkpoint directories of a job that was
//! cancelled half-way, and savepoints of it, in version 1 of every control file and of every kind of state file. They are
//! never written again; another version gets a directory of its own (`TIDEGATE_WRITE_FIXTURES=1 cargo nextest run --test
//! checkpoint_fixture`, with `VERSION` raised).

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{Log, files_below, gated, run_out};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tidegate::Environment;
use tidegate::checkpoint::{Place, Retention, StateFileKind, open_place};
use tidegate::cluster::jobmaster::{JobNotice, JobResult};
use tidegate::connector::CollectSink;
use tidegate::error::Result;
use tidegate::prelude::*;
use tidegate_state::{BackendOptions, RocksDbOptions};

const VERSION: u32 = 1;
const RECORDS: u64 = 400;
const HALF: u64 = 200;
const KEYS: u64 = 10;
/// Records that are processed at once; for those after them a slow function takes its time.
const AT_ONCE: usize = 100;

/// What is special about a fixture. Its name is that of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "rocksdb"), allow(dead_code, reason = "two are on RocksDB"))]
enum Fixture {
    Memory,
    /// With state so small that it is not in table files.
    RocksDb,
    /// In table files of RocksDB.
    Tables,
    /// Barriers have overtaken records: there is no savepoint, which would have been aligned.
    InFlight,
}

impl Fixture {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::RocksDb => "rocksdb",
            Self::Tables => "tables",
            Self::InFlight => "in-flight",
        }
    }

    fn directory(self, version: u32) -> PathBuf {
        let name = format!("tests/golden/checkpoints-{version}/{}", self.name());
        Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
    }

    fn backend(self) -> BackendOptions {
        let small = RocksDbOptions::small();
        match self {
            Self::Memory | Self::InFlight => BackendOptions::Memory,
            Self::RocksDb => BackendOptions::RocksDb(small),
            // Without room for live objects everything is in tables.
            Self::Tables => BackendOptions::RocksDb(RocksDbOptions { cache_bytes: 1, ..small }),
        }
    }

    /// What kinds of files its checkpoint has.
    fn kinds(self) -> Vec<StateFileKind> {
        let special = match self {
            Self::Memory | Self::RocksDb => None,
            Self::Tables => Some(StateFileKind::Table),
            Self::InFlight => Some(StateFileKind::InFlight),
        };
        let mut kinds = vec![StateFileKind::Keyed, StateFileKind::Operator];
        kinds.extend(special);
        kinds.sort();
        kinds
    }
}

/// State of several kinds, and a timer that tells all of it in the end.
struct Totals {
    count: ValueState<u64>,
    sums: MapState<String, u64>,
    last: ListState<u64>,
    log: Log<u64>,
    is_slow: bool,
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
        if self.is_slow && self.log.entries().len() >= AT_ONCE {
            std::thread::sleep(Duration::from_millis(10));
        }
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

/// Runs the job until the gate is at its half, and writes the fixture, or from what is restored to its end.
fn run(fixture: Fixture, directory: &Path, restore: Option<&Path>, to: Option<&Path>) -> Vec<String> {
    let mut env = Environment::new();
    let config = env.config_mut();
    config.parallelism = 2;
    config.state.backend = fixture.backend();
    config.state.local_dir = Some(directory.join("local"));
    config.checkpoint_dir = Some(to.unwrap_or(directory).to_string_lossy().into_owned());
    config.checkpoint.interval_ms = Some(50);
    config.checkpoint.retention = Retention::Always;
    config.checkpoint.unaligned = fixture == Fixture::InFlight;
    config.restore.path = restore.map(|path| path.to_string_lossy().into_owned());
    let (source, gate) = gated(RECORDS, 4, |n| n);
    let (sink, collected) = CollectSink::new();
    let log = Log::new();
    let shared = log.clone();
    let is_slow = fixture == Fixture::InFlight && to.is_some();
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
                is_slow,
            })
        })
        .uid("totals")
        .sink(sink)
        .uid("lines");
    let job = env.start("fixture").unwrap();
    match to {
        Some(to) => {
            gate.open_to(HALF);
            if is_slow {
                log.wait_for(AT_ONCE + 1);
            } else {
                log.wait_for(HALF as usize);
            }
            gate.wait_for_checkpoint(2);
            if !is_slow {
                job.controller().savepoint(to.join("savepoints").to_str()).unwrap();
            }
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
            let again = log.entries().iter().filter(|n| **n < HALF).count();
            if fixture == Fixture::InFlight {
                assert!((1..HALF as usize).contains(&again), "{again} records were in flight");
            } else {
                assert_eq!(again, 0, "it has begun anew");
            }
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

/// The kinds of files that a checkpoint or savepoint has.
fn kinds(place: &Path) -> Vec<StateFileKind> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stored = runtime.block_on(async {
        let place: Place = open_place(place.to_str().unwrap(), &[]).await?;
        place.checkpoint().await
    });
    let mut kinds: Vec<_> = stored.unwrap().manifest.files().map(|file| file.kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

/// The value in a row of a dump.
fn value_of(row: &str) -> u64 {
    let (_, value) = row.rsplit_once("\"value\":").unwrap_or_else(|| panic!("{row}"));
    value.trim_end_matches('}').parse().unwrap()
}

fn is_read(version: u32, fixture: Fixture) {
    // Where it lies does not matter, and what is committed is not written to.
    let copy = tempfile::tempdir().unwrap();
    copy_all(&fixture.directory(version), copy.path());
    let job = child(copy.path(), "fixture-");
    assert_eq!(kinds(&job), fixture.kinds());
    tidegate(&["fsck"], &job);
    let mut places = vec![job];
    if fixture != Fixture::InFlight {
        places.push(child(&copy.path().join("savepoints"), "savepoint-"));
    }
    for place in &places {
        tidegate(&["checkpoint", "verify"], place);
        let shown = tidegate(&["checkpoint", "show"], place);
        assert!(shown.contains("totals") && shown.contains("numbers"), "{shown}");
        let dump = |state| tidegate(&["state", "dump", "--operator", "totals", "--state", state], place);
        let counts: Vec<u64> = dump("count").lines().map(value_of).collect();
        let in_flight = match fixture {
            Fixture::InFlight => dump("in-flight").lines().map(value_of).collect(),
            _ => Vec::new(),
        };
        assert_eq!(in_flight.is_empty(), fixture != Fixture::InFlight);
        assert_eq!(counts.iter().sum::<u64>() + in_flight.len() as u64, HALF, "{counts:?}, {in_flight:?}");
        assert!(in_flight.iter().all(|n| *n < HALF), "{in_flight:?}");
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(run(fixture, directory.path(), Some(place), None), expected(), "from {}", place.display());
    }
}

fn check(fixture: Fixture) {
    if std::env::var_os("TIDEGATE_WRITE_FIXTURES").is_some() {
        let to = fixture.directory(VERSION);
        assert!(!to.exists(), "{} was written by a release, and stays", to.display());
        // Places are named in it: this one is nobody's.
        let place = std::env::temp_dir().join(format!("tidegate-fixture-{}", fixture.name()));
        run(fixture, tempfile::tempdir().unwrap().path(), None, Some(&place));
        copy_all(&place, &to);
        std::fs::remove_dir_all(place).unwrap();
    }
    (1..=VERSION).for_each(|version| is_read(version, fixture));
}

#[test]
fn checkpoints_of_the_memory_backend() {
    check(Fixture::Memory);
}

#[cfg(feature = "rocksdb")]
#[test]
fn checkpoints_of_rocksdb() {
    check(Fixture::RocksDb);
}

#[cfg(feature = "rocksdb")]
#[test]
fn checkpoints_with_table_files() {
    check(Fixture::Tables);
}

#[test]
fn checkpoints_with_records_in_flight() {
    check(Fixture::InFlight);
}

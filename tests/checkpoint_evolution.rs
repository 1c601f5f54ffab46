//! A job is restored by the next version of its program, whose state has another type: its values go on, or the job
//! does not start and says why.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{Gate, Log, assert_error, gated, run_out};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tidegate::cluster::jobmaster::JobResult;
use tidegate::error::Result;
use tidegate::prelude::*;
use tidegate_state::{BackendOptions, State};

const RECORDS: u64 = 400;
const KEYS: u64 = 7;

/// What all versions of the state do.
trait Visits: State + Default {
    fn visit(&mut self, n: u64);
    /// What the version emits.
    fn line(&self, key: u64) -> String;
}

mod v1 {
    #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    pub(super) struct Visits {
        pub(super) count: u32,
        pub(super) last: Last,
    }

    #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    pub(super) enum Last {
        #[default]
        Never,
        At(u64),
    }
}

impl Visits for v1::Visits {
    fn visit(&mut self, n: u64) {
        self.count += 1;
        self.last = v1::Last::At(n);
    }

    fn line(&self, key: u64) -> String {
        format!("{key}: {} since the last version", self.count)
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct VisitsV2 {
    last: LastV2,
    #[serde(alias = "count")]
    total: u64,
    #[serde(default)]
    since: u64,
    first: Option<u64>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
enum LastV2 {
    #[default]
    Unknown,
    At(u64),
    Never,
}

impl Visits for VisitsV2 {
    fn visit(&mut self, n: u64) {
        if self.since == 0 {
            assert!(matches!(self.last, LastV2::At(last) if last < n), "the old last visit is there");
        }
        self.total += 1;
        self.since += 1;
        self.first.get_or_insert(n);
        self.last = LastV2::At(n);
    }

    fn line(&self, key: u64) -> String {
        format!("{key}: {} visits, {} of them new", self.total, self.since)
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Narrowed {
    count: u16,
}

impl Visits for Narrowed {
    fn visit(&mut self, _: u64) {
        self.count += 1;
    }

    fn line(&self, key: u64) -> String {
        key.to_string()
    }
}

struct Counting<V: State> {
    visits: ValueState<V>,
    processed: Log<u64>,
}

impl<V: Visits> KeyedProcessFunction<u64, u64, String> for Counting<V> {
    fn process(
        &mut self,
        n: u64,
        c: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let key = *c.key();
        let line = self.visits.update(V::default, |visits| {
            visits.visit(n);
            visits.line(key)
        })?;
        out.collect(line);
        self.processed.push(n);
        Ok(())
    }
}

struct Setup<'a> {
    directory: &'a Path,
    backend: BackendOptions,
    parallelism: u32,
    restore: Option<PathBuf>,
}

impl Setup<'_> {
    fn environment(&self) -> Environment {
        let mut env = Environment::new();
        let config = env.config_mut();
        config.parallelism = self.parallelism;
        config.state.backend = self.backend.clone();
        config.state.local_dir = Some(self.directory.join("local"));
        config.checkpoint_dir = Some(self.directory.join("checkpoints").to_string_lossy().into_owned());
        config.checkpoint.interval_ms = Some(5);
        config.restore.path = self.restore.as_ref().map(|path| path.to_string_lossy().into_owned());
        env
    }
}

/// The program with `V` as its state; returns what it processes and what it emits.
fn program<V: Visits>(env: &Environment) -> (Gate, Log<u64>, impl Fn() -> Vec<String> + use<V>) {
    let (source, gate) = gated(RECORDS, 1, |n| n);
    let (sink, lines) = CollectSink::new();
    let processed = Log::new();
    let log = processed.clone();
    env.source(source)
        .uid("numbers")
        .parallelism(1)
        .key_by(|n| n % KEYS)
        .process(move |open| {
            Ok(Counting::<V> { visits: open.value_state("visits")?, processed: log.clone() })
        })
        .name("count visits")
        .uid("visits")
        .sink(sink)
        .uid("lines");
    (gate, processed, move || lines.values())
}

/// Runs the first version over half of the records; returns the job's checkpoints.
fn first_version(setup: &Setup<'_>) -> PathBuf {
    let env = setup.environment();
    let (gate, processed, _) = program::<v1::Visits>(&env);
    let job = env.start("visits").unwrap();
    gate.open_to(RECORDS / 2);
    processed.wait_for(RECORDS as usize / 2);
    gate.wait_for_checkpoint(1);
    let checkpoints = setup.directory.join("checkpoints").join(job.job_id().as_str());
    job.controller().cancel();
    assert_eq!(run_out(job).0, JobResult::Canceled);
    checkpoints
}

fn the_next_version_goes_on(backend: BackendOptions) {
    let directory = tempfile::tempdir().unwrap();
    let mut setup = Setup { directory: directory.path(), backend, parallelism: 2, restore: None };
    setup.restore = Some(first_version(&setup));
    setup.parallelism = 3;
    let env = setup.environment();
    let (gate, _, lines) = program::<VisitsV2>(&env);
    gate.open();
    env.execute("visits").unwrap();
    let lines = lines();
    for key in 0..KEYS {
        let count = |numbers: std::ops::Range<u64>| numbers.filter(|n| n % KEYS == key).count();
        let (all, new) = (count(0..RECORDS), count(RECORDS / 2..RECORDS));
        let last = format!("{key}: {all} visits, {new} of them new");
        assert!(lines.contains(&last), "`{last}` is not in {lines:?}");
    }
}

fn a_version_that_cannot_read_the_state_is_refused(backend: BackendOptions) {
    let directory = tempfile::tempdir().unwrap();
    let mut setup = Setup { directory: directory.path(), backend, parallelism: 1, restore: None };
    setup.restore = Some(first_version(&setup));
    let env = setup.environment();
    let (gate, processed, _) = program::<Narrowed>(&env);
    gate.open();
    let names = [
        "operator 'count visits'",
        "state `visits`",
        "struct Visits { count: u32, last: enum Last { Never, At(u64) } }",
        "struct Narrowed { count: u16 }",
        "`count`: a u32 cannot be read as u16",
        "StateOptions::migrations",
    ];
    assert_error(env.execute("visits"), ErrorKind::Config, &names);
    // What the checkpoint had left to publish may have been published; no record was processed.
    assert!(processed.entries().is_empty(), "something has run");

    // The checkpoint is as good as before.
    let env = setup.environment();
    let (gate, _, lines) = program::<v1::Visits>(&env);
    gate.open();
    env.execute("visits").unwrap();
    let all = (0..RECORDS).filter(|n| n % KEYS == 0).count();
    assert!(lines().contains(&format!("0: {all} since the last version")), "{:?}", lines());
}

#[test]
fn in_memory_the_next_version_goes_on() {
    the_next_version_goes_on(BackendOptions::Memory);
}

#[test]
fn in_memory_a_version_that_cannot_read_the_state_is_refused() {
    a_version_that_cannot_read_the_state_is_refused(BackendOptions::Memory);
}

#[cfg(feature = "rocksdb")]
#[test]
fn in_rocksdb_the_next_version_goes_on() {
    the_next_version_goes_on(BackendOptions::RocksDb(tidegate_state::RocksDbOptions::small()));
}

#[cfg(feature = "rocksdb")]
#[test]
fn in_rocksdb_a_version_that_cannot_read_the_state_is_refused() {
    a_version_that_cannot_read_the_state_is_refused(BackendOptions::RocksDb(
        tidegate_state::RocksDbOptions::small(),
    ));
}

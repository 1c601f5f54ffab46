//! A program that is restored need not be the one that wrote: operators find their state by their uid, wherever they stand now,
//! whatever they are chained to, at any parallelism up to the number of key groups.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{Gate, Log, gated, run_out};
use std::path::Path;
use tidegate::Environment;
use tidegate::cluster::JobHandle;
use tidegate::cluster::jobmaster::JobResult;
use tidegate::connector::DiscardSink;
use tidegate::error::Result;
use tidegate::prelude::*;
use tidegate::stream::DataStream;
use tidegate_state::BackendOptions;

const RECORDS: u64 = 600;
const HALF: u64 = 300;
const KEY_GROUPS: u16 = 8;

/// Counts per key, hands everything on, and says in the end what it has counted.
struct Count {
    name: &'static str,
    count: ValueState<u64>,
    said: Said,
}

/// What functions have said, wherever they ran.
#[derive(Clone)]
struct Said {
    totals: Log<String>,
    /// One entry per record and operator.
    counted: Log<()>,
}

impl KeyedProcessFunction<u64, u64, u64> for Count {
    fn process(
        &mut self,
        n: u64,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        self.count.update(|| 0, |count| *count += 1)?;
        context.register_event_timer(i64::MAX)?;
        self.said.counted.push(());
        out.collect(n);
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: i64,
        context: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        self.said.totals.push(format!("{} {} {:?}", self.name, context.key(), self.count.get()?));
        Ok(())
    }
}

/// What `name` says if it has seen the records of this range.
fn totals(name: &str, keys: u64, records: std::ops::Range<u64>) -> Vec<String> {
    let count = |key| records.clone().filter(|n| n % keys == key).count() as u64;
    (0..keys).map(|key| format!("{name} {key} {:?}", Some(count(key)))).collect()
}

fn count(said: &Said, stream: DataStream<u64>, name: &'static str, keys: u64) -> DataStream<u64> {
    let said = said.clone();
    stream
        .key_by(move |n| n % keys)
        .process(move |open| Ok(Count { name, count: open.value_state("count")?, said: said.clone() }))
        .uid(name)
}

type Shape = fn(&Said, DataStream<u64>) -> DataStream<u64>;

/// The program that writes.
const WRITER: Shape = |said, numbers| {
    let same = numbers.map(|n: u64| n).uid("same");
    count(said, count(said, same, "five", 5), "seven", 7)
};

/// One that is restored, at this parallelism; whether state may be left behind; what it says in the end.
struct Reader {
    what: &'static str,
    shape: Shape,
    parallelism: u32,
    leaves_behind: bool,
    expected: fn() -> Vec<String>,
}

fn both() -> Vec<String> {
    [totals("five", 5, 0..RECORDS), totals("seven", 7, 0..RECORDS)].concat()
}

const READERS: &[Reader] = &[
    Reader { what: "as it was", shape: WRITER, parallelism: 2, leaves_behind: false, expected: both },
    Reader {
        what: "as many subtasks as key groups",
        shape: WRITER,
        parallelism: KEY_GROUPS as u32,
        leaves_behind: false,
        expected: both,
    },
    Reader {
        what: "in another order",
        shape: |said, numbers| {
            let other = count(said, count(said, numbers, "seven", 7), "five", 5);
            other.map(|n: u64| n).uid("same")
        },
        parallelism: 3,
        leaves_behind: false,
        expected: both,
    },
    Reader {
        what: "every operator in a chain of its own",
        shape: |said, numbers| {
            let same = numbers.map(|n: u64| n).uid("same").disable_chaining();
            let five = count(said, same, "five", 5).disable_chaining();
            count(said, five, "seven", 7).disable_chaining()
        },
        parallelism: 1,
        leaves_behind: false,
        expected: both,
    },
    Reader {
        what: "an operator without state less, and one more in between",
        shape: |said, numbers| {
            let five = count(said, numbers, "five", 5);
            count(said, five.filter(|_: &u64| true).uid("all of them"), "seven", 7)
        },
        parallelism: 2,
        leaves_behind: false,
        expected: both,
    },
    Reader {
        what: "an operator with state more, which begins without",
        shape: |said, numbers| count(said, WRITER(said, numbers), "three", 3),
        parallelism: 4,
        leaves_behind: false,
        expected: || [both(), totals("three", 3, HALF..RECORDS)].concat(),
    },
    Reader {
        what: "an operator with state less, as it was allowed",
        shape: |said, numbers| count(said, numbers, "seven", 7),
        parallelism: 2,
        leaves_behind: true,
        expected: || totals("seven", 7, 0..RECORDS),
    },
];

fn start(
    directory: &Path,
    backend: &BackendOptions,
    reader: &Reader,
    restore: Option<&str>,
) -> (JobHandle, Gate, Said) {
    let mut env = Environment::new();
    let config = env.config_mut();
    config.parallelism = reader.parallelism;
    config.max_parallelism = Some(KEY_GROUPS);
    config.cluster.taskmanagers = 2;
    config.state.backend = backend.clone();
    config.state.local_dir = Some(directory.join("local"));
    config.checkpoint_dir = Some(directory.join("checkpoints").to_string_lossy().into_owned());
    config.restore.path = restore.map(str::to_owned);
    config.restore.allow_non_restored_state = reader.leaves_behind;
    let (source, gate) = gated(RECORDS, 8, |n| n);
    let said = Said { totals: Log::new(), counted: Log::new() };
    let numbers = env.source(source).uid("numbers");
    (reader.shape)(&said, numbers).sink(DiscardSink::new().0).uid("nowhere");
    (env.start("reshaped").unwrap(), gate, said)
}

fn check(backend: &BackendOptions) {
    let directory = tempfile::tempdir().unwrap();
    let (job, gate, said) = start(directory.path(), backend, &READERS[0], None);
    gate.open_to(HALF);
    // Both operators.
    said.counted.wait_for(2 * HALF as usize);
    let target = directory.path().join("savepoints");
    let savepoint = job.controller().stop(target.to_str(), false).unwrap();
    assert_eq!(run_out(job).0, JobResult::Finished);
    for reader in READERS {
        let (job, gate, said) = start(directory.path(), backend, reader, Some(&savepoint.location));
        gate.open();
        assert_eq!(run_out(job).0, JobResult::Finished, "{}", reader.what);
        let (mut found, mut expected) = (said.totals.entries(), (reader.expected)());
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{}", reader.what);
    }
}

#[test]
fn operators_find_their_state_wherever_they_stand() {
    check(&BackendOptions::Memory);
}

#[cfg(feature = "rocksdb")]
#[test]
fn operators_find_their_state_wherever_they_stand_in_rocksdb() {
    check(&BackendOptions::RocksDb(tidegate_state::RocksDbOptions::small()));
}

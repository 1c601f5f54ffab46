//! The program under test and its input.
//!
//! Every record knows its partition, its offset, its key, and how many records of that key came before it in its
//! partition, so that loss, duplication and reordering show at the first wrong record and can be told apart.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tidegate::Environment;
use tidegate::prelude::*;
use tidegate::stream::DataStream;

/// Partitions of the input; every parallelism under test divides it, so that order within a partition is kept.
pub const PARTITIONS: u64 = 8;
/// Length of an event-time window, in milliseconds.
pub const WINDOW_MS: i64 = 50;

/// One record of the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traced {
    /// Which partition it belongs to.
    pub partition: u64,
    /// Its place in the whole input; its event time in milliseconds, too.
    pub offset: u64,
    /// Its key.
    pub key: u64,
    /// How many records of the same key came before it in its partition.
    pub sequence: u64,
}

/// What a run is made of. Everything derives from the seed.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The input, in order.
    pub input: Arc<[Traced]>,
    /// How long each source takes at least to deliver its half, in milliseconds of the job's clock.
    pub lasts_ms: u64,
}

impl Workload {
    /// An input of `records` records over about `keys` keys, some much more frequent than others, spread over
    /// `lasts_ms`.
    pub fn new(seed: u64, records: u64, keys: u64, lasts_ms: u64) -> Self {
        let mut rng = tidegate::testing::simulation::SeededRng::new(seed);
        let mut seen: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        let input = (0..records).map(|offset| {
            // The product of two draws is skewed towards small keys.
            let key = rng.between(0, keys) * rng.between(0, keys) / keys.max(1);
            let partition = offset % PARTITIONS;
            let next = seen.entry((partition, key)).or_default();
            let sequence = *next;
            *next += 1;
            Traced { partition, offset, key, sequence }
        });
        Self { input: input.collect(), lasts_ms }
    }

    /// Declares the program: two sources in union, a chained and an unchained stage, keyed state of every kind, event
    /// time windows, an exactly-once file sink in `output`.
    pub fn declare(&self, env: &Environment, output: &Path) {
        self.union(env)
            .key_by(|record| record.key)
            .process(|open| {
                Ok(Check {
                    total: open.value_state("total")?,
                    next: open.map_state("next")?,
                    windows: open.map_state("windows")?,
                    recent: open.list_state("recent")?,
                })
            })
            .uid("check")
            .sink(FileSink::lines(output))
            .uid("sink");
    }

    /// Both halves with their event time, one of them through a stage of its own.
    pub(crate) fn union(&self, env: &Environment) -> DataStream<Traced> {
        let (even, odd) = (self.half(0), self.half(1));
        let left = env.source(even).uid("even");
        let right = env.source(odd).uid("odd").map(|record: Traced| record).uid("pass").start_new_chain();
        let strategy = || WatermarkStrategy::monotonous().with_timestamps(|r: &Traced| r.offset as i64);
        let left = left.assign_timestamps_and_watermarks(strategy()).uid("left-time");
        let right = right.assign_timestamps_and_watermarks(strategy()).uid("right-time");
        left.union(right)
    }

    /// The even or the odd partitions as a source: four each, so that up to four readers keep their order.
    pub(crate) fn half(&self, which: u64) -> Generator<impl Fn(u64) -> Traced + Send + Sync + 'static> {
        let records: Vec<Traced> = self.input.iter().filter(|r| r.partition % 2 == which).cloned().collect();
        let per_second = records.len() as f64 * 1000.0 / self.lasts_ms.max(1) as f64;
        Generator::of(records).with_rate(per_second)
    }

    /// The lines the sink must publish, sorted.
    pub fn expected(&self) -> Vec<String> {
        self.expected_of(|_| true)
    }

    /// The lines the sink must publish if the input is only those records, sorted.
    pub fn expected_of(&self, is_input: impl Fn(&Traced) -> bool) -> Vec<String> {
        let mut lines = Vec::new();
        let mut windows: BTreeMap<(u64, i64), u64> = BTreeMap::new();
        let mut totals: BTreeMap<u64, u64> = BTreeMap::new();
        for record in self.input.iter().filter(|record| is_input(record)) {
            lines.push(record_line(record));
            *windows.entry((record.key, window_end(record.offset as i64))).or_default() += 1;
            *totals.entry(record.key).or_default() += 1;
        }
        lines.extend(windows.into_iter().map(|((key, end), count)| window_line(key, end, count)));
        lines.extend(totals.into_iter().map(|(key, total)| total_line(key, total)));
        lines.sort();
        lines
    }
}

/// The line that is published for a record as soon as it is processed.
pub fn record_line(r: &Traced) -> String {
    format!("record,{},{},{},{}", r.partition, r.offset, r.key, r.sequence)
}

/// The line that is published for a window when it is over.
pub(crate) fn window_line(key: u64, end: i64, count: u64) -> String {
    format!("window,{key},{end},{count}")
}

/// The line that is published for a key at the end of all time.
pub(crate) fn total_line(key: u64, total: u64) -> String {
    format!("total,{key},{total}")
}

pub(crate) fn window_end(time: i64) -> i64 {
    time - time % WINDOW_MS + WINDOW_MS
}

/// Checks the sequence of each key and partition, counts per key and per window.
struct Check {
    total: ValueState<u64>,
    /// Partition to the next sequence number expected.
    next: MapState<u64, u64>,
    /// End of window to count.
    windows: MapState<i64, u64>,
    /// The last three offsets.
    recent: ListState<u64>,
}

impl KeyedProcessFunction<u64, Traced, String> for Check {
    fn process(
        &mut self,
        r: Traced,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let expected = self.next.get(&r.partition)?.unwrap_or(0);
        if r.sequence != expected {
            let what = if r.sequence < expected { "repeated or reordered" } else { "lost" };
            return Err(Error::data(format!("{what}: {r:?} came where number {expected} was due")));
        }
        self.next.insert(r.partition, expected + 1)?;
        self.total.update(|| 0, |n| *n += 1)?;
        let mut recent: Vec<u64> = self.recent.iter()?.collect();
        recent.push(r.offset);
        self.recent.replace(recent.into_iter().rev().take(3).rev())?;
        let end = window_end(r.offset as i64);
        if context.watermark() >= end - 1 {
            return Err(Error::data(format!("{r:?} is late: the watermark is {}", context.watermark())));
        }
        let count = self.windows.get(&end)?.unwrap_or(0);
        self.windows.insert(end, count + 1)?;
        context.register_event_timer(end - 1)?;
        context.register_event_timer(i64::MAX)?;
        out.collect(record_line(&r));
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: i64,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let key = *context.key();
        if time == i64::MAX {
            let total = self.total.get()?.unwrap_or(0);
            let recent = self.recent.iter()?.count() as u64;
            if recent != total.min(3) {
                return Err(Error::data(format!("key {key}: {recent} recent offsets after {total} records")));
            }
            out.collect(total_line(key, total));
            return Ok(());
        }
        let count = self.windows.get(&(time + 1))?;
        let count =
            count.ok_or_else(|| Error::data(format!("key {key}: window {} fired twice", time + 1)))?;
        self.windows.remove(&(time + 1))?;
        out.collect(window_line(key, time + 1, count));
        Ok(())
    }
}

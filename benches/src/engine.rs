//! The jobs as Tidegate programs.

use crate::case::{Case, Kind, Work, slot};
use crate::keys::key_of;
use crate::measure::{Measured, watch};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tidegate::Environment;
use tidegate::checkpoint::{CheckpointConfig, CompletedCheckpoint};
use tidegate::cluster::jobmaster::{JobNotice, JobResult};
use tidegate::connector::{DiscardCounters, DiscardSink, FileSource, Generator};
use tidegate::error::{Error, Result};
use tidegate::prelude::{Collector, KeyedContext, KeyedProcessFunction, ListState, MapState, ValueState};

/// A running count per key; every update is emitted.
struct Count(ValueState<u64>);

impl KeyedProcessFunction<String, String, (String, u64)> for Count {
    fn process(
        &mut self,
        word: String,
        _: &mut KeyedContext<'_, String>,
        out: &mut Collector<'_, (String, u64)>,
    ) -> Result<()> {
        let count = self.0.update(
            || 0,
            |count| {
                *count += 1;
                *count
            },
        )?;
        out.collect((word, count));
        Ok(())
    }
}

impl KeyedProcessFunction<u64, u64, u64> for Count {
    fn process(&mut self, _: u64, _: &mut KeyedContext<'_, u64>, out: &mut Collector<'_, u64>) -> Result<()> {
        out.collect(self.0.update(
            || 0,
            |count| {
                *count += 1;
                *count
            },
        )?);
        Ok(())
    }
}

/// Everything that came per key, numbered by the subtask.
struct Append(ListState<u64>, u64);

impl KeyedProcessFunction<u64, u64, u64> for Append {
    fn process(
        &mut self,
        key: u64,
        _: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        self.0.push(self.1)?;
        self.1 += 1;
        out.collect(key);
        Ok(())
    }
}

/// Sixteen running counts per key.
struct Counts(MapState<u64, u64>, u64);

impl KeyedProcessFunction<u64, u64, u64> for Counts {
    fn process(
        &mut self,
        key: u64,
        _: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        let slot = slot(key, self.1);
        self.1 += 1;
        let count = self.0.get(&slot)?.unwrap_or(0) + 1;
        self.0.insert(slot, count)?;
        out.collect(count);
        Ok(())
    }
}

/// What a run of the engine came to.
pub(crate) struct EngineRun {
    pub(crate) measured: Measured,
    /// Periodic and final.
    pub(crate) checkpoints: Vec<CompletedCheckpoint>,
}

/// Runs the case; checkpoints and RocksDB's files go below `scratch`.
pub(crate) fn run(case: &Case, scratch: &Path) -> Result<EngineRun> {
    let mut env = Environment::new();
    let config = env.config_mut();
    config.parallelism = case.parallelism;
    config.checkpoint_dir = Some(scratch.join("checkpoints").to_string_lossy().into_owned());
    config.state.local_dir = Some(scratch.to_path_buf());
    if let Some(interval_ms) = case.checkpoint_ms {
        config.checkpoint = CheckpointConfig::every_ms(interval_ms);
    }
    config.state.backend = case.backend.options();
    let (counters, prefill) = match &case.work {
        Work::WordCount { text, .. } => (word_count(&env, text), 0),
        Work::Keyed { kind, keys, records } => (keyed(&env, *kind, *keys, *records), *keys),
    };
    let done = Arc::new(AtomicBool::new(false));
    let handle = env.start("bench")?;
    let watcher = {
        let done = Arc::clone(&done);
        std::thread::spawn(move || watch(|| counters.per_subtask(), prefill, &done))
    };
    let mut checkpoints = Vec::new();
    for notice in handle.notices() {
        match notice {
            JobNotice::CheckpointCompleted(completed) => checkpoints.push(completed),
            notice if notice.is_trouble() => eprintln!("{notice}"),
            _ => {}
        }
    }
    let result = handle.wait()?;
    done.store(true, Ordering::Release);
    let measured = watcher.join().map_err(|_| Error::bug("the watcher panicked"))?;
    match result {
        JobResult::Finished => Ok(EngineRun { measured, checkpoints }),
        JobResult::Canceled => Err(Error::bug("the job was canceled")),
        JobResult::Failed(failure) | JobResult::Fenced(failure) => Err(failure.into()),
    }
}

pub(crate) fn word_count(env: &Environment, text: &Path) -> DiscardCounters {
    let (sink, counters) = DiscardSink::new();
    env.source(FileSource::lines(text.to_string_lossy()))
        .uid("lines")
        .flat_map(|line: String, out: &mut Collector<'_, String>| {
            for word in line.split(' ').filter(|word| !word.is_empty()) {
                out.collect(word.to_owned());
            }
        })
        .key_by_ref(|word: &String| word.as_str())
        .process(|open| Ok(Count(open.value_state("count")?)))
        .uid("count")
        .sink(sink)
        .uid("out");
    counters
}

fn keyed(env: &Environment, kind: Kind, keys: u64, records: u64) -> DiscardCounters {
    let (sink, counters) = DiscardSink::new();
    let keyed = env
        .source(Generator::new(Some(keys + records), move |index| key_of(index, keys)))
        .uid("keys")
        .key_by(|key: &u64| *key);
    let out = match kind {
        Kind::Value => keyed.process(|open| Ok(Count(open.value_state("count")?))),
        Kind::List => keyed.process(|open| Ok(Append(open.list_state("list")?, 0))),
        Kind::Map => keyed.process(|open| Ok(Counts(open.map_state("counts")?, 0))),
    };
    out.uid("keep").sink(sink).uid("out");
    counters
}

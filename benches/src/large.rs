//! A job with much state: how long checkpoints take, how long they hold records up, how long a restore takes.
//!
//! One subtask, so that the other core is there for what checkpoints do beside it. Every key is written once, then one key
//! in ten is written over and over; a checkpoint every two seconds brings what has changed since the one before.

use crate::case::Backend;
use crate::measure::{Measured, peak_rss_mb, watch};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tidegate::Environment;
use tidegate::checkpoint::{CheckpointConfig, CompletedCheckpoint};
use tidegate::cluster::JobHandle;
use tidegate::cluster::jobmaster::JobNotice;
use tidegate::connector::{DiscardCounters, DiscardSink, Generator};
use tidegate::error::{Error, Result};
use tidegate::prelude::{Collector, KeyedContext, KeyedProcessFunction, ValueState};

const VALUE_BYTES: usize = 1000;
const INTERVAL_MS: u64 = 2_000;
/// Checkpoints measured behind the first one.
const CHECKPOINTS: usize = 5;

struct Keep(ValueState<Vec<u8>>);

impl KeyedProcessFunction<u64, u64, u64> for Keep {
    fn process(&mut self, n: u64, _: &mut KeyedContext<'_, u64>, out: &mut Collector<'_, u64>) -> Result<()> {
        // Half of it does not compress.
        let mut value = vec![0; VALUE_BYTES];
        let mut random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        for word in value[..VALUE_BYTES / 2].chunks_exact_mut(8) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            word.copy_from_slice(&random.to_le_bytes());
        }
        self.0.set(value)?;
        out.collect(n);
        Ok(())
    }
}

fn start(
    backend: Backend,
    keys: u64,
    scratch: &Path,
    restore: Option<PathBuf>,
) -> Result<(JobHandle, DiscardCounters)> {
    let mut env = Environment::new();
    let config = env.config_mut();
    config.parallelism = 1;
    config.checkpoint_dir = Some(scratch.join("checkpoints").to_string_lossy().into_owned());
    config.state.local_dir = Some(scratch.to_path_buf());
    config.checkpoint = CheckpointConfig::every_ms(INTERVAL_MS);
    config.restore.path = restore.map(|path| path.to_string_lossy().into_owned());
    config.state.backend = backend.options();
    let (sink, counters) = DiscardSink::new();
    let key = move |index: u64| {
        if index < keys { index } else { index.wrapping_mul(0x9e37_79b9) % (keys / 10) * 10 }
    };
    env.source(Generator::new(None, key))
        .uid("keys")
        .key_by(|key: &u64| *key)
        .process(|open| Ok(Keep(open.value_state("value")?)))
        .uid("keep")
        .sink(sink)
        .uid("out");
    Ok((env.start("large")?, counters))
}

/// What was measured of one backend.
struct Row {
    full: CompletedCheckpoint,
    later: Vec<CompletedCheckpoint>,
    measured: Measured,
    savepoint_s: f64,
    restore_s: f64,
    plain_write_s: f64,
    rss_mb: u64,
}

/// Time to write so many bytes to a file of the same disk, and to have them there.
fn plain_write(bytes: u64, scratch: &Path) -> Result<f64> {
    let block: Vec<u8> = (0..8u64 << 20).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 16) as u8).collect();
    let began = Instant::now();
    let mut file = std::fs::File::create(scratch.join("plain"))?;
    let mut left = bytes;
    while left > 0 {
        let now = left.min(block.len() as u64);
        file.write_all(&block[..now as usize])?;
        left -= now;
    }
    file.sync_all()?;
    Ok(began.elapsed().as_secs_f64())
}

fn measure(backend: Backend, keys: u64) -> Result<Row> {
    let scratch = tempfile::Builder::new().prefix("tidegate-large").tempdir()?;
    let (job, counters) = start(backend, keys, scratch.path(), None)?;
    let place = scratch.path().join("checkpoints").join(job.job_id().as_str());
    let (done, prefilled) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let watcher = {
        let (done, prefilled, counters) = (Arc::clone(&done), Arc::clone(&prefilled), counters);
        std::thread::spawn(move || {
            let count = || {
                let counts = counters.per_subtask();
                prefilled.store(counts.iter().sum::<u64>() > keys, Ordering::Release);
                counts
            };
            watch(count, keys, &done)
        })
    };
    // The first checkpoint behind the prefill has to bring all that came since the one before.
    let mut completed = Vec::new();
    for notice in job.notices() {
        match notice {
            JobNotice::CheckpointCompleted(done) if prefilled.load(Ordering::Acquire) => completed.push(done),
            notice if notice.is_trouble() => eprintln!("{notice}"),
            _ => {}
        }
        if completed.len() == CHECKPOINTS + 2 {
            break;
        }
    }
    let began = Instant::now();
    let savepoint = job.controller().savepoint(None)?;
    let savepoint_s = began.elapsed().as_secs_f64();
    done.store(true, Ordering::Release);
    let measured = watcher.join().map_err(|_| Error::bug("the watcher panicked"))?;
    job.controller().cancel();
    job.wait()?;
    let rss_mb = peak_rss_mb();
    let plain_write_s = plain_write(savepoint.state_bytes, scratch.path())?;
    let began = Instant::now();
    let (job, counters) = start(backend, keys, scratch.path(), Some(place))?;
    while counters.per_subtask().iter().sum::<u64>() == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let restore_s = began.elapsed().as_secs_f64();
    job.controller().cancel();
    job.wait()?;
    let full = completed.remove(0);
    // What came during the first one is in the second.
    completed.remove(0);
    Ok(Row { full, later: completed, measured, savepoint_s, restore_s, plain_write_s, rss_mb })
}

/// Measures each backend with so many MB of state, in a process of its own, and prints a table.
pub(crate) fn run(mb: u64) -> std::result::Result<(), Box<dyn std::error::Error>> {
    println!(
        "| backend, {mb} MB | records/s | longest stall, ms | first checkpoint behind the prefill, s (MB) | later ones, s (MB) \
         | freeze, ms | savepoint, s | plain write of the same, s | restore, s | peak memory, MB |\n\
         |---|---|---|---|---|---|---|---|---|---|"
    );
    let backends = [Some(Backend::Memory), cfg!(feature = "rocksdb").then_some(Backend::RocksDb)];
    for backend in backends.into_iter().flatten().map(Backend::name) {
        Command::new(std::env::current_exe()?).args(["large-state", &mb.to_string(), backend]).status()?;
    }
    Ok(())
}

/// Measures one backend and prints its row.
pub(crate) fn one(mb: u64, backend: &str) -> Result<()> {
    let keys = mb * 1_000_000 / VALUE_BYTES as u64;
    let backend = if backend == Backend::RocksDb.name() { Backend::RocksDb } else { Backend::Memory };
    let row = measure(backend, keys)?;
    let seconds = |c: &CompletedCheckpoint| c.duration_ms as f64 / 1e3;
    let mb = |c: &CompletedCheckpoint| c.uploaded_bytes as f64 / 1e6;
    let mean = |of: &dyn Fn(&CompletedCheckpoint) -> f64| {
        row.later.iter().map(of).sum::<f64>() / row.later.len() as f64
    };
    println!(
        "| {} | {:.0} | {:.0} | {:.2} ({:.0}) | {:.2} ({:.0}) | {:.2} | {:.2} | {:.2} | {:.2} | {} |",
        backend.name(),
        row.measured.rate(),
        row.measured.stall_ms,
        seconds(&row.full),
        mb(&row.full),
        mean(&seconds),
        mean(&mb),
        mean(&|c| c.timings.sync_us as f64 / 1e3),
        row.savepoint_s,
        row.plain_write_s,
        row.restore_s,
        row.rss_mb,
    );
    Ok(())
}

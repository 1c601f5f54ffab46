//! What a checkpoint costs against the size of the state and against how much of it has changed, beside writing as many
//! bytes to the same store with plain calls of `object_store`.
//!
//! The source lets a round of changes through and then waits, so that the checkpoint behind it has exactly the changes of
//! the round, and nothing else runs while it is stored.

use crate::case::Backend;
use object_store::local::LocalFileSystem;
use object_store::{ObjectStoreExt, path::Path as Name};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidegate::Environment;
use tidegate::checkpoint::{CheckpointConfig, CompletedCheckpoint};
use tidegate::cluster::JobHandle;
use tidegate::cluster::jobmaster::JobNotice;
use tidegate::connector::DiscardSink;
use tidegate::error::{Error, Result};
use tidegate::function::{
    AssignedSplits, Collector, EnumeratorContext, ReaderContext, ReaderStatus, Source, SourceReader,
    SplitEnumerator,
};
use tidegate::prelude::{KeyedContext, KeyedProcessFunction, ValueState};

const VALUE_BYTES: usize = 1000;
const INTERVAL_MS: u64 = 100;
const ROUNDS: usize = 3;
/// Bytes of a part, as checkpoints send them.
const PART_BYTES: usize = 8 << 20;

/// The numbers from 0 on, as many as it is allowed to.
#[derive(Clone, Default)]
struct Rounds {
    allowed: Arc<AtomicU64>,
    /// How many barriers it has sent: checkpoints are numbered from 1 on.
    barriers: Arc<AtomicU64>,
    /// How many of them are in front of the end of the last round; all that are to come while one is not sent yet.
    sent_behind: Arc<AtomicU64>,
}

impl Source for Rounds {
    type Record = u64;
    type Split = u64;

    fn is_bounded(&self) -> bool {
        false
    }

    fn enumerator(
        &self,
        context: &EnumeratorContext,
        restored: Option<&[u8]>,
    ) -> Result<Box<dyn SplitEnumerator<u64>>> {
        Ok(Box::new(AssignedSplits::new(context.parallelism, restored, || Ok(vec![0]))?))
    }

    fn reader(&self, _: &ReaderContext) -> Result<Box<dyn SourceReader<Record = u64, Split = u64>>> {
        Ok(Box::new(RoundsReader { source: self.clone(), next: None }))
    }
}

struct RoundsReader {
    source: Rounds,
    next: Option<u64>,
}

impl SourceReader for RoundsReader {
    type Record = u64;
    type Split = u64;

    fn add_split(&mut self, next: u64) -> Result<()> {
        self.next = Some(next);
        Ok(())
    }

    fn poll(&mut self, now_ms: i64, out: &mut Collector<'_, u64>) -> Result<ReaderStatus> {
        let Some(next) = &mut self.next else { return Ok(ReaderStatus::NeedSplit) };
        // The whole round at once: a barrier comes in front of it or behind it.
        while *next < self.source.allowed.load(Ordering::Acquire) {
            out.collect(*next);
            *next += 1;
            if *next == self.source.allowed.load(Ordering::Acquire) {
                let barriers = self.source.barriers.load(Ordering::Relaxed);
                self.source.sent_behind.store(barriers, Ordering::Release);
            }
        }
        Ok(ReaderStatus::WaitUntil(now_ms + 1))
    }

    fn snapshot(&self) -> Result<Vec<u64>> {
        self.source.barriers.fetch_add(1, Ordering::Relaxed);
        Ok(self.next.into_iter().collect())
    }
}

struct Keep {
    value: ValueState<Vec<u8>>,
    keys: u64,
}

impl KeyedProcessFunction<u64, u64, u64> for Keep {
    fn process(&mut self, n: u64, _: &mut KeyedContext<'_, u64>, out: &mut Collector<'_, u64>) -> Result<()> {
        self.value.set(noise(n, VALUE_BYTES))?;
        out.collect(n % self.keys);
        Ok(())
    }
}

/// Bytes that do not compress.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut noise = vec![0; bytes];
    for word in noise.chunks_exact_mut(8) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        word.copy_from_slice(&random.to_le_bytes());
    }
    noise
}

struct Job {
    handle: JobHandle,
    source: Rounds,
    sent: u64,
}

impl Job {
    fn start(backend: Backend, keys: u64, scratch: &Path) -> Result<Self> {
        let mut env = Environment::new();
        let config = env.config_mut();
        config.parallelism = 1;
        config.checkpoint_dir = Some(scratch.join("checkpoints").to_string_lossy().into_owned());
        config.state.local_dir = Some(scratch.to_path_buf());
        config.checkpoint = CheckpointConfig::every_ms(INTERVAL_MS);
        config.state.backend = backend.options();
        let source = Rounds::default();
        env.source(source.clone())
            .uid("rounds")
            .key_by(move |n: &u64| n % keys)
            .process(move |open| Ok(Keep { value: open.value_state("value")?, keys }))
            .uid("keep")
            .sink(DiscardSink::new().0)
            .uid("out");
        Ok(Self { handle: env.start("checkpoints")?, source, sent: 0 })
    }

    /// Lets so many changes through, and returns the first checkpoint that has them.
    fn round(&mut self, changes: u64) -> Result<CompletedCheckpoint> {
        self.sent += changes;
        let Rounds { allowed, sent_behind, .. } = &self.source;
        sent_behind.store(u64::MAX, Ordering::Release);
        allowed.store(self.sent, Ordering::Release);
        // There are others in between, which have not been waited for.
        for notice in self.handle.notices() {
            match notice {
                JobNotice::CheckpointCompleted(done)
                    if done.checkpoint.0 > sent_behind.load(Ordering::Acquire) =>
                {
                    return Ok(done);
                }
                notice if notice.is_trouble() => eprintln!("{notice}"),
                _ => {}
            }
        }
        Err(Error::bug("the job ended"))
    }
}

/// Writes objects with plain calls. As with checkpoints, the one before stays until the next one is there.
struct Plain {
    runtime: tokio::runtime::Runtime,
    store: LocalFileSystem,
    written: u64,
}

impl Plain {
    fn new(scratch: &Path) -> Result<Self> {
        let directory = scratch.join("plain");
        std::fs::create_dir_all(&directory)?;
        let store = LocalFileSystem::new_with_prefix(&directory).map_err(failed)?.with_fsync(true);
        Ok(Self { runtime: tokio::runtime::Runtime::new()?, store, written: 0 })
    }

    /// Seconds that it takes to write so many bytes in one object.
    fn write(&mut self, bytes: u64) -> Result<f64> {
        let part = noise(bytes, PART_BYTES);
        let name = |number: u64| Name::from(format!("object-{number}"));
        let (old, new) = (name(self.written), name(self.written + 1));
        let began = Instant::now();
        let write = async {
            if bytes <= PART_BYTES as u64 {
                return self.store.put(&new, part[..bytes as usize].to_vec().into()).await.map(drop);
            }
            let mut upload = self.store.put_multipart(&new).await?;
            let mut left = bytes;
            while left > 0 {
                let now = left.min(PART_BYTES as u64);
                upload.put_part(part[..now as usize].to_vec().into()).await?;
                left -= now;
            }
            upload.complete().await.map(drop)
        };
        self.runtime.block_on(write).map_err(failed)?;
        let seconds = began.elapsed().as_secs_f64();
        if self.written > 0 {
            self.runtime.block_on(self.store.delete(&old)).map_err(failed)?;
        }
        self.written += 1;
        Ok(seconds)
    }
}

/// Waits until memory that was freed before is with the host again, if this machine is a guest: both sides then write into
/// memory that is equally far away, which takes ten times as long as into memory freed just now.
fn rest(changes: u64) {
    if changes * VALUE_BYTES as u64 > 10_000_000 {
        std::thread::sleep(Duration::from_secs(3));
    }
}

fn failed(e: object_store::Error) -> Error {
    Error::restart_job("a plain write").with_source(e)
}

/// From the barrier to the durable record, in seconds: without the round that a barrier may have had to wait for.
fn seconds(done: &CompletedCheckpoint) -> f64 {
    (done.duration_ms as f64 - done.timings.start_delay_us as f64 / 1e3).max(0.0) / 1e3
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Measures each backend with these sizes of state in MB, each in a process of its own, and prints a table.
pub(crate) fn run(sizes: &[u64]) -> std::result::Result<(), Box<dyn std::error::Error>> {
    println!(
        "| backend | state, MB | changed | MB written | checkpoint, ms | plain write, ms | ratio | freeze, ms |\n\
         |---|---|---|---|---|---|---|---|"
    );
    let backends = [Some(Backend::Memory), cfg!(feature = "rocksdb").then_some(Backend::RocksDb)];
    for backend in backends.into_iter().flatten().map(Backend::name) {
        for mb in sizes {
            let words = ["checkpoints", &mb.to_string(), backend];
            if !Command::new(std::env::current_exe()?).args(words).status()?.success() {
                return Err(format!("{backend}, {mb} MB failed").into());
            }
        }
    }
    Ok(())
}

/// Measures one backend with one size, and prints its rows.
pub(crate) fn one(mb: u64, backend: &str) -> Result<()> {
    let keys = mb * 1_000_000 / VALUE_BYTES as u64;
    let backend = if backend == Backend::RocksDb.name() { Backend::RocksDb } else { Backend::Memory };
    let scratch = tempfile::Builder::new().prefix("tidegate-checkpoints").tempdir()?;
    let mut plain = Plain::new(scratch.path())?;
    let mut job = Job::start(backend, keys, scratch.path())?;
    for (what, changes, rounds) in [
        ("all of it, for the first time", keys, 1),
        ("1 %", keys / 100, ROUNDS),
        ("10 %", keys / 10, ROUNDS),
        ("100 %", keys, ROUNDS),
    ] {
        // In turns: the disk is not the same for long.
        let mut measured = Vec::new();
        for _ in 0..rounds {
            rest(changes);
            let done = job.round(changes)?;
            rest(changes);
            let plain = plain.write(done.uploaded_bytes)?;
            measured.push((done, plain));
        }
        let median_of =
            |of: fn(&(CompletedCheckpoint, f64)) -> f64| median(measured.iter().map(of).collect());
        println!(
            "| {} | {mb} | {what} | {:.1} | {:.0} | {:.0} | {:.2} | {:.2} |",
            backend.name(),
            median_of(|(done, _)| done.uploaded_bytes as f64 / 1e6),
            median_of(|(done, _)| seconds(done) * 1e3),
            median_of(|(_, plain)| plain * 1e3),
            median_of(|(done, plain)| seconds(done) / plain),
            median_of(|(done, _)| done.timings.sync_us as f64 / 1e3),
        );
    }
    job.handle.controller().cancel();
    job.handle.wait()?;
    Ok(())
}

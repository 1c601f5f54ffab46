//! What a checkpoint of RocksDB costs with its own files and row by row: the stall of the task, the time and the bytes
//! that are stored, and the time to come back from it.
//!
//! `cargo run --release -p tidegate-state --features rocksdb --example native_cost`

#![allow(clippy::disallowed_methods, reason = "measures time on its own threads")]

use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use tidegate_state::{
    BackendOptions, BackendScope, Error, InMemoryFiles, Key, KeyGroupRange, KeyedBackend, KeyedSnapshot,
    Result, RocksDbOptions, SnapshotMode, ValueState,
};

type Value = [u64; 12];

const KEYS: u64 = 2_000_000;

fn options() -> BackendOptions {
    BackendOptions::RocksDb(RocksDbOptions { cache_bytes: 16 << 20, ..RocksDbOptions::default() })
}

fn open(
    files: &InMemoryFiles,
    snapshot: Option<&KeyedSnapshot>,
) -> Result<(KeyedBackend<u64>, ValueState<Value>)> {
    let range = KeyGroupRange::all(64);
    let scope =
        BackendScope { operator: "cost".into(), subtask: 0, max_parallelism: 64, range, local_dir: None };
    let sources: Vec<_> = snapshot.into_iter().map(|snapshot| files.source(snapshot, None)).collect();
    let mut backend = KeyedBackend::open(&options(), scope, &sources)?;
    let state = backend.value_state("value")?;
    Ok((backend, state))
}

/// Writes these keys; the longest that 100 of them took.
fn write(
    backend: &KeyedBackend<u64>,
    state: &mut ValueState<Value>,
    keys: Range<u64>,
    salt: u64,
) -> Result<Duration> {
    let (mut longest, mut piece) = (Duration::ZERO, Instant::now());
    for n in keys {
        let key = n.hash64() % KEYS;
        backend.set_current_key(key, key.hash64())?;
        state.set(std::array::from_fn(|i| (n ^ salt).wrapping_add(i as u64).hash64()))?;
        if n % 100 == 0 {
            longest = longest.max(piece.elapsed());
            piece = Instant::now();
        }
    }
    Ok(longest)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn main() -> Result<()> {
    let files = InMemoryFiles::new();
    let (mut backend, mut state) = open(&files, None)?;
    write(&backend, &mut state, 0..KEYS, 0)?;
    let (mut last, mut base) = (None, None);
    for (checkpoint, mode) in [(1, "rows"), (2, "files"), (3, "files"), (4, "files")] {
        // A memtable full of what is new.
        write(&backend, &mut state, 0..KEYS / 20, checkpoint)?;
        let start = Instant::now();
        let frozen = match mode {
            "rows" => backend.freeze(checkpoint, SnapshotMode::Canonical)?,
            _ => backend.freeze(checkpoint, SnapshotMode::Native { base })?,
        };
        let freeze = start.elapsed();
        let store = files.clone();
        let writer = thread::spawn(move || {
            let start = Instant::now();
            store.store(checkpoint, frozen).map(|snapshot| (snapshot, start.elapsed()))
        });
        let longest = write(&backend, &mut state, 0..KEYS / 20, checkpoint + 10)?;
        let (snapshot, time) = writer.join().map_err(|_| Error::bug("the writer panicked"))??;
        let all: u64 = snapshot.files.iter().map(|file| file.length).sum();
        let new: u64 =
            snapshot.files.iter().filter(|f| f.checkpoint == checkpoint).map(|file| file.length).sum();
        println!(
            "{mode}: freeze {freeze:?}, longest 100 writes meanwhile {longest:?}, stored in {time:?}: {:.1} MiB of \
             {:.1} MiB in {} files, {} rows",
            mib(new),
            mib(all),
            snapshot.files.len(),
            snapshot.rows
        );
        if mode == "files" {
            base = Some(checkpoint);
        }
        if checkpoint == 1 {
            restore(&files, &snapshot, "rows")?;
        }
        last = Some(snapshot);
    }
    last.map_or(Ok(()), |snapshot| restore(&files, &snapshot, "files"))
}

fn restore(files: &InMemoryFiles, snapshot: &KeyedSnapshot, what: &str) -> Result<()> {
    let start = Instant::now();
    drop(open(files, Some(snapshot))?);
    println!("restored from {what} in {:?}", start.elapsed());
    Ok(())
}

//! How long a freeze holds up the task, how long the image takes to write, and what updates cost meanwhile.
//!
//! `cargo run --release -p tidegate-state --features rocksdb --example freeze_cost`

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "measures time on its own threads"
)]

use std::thread;
use std::time::{Duration, Instant};

use tidegate_state::{
    BackendOptions, BackendScope, InMemoryFiles, Key, KeyGroupRange, KeyedBackend, Result, RocksDbOptions,
    SnapshotMode, ValueState,
};

fn open(options: &BackendOptions) -> Result<(KeyedBackend<u64>, ValueState<u64>)> {
    let scope = BackendScope {
        operator: "cost".into(),
        subtask: 0,
        max_parallelism: 128,
        range: KeyGroupRange::all(128),
        local_dir: None,
    };
    let mut backend = KeyedBackend::open(options, scope, &[])?;
    let state = backend.value_state("sum")?;
    Ok((backend, state))
}

/// Updates `count` keys from `first` on; the mean and the longest of all pieces of 1000.
fn update(
    backend: &KeyedBackend<u64>,
    state: &mut ValueState<u64>,
    keys: impl Iterator<Item = u64>,
) -> Result<(Duration, Duration)> {
    let (start, mut longest, mut piece) = (Instant::now(), Duration::ZERO, Instant::now());
    let mut count = 0;
    for key in keys {
        backend.set_current_key(key, key.hash64())?;
        state.update(|| 0, |v| *v += 1)?;
        count += 1;
        if count % 1000 == 0 {
            longest = longest.max(piece.elapsed());
            piece = Instant::now();
        }
    }
    Ok((start.elapsed() / count.max(1), longest))
}

fn measure(name: &str, options: &BackendOptions, keys: u64) -> Result<()> {
    println!("{name}, {keys} keys");
    let (mut backend, mut state) = open(options)?;
    let (mean, longest) = update(&backend, &mut state, 0..keys)?;
    println!("  fill: {mean:?} per key, longest 1000 {longest:?}");
    for round in 0..3 {
        let start = Instant::now();
        let frozen = backend.freeze(round, SnapshotMode::Canonical)?;
        let freeze = start.elapsed();
        let writer = thread::spawn(move || {
            let start = Instant::now();
            InMemoryFiles::new().store(round, frozen).map(|snapshot| (snapshot, start.elapsed()))
        });
        let (mean, longest) = update(&backend, &mut state, (0..keys).map(|n| n * 7919 % keys))?;
        let (snapshot, write) =
            writer.join().map_err(|_| tidegate_state::Error::bug("the writer panicked"))??;
        println!(
            "  freeze {round}: {freeze:?}, write {} rows {write:?}, updates meanwhile {mean:?}, longest 1000 {longest:?}",
            snapshot.rows
        );
    }
    let start = Instant::now();
    drop(backend);
    drop(state);
    println!("  drop: {:?}", start.elapsed());
    Ok(())
}

fn main() -> Result<()> {
    measure("memory", &BackendOptions::Memory, 1_000_000)?;
    for (cache_bytes, keys) in [(256 << 20, 100_000), (256 << 20, 1_000_000), (8 << 20, 1_000_000)] {
        let options = BackendOptions::RocksDb(RocksDbOptions { cache_bytes, ..Default::default() });
        measure(&format!("RocksDB behind {} MiB of objects", cache_bytes >> 20), &options, keys)?;
    }
    Ok(())
}

//! What checkpoints of the memory backend cost: how long a freeze holds up the task, how long the image takes to store,
//! how many bytes it has, complete and with a part of the keys changed; and what a restore takes.
//!
//! `cargo run --release -p tidegate-state --example increment_cost -- 1000000`

#![allow(clippy::disallowed_methods, reason = "measures time")]

use std::time::Instant;

use tidegate_state::{
    BackendOptions, BackendScope, Error, InMemoryFiles, Key, KeyGroupRange, KeyedBackend, KeyedSnapshot,
    Result, SnapshotMode, ValueState,
};

struct Run {
    keys: u64,
    backend: KeyedBackend<u64>,
    state: ValueState<u64>,
    files: InMemoryFiles,
    checkpoint: u64,
}

fn scope() -> BackendScope {
    BackendScope {
        operator: "cost".into(),
        subtask: 0,
        max_parallelism: 128,
        range: KeyGroupRange::all(128),
        local_dir: None,
    }
}

impl Run {
    fn update(&mut self, keys: impl Iterator<Item = u64>) -> Result<()> {
        for key in keys {
            self.backend.set_current_key(key, key.hash64())?;
            self.state.update(|| 1_000_000, |v| *v += 1)?;
        }
        Ok(())
    }

    fn checkpoint(&mut self, what: &str) -> Result<KeyedSnapshot> {
        let base = (self.checkpoint > 0).then_some(self.checkpoint);
        self.checkpoint += 1;
        let start = Instant::now();
        let frozen = self.backend.freeze(self.checkpoint, SnapshotMode::Native { base })?;
        let freeze = start.elapsed();
        let start = Instant::now();
        let snapshot = self.files.store(self.checkpoint, frozen)?;
        let store = start.elapsed();
        let new = snapshot.files.iter().filter(|f| f.checkpoint == self.checkpoint).map(|f| f.length);
        let all = snapshot.files.iter().map(|f| f.length).sum::<u64>();
        println!(
            "{what:<28} freeze {freeze:>10.2?}  store {store:>10.2?}  rows {:>8}  new {:>11} bytes  all {all:>11} bytes in {} files",
            snapshot.rows,
            new.sum::<u64>(),
            snapshot.files.len()
        );
        Ok(snapshot)
    }
}

fn main() -> Result<()> {
    let keys = match std::env::args().nth(1) {
        Some(keys) => keys.parse().map_err(|e| Error::config("not a number of keys").with_source(e))?,
        None => 1_000_000,
    };
    let mut backend = KeyedBackend::open(&BackendOptions::Memory, scope(), &[])?;
    let state = backend.value_state("sum")?;
    let mut run = Run { keys, backend, state, files: InMemoryFiles::new(), checkpoint: 0 };
    run.update(0..keys)?;
    run.checkpoint("everything")?;
    run.checkpoint("nothing changed")?;
    for round in 0..3 {
        run.update((0..keys / 100).map(|n| (n * 7919 + round * 104_729) % keys))?;
        run.checkpoint("1 % changed, anywhere")?;
    }
    run.update((0..keys / 10).map(|n| n * 7919 % keys))?;
    run.checkpoint("10 % changed, anywhere")?;
    run.update(0..keys)?;
    run.checkpoint("everything changed")?;
    for round in 0..60 {
        run.update((0..keys / 100).map(|n| (n * 7919 + round * 104_729) % keys))?;
        if round % 10 < 9 {
            let base = Some(run.checkpoint);
            run.checkpoint += 1;
            let frozen = run.backend.freeze(run.checkpoint, SnapshotMode::Native { base })?;
            run.files.store(run.checkpoint, frozen)?;
        } else {
            run.checkpoint(&format!("1 % changed, {}th in a row", round + 1))?;
        }
    }
    let last = run.checkpoint("before the restore")?;
    let start = Instant::now();
    let mut restored =
        KeyedBackend::<u64>::open(&BackendOptions::Memory, scope(), &[run.files.source(&last, None)])?;
    restored.value_state::<u64>("sum")?;
    println!("restore of {} keys: {:.2?}", run.keys, start.elapsed());
    Ok(())
}

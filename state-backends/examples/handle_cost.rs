//! What a keyed update costs over a flat hash table, in one run so that the ratios mean something.
//!
//! `cargo run --release -p tidegate-state --example handle_cost`

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "measures time on its own threads"
)]

use std::hint::black_box;
use std::time::Instant;

use hashbrown::HashTable;
use tidegate_state::{BackendOptions, BackendScope, Key, KeyGroupRange, KeyedBackend, Result, ValueState};

const BATCH: usize = 1024;
const ROUNDS: usize = 15;

/// How many keys are touched before the first of them is used.
const AHEAD: usize = 64;

type Records = Vec<(u64, u64)>;

fn records(keys: u64, count: usize) -> Records {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let next = |_| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let key = seed % keys;
        (key, key.hash64())
    };
    (0..count).map(next).collect()
}

/// The best of several rounds of each candidate, the rounds taken in turns.
fn race(count: usize, candidates: &mut [(&str, &mut dyn FnMut() -> Result<()>)]) -> Result<()> {
    let mut best = vec![f64::MAX; candidates.len()];
    for _ in 0..ROUNDS {
        for (best, (_, run)) in best.iter_mut().zip(candidates.iter_mut()) {
            let start = Instant::now();
            run()?;
            *best = best.min(start.elapsed().as_nanos() as f64 / count as f64);
        }
    }
    for (best_of_it, (name, _)) in best.iter().zip(candidates.iter()) {
        println!("  {name:24} {best_of_it:7.1} ns  {:5.2} x flat", best_of_it / best[0]);
    }
    Ok(())
}

fn open() -> Result<(KeyedBackend<u64>, ValueState<u64>)> {
    let scope = BackendScope {
        operator: "cost".into(),
        subtask: 0,
        max_parallelism: 128,
        range: KeyGroupRange::all(128),
        local_dir: None,
    };
    let mut backend = KeyedBackend::open(&BackendOptions::Memory, scope, &[])?;
    let state = backend.value_state("sum")?;
    Ok((backend, state))
}

fn touch(backend: &KeyedBackend<u64>, records: &[(u64, u64)]) -> Result<()> {
    let mut hashes = [0; AHEAD];
    for (slot, (_, hash)) in hashes.iter_mut().zip(records) {
        *slot = *hash;
    }
    backend.prefetch(&hashes[..records.len()], |_| Ok(()))
}

fn update(backend: &KeyedBackend<u64>, state: &mut ValueState<u64>, records: &[(u64, u64)]) -> Result<()> {
    for (key, hash) in records {
        backend.set_current_key_ref(key, *hash)?;
        state.update(|| 0, |v| *v += 1)?;
    }
    Ok(())
}

fn get_set(backend: &KeyedBackend<u64>, state: &mut ValueState<u64>, records: &[(u64, u64)]) -> Result<()> {
    for (key, hash) in records {
        backend.set_current_key_ref(key, *hash)?;
        let sum = state.get()?.unwrap_or(0);
        state.set(sum + 1)?;
    }
    Ok(())
}

fn main() -> Result<()> {
    for keys in [1_000, 100_000, 1_000_000] {
        println!("{keys} keys");
        let records = records(keys, 256 * BATCH);
        let mut flat: HashTable<(u64, u64)> = HashTable::new();
        let (backend, mut state) = open()?;
        for key in 0..keys {
            flat.insert_unique(key.hash64(), (key, 0), |e| e.0.hash64());
            backend.set_current_key_ref(&key, key.hash64())?;
            state.set(0)?;
        }
        let [mut first, mut second, third, mut fourth, mut fifth] = [0; 5].map(|_| state.clone());
        race(
            records.len(),
            &mut [
                ("flat", &mut || {
                    for (key, hash) in &records {
                        if let Some(entry) = flat.find_mut(*hash, |e| e.0 == *key) {
                            entry.1 += 1;
                        }
                    }
                    Ok(())
                }),
                ("update", &mut || update(&backend, &mut first, &records)),
                ("touch, update", &mut || {
                    records.chunks(AHEAD).try_for_each(|records| {
                        touch(&backend, records)?;
                        update(&backend, &mut fourth, records)
                    })
                }),
                ("get, set", &mut || get_set(&backend, &mut second, &records)),
                ("touch, get, set", &mut || {
                    records.chunks(AHEAD).try_for_each(|records| {
                        touch(&backend, records)?;
                        get_set(&backend, &mut fifth, records)
                    })
                }),
                ("get", &mut || {
                    for (key, hash) in &records {
                        backend.set_current_key_ref(key, *hash)?;
                        black_box(third.get()?);
                    }
                    Ok(())
                }),
            ],
        )?;
    }
    Ok(())
}

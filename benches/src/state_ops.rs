//! What one operation on state costs, beside what it would cost without the engine: an ordinary hash map beside the memory
//! backend, calls of the `rocksdb` crate beside RocksDB.

use crate::keys::key_of;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;
use tidegate::error::Result;
use tidegate_state::{
    BackendOptions, BackendScope, Key, KeyGroupRange, KeyedBackend, ListState, MapState, ReducingState,
    ValueState,
};

const OPERATIONS: u64 = 2_000_000;
const REPS: usize = 3;

/// Nanoseconds per operation, the best of some runs: what the machine does besides only adds to it.
fn time(operations: u64, mut run: impl FnMut(u64) -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for rep in 0..REPS as u64 {
        let began = Instant::now();
        for index in 0..operations {
            run(rep * operations + index)?;
        }
        best = best.min(began.elapsed().as_secs_f64() * 1e9 / operations as f64);
    }
    Ok(best)
}

/// Prints what an operation costs here and what it costs without the engine.
fn compare(
    what: &str,
    keys: u64,
    operations: u64,
    ours: impl FnMut(u64) -> Result<()>,
    plain: impl FnMut(u64) -> Result<()>,
) -> Result<()> {
    let (ours, plain) = (time(operations, ours)?, time(operations, plain)?);
    println!("| {what} | {keys:.0e} | {ours:.0} | {plain:.0} | {:.2} |", ours / plain, keys = keys as f64);
    Ok(())
}

/// Opens an empty backend for all keys.
pub(crate) fn open(options: &BackendOptions, local_dir: Option<&Path>) -> Result<KeyedBackend<u64>> {
    let scope = BackendScope {
        operator: "bench".into(),
        subtask: 0,
        max_parallelism: 128,
        range: KeyGroupRange::all(128),
        local_dir: local_dir.map(Path::to_owned),
    };
    KeyedBackend::open(options, scope, &[])
}

struct States {
    backend: KeyedBackend<u64>,
    value: ValueState<u64>,
    list: ListState<u64>,
    map: MapState<u64, u64>,
    sum: ReducingState<u64>,
}

impl States {
    fn open(options: &BackendOptions, scratch: &Path) -> Result<Self> {
        let mut backend = open(options, Some(scratch))?;
        Ok(Self {
            value: backend.value_state("value")?,
            list: backend.list_state("list")?,
            map: backend.map_state("map")?,
            sum: backend.reducing_state("sum", |sum, n| *sum += n)?,
            backend,
        })
    }

    fn at(&self, key: u64) -> Result<()> {
        self.backend.set_current_key(key, key.hash64())
    }
}

fn memory(keys: u64, scratch: &Path) -> Result<()> {
    let mut s = States::open(&BackendOptions::Memory, scratch)?;
    let mut counts: HashMap<u64, u64> = HashMap::new();
    let mut lists: HashMap<u64, Vec<u64>> = HashMap::new();
    let mut maps: HashMap<u64, BTreeMap<u64, u64>> = HashMap::new();
    for key in 0..keys {
        s.at(key)?;
        s.value.set(0)?;
        s.list.push(key)?;
        s.sum.add(1)?;
        counts.insert(key, 0);
        lists.insert(key, vec![key]);
        for slot in 0..4 {
            s.map.insert(slot, key)?;
            maps.entry(key).or_default().insert(slot, key);
        }
    }
    compare(
        "value: update",
        keys,
        OPERATIONS,
        |n| {
            s.at(key_of(keys + n, keys))?;
            s.value.update(|| 0, |count| *count += 1)
        },
        |n| {
            *counts.entry(key_of(keys + n, keys)).or_insert(0) += 1;
            Ok(())
        },
    )?;
    compare(
        "value: get",
        keys,
        OPERATIONS,
        |n| {
            s.at(key_of(keys + n, keys))?;
            black_box(s.value.get()?);
            Ok(())
        },
        |n| {
            black_box(counts.get(&key_of(keys + n, keys)));
            Ok(())
        },
    )?;
    compare(
        "reducing: add",
        keys,
        OPERATIONS,
        |n| {
            s.at(key_of(keys + n, keys))?;
            s.sum.add(1)
        },
        |n| {
            *counts.entry(key_of(keys + n, keys)).or_insert(0) += 1;
            Ok(())
        },
    )?;
    compare(
        "map of 4: update",
        keys,
        OPERATIONS,
        |n| {
            s.at(key_of(keys + n, keys))?;
            s.map.update(n % 4, || 0, |count| *count += 1)
        },
        |n| {
            *maps.entry(key_of(keys + n, keys)).or_default().entry(n % 4).or_insert(0) += 1;
            Ok(())
        },
    )?;
    compare(
        "map of 4: get",
        keys,
        OPERATIONS,
        |n| {
            s.at(key_of(keys + n, keys))?;
            black_box(s.map.get(&(n % 4))?);
            Ok(())
        },
        |n| {
            black_box(maps.get(&key_of(keys + n, keys)).and_then(|map| map.get(&(n % 4))));
            Ok(())
        },
    )?;
    compare(
        "list: push",
        keys,
        OPERATIONS,
        |n| {
            s.at(key_of(keys + n, keys))?;
            s.list.push(n)
        },
        |n| {
            lists.entry(key_of(keys + n, keys)).or_default().push(n);
            Ok(())
        },
    )?;
    Ok(())
}

/// The memory of a count in bytes, as this process grows by some millions: in the memory backend or in a hash map.
pub(crate) fn resident(engine: bool) -> Result<u64> {
    const KEYS: u64 = 4_000_000;
    let before = crate::measure::peak_rss_mb();
    if engine {
        let mut backend = open(&BackendOptions::Memory, None)?;
        let mut value = backend.value_state::<u64>("value")?;
        for key in 0..KEYS {
            backend.set_current_key(key, key.hash64())?;
            value.set(key)?;
        }
        black_box(&backend);
    } else {
        // With room for all: while a table grows, it is there twice.
        let mut map: HashMap<u64, u64> = HashMap::with_capacity(KEYS as usize);
        map.extend((0..KEYS).map(|key| (key, key)));
        black_box(&map);
    }
    Ok((crate::measure::peak_rss_mb() - before) * 1_000_000 / KEYS)
}

#[cfg(feature = "rocksdb")]
mod raw {
    //! The same operations by calls of the crate, with the options that matter set as the engine sets them.

    use super::*;
    use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, Options, WriteOptions};
    use tidegate::error::Error;
    use tidegate_state::RocksDbOptions;

    /// As many low keys as the product of two draws is skewed towards.
    fn skewed(n: u64, keys: u64) -> u64 {
        key_of(keys + n, keys) * key_of(keys + n.wrapping_mul(7919) % (1 << 40), keys) / keys
            * key_of(keys + n.wrapping_mul(104_729) % (1 << 40), keys)
            / keys
    }

    fn failed(e: rocksdb::Error) -> Error {
        Error::bug("RocksDB").with_source(e)
    }

    fn open_raw(path: &Path) -> Result<(DB, WriteOptions)> {
        let defaults = RocksDbOptions::default();
        let mut blocks = BlockBasedOptions::default();
        blocks.set_bloom_filter(10.0, false);
        blocks.set_block_cache(&Cache::new_lru_cache(defaults.memory_bytes));
        blocks.set_cache_index_and_filter_blocks(true);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&blocks);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(defaults.write_buffer_bytes);
        options.set_max_write_buffer_number(3);
        options.set_memtable_whole_key_filtering(true);
        options.set_memtable_prefix_bloom_ratio(0.02);
        options.set_allow_concurrent_memtable_write(false);
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        Ok((DB::open(&options, path).map_err(failed)?, write))
    }

    fn update(db: &DB, write: &WriteOptions, key: u64) -> Result<()> {
        let bytes = key.to_be_bytes();
        let old = db.get_pinned(bytes).map_err(failed)?;
        let count = old.and_then(|old| old.first_chunk().map(|n| u64::from_le_bytes(*n))).unwrap_or(0);
        db.put_opt(bytes, (count + 1).to_le_bytes(), write).map_err(failed)
    }

    pub(super) fn run(keys: u64, scratch: &Path) -> Result<()> {
        let operations = OPERATIONS / 4;
        for (what, cache_bytes, is_skewed) in [
            ("value: update, nothing cached", 1, false),
            ("value: update, skewed keys", RocksDbOptions::default().cache_bytes / 16, true),
        ] {
            let options = RocksDbOptions { cache_bytes, ..RocksDbOptions::default() };
            let mut s = States::open(&BackendOptions::RocksDb(options), scratch)?;
            let directory = tempfile::Builder::new().prefix("raw").tempdir_in(scratch)?;
            let (db, write) = open_raw(directory.path())?;
            let key = |n| if is_skewed { skewed(n, keys) } else { key_of(keys + n, keys) };
            for key in 0..keys {
                s.at(key)?;
                s.value.set(0)?;
                db.put_opt(key.to_be_bytes(), 0u64.to_le_bytes(), &write).map_err(failed)?;
            }
            compare(
                what,
                keys,
                operations,
                |n| {
                    s.at(key(n))?;
                    s.value.update(|| 0, |count| *count += 1)
                },
                |n| update(&db, &write, key(n)),
            )?;
            if !is_skewed {
                compare(
                    "list: push; raw: put of a row of its own",
                    keys,
                    operations,
                    |n| {
                        s.at(key(n))?;
                        s.list.push(n)
                    },
                    |n| {
                        let bytes = key(n).to_be_bytes();
                        db.put_opt([bytes, n.to_be_bytes()].concat(), n.to_le_bytes(), &write).map_err(failed)
                    },
                )?;
            }
        }
        Ok(())
    }
}

/// Measures all and prints a table.
pub(crate) fn run() -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("tidegate-state-ops").tempdir()?;
    println!("| operation | keys | ns | plain, ns | ratio |\n|---|---|---|---|---|");
    for keys in [10_000, 1_000_000] {
        memory(keys, scratch.path())?;
    }
    #[cfg(feature = "rocksdb")]
    for keys in [10_000, 1_000_000] {
        raw::run(keys, scratch.path())?;
    }
    Ok(())
}

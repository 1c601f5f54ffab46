//! What one operation of a state handle costs, on each backend, beside what a person would write without Tidegate: a
//! plain hash map for the memory backend, direct calls of the `rocksdb` crate for the RocksDB backend.
//!
//! The candidates of a row take turns, piece by piece, within one process; the median piece counts.

use crate::case::StateUse;
use crate::keys::{SplitMix, mix};
use std::time::Instant;
use tidegate_state::{
    BackendOptions, BackendScope, Key, KeyGroupRange, KeyedBackend, ListState, MapState, Result, ValueState,
};

/// Operations between two looks at the clock.
const PIECE: usize = 64 << 10;

/// How many keys ahead of the first one are announced, as the keyed operator does.
const AHEAD: usize = 64;

/// A list is emptied at this many elements: what is measured is appending, not the length.
const LONGEST_LIST: u64 = 64;

/// How keys are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Draw {
    Uniform,
    /// Nine of ten operations go to a hundredth of the keys.
    Skewed,
}

/// Who does the operation.
trait Candidate {
    fn piece(&mut self, keys: &[u64]) -> Result<()>;
}

/// State behind a handle of ours.
struct Ours {
    backend: KeyedBackend<u64>,
    handle: Handle,
    seen: u64,
}

enum Handle {
    Value(ValueState<u64>),
    List(ListState<u64>),
    Map(MapState<u64, u64>),
}

impl Ours {
    fn open(options: &BackendOptions, state: StateUse) -> Result<Self> {
        let scope = BackendScope {
            operator: "cost".into(),
            subtask: 0,
            max_parallelism: 128,
            range: KeyGroupRange::all(128),
            local_dir: None,
        };
        let mut backend = KeyedBackend::open(options, scope, &[])?;
        let handle = match state {
            StateUse::Value => Handle::Value(backend.value_state("s")?),
            StateUse::List => Handle::List(backend.list_state("s")?),
            StateUse::Map => Handle::Map(backend.map_state("s")?),
        };
        Ok(Self { backend, handle, seen: 0 })
    }

    fn one(&mut self) -> Result<()> {
        self.seen += 1;
        match &mut self.handle {
            Handle::Value(value) => value.update(|| 0, |v| *v += 1),
            Handle::List(list) if self.seen.is_multiple_of(LONGEST_LIST) => list.clear(),
            Handle::List(list) => list.push(self.seen),
            Handle::Map(map) => map.update(self.seen & 15, || 0, |v| *v += 1),
        }
    }
}

impl Candidate for Ours {
    fn piece(&mut self, keys: &[u64]) -> Result<()> {
        let mut hashes = [0; AHEAD];
        for keys in keys.chunks(AHEAD) {
            for (hash, key) in hashes.iter_mut().zip(keys) {
                *hash = key.hash64();
            }
            self.backend.touch(&hashes[..keys.len()]);
            for (key, hash) in keys.iter().zip(hashes) {
                self.backend.set_current_key_ref(key, hash)?;
                self.one()?;
            }
        }
        Ok(())
    }
}

/// A hash map of hash maps, as one writes it by hand; hashes as we do.
#[derive(Default)]
struct HandMap {
    values: hashbrown::HashMap<u64, u64>,
    lists: hashbrown::HashMap<u64, Vec<u64>>,
    maps: hashbrown::HashMap<u64, std::collections::BTreeMap<u64, u64>>,
    state: Option<StateUse>,
    seen: u64,
}

impl Candidate for HandMap {
    fn piece(&mut self, keys: &[u64]) -> Result<()> {
        for key in keys {
            self.seen += 1;
            match self.state {
                Some(StateUse::List) => {
                    let list = self.lists.entry(*key).or_default();
                    if self.seen.is_multiple_of(LONGEST_LIST) { list.clear() } else { list.push(self.seen) }
                }
                Some(StateUse::Map) => {
                    *self.maps.entry(*key).or_default().entry(self.seen & 15).or_insert(0) += 1;
                }
                _ => *self.values.entry(*key).or_insert(0) += 1,
            }
        }
        Ok(())
    }
}

#[cfg(feature = "rocksdb")]
mod raw {
    //! The `rocksdb` crate without anything in front of it, tuned like our backend.

    use super::{Candidate, LONGEST_LIST};
    use crate::case::StateUse;
    use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, MergeOperands, Options, WriteOptions};
    use tidegate_state::{Error, Result};

    pub(super) struct Raw {
        db: DB,
        write: WriteOptions,
        state: StateUse,
        seen: u64,
        row: Vec<u8>,
        _directory: tempfile::TempDir,
    }

    fn append(_: &[u8], present: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
        let mut all = present.unwrap_or_default().to_vec();
        operands.iter().for_each(|operand| all.extend_from_slice(operand));
        Some(all)
    }

    impl Raw {
        pub(super) fn open(state: StateUse) -> Result<Self> {
            let directory = tempfile::tempdir()?;
            let mut blocks = BlockBasedOptions::default();
            blocks.set_bloom_filter(10.0, false);
            blocks.set_block_cache(&Cache::new_lru_cache(64 << 20));
            blocks.set_cache_index_and_filter_blocks(true);
            blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
            let mut options = Options::default();
            options.create_if_missing(true);
            options.set_block_based_table_factory(&blocks);
            options.set_write_buffer_size(32 << 20);
            options.set_max_write_buffer_number(3);
            options.set_memtable_whole_key_filtering(true);
            options.set_memtable_prefix_bloom_ratio(0.02);
            options.set_compression_type(DBCompressionType::Lz4);
            options.set_max_background_jobs(2);
            options.set_merge_operator_associative("append", append);
            let db = DB::open(&options, directory.path()).map_err(failed)?;
            let mut write = WriteOptions::default();
            write.disable_wal(true);
            Ok(Self { db, write, state, seen: 0, row: Vec::new(), _directory: directory })
        }

        fn count(&self) -> Result<u64> {
            let present = self.db.get_pinned(&self.row).map_err(failed)?;
            let count = present.and_then(|bytes| Some(u64::from_le_bytes((&*bytes).try_into().ok()?)));
            Ok(count.unwrap_or(0))
        }
    }

    fn failed(e: rocksdb::Error) -> Error {
        Error::restart_task("RocksDB fails").with_source(e)
    }

    impl Candidate for Raw {
        fn piece(&mut self, keys: &[u64]) -> Result<()> {
            for key in keys {
                self.seen += 1;
                self.row.clear();
                self.row.extend_from_slice(&[0, 0]);
                self.row.extend_from_slice(&key.to_be_bytes());
                let seen = self.seen.to_le_bytes();
                match self.state {
                    StateUse::List if self.seen.is_multiple_of(LONGEST_LIST) => {
                        self.db.delete_opt(&self.row, &self.write).map_err(failed)?;
                    }
                    StateUse::List => self.db.merge_opt(&self.row, seen, &self.write).map_err(failed)?,
                    StateUse::Value | StateUse::Map => {
                        if self.state == StateUse::Map {
                            self.row.push((self.seen & 15) as u8);
                        }
                        let count = self.count()? + 1;
                        self.db.put_opt(&self.row, count.to_le_bytes(), &self.write).map_err(failed)?;
                    }
                }
            }
            Ok(())
        }
    }
}

/// Nanoseconds per operation of the median piece of each candidate.
fn race(keys: u64, draw: Draw, pieces: usize, candidates: &mut [Box<dyn Candidate>]) -> Result<Vec<f64>> {
    for candidate in candidates.iter_mut() {
        let all: Vec<u64> = (0..keys).collect();
        all.chunks(PIECE).try_for_each(|piece| candidate.piece(piece))?;
    }
    let mut random = SplitMix(7);
    let mut drawn = 0;
    let mut next = || {
        drawn += 1;
        let number = mix(drawn) >> 1;
        match draw {
            Draw::Skewed if random.fraction() < 0.9 => number % (keys / 100).max(1) * 100 % keys,
            _ => number % keys,
        }
    };
    let mut times = vec![Vec::new(); candidates.len()];
    for _ in 0..pieces {
        let piece: Vec<u64> = (0..PIECE).map(|_| next()).collect();
        for (times, candidate) in times.iter_mut().zip(candidates.iter_mut()) {
            let start = Instant::now();
            candidate.piece(&piece)?;
            times.push(start.elapsed().as_nanos() as f64 / PIECE as f64);
        }
    }
    Ok(times.into_iter().map(middle).collect())
}

fn middle(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Prints the table.
pub(crate) fn run(quick: bool) -> Result<()> {
    let (sizes, pieces): (&[u64], usize) =
        if quick { (&[10_000], 2) } else { (&[1_000, 100_000, 1_000_000], 41) };
    println!("| operation | keys | drawn | plain | ours | of plain |\n|---|---|---|---|---|---|");
    for &keys in sizes {
        for state in StateUse::ALL {
            for draw in [Draw::Uniform, Draw::Skewed] {
                let plain = HandMap { state: Some(state), ..HandMap::default() };
                let ours = Ours::open(&BackendOptions::Memory, state)?;
                let mut candidates: Vec<Box<dyn Candidate>> = vec![Box::new(plain), Box::new(ours)];
                row("memory", state, keys, draw, &race(keys, draw, pieces, &mut candidates)?);
            }
        }
    }
    #[cfg(feature = "rocksdb")]
    for &keys in sizes.last() {
        for state in StateUse::ALL {
            for draw in [Draw::Uniform, Draw::Skewed] {
                for (name, options) in rocksdb_options(keys) {
                    let ours = Ours::open(&BackendOptions::RocksDb(options), state)?;
                    let plain = raw::Raw::open(state)?;
                    let mut candidates: Vec<Box<dyn Candidate>> = vec![Box::new(plain), Box::new(ours)];
                    row(name, state, keys, draw, &race(keys, draw, pieces.min(11), &mut candidates)?);
                }
            }
        }
    }
    Ok(())
}

/// All keys in the cache of live objects, and a hundredth of them.
#[cfg(feature = "rocksdb")]
fn rocksdb_options(keys: u64) -> [(&'static str, tidegate_state::RocksDbOptions); 2] {
    let with = |cache_entries: u64| tidegate_state::RocksDbOptions {
        cache_entries: cache_entries as usize,
        ..Default::default()
    };
    [("RocksDB, hot", with(4 * keys)), ("RocksDB, cold", with(keys / 100))]
}

fn row(backend: &str, state: StateUse, keys: u64, draw: Draw, nanos: &[f64]) {
    let draw = if draw == Draw::Uniform { "uniform" } else { "skewed" };
    if let [plain, ours] = nanos {
        let ratio = ours / plain;
        println!(
            "| {backend}, {} | {keys:.0e} | {draw} | {plain:.0} ns | {ours:.0} ns | {ratio:.2} |",
            state.name(),
            keys = keys as f64
        );
    }
}

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::table::cold::{FrozenStore, RowVisitor};
use crate::{
    BackendOptions, BackendScope, CustomBackend, InMemoryFiles, KeyGroupRange, KeyedBackend, ListState,
    SnapshotMode,
};

/// Counts what it is asked; keeps nothing.
#[derive(Clone, Default)]
struct Calls {
    writes: Arc<AtomicUsize>,
    rows: Arc<AtomicUsize>,
    longest: Arc<AtomicUsize>,
    reads: Arc<AtomicUsize>,
    reads_ahead: Arc<AtomicUsize>,
}

impl ColdStore for Calls {
    fn create(&mut self, _: &str) -> Result<()> {
        Ok(())
    }
    fn get(&self, _: &str, _: &[u8], _: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    fn get_many(
        &self,
        _: &str,
        keys: &[&[u8]],
        found: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        assert!(keys.is_sorted(), "keys in order");
        self.reads_ahead.fetch_add(keys.len(), Ordering::Relaxed);
        // Every key has a value that says whose it is.
        keys.iter().enumerate().try_for_each(|(index, key)| found(index, &varint(u64_in(key))))
    }
    fn write(&mut self, _: &str, batch: &WriteBatch) -> Result<()> {
        let rows = batch.iter().count();
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.longest.fetch_max(rows, Ordering::Relaxed);
        Ok(())
    }
    fn scan(&self, _: &str, _: &[u8], _: RowVisitor<'_>) -> Result<()> {
        Ok(())
    }
    fn freeze(&mut self) -> Result<Box<dyn FrozenStore>> {
        Ok(Box::new(Nothing))
    }
}

struct Nothing;

impl FrozenStore for Nothing {
    fn scan(&self, _: &str, _: &[u8], visit: RowVisitor<'_>) -> Result<()> {
        // An old row, which the cache has a newer one of if it is asked for a group with rows.
        let _: ControlFlow<()> = visit(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[9])?;
        Ok(())
    }
}

/// What an entry of the states below takes.
const ENTRY_BYTES: usize = size_of::<(u64, Slot<super::super::cached::Cached<u64>>)>() * 3 / 2;

fn open(calls: &Calls, cache_entries: usize) -> KeyedBackend<u64> {
    let calls = calls.clone();
    let open = move |_: &BackendScope| -> Result<Box<dyn ColdStore>> { Ok(Box::new(calls.clone())) };
    let options = BackendOptions::Custom(CustomBackend {
        cache_bytes: cache_entries * ENTRY_BYTES,
        open: Arc::new(open),
    });
    let scope = BackendScope {
        operator: "o".into(),
        subtask: 0,
        max_parallelism: 1,
        range: KeyGroupRange::all(1),
        local_dir: None,
    };
    KeyedBackend::open(&options, scope, &[]).unwrap()
}

fn fill(backend: &mut KeyedBackend<u64>, keys: std::ops::Range<u64>) {
    let mut state = backend.value_state::<u64>("s").unwrap();
    for key in keys {
        backend.set_current_key(key, key.hash64()).unwrap();
        state.set(key).unwrap();
    }
}

fn filled_list(backend: &mut KeyedBackend<u64>, keys: std::ops::Range<u64>) -> ListState<u64> {
    let mut list = backend.list_state::<u64>("l").unwrap();
    for key in keys {
        backend.set_current_key(key, key.hash64()).unwrap();
        list.push(1).unwrap();
    }
    list
}

/// The key in a row key.
fn u64_in(row_key: &[u8]) -> u64 {
    u64::decode_ordered(&mut &row_key[2..]).unwrap()
}

fn varint(value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    crate::codec::encode(&value, &mut bytes).unwrap();
    bytes
}

/// Announces keys 64 at a time, as batches of an operator do, and runs `process` on each.
fn announced(backend: &KeyedBackend<u64>, keys: impl Iterator<Item = u64>, mut process: impl FnMut(u64)) {
    let keys: Vec<u64> = keys.collect();
    for keys in keys.chunks(64) {
        let hashes: Vec<u64> = keys.iter().map(Key::hash64).collect();
        backend.prefetch(&hashes, |index| backend.set_current_key(keys[index], hashes[index])).unwrap();
        for key in keys {
            backend.set_current_key(*key, key.hash64()).unwrap();
            process(*key);
        }
    }
}

#[test]
fn rows_of_announced_keys_are_read_together_if_they_are_asked_for() {
    let calls = Calls::default();
    let mut backend = open(&calls, 60_000);
    fill(&mut backend, 0..20_000);
    let mut state = backend.value_state::<u64>("s").unwrap();
    // A state beside it that only grows, and is as large.
    let mut list = filled_list(&mut backend, 0..20_000);
    // Far keys, some of them twice in a batch, none twice otherwise.
    let keys = (0..64_000).map(|n| 1_000_000 + n / 64 * 64 + n % 60);
    let mut by_themselves = 0;
    announced(&backend, keys, |key| {
        list.push(1).unwrap();
        match state.get().unwrap() {
            // Those that the store was asked for alone; it has nothing then.
            None => by_themselves += 1,
            Some(value) => {
                // The second time it is what was made of it the first time.
                assert!(value == key || value == key + 1_000_000_000, "{value} of {key}");
                state.set(key + 1_000_000_000).unwrap();
            }
        }
    });
    let reads = calls.reads.load(Ordering::Relaxed);
    let ahead = calls.reads_ahead.load(Ordering::Relaxed);
    assert_eq!(reads + ahead, 60_000, "each row of the value once, none of the list");
    // One batch in sixteen is a sample, and one key in fifteen looks as if it were in the cache: by its tag.
    assert!(reads < 60_000 / 7, "{reads} read one by one");
    assert!(by_themselves >= reads);
}

#[test]
fn rows_that_nobody_asks_for_are_not_read_ahead() {
    let calls = Calls::default();
    let mut backend = open(&calls, 20_000);
    fill(&mut backend, 0..20_000);
    let mut list = filled_list(&mut backend, 0..20_000);
    let mut state = backend.value_state::<u64>("s").unwrap();
    announced(&backend, 1_000_000..1_064_000, |key| {
        list.push(key).unwrap();
        state.set(key).unwrap();
    });
    assert_eq!(calls.reads_ahead.load(Ordering::Relaxed), 0);
    // Now and then is not worth it either.
    announced(&backend, 2_000_000..2_064_000, |key| {
        if key % 8 == 0 {
            assert_eq!(state.get().unwrap(), None);
        }
    });
    assert_eq!(calls.reads_ahead.load(Ordering::Relaxed), 0);
    assert_eq!(calls.reads.load(Ordering::Relaxed), 8000);
}

#[test]
fn a_freeze_writes_nothing_and_its_image_hides_older_rows() {
    let calls = Calls::default();
    let mut backend = open(&calls, 10_000);
    fill(&mut backend, 0..5000);
    let image = backend.freeze(1, SnapshotMode::Canonical).unwrap();
    drop(backend.freeze(2, SnapshotMode::Canonical).unwrap());
    fill(&mut backend, 0..5000);
    assert_eq!(InMemoryFiles::new().store(1, image).unwrap().rows, 5000, "the stored row of key 0 is hidden");
    assert_eq!(calls.writes.load(Ordering::Relaxed), 0);
    assert_eq!(calls.reads.load(Ordering::Relaxed), 0, "a set looks at nothing");
}

#[test]
fn appending_to_a_list_reads_nothing_and_reading_it_reads_once() {
    let calls = Calls::default();
    let mut backend = open(&calls, 10_000);
    let mut list = backend.list_state::<u64>("l").unwrap();
    for round in 0..3 {
        for key in 0..100u64 {
            backend.set_current_key(key, key.hash64()).unwrap();
            list.push(round).unwrap();
            list.extend([10, 20]).unwrap();
            list.extend([]).unwrap();
        }
    }
    assert_eq!(calls.reads.load(Ordering::Relaxed), 0);
    for _ in 0..2 {
        backend.set_current_key(7, 7u64.hash64()).unwrap();
        let elements: Vec<u64> = list.iter().unwrap().collect();
        assert_eq!(elements, [0, 10, 20, 1, 10, 20, 2, 10, 20]);
        assert_eq!(calls.reads.load(Ordering::Relaxed), 1);
    }
    backend.set_current_key(8, 8u64.hash64()).unwrap();
    list.clear().unwrap();
    list.push(5).unwrap();
    assert_eq!(list.iter().unwrap().collect::<Vec<_>>(), [5]);
    assert_eq!(calls.reads.load(Ordering::Relaxed), 1, "what was cleared need not be read");
}

#[test]
fn evictions_come_in_bounded_pieces_and_keep_what_is_used() {
    let calls = Calls::default();
    let mut backend = open(&calls, 20_000);
    let hot = 0..2000;
    fill(&mut backend, hot.clone());
    for start in (2000..100_000).step_by(1000) {
        fill(&mut backend, start..start + 1000);
        fill(&mut backend, hot.clone());
    }
    let rows = calls.rows.load(Ordering::Relaxed);
    let at_once = EVICTED_AT_ONCE / ENTRY_BYTES + 2;
    assert!((80_000..82_000 + 4 * at_once).contains(&rows), "{rows} rows written");
    let longest = calls.longest.load(Ordering::Relaxed);
    assert!(longest <= at_once, "{longest} rows in one piece");
    let before = calls.reads.load(Ordering::Relaxed);
    let state = backend.value_state::<u64>("s").unwrap();
    for key in hot {
        backend.set_current_key(key, key.hash64()).unwrap();
        assert_eq!(state.get().unwrap(), Some(key));
    }
    assert_eq!(calls.reads.load(Ordering::Relaxed), before, "a hot key fell out of the cache");
}

//! RocksDB's own files in checkpoints: what is stored, what is named again, and what comes back, at any parallelism.

#![cfg(feature = "rocksdb")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;

use tidegate_state::{
    BackendOptions, BackendScope, ErrorKind, FrozenState, InMemoryFiles, Key, KeyGroupRange, KeyedBackend,
    KeyedSnapshot, ListState, MapState, RocksDbOptions, SnapshotMode, SnapshotSource, TimerQueue, ValueState,
    key_group_of, range_of, subtask_of,
};

const GROUPS: u16 = 16;

fn rocksdb(cache_bytes: usize) -> BackendOptions {
    BackendOptions::RocksDb(RocksDbOptions { cache_bytes, ..RocksDbOptions::small() })
}

fn scope(range: KeyGroupRange) -> BackendScope {
    BackendScope { operator: "native".into(), subtask: 0, max_parallelism: GROUPS, range, local_dir: None }
}

/// A sequence of numbers that is the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Content {
    value: Option<u64>,
    list: Vec<u16>,
    map: BTreeMap<u8, u64>,
    timers: BTreeSet<i64>,
}

type Model = BTreeMap<u64, Content>;

struct Subtask {
    backend: KeyedBackend<u64>,
    value: ValueState<u64>,
    list: ListState<u16>,
    map: MapState<u8, u64>,
    timers: TimerQueue<u64>,
}

/// A job of one operator, what it should hold, and the checkpoints it has completed.
struct Job {
    options: BackendOptions,
    subtasks: Vec<Subtask>,
    model: Model,
    numbers: Numbers,
    files: InMemoryFiles,
    next_checkpoint: u64,
    completed: BTreeMap<u64, (Vec<KeyedSnapshot>, Model)>,
}

impl Job {
    fn start(options: BackendOptions, seed: u64) -> Self {
        let mut job = Self {
            options,
            subtasks: Vec::new(),
            model: Model::new(),
            numbers: Numbers(seed),
            files: InMemoryFiles::new(),
            next_checkpoint: 1,
            completed: BTreeMap::new(),
        };
        job.open(2, &[]);
        job
    }

    fn open(&mut self, parallelism: u32, snapshots: &[Arc<dyn SnapshotSource>]) {
        self.subtasks.clear();
        for subtask in 0..parallelism {
            let scope = scope(range_of(subtask, parallelism, GROUPS).unwrap());
            let mut backend = KeyedBackend::open(&self.options, scope, snapshots).unwrap();
            self.subtasks.push(Subtask {
                value: backend.value_state("value").unwrap(),
                list: backend.list_state("list").unwrap(),
                map: backend.map_state("map").unwrap(),
                timers: backend.timers("timers").unwrap(),
                backend,
            });
        }
    }

    fn at(&mut self, key: u64) -> &mut Subtask {
        let subtask = subtask_of(key_group_of(key.hash64(), GROUPS), self.subtasks.len() as u32, GROUPS);
        let subtask = &mut self.subtasks[subtask as usize];
        subtask.backend.set_current_key(key, key.hash64()).unwrap();
        subtask
    }

    fn write(&mut self, count: usize) {
        for _ in 0..count {
            let key = self.numbers.next(200);
            let (what, number) = (self.numbers.next(10), self.numbers.next(1000));
            let mut content = self.model.remove(&key).unwrap_or_default();
            let subtask = self.at(key);
            let slot = (number % 7) as u8;
            let time = (number % 50) as i64;
            match what {
                0..3 => {
                    subtask.value.set(number).unwrap();
                    content.value = Some(number);
                }
                3 => {
                    subtask.value.clear().unwrap();
                    content.value = None;
                }
                4 => {
                    subtask.list.push(number as u16).unwrap();
                    content.list.push(number as u16);
                }
                5 => {
                    subtask.list.clear().unwrap();
                    content.list.clear();
                }
                6 => {
                    subtask.map.insert(slot, number).unwrap();
                    content.map.insert(slot, number);
                }
                7 => {
                    subtask.map.remove(&slot).unwrap();
                    content.map.remove(&slot);
                }
                8 if number % 4 == 0 => {
                    subtask.map.clear().unwrap();
                    content.map.clear();
                }
                8 => {
                    subtask.timers.delete(time).unwrap();
                    content.timers.remove(&time);
                }
                _ => {
                    subtask.timers.register(time).unwrap();
                    content.timers.insert(time);
                }
            }
            self.model.insert(key, content);
        }
    }

    /// Writes back what has become quiet.
    fn write_back(&mut self) {
        for subtask in &mut self.subtasks {
            while subtask.backend.write_back(1000).unwrap() == Some(1) {}
        }
    }

    fn check(&mut self) {
        for key in 0..200 {
            let expected = self.model.get(&key).cloned().unwrap_or_default();
            let subtask = self.at(key);
            assert_eq!(subtask.value.get().unwrap(), expected.value, "value of {key}");
            assert_eq!(subtask.list.iter().unwrap().collect::<Vec<_>>(), expected.list, "list of {key}");
            assert_eq!(subtask.map.iter().unwrap().collect::<BTreeMap<_, _>>(), expected.map, "map of {key}");
        }
        let timers: usize = self.model.values().map(|content| content.timers.len()).sum();
        assert_eq!(self.subtasks.iter().map(|s| s.timers.len()).sum::<usize>(), timers);
        let first = self.model.values().filter_map(|content| content.timers.first()).min();
        assert_eq!(self.subtasks.iter().filter_map(|s| s.timers.next_due()).min(), first.copied());
    }

    fn freeze(&mut self) -> (u64, Vec<FrozenState>, Model) {
        let checkpoint = self.next_checkpoint;
        self.next_checkpoint += 1;
        let base = self.completed.keys().next_back().copied();
        let mode = SnapshotMode::Native { base };
        let frozen = self.subtasks.iter_mut().map(|s| s.backend.freeze(checkpoint, mode).unwrap()).collect();
        (checkpoint, frozen, self.model.clone())
    }

    fn store(&self, checkpoint: u64, frozen: Vec<FrozenState>) -> Vec<KeyedSnapshot> {
        frozen.into_iter().map(|frozen| self.files.store(checkpoint, frozen).unwrap()).collect()
    }

    fn complete(&mut self, checkpoint: u64, snapshots: Vec<KeyedSnapshot>, model: Model) {
        self.completed.insert(checkpoint, (snapshots, model));
    }

    /// Keeps the last two checkpoints and their files, and nothing else.
    fn collect_garbage(&mut self) {
        while self.completed.len() > 2 {
            self.completed.pop_first();
        }
        let kept: BTreeSet<&str> = self
            .completed
            .values()
            .flat_map(|(snapshots, _)| snapshots.iter().flat_map(|s| s.files.iter().map(|f| &*f.id)))
            .collect();
        self.files.retain(|id| kept.contains(id));
    }

    fn restore(&mut self, checkpoint: u64, parallelism: u32) {
        let (snapshots, model) = self.completed[&checkpoint].clone();
        let sources: Vec<_> =
            snapshots.iter().map(|snapshot| self.files.source(snapshot, Some(checkpoint))).collect();
        self.open(parallelism, &sources);
        self.model = model;
        self.completed.retain(|completed, _| *completed <= checkpoint);
        self.check();
    }
}

#[test]
fn a_job_goes_on_from_any_completed_checkpoint_at_any_parallelism() {
    for (seed, cache_bytes) in [(1, 1), (2, 4000), (3, 20_000), (4, 1 << 20)] {
        let mut job = Job::start(rocksdb(cache_bytes), seed);
        for round in 0..30 {
            job.write(150);
            let (checkpoint, frozen, model) = job.freeze();
            match round % 5 {
                // Given up.
                0 => drop(frozen),
                // Stored beside the program.
                1 | 2 => {
                    let files = job.files.clone();
                    let writer = thread::Builder::new().spawn(move || {
                        let store = |frozen| files.store(checkpoint, frozen).unwrap();
                        frozen.into_iter().map(store).collect::<Vec<_>>()
                    });
                    job.write(300);
                    let snapshots = writer.unwrap().join().unwrap();
                    job.complete(checkpoint, snapshots, model);
                }
                // Stored after later ones have been frozen.
                3 => {
                    job.write(50);
                    let (later, later_frozen, later_model) = job.freeze();
                    job.write(50);
                    let later_snapshots = job.store(later, later_frozen);
                    let snapshots = job.store(checkpoint, frozen);
                    job.complete(checkpoint, snapshots, model);
                    job.complete(later, later_snapshots, later_model);
                }
                _ => {
                    job.write(40);
                    let snapshots = job.store(checkpoint, frozen);
                    job.complete(checkpoint, snapshots, model);
                    let parallelism = job.numbers.next(8) as u32 + 1;
                    let oldest = *job.completed.keys().next().unwrap();
                    let from = if round % 2 == 0 { checkpoint } else { oldest };
                    job.restore(from, parallelism);
                }
            }
            job.collect_garbage();
            if round % 3 == 0 {
                job.write_back();
            }
            job.check();
        }
    }
}

#[test]
fn a_checkpoint_brings_only_the_files_that_are_new() {
    let mut job = Job::start(rocksdb(1), 0);
    let mut state = job.subtasks[0].backend.value_state::<[u64; 16]>("large").unwrap();
    let mut fill = |job: &Job, keys: std::ops::Range<u64>, by: u64| {
        for key in keys {
            if job.subtasks[0].backend.set_current_key(key, key.hash64()).is_ok() {
                // Does not compress.
                state.set(std::array::from_fn(|i| (key * 16 + i as u64 + by).hash64())).unwrap();
            }
        }
    };
    // Bytes that are new, and all bytes.
    let checkpoint = |job: &mut Job| {
        let (checkpoint, frozen, model) = job.freeze();
        let snapshots = job.store(checkpoint, frozen);
        let all = || snapshots.iter().flat_map(|snapshot| &snapshot.files);
        let new = all().filter(|file| file.checkpoint == checkpoint).map(|file| file.length).sum::<u64>();
        let all = all().map(|file| file.length).sum::<u64>();
        job.complete(checkpoint, snapshots, model);
        (new, all)
    };
    for by in 0..2 {
        fill(&job, 0..40_000, by);
        let (new, all) = checkpoint(&mut job);
        assert!(new > 2_500_000, "{new} of {all}");
    }
    // A compaction makes new files of old ones, so not every checkpoint is small.
    let mut sizes: Vec<_> = (0..10)
        .map(|round| {
            fill(&job, round * 100..round * 100 + 100, 9);
            checkpoint(&mut job)
        })
        .collect();
    sizes.sort();
    assert!(sizes[4].0 < sizes[4].1 / 10 && sizes[4].1 > 2_500_000, "{sizes:?}");
    // What was restored is named again too.
    let newest = *job.completed.keys().next_back().unwrap();
    job.restore(newest, 2);
    let mut sizes: Vec<_> = (0..4).map(|_| checkpoint(&mut job)).collect();
    sizes.sort();
    assert!(sizes[0].0 < 20_000 && sizes[0].1 > 2_500_000, "{sizes:?}");
}

#[test]
fn a_cache_that_has_not_changed_is_not_stored_again() {
    let mut job = Job::start(rocksdb(64 << 20), 8);
    let mut states: Vec<_> = (0..2)
        .map(|subtask| job.subtasks[subtask].backend.value_state::<[u64; 16]>("large").unwrap())
        .collect();
    let mut fill = |job: &Job, keys: std::ops::Range<u64>, by: u64| {
        for key in keys {
            for (subtask, state) in job.subtasks.iter().zip(&mut states) {
                if subtask.backend.set_current_key(key, key.hash64()).is_ok() {
                    state.set(std::array::from_fn(|i| (key * 16 + i as u64 + by).hash64())).unwrap();
                }
            }
        }
    };
    // Bytes that are new.
    let checkpoint = |job: &mut Job| {
        let (checkpoint, frozen, model) = job.freeze();
        let snapshots = job.store(checkpoint, frozen);
        let files = snapshots.iter().flat_map(|snapshot| &snapshot.files);
        let new = files.filter(|file| file.checkpoint == checkpoint).map(|file| file.length).sum::<u64>();
        job.complete(checkpoint, snapshots, model);
        job.write_back();
        new
    };
    fill(&job, 0..20_000, 0);
    // The third one has the rows that were written back behind the second one.
    let sizes: Vec<u64> = (0..3).map(|_| checkpoint(&mut job)).collect();
    assert!(sizes.iter().all(|size| *size > 2_500_000), "{sizes:?}");
    // A compaction, which comes when RocksDB likes, makes new files of old ones.
    let unchanged: Vec<u64> = (0..10).map(|_| checkpoint(&mut job)).collect();
    assert!(unchanged.iter().any(|size| *size < 20_000), "{unchanged:?}");
    let rounds = 10;
    let mut change = |by| {
        fill(&job, 0..200, by);
        checkpoint(&mut job)
    };
    let changed: Vec<u64> = (1..=rounds).map(&mut change).collect();
    assert!(changed.iter().any(|size| (25_000..60_000).contains(size)), "{changed:?}");
    let newest = *job.completed.keys().next_back().unwrap();
    job.restore(newest, 3);
    for key in 0..20_000u64 {
        let by = if key < 200 { rounds } else { 0 };
        let subtask = job.at(key);
        let value = subtask.backend.value_state::<[u64; 16]>("large").unwrap().get().unwrap();
        assert_eq!(value, Some(std::array::from_fn(|i| (key * 16 + i as u64 + by).hash64())));
    }
}

#[test]
fn another_backend_refuses_the_files_and_says_what_to_do() {
    let mut job = Job::start(rocksdb(1), 5);
    job.write(100);
    let (checkpoint, frozen, _) = job.freeze();
    let sources: Vec<_> =
        job.store(checkpoint, frozen).iter().map(|snapshot| job.files.source(snapshot, None)).collect();
    let scope = scope(KeyGroupRange::all(GROUPS));
    let e = KeyedBackend::<u64>::open(&BackendOptions::Memory, scope, &sources).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Config);
    assert!(e.to_string().contains("savepoint"), "{e}");
}

#[test]
fn a_canonical_snapshot_of_the_same_state_is_for_every_backend() {
    let mut job = Job::start(rocksdb(2000), 6);
    job.write(1000);
    let (checkpoint, frozen, model) = job.freeze();
    let snapshots = job.store(checkpoint, frozen);
    job.complete(checkpoint, snapshots, model);
    job.restore(checkpoint, 3);
    job.write(500);
    let frozen = job.subtasks.iter_mut().map(|s| s.backend.freeze(99, SnapshotMode::Canonical).unwrap());
    let snapshots: Vec<_> = frozen.collect::<Vec<_>>();
    let snapshots = job.store(99, snapshots);
    assert!(snapshots.iter().all(|snapshot| snapshot.files.len() == 1));
    job.options = BackendOptions::Memory;
    let model = job.model.clone();
    job.complete(99, snapshots, model);
    job.restore(99, 5);
}

#[test]
fn a_damaged_or_missing_table_file_is_found() {
    let mut job = Job::start(rocksdb(1), 7);
    job.write(2000);
    let (checkpoint, frozen, _) = job.freeze();
    let snapshots = job.store(checkpoint, frozen);
    let file = snapshots[0].files.last().unwrap().clone();
    let sources: Vec<_> = snapshots.iter().map(|snapshot| job.files.source(snapshot, None)).collect();
    let open = || KeyedBackend::<u64>::open(&rocksdb(1), scope(KeyGroupRange::all(GROUPS)), &sources);
    drop(open().unwrap());
    job.files.retain(|id| *id != *file.id);
    let e = open().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Data);
    assert!(e.to_string().contains("missing"), "{e}");
}

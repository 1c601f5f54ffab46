use std::collections::{BTreeMap, BTreeSet};

use super::*;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::capture::Capture;
use super::native::Checkpoints;
use crate::descriptor::StateKind;
use crate::key_group::{KeyGroup, range_of};
use crate::snapshot::TableFile;
use crate::ttl::{Clock, ClockReading, Expiry, Horizon, Ttl};

const GROUPS: u16 = 16;

fn scope(local: &tempfile::TempDir, range: KeyGroupRange) -> BackendScope {
    BackendScope {
        operator: "a/b c".into(),
        subtask: 3,
        max_parallelism: GROUPS,
        range,
        local_dir: Some(local.path().into()),
    }
}

type File = (NamedTable, PathBuf);

fn try_open(scope: &BackendScope, files: &[File]) -> Result<RocksDbStore> {
    let files = files.iter().map(|(table, path)| {
        let link = move |to: &std::path::Path| Ok(std::fs::hard_link(path, to)?);
        (table.clone(), Box::new(link) as Download<'_>)
    });
    let options = RocksDbOptions { write_buffer_bytes: 64 << 10, ..RocksDbOptions::default() };
    RocksDbStore::open_with(
        &options,
        scope,
        Some(RowPrefix::of::<()>()),
        files.collect(),
        Checkpoints::default(),
    )
}

fn open(local: &tempfile::TempDir, range: KeyGroupRange, files: &[File]) -> RocksDbStore {
    try_open(&scope(local, range), files).unwrap()
}

/// An image whose table files can be captured.
fn freeze(store: &mut RocksDbStore) -> RocksDbImage {
    let log = store.logs.borrow_mut().open();
    RocksDbImage::new(&store.database, Some(log))
}

fn files_of(capture: &Capture) -> Vec<File> {
    capture.tables.iter().map(|table| (table.clone(), capture.path(&table.id))).collect()
}

fn put(store: &mut RocksDbStore, state: &str, key: &[u8], value: Option<&[u8]>) {
    let mut batch = WriteBatch::default();
    match value {
        Some(value) => batch
            .put(key, |out| {
                out.extend_from_slice(value);
                Ok(())
            })
            .unwrap(),
        None => batch.delete(key),
    }
    store.write(state, &batch).unwrap();
}

fn rows_of(scan: impl FnOnce(RowVisitor<'_>) -> Result<()>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    scan(&mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    rows
}

#[test]
fn prefixes_end_where_the_next_begins() {
    assert_eq!(behind(&[1, 2]), Some(vec![1, 3]));
    assert_eq!(behind(&[1, 0xff]), Some(vec![2]));
    assert_eq!(behind(&[0xff, 0xff]), None);
    assert_eq!(behind(&[]), None);
}

#[test]
fn nothing_is_left_on_disk() {
    let local = tempfile::tempdir().unwrap();
    let entries = || std::fs::read_dir(local.path()).unwrap().count();
    let mut store = open(&local, KeyGroupRange::all(GROUPS), &[]);
    let twin = open(&local, KeyGroupRange::all(GROUPS), &[]);
    assert_eq!(entries(), 2);
    store.create("s").unwrap();
    put(&mut store, "s", &[0, 1, 7], Some(&[9]));
    let image = freeze(&mut store);
    let capture = image.capture().unwrap().unwrap();
    put(&mut store, "s", &[0, 1, 7], None);
    drop(store);
    drop(twin);
    assert_eq!(entries(), 1, "the image is still to be read");
    assert_eq!(rows_of(|visit| image.scan("s", &[0, 1], visit)), [(vec![0, 1, 7], vec![9])]);
    drop(image);
    assert_eq!(entries(), 1, "the files are still to be stored");
    assert!(files_of(&capture)[0].1.exists());
    drop(capture);
    assert_eq!(entries(), 0);
}

#[test]
fn an_unusable_directory_restarts_the_task() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let local = tempfile::tempdir().unwrap();
    let scope =
        BackendScope { local_dir: Some(file.path().into()), ..scope(&local, KeyGroupRange::all(GROUPS)) };
    let e = try_open(&scope, &[]).err().unwrap();
    assert_eq!(e.kind(), crate::ErrorKind::RestartTask);
}

/// A sequence of numbers that is the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

const STATES: [&str; 2] = ["a", "b"];

type Model = BTreeMap<(usize, Vec<u8>), Vec<u8>>;

/// A job of one operator: its subtasks, and what they should hold.
struct Job {
    local: tempfile::TempDir,
    subtasks: Vec<RocksDbStore>,
    model: Model,
    numbers: Numbers,
}

/// What a checkpoint of all subtasks is made of.
struct Checkpoint {
    images: Vec<RocksDbImage>,
    captures: Vec<Capture>,
    model: Model,
}

impl Job {
    fn start(parallelism: u32, seed: u64) -> Self {
        let local = tempfile::tempdir().unwrap();
        let mut job = Self { local, subtasks: Vec::new(), model: Model::new(), numbers: Numbers(seed) };
        job.open(parallelism, &[]);
        job
    }

    fn open(&mut self, parallelism: u32, files: &[File]) {
        self.subtasks.clear();
        for subtask in 0..parallelism {
            let mut store = open(&self.local, range_of(subtask, parallelism, GROUPS).unwrap(), files);
            for state in STATES {
                store.create(state).unwrap();
                // Small, so that there are several levels of several files.
                let family = family::find(store.db(), state).unwrap();
                let small = [
                    ("max_bytes_for_level_base", "8192"),
                    ("target_file_size_base", "4096"),
                    ("level0_file_num_compaction_trigger", "3"),
                ];
                store.db().set_options_cf(&family, &small).unwrap();
            }
            self.subtasks.push(store);
        }
    }

    fn owner(&mut self, key: &[u8]) -> &mut RocksDbStore {
        let group = KeyGroup(u16::from_be_bytes([key[0], key[1]]));
        let parallelism = self.subtasks.len() as u32;
        &mut self.subtasks[crate::key_group::subtask_of(group, parallelism, GROUPS) as usize]
    }

    fn write(&mut self, count: usize) {
        for _ in 0..count {
            let state = self.numbers.next(2) as usize;
            let group = self.numbers.next(GROUPS.into()) as u16;
            let mut key = group.to_be_bytes().to_vec();
            // Some keys have no bytes but those of their group.
            for _ in 0..self.numbers.next(3) {
                key.push(self.numbers.next(256) as u8);
            }
            let value = (self.numbers.next(4) > 0).then(|| vec![self.numbers.next(256) as u8; 40]);
            put(self.owner(&key), STATES[state], &key, value.as_deref());
            match value {
                Some(value) => drop(self.model.insert((state, key), value)),
                None => drop(self.model.remove(&(state, key))),
            }
        }
    }

    /// Freezes all subtasks, goes on writing, and captures then.
    fn checkpoint(&mut self) -> Checkpoint {
        let images: Vec<_> = self.subtasks.iter_mut().map(freeze).collect();
        let model = self.model.clone();
        self.write(500);
        let captures = images.iter().map(|image| image.capture().unwrap().unwrap()).collect();
        self.write(500);
        Checkpoint { images, captures, model }
    }

    /// Starts all subtasks again from a checkpoint.
    fn restore(&mut self, parallelism: u32, checkpoint: Checkpoint) {
        let files: Vec<File> = checkpoint.captures.iter().flat_map(files_of).collect();
        self.open(parallelism, &files);
        for (image, capture) in checkpoint.images.iter().zip(&checkpoint.captures) {
            for (state, keys) in &capture.changed {
                for key in keys {
                    let mut then = None;
                    image
                        .get(state, key, &mut |value| {
                            then = Some(value.to_vec());
                            Ok(())
                        })
                        .unwrap();
                    put(self.owner(key), state, key, then.as_deref());
                }
            }
        }
        self.model = checkpoint.model;
        self.check();
    }

    /// Every row of every key group, and every key on its own.
    fn check(&mut self) {
        let mut found = Model::new();
        for store in &self.subtasks {
            for (number, state) in STATES.iter().enumerate() {
                for group in store.database.range.groups() {
                    for (key, value) in rows_of(|visit| store.scan(state, &group.0.to_be_bytes(), visit)) {
                        assert!(found.insert((number, key), value).is_none());
                    }
                }
            }
        }
        assert_eq!(found, self.model);
        for ((state, key), value) in self.model.clone() {
            let mut got = None;
            let store = self.owner(&key);
            store
                .get(STATES[state], &key, &mut |value| {
                    got = Some(value.to_vec());
                    Ok(())
                })
                .unwrap();
            assert_eq!(got, Some(value));
        }
    }
}

#[test]
fn a_job_goes_on_from_table_files_at_any_parallelism() {
    let mut levels = BTreeSet::new();
    let mut foreign = 0;
    for seed in 0..1 {
        let mut job = Job::start(seed as u32 % 3 + 1, seed);
        for parallelism in [1, 3, 8, 5, 2, 1] {
            job.write(1500);
            drop(job.checkpoint());
            job.write(1000);
            let checkpoint = job.checkpoint();
            levels.extend(checkpoint.captures.iter().flat_map(|c| c.tables.iter().map(|t| t.table.level)));
            for (store, capture) in job.subtasks.iter().zip(&checkpoint.captures) {
                assert!(capture.tables.iter().all(|file| {
                    let (first, last) = capture::groups(&file.table).unwrap();
                    store.database.range.contains(first) && store.database.range.contains(last)
                }));
            }
            job.restore(parallelism, checkpoint);
            foreign += job.subtasks.iter().filter(|s| s.database.has_foreign.load(Ordering::Acquire)).count();
            job.write(300);
            job.check();
        }
    }
    assert!(levels.len() >= 3, "files of levels {levels:?} only");
    assert!(foreign > 3, "only {foreign} databases had rows of others to get rid of");
}

#[test]
fn files_keep_their_ids_when_they_get_into_another_database() {
    let mut job = Job::start(2, 7);
    job.write(4000);
    let ids = |checkpoint: &Checkpoint| -> BTreeSet<String> {
        checkpoint.captures.iter().flat_map(|c| c.tables.iter().map(|t| t.id.clone())).collect()
    };
    // Nothing but the files: no rows to be laid over them, no compaction.
    for store in &job.subtasks {
        for state in STATES {
            let family = family::find(store.db(), state).unwrap();
            store.db().compact_range_cf(&family, None::<&[u8]>, None::<&[u8]>);
        }
    }
    let images: Vec<_> = job.subtasks.iter_mut().map(freeze).collect();
    let captures = images.iter().map(|image| image.capture().unwrap().unwrap()).collect();
    let checkpoint = Checkpoint { images, captures, model: job.model.clone() };
    let before = ids(&checkpoint);
    assert!(before.len() > 3, "{before:?}");
    job.restore(2, checkpoint);
    let again = job.subtasks.iter_mut().map(freeze).collect::<Vec<_>>();
    let captures: Vec<Capture> = again.iter().map(|image| image.capture().unwrap().unwrap()).collect();
    let after = ids(&Checkpoint { images: again, captures, model: Model::new() });
    assert_eq!(after, before);
    job.write(100);
    let third = ids(&job.checkpoint());
    assert!(third.difference(&before).count() > 0);
}

#[test]
fn a_description_that_contradicts_itself_is_refused() {
    let local = tempfile::tempdir().unwrap();
    let mut store = open(&local, KeyGroupRange::all(GROUPS), &[]);
    store.create("s").unwrap();
    put(&mut store, "s", &[0, 1, 7], Some(&[9]));
    let capture = freeze(&mut store).capture().unwrap().unwrap();
    let good = files_of(&capture).remove(0);
    let spoilt: [fn(&mut TableFile); 5] = [
        |table| table.level = 7,
        |table| table.sequence = (5, 4),
        |table| table.sequence = (0, u64::MAX),
        |table| table.keys = (vec![0, 2], vec![0, 1]),
        |table| table.keys.0 = vec![0],
    ];
    for spoil in spoilt {
        let mut bad = good.clone();
        spoil(&mut bad.0.table);
        let e = try_open(&scope(&local, KeyGroupRange::all(GROUPS)), &[bad]).err().unwrap();
        assert_eq!(e.kind(), crate::ErrorKind::Data, "{e}");
    }
    let mut restored = open(&local, KeyGroupRange::all(GROUPS), &[good]);
    restored.create("s").unwrap();
    assert_eq!(rows_of(|visit| restored.scan("s", &[], visit)).len(), 1);
}

#[test]
fn filters_spare_reads_of_keys_and_of_maps_that_are_not_there() {
    use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};
    let local = tempfile::tempdir().unwrap();
    let (scope, options) = (scope(&local, KeyGroupRange::all(GROUPS)), RocksDbOptions::default());
    let mut store = RocksDbStore::open_with(
        &options,
        &scope,
        Some(RowPrefix::of::<u64>()),
        Vec::new(),
        Checkpoints::default(),
    )
    .unwrap();
    store.create("map").unwrap();
    // Every other key has a map of two entries.
    let key = |n: u64| [&[0, 1], &n.to_be_bytes()[..]].concat();
    let entry = |n, user_key: u8| [&key(n)[..], &[user_key]].concat();
    for n in (0..1000).step_by(2) {
        (0..2).for_each(|user_key| put(&mut store, "map", &entry(n, user_key), Some(&[9])));
    }
    let check = |store: &RocksDbStore, metric| {
        set_perf_stats(PerfStatsLevel::EnableCount);
        let mut perf = PerfContext::default();
        perf.reset();
        for n in 0..1000 {
            let entries = rows_of(|visit| store.scan("map", &key(n), visit));
            assert_eq!(entries.len(), if n % 2 == 0 { 2 } else { 0 }, "{n}");
        }
        let spared = perf.metric(metric);
        assert!(spared > 400, "only {spared} of 500 absent maps");
        perf.reset();
        for n in 0..1000 {
            let mut found = false;
            let visit = &mut |_: &[u8]| {
                found = true;
                Ok(())
            };
            store.get("map", &entry(n, 1), visit).unwrap();
            assert_eq!(found, n % 2 == 0, "{n}");
        }
        let spared = perf.metric(metric);
        assert!(spared > 400, "only {spared} of 500 absent keys");
        // What is not of one key is not asked of a filter.
        assert_eq!(rows_of(|visit| store.scan("map", &[0, 1], visit)).len(), 1000);
        assert_eq!(rows_of(|visit| store.scan_from("map", &[], &key(500), visit)).len(), 500);
    };
    check(&store, PerfMetric::BloomMemtableMissCount);
    store.db().flush_cf(store.families.get("map").unwrap()).unwrap();
    check(&store, PerfMetric::BloomSstMissCount);
}

/// Everything with a stamp up to this one has expired.
fn horizon(stamp: i64) -> Horizon {
    let clock = Rc::new(Clock::new(ClockReading::NONE));
    clock.set_processing_time(stamp + 1);
    Expiry::new(Ttl::new(Duration::from_millis(1)), &clock).horizon()
}

fn element(stamp: i64) -> Vec<u8> {
    [&[9], &stamp.to_le_bytes()[..], b"x"].concat()
}

fn append(store: &mut RocksDbStore, state: &str, key: &[u8], more: Vec<u8>) {
    let mut batch = WriteBatch::default();
    let write = |out: &mut Vec<u8>| {
        out.extend(more);
        Ok(())
    };
    batch.append(key, write).unwrap();
    store.write(state, &batch).unwrap();
}

/// Rewrites all files of a state.
fn compact(store: &RocksDbStore, state: &str) {
    let family = store.families.get(state).unwrap();
    store.db().flush_cf(family).unwrap();
    let mut all = rocksdb::CompactOptions::default();
    all.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::Force);
    store.db().compact_range_cf_opt(family, None::<&[u8]>, None::<&[u8]>, &all);
}

#[test]
fn compactions_drop_what_had_expired_before_any_image() {
    let local = tempfile::tempdir().unwrap();
    let mut store = open(&local, KeyGroupRange::all(GROUPS), &[]);
    let native = store.native();
    store.create("value").unwrap();
    let key = |n: u8| [0, 1, n];
    // Every key has an older row on the last level, which must not come back.
    for stamp in 0..100 {
        put(&mut store, "value", &key(stamp), Some(&0i64.to_le_bytes()));
    }
    compact(&store, "value");
    for stamp in 0..100 {
        put(&mut store, "value", &key(stamp), Some(&i64::from(stamp).to_le_bytes()));
    }
    let left = |store: &RocksDbStore| -> Vec<u8> {
        rows_of(|visit| store.scan("value", &[0, 1], visit)).into_iter().map(|(key, _)| key[2]).collect()
    };
    compact(&store, "value");
    assert_eq!(left(&store).len(), 100, "nobody has said that values have stamps");
    native.expire("value", StateKind::Value, horizon(49));
    assert_eq!(left(&store).len(), 100, "nothing goes but by a compaction");
    let image = freeze(&mut store);
    native.expire("value", StateKind::Value, horizon(79));
    compact(&store, "value");
    assert_eq!(left(&store), (50..100).collect::<Vec<_>>(), "not what has expired since the freeze");
    // In the files as well as in the rows.
    let capture = image.capture().unwrap().unwrap();
    assert!(capture.changed.is_empty());
    let mut restored = open(&local, KeyGroupRange::all(GROUPS), &files_of(&capture));
    restored.create("value").unwrap();
    assert_eq!(rows_of(|visit| restored.scan("value", &[0, 1], visit)).len(), 50);
    assert_eq!(rows_of(|visit| image.scan("value", &[0, 1], visit)).len(), 50);
    drop(image);
    native.expire("value", StateKind::Value, horizon(79));
    compact(&store, "value");
    assert_eq!(left(&store), (80..100).collect::<Vec<_>>());
    restored.native().expire("value", StateKind::Value, horizon(89));
    compact(&restored, "value");
    assert_eq!(left(&restored), (90..100).collect::<Vec<_>>());
}

#[test]
fn compactions_drop_lists_of_which_nothing_lives_and_keep_what_was_appended() {
    let local = tempfile::tempdir().unwrap();
    let mut store = open(&local, KeyGroupRange::all(GROUPS), &[]);
    let native = store.native();
    store.create("list").unwrap();
    let (dead, part, appended) = ([0, 1, 1], [0, 1, 2], [0, 1, 3]);
    put(&mut store, "list", &dead, Some(&[element(1), element(2)].concat()));
    put(&mut store, "list", &part, Some(&[element(1), element(9)].concat()));
    put(&mut store, "list", &appended, Some(&element(1)));
    compact(&store, "list");
    append(&mut store, "list", &appended, element(9));
    native.expire("list", StateKind::List, horizon(5));
    // The operand is flushed to a level above that of the row, which goes first.
    compact(&store, "list");
    compact(&store, "list");
    let rows = rows_of(|visit| store.scan("list", &[0, 1], visit));
    let living: Vec<_> = rows
        .iter()
        .map(|(key, value)| {
            let mut living = Vec::new();
            horizon(5).copy_living(StateKind::List, value, &mut living).unwrap();
            (key.clone(), living)
        })
        .collect();
    assert_eq!(living, [(part.to_vec(), element(9)), (appended.to_vec(), element(9))]);
}

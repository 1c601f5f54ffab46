//! Random programs against a model of ordinary maps: every handle operation, key switches, freezes, restores at
//! other parallelisms and moves from one backend to another. Images are written at once, later, beside the program on
//! another thread, or never, several at a time, and some outlive the backend they were taken from.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::thread::{self, JoinHandle};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Stored, open_subtasks, ordered_store, owner, snapshots, switch};
use crate::{
    BackendOptions, DueTimer, FrozenState, InMemoryFiles, KeyedBackend, ListState, MapState, Result,
    SnapshotMode, TimerQueue, ValueState,
};

const KEYS: u8 = 12;

#[derive(Clone, Debug)]
enum Step {
    Key(u8),
    /// Reads the value, the list and one entry of the map.
    Look(i8),
    /// Reads the whole map.
    LookAround,
    Set(u16),
    Add(u16),
    ClearValue,
    Push(u8),
    Replace(Vec<u8>),
    ClearList,
    Insert(i8, u16),
    AddAt(i8),
    Remove(i8),
    ClearMap,
    Register(i8),
    Delete(i8),
    PopDue(i8),
    /// Visits all keys of each state and changes what is there.
    Visit,
    /// Freezes and writes, but goes on with the same backends.
    Checkpoint,
    /// Freezes and lets the image lie.
    Freeze,
    /// Writes the oldest image that lies about.
    Write,
    /// Starts a thread that writes the newest image that lies about.
    WriteBeside,
    /// Drops the oldest image that lies about.
    Abort,
    /// Goes back to the last checkpoint, at this parallelism and on this backend.
    Restore(u32, usize),
}

fn step(backends: usize) -> impl Strategy<Value = Step> {
    let slot = || -4i8..5;
    prop_oneof![
        6 => (0..KEYS).prop_map(Step::Key),
        4 => slot().prop_map(Step::Look),
        1 => Just(Step::LookAround),
        2 => any::<u16>().prop_map(Step::Set),
        3 => any::<u16>().prop_map(Step::Add),
        1 => Just(Step::ClearValue),
        3 => any::<u8>().prop_map(Step::Push),
        1 => proptest::collection::vec(any::<u8>(), 0..3).prop_map(Step::Replace),
        1 => Just(Step::ClearList),
        3 => (slot(), any::<u16>()).prop_map(|(k, v)| Step::Insert(k, v)),
        2 => slot().prop_map(Step::AddAt),
        2 => slot().prop_map(Step::Remove),
        1 => Just(Step::ClearMap),
        3 => slot().prop_map(Step::Register),
        1 => slot().prop_map(Step::Delete),
        1 => slot().prop_map(Step::PopDue),
        1 => Just(Step::Visit),
        1 => Just(Step::Checkpoint),
        2 => Just(Step::Freeze),
        1 => Just(Step::Write),
        1 => Just(Step::WriteBeside),
        1 => Just(Step::Abort),
        1 => (1u32..5, 0..backends).prop_map(|(parallelism, backend)| Step::Restore(parallelism, backend)),
    ]
}

/// What one key should have.
#[derive(Clone, Debug, Default, PartialEq)]
struct Content {
    value: Option<u16>,
    list: Vec<u8>,
    map: BTreeMap<i8, u16>,
    timers: BTreeSet<i64>,
}

type Model = BTreeMap<u8, Content>;

fn name(key: u8) -> String {
    // Some names are prefixes of others, one is empty, one has a zero byte.
    match key {
        0 => String::new(),
        1 => "\0".into(),
        _ => "k".repeat(usize::from(key) / 2) + if key.is_multiple_of(2) { "" } else { "-" },
    }
}

struct Subtask {
    backend: KeyedBackend<String>,
    value: ValueState<u16>,
    list: ListState<u8>,
    map: MapState<i8, u16>,
    timers: TimerQueue<String>,
}

/// The subtasks of one run of the operator.
struct Run(Vec<Subtask>);

impl Run {
    fn open(options: &BackendOptions, parallelism: u32, files: &[Stored]) -> Result<Self> {
        let backends = open_subtasks(&|| options.clone(), parallelism, files)?;
        let subtask = |mut backend: KeyedBackend<String>| {
            Ok(Subtask {
                value: backend.value_state("value")?,
                list: backend.list_state("list")?,
                map: backend.map_state("map")?,
                timers: backend.timers("timers")?,
                backend,
            })
        };
        backends.into_iter().map(subtask).collect::<Result<_>>().map(Self)
    }

    fn at(&mut self, key: u8) -> Result<&mut Subtask> {
        let subtask = owner(&name(key), self.0.len() as u32);
        switch(&self.0[subtask].backend, &name(key))?;
        Ok(&mut self.0[subtask])
    }

    fn checkpoint(&mut self) -> Result<Vec<Stored>> {
        self.0
            .iter_mut()
            .map(|s| snapshots(std::slice::from_mut(&mut s.backend)))
            .flat_map(|files| match files {
                Ok(files) => files.into_iter().map(Ok).collect::<Vec<_>>(),
                Err(e) => vec![Err(e)],
            })
            .collect()
    }

    fn freeze(&mut self) -> Result<Vec<FrozenState>> {
        self.0.iter_mut().map(|s| s.backend.freeze(1, SnapshotMode::Canonical)).collect()
    }

    fn content(&mut self) -> Result<Model> {
        let mut model = Model::new();
        for key in 0..KEYS {
            let s = self.at(key)?;
            let content = Content {
                value: s.value.get()?,
                list: s.list.iter()?.collect(),
                map: s.map.iter()?.collect(),
                timers: BTreeSet::new(),
            };
            assert_eq!(s.list.len()?, content.list.len());
            assert_eq!(s.map.is_empty()?, content.map.is_empty());
            for slot in -4i8..5 {
                assert_eq!(s.map.get(&slot)?, content.map.get(&slot).copied());
            }
            model.insert(key, content);
        }
        Ok(model)
    }
}

fn timers(model: &Model) -> BTreeSet<(i64, String)> {
    model.iter().flat_map(|(key, content)| content.timers.iter().map(|time| (*time, name(*key)))).collect()
}

fn write(images: Vec<FrozenState>) -> Result<Vec<Stored>> {
    images
        .into_iter()
        .map(|image| {
            let files = InMemoryFiles::new();
            files.store(1, image).map(|snapshot| files.source(&snapshot, None))
        })
        .collect()
}

/// Checks that a backend has everything the model has.
fn check_content(run: &mut Run, model: &Model) -> Result<()> {
    let mut untimed = model.clone();
    untimed.values_mut().for_each(|content| content.timers.clear());
    assert_eq!(run.content()?, untimed);
    let next = timers(model).first().map(|(time, _)| *time);
    assert_eq!(run.0.iter().filter_map(|s| s.timers.next_due()).min(), next);
    assert_eq!(run.0.iter().map(|s| s.timers.len()).sum::<usize>(), timers(model).len());
    Ok(())
}

/// Checks that files have what the model had when they were frozen, no more and no less.
fn check_files(files: &[Stored], then: &Model) -> Result<()> {
    check_content(&mut Run::open(&BackendOptions::Memory, 1, files)?, then)
}

/// Visits all keys of each state: halves the values, empties the lists, removes the first entries of the maps.
fn visit(run: &mut Run, model: &mut Model) -> Result<()> {
    let (mut values, mut lists, mut maps) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for s in &mut run.0 {
        s.backend.for_each_key(&s.value.clone(), |key| {
            assert!(values.insert(key.clone()));
            s.value.update(|| unreachable!(), |n| *n /= 2)
        })?;
        s.backend.for_each_key(&s.list.clone(), |key| {
            assert!(lists.insert(key.clone()));
            s.list.clear()
        })?;
        s.backend.for_each_key(&s.map.clone(), |key| {
            assert!(maps.insert(key.clone()));
            let first = s.map.keys()?.next();
            s.map.remove(&first.unwrap())
        })?;
    }
    let with = |has: fn(&Content) -> bool| -> BTreeSet<String> {
        model.iter().filter(|(_, content)| has(content)).map(|(key, _)| name(*key)).collect()
    };
    assert_eq!(values, with(|c| c.value.is_some()));
    assert_eq!(lists, with(|c| !c.list.is_empty()));
    assert_eq!(maps, with(|c| !c.map.is_empty()));
    for content in model.values_mut() {
        content.value = content.value.map(|n| n / 2);
        content.list.clear();
        content.map.pop_first();
    }
    Ok(())
}

/// Images on their way to files, each with the model at its freeze.
#[derive(Default)]
struct Images {
    lying: VecDeque<(Vec<FrozenState>, Model)>,
    beside: Vec<(JoinHandle<Result<Vec<Stored>>>, Model)>,
}

impl Images {
    fn write_oldest(&mut self) -> Result<()> {
        let Some((images, then)) = self.lying.pop_front() else { return Ok(()) };
        check_files(&write(images)?, &then)
    }

    fn write_beside(&mut self) {
        if let Some((images, then)) = self.lying.pop_back() {
            let writer = thread::Builder::new().spawn(|| write(images)).unwrap();
            self.beside.push((writer, then));
        }
    }

    fn finish(mut self) -> Result<()> {
        while !self.lying.is_empty() {
            self.write_oldest()?;
        }
        self.beside.into_iter().try_for_each(|(writer, then)| check_files(&writer.join().unwrap()?, &then))
    }
}

fn run(backends: &[BackendOptions], steps: Vec<Step>) -> Result<()> {
    let mut images = Images::default();
    let mut run = Run::open(&backends[0], 2, &[])?;
    let mut model: Model = (0..KEYS).map(|key| (key, Content::default())).collect();
    let mut saved: Option<(Vec<Stored>, Model)> = None;
    let mut key = 0;
    for step in steps {
        let s = run.at(key)?;
        let content = model.entry(key).or_default();
        match step {
            Step::Key(next) => key = next,
            Step::Look(slot) => {
                assert_eq!(s.value.get()?, content.value);
                assert_eq!(s.list.len()?, content.list.len());
                assert_eq!(s.list.iter()?.collect::<Vec<_>>(), content.list);
                assert_eq!(s.map.get(&slot)?, content.map.get(&slot).copied());
            }
            Step::LookAround => {
                assert_eq!(s.map.is_empty()?, content.map.is_empty());
                assert_eq!(s.map.iter()?.collect::<BTreeMap<_, _>>(), content.map);
            }
            Step::Set(v) => {
                s.value.set(v)?;
                content.value = Some(v);
            }
            Step::Add(v) => {
                let sum = s.value.update(
                    || 7,
                    |n| {
                        *n = n.wrapping_add(v);
                        *n
                    },
                )?;
                content.value = Some(content.value.unwrap_or(7).wrapping_add(v));
                assert_eq!(Some(sum), content.value);
            }
            Step::ClearValue => {
                s.value.clear()?;
                content.value = None;
            }
            Step::Push(v) => {
                s.list.push(v)?;
                content.list.push(v);
            }
            Step::Replace(items) => {
                s.list.replace(items.clone())?;
                content.list = items;
            }
            Step::ClearList => {
                s.list.clear()?;
                content.list.clear();
            }
            Step::Insert(k, v) => {
                s.map.insert(k, v)?;
                content.map.insert(k, v);
            }
            Step::AddAt(k) => {
                s.map.update(k, || 3, |v| *v = v.wrapping_add(1))?;
                let v = content.map.entry(k).or_insert(3);
                *v = v.wrapping_add(1);
            }
            Step::Remove(k) => {
                s.map.remove(&k)?;
                content.map.remove(&k);
            }
            Step::ClearMap => {
                s.map.clear()?;
                content.map.clear();
            }
            Step::Register(time) => {
                s.timers.register(time.into())?;
                content.timers.insert(time.into());
            }
            Step::Delete(time) => {
                s.timers.delete(time.into())?;
                content.timers.remove(&i64::from(time));
            }
            Step::PopDue(up_to) => {
                let up_to = i64::from(up_to);
                let mut popped = BTreeSet::new();
                for s in &run.0 {
                    let mut last = None;
                    while let Some(DueTimer { key, time, .. }) = s.timers.pop_due(up_to)? {
                        assert!(last < Some((time, key.clone())), "out of order");
                        last = Some((time, key.clone()));
                        popped.insert((time, key));
                    }
                }
                let due: BTreeSet<_> =
                    timers(&model).into_iter().filter(|(time, _)| *time <= up_to).collect();
                assert_eq!(popped, due);
                model.values_mut().for_each(|content| content.timers.retain(|time| *time > up_to));
            }
            Step::Visit => visit(&mut run, &mut model)?,
            Step::Checkpoint => saved = Some((run.checkpoint()?, model.clone())),
            Step::Freeze => images.lying.push_back((run.freeze()?, model.clone())),
            Step::Write => images.write_oldest()?,
            Step::WriteBeside => images.write_beside(),
            Step::Abort => drop(images.lying.pop_front()),
            Step::Restore(parallelism, backend) => {
                if let Some((files, then)) = &saved {
                    run = Run::open(&backends[backend], parallelism, files)?;
                    model = then.clone();
                }
            }
        }
    }
    check_content(&mut run, &model)?;
    // The backend goes first: an image may outlive it.
    drop(run);
    images.finish()
}

fn check(cases: u32, backends: &[BackendOptions]) {
    let programs = proptest::collection::vec(step(backends.len()), 1..150);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&programs, |steps| run(backends, steps).map_err(|e| TestCaseError::fail(format!("{e:?}"))))
        .unwrap();
}

#[test]
fn memory_and_tiny_caches_behave_like_maps() {
    let cached = |bytes| BackendOptions::Custom(ordered_store(bytes));
    check(600, &[BackendOptions::Memory, cached(1), cached(600), cached(100_000)]);
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_behaves_like_maps() {
    let rocksdb =
        |cache_bytes| BackendOptions::RocksDb(crate::RocksDbOptions { cache_bytes, ..Default::default() });
    check(120, &[rocksdb(1), BackendOptions::Memory, rocksdb(3000)]);
}

//! Random programs against a model of ordinary maps: every operation of every kind of state, namespaces, timers, time to
//! live in virtual time, and checkpoints of both forms that are written, given up and completed in any order, several at
//! a time, beside the program and after the backend they were taken from, restored at any parallelism, on another
//! backend, from the newest or any other one. In between stores, sinks and sources fail in the middle of a call, and it
//! goes on from what is kept.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod checkpoints;
mod content;
mod fault;
mod operator;
mod step;

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use tidegate_state::{BackendOptions, DueTimer, Result};

use checkpoints::Checkpoints;
use content::{KEYS, Model, name};
use fault::{Backends, Fault, Fuse, breakable_store, is_injected};
use operator::Operator;
use step::{Step, step};

/// Where time begins.
const START_MS: i64 = 1_000;

/// Visits all keys of each state: halves the values, empties the lists, removes the first entries of the maps.
fn visit(operator: &mut Operator, model: &mut Model) -> Result<()> {
    let (mut values, mut lists, mut maps) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for s in &mut operator.0 {
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
    let with = |has: fn(&content::Content) -> bool| -> BTreeSet<String> {
        model.keys.iter().filter(|(_, content)| has(content)).map(|(key, _)| name(*key)).collect()
    };
    assert_eq!(values, with(|c| c.value.is_some()));
    assert_eq!(lists, with(|c| !c.list.is_empty()));
    assert_eq!(maps, with(|c| !c.map.is_empty()));
    for content in model.keys.values_mut() {
        content.value = content.value.map(|n| n / 2);
        content.list.clear();
        content.map.pop_first();
    }
    Ok(())
}

fn pop_due(operator: &Operator, model: &mut Model, up_to: i64) -> Result<()> {
    let mut popped = BTreeSet::new();
    for s in &operator.0 {
        let mut last = None;
        while let Some(DueTimer { key, time, .. }) = s.timers.pop_due(up_to)? {
            assert!(last < Some((time, key.clone())), "out of order");
            last = Some((time, key.clone()));
            popped.insert((time, key));
        }
    }
    let due: BTreeSet<_> = model.timers().into_iter().filter(|(time, _)| *time <= up_to).collect();
    assert_eq!(popped, due);
    model.keys.values_mut().for_each(|content| content.timers.retain(|time| *time > up_to));
    Ok(())
}

/// One program under way.
struct Run<'a> {
    backends: &'a Backends,
    wall: i64,
    backend: usize,
    key: u8,
    model: Model,
    operator: Operator,
    checkpoints: Checkpoints,
}

impl<'a> Run<'a> {
    fn start(backends: &'a Backends) -> Result<Self> {
        let model = Model::new(START_MS);
        let operator = Operator::open(&backends.options[0], 2, &[], START_MS, START_MS)?;
        Ok(Self {
            backends,
            wall: START_MS,
            backend: 0,
            key: 0,
            model,
            operator,
            checkpoints: Checkpoints::new(),
        })
    }

    fn step(&mut self, step: Step) -> Result<()> {
        let Self { backends, operator, model, checkpoints, .. } = self;
        match step {
            Step::Key(next) => self.key = next % KEYS,
            Step::Change(change) => change.apply(self.key, operator, model)?,
            Step::Check => operator.check(model)?,
            Step::PopDue(up_to) => pop_due(operator, model, up_to.into())?,
            Step::Visit => visit(operator, model)?,
            Step::Pass(ms) => {
                self.wall += i64::from(ms);
                model.pass(ms.into());
                operator.set_time(self.wall, model.watermark);
            }
            Step::Sweep(budget) => {
                operator.0.iter_mut().try_for_each(|s| s.backend.sweep(budget.into()))?;
            }
            Step::WriteBack(steps) => {
                for s in &mut operator.0 {
                    (0..steps).try_for_each(|_| s.backend.write_back(256).map(drop))?;
                }
            }
            Step::Prefetch => operator.prefetch()?,
            Step::Freeze { canonical } => {
                let backend = (self.backend, &backends.options[self.backend]);
                checkpoints.freeze(operator, canonical, backend, model)?;
            }
            Step::Write(which) => checkpoints.write(which)?,
            Step::WriteBeside(which) => checkpoints.write_beside(which),
            Step::Join => checkpoints.join()?,
            Step::Abort(which) => checkpoints.abort(which),
            Step::Complete(which) => checkpoints.complete(which),
            Step::Restore { which, parallelism, backend } => self.restore(which, parallelism, backend)?,
            Step::Fault(Fault::Store(calls)) => {
                backends.stores.set(calls);
                // Not often: RocksDB then rests for a second, and all databases of the process with it.
                if calls.is_multiple_of(6) {
                    operator.1.lose();
                }
            }
            Step::Fault(Fault::Sink(calls)) => checkpoints.next_sink = Fuse::after(calls),
            Step::Fault(Fault::Source(calls)) => checkpoints.next_source = Fuse::after(calls),
        }
        Ok(())
    }

    fn restore(&mut self, which: Option<usize>, parallelism: u32, backend: usize) -> Result<()> {
        // Nobody was there meanwhile.
        let later = self.wall + 1_000;
        let options = &self.backends.options;
        self.backends.stores.reset();
        let to = (backend % options.len(), parallelism, later);
        if let Some(restored) = self.checkpoints.restore(which, options, to)? {
            (self.operator, self.model, self.backend) = restored;
            self.wall = later;
        }
        Ok(())
    }

    /// After an error: the operator is given up, and another one goes on from a checkpoint, or from nothing.
    fn recover(&mut self) -> Result<()> {
        self.backends.stores.reset();
        self.operator.0.clear();
        match self.checkpoints.newest() {
            Some(which) => self.restore(which, 2, self.backend)?,
            None => {
                self.checkpoints.give_up()?;
                self.model = Model::new(START_MS);
                let options = &self.backends.options[self.backend];
                self.operator = Operator::open(options, 2, &[], self.wall, START_MS)?;
            }
        }
        self.operator.check(&self.model)
    }

    /// Has `act` done; if it fails because of a fault, the operator begins again where its checkpoint was.
    fn attempt(&mut self, act: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        match act(self) {
            Err(e) if is_injected(&e) || self.operator.1.explains(&e) => {
                self.recover().map_err(|after| after.at(format!("recovery from: {e}")))
            }
            result => result,
        }
    }
}

fn run(backends: &Backends, steps: Vec<Step>) -> Result<()> {
    backends.stores.reset();
    let mut run = Run::start(backends)?;
    for step in steps {
        run.attempt(|run| run.step(step))?;
    }
    run.attempt(|run| run.operator.check(&run.model))?;
    // The backend goes first: an image may outlive it.
    drop(run.operator);
    backends.stores.reset();
    run.checkpoints.verify(&backends.options, 3)
}

/// Runs programs on several threads, since each of them waits for the disk. `seed` makes tests that share the work different.
fn check(cases: u32, seed: u64, backends: impl Fn() -> Backends + Sync) {
    const THREADS: u32 = 4;
    std::thread::scope(|scope| {
        for number in 0..THREADS {
            let backends = &backends;
            scope.spawn(move || check_some(cases / THREADS, seed * 100 + u64::from(number), &backends()));
        }
    });
}

fn check_some(cases: u32, seed: u64, backends: &Backends) {
    let programs = proptest::collection::vec(step(), 1..90);
    let regressions =
        FileFailurePersistence::Direct(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/model/regressions"));
    let config = Config { cases, failure_persistence: Some(Box::new(regressions)), ..Config::default() };
    let rng = proptest::test_runner::TestRng::from_seed(
        proptest::test_runner::RngAlgorithm::ChaCha,
        &[seed.to_le_bytes(); 4].concat(),
    );
    TestRunner::new_with_rng(config, rng)
        .run(&programs, |steps| run(backends, steps).map_err(|e| TestCaseError::fail(format!("{e:?}"))))
        .unwrap();
}

#[test]
fn memory_and_tiny_caches_behave_like_maps() {
    check(8_000, 1, || {
        Backends::new(|fuse| {
            let cached = |bytes| breakable_store(bytes, fuse);
            vec![BackendOptions::Memory, cached(1), cached(600), cached(100_000)]
        })
    });
}

#[cfg(feature = "rocksdb")]
fn rocksdb(cache_bytes: usize) -> BackendOptions {
    BackendOptions::RocksDb(tidegate_state::RocksDbOptions {
        cache_bytes,
        ..tidegate_state::RocksDbOptions::small()
    })
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_without_room_behaves_like_maps() {
    check(2_000, 2, || Backends::new(|_| vec![rocksdb(1), BackendOptions::Memory, rocksdb(3_000)]));
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_with_room_behaves_like_maps() {
    check(2_000, 3, || Backends::new(|_| vec![rocksdb(3_000), rocksdb(1 << 20), BackendOptions::Memory]));
}

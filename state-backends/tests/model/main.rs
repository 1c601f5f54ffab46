//! Random programs against a model of ordinary maps: every operation of every kind of state, namespaces, timers, time to
//! live in virtual time, and checkpoints of both forms that are written, given up and completed in any order, several at
//! a time, beside the program and after the backend they were taken from, restored at any parallelism, on another
//! backend, from the newest or any other one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod checkpoints;
mod content;
mod operator;
mod step;

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use tidegate_state::conformance::ordered_store;
use tidegate_state::{BackendOptions, DueTimer, Result};

use checkpoints::Checkpoints;
use content::{KEYS, Model, name};
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

fn run(backends: &[BackendOptions], steps: Vec<Step>) -> Result<()> {
    let (mut wall, mut backend, mut key) = (START_MS, 0, 0);
    let mut model = Model::new(START_MS);
    let mut operator = Operator::open(&backends[0], 2, &[], wall, START_MS)?;
    let mut checkpoints = Checkpoints::new();
    for step in steps {
        match step {
            Step::Key(next) => key = next % KEYS,
            Step::Change(change) => change.apply(key, &mut operator, &mut model)?,
            Step::Check => operator.check(&model)?,
            Step::PopDue(up_to) => pop_due(&operator, &mut model, up_to.into())?,
            Step::Visit => visit(&mut operator, &mut model)?,
            Step::Pass(ms) => {
                wall += i64::from(ms);
                model.pass(ms.into());
                operator.set_time(wall, model.watermark);
            }
            Step::Sweep(budget) => {
                operator.0.iter_mut().try_for_each(|s| s.backend.sweep(budget.into()))?;
            }
            Step::Prefetch => operator.prefetch()?,
            Step::Freeze { canonical } => {
                checkpoints.freeze(&mut operator, canonical, (backend, &backends[backend]), &model)?;
            }
            Step::Write(which) => checkpoints.write(which)?,
            Step::WriteBeside(which) => checkpoints.write_beside(which),
            Step::Join => checkpoints.join()?,
            Step::Abort(which) => checkpoints.abort(which),
            Step::Complete(which) => checkpoints.complete(which),
            Step::Restore { which, parallelism, backend: to } => {
                // Nobody was there meanwhile.
                let later = wall + 1_000;
                let to = (to % backends.len(), parallelism, later);
                if let Some(restored) = checkpoints.restore(which, backends, to)? {
                    (operator, model, backend) = restored;
                    wall = later;
                }
            }
        }
    }
    operator.check(&model)?;
    // The backend goes first: an image may outlive it.
    drop(operator);
    checkpoints.verify(backends, 3)
}

/// `seed` makes tests that share the work different.
fn check(cases: u32, seed: u64, backends: &[BackendOptions]) {
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
    let cached = |bytes| BackendOptions::Custom(ordered_store(bytes));
    check(8_000, 1, &[BackendOptions::Memory, cached(1), cached(600), cached(100_000)]);
}

#[cfg(feature = "rocksdb")]
fn rocksdb(cache_bytes: usize) -> BackendOptions {
    BackendOptions::RocksDb(tidegate_state::RocksDbOptions { cache_bytes, ..Default::default() })
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_without_room_behaves_like_maps() {
    check(1_000, 2, &[rocksdb(1), BackendOptions::Memory, rocksdb(3_000)]);
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_with_room_behaves_like_maps() {
    check(1_000, 3, &[rocksdb(3_000), rocksdb(1 << 20), BackendOptions::Memory]);
}

//! Which subtask gets which record: rebalance, broadcast, forward, by key, and the default.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::assert_error;
use std::collections::{BTreeMap, BTreeSet};
use tidegate::error::Result;
use tidegate::prelude::*;

/// Adds the index of the subtask.
struct Tag;

impl<T> ProcessFunction<T, (u32, T)> for Tag {
    fn process(
        &mut self,
        v: T,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, (u32, T)>,
    ) -> Result<()> {
        out.collect((context.subtask().index, v));
        Ok(())
    }
}

/// Adds the index of the subtask and the number of times the key has come.
struct Keyed {
    seen: ValueState<u64>,
}

impl KeyedProcessFunction<String, String, (u32, String, u64)> for Keyed {
    fn process(
        &mut self,
        word: String,
        context: &mut KeyedContext<'_, String>,
        out: &mut Collector<'_, (u32, String, u64)>,
    ) -> Result<()> {
        assert_eq!(*context.key(), word);
        let nth = self.seen.update(
            || 0,
            |n| {
                *n += 1;
                *n
            },
        )?;
        out.collect((context.subtask().index, word, nth));
        Ok(())
    }
}

const RECORDS: u64 = 5_000;

/// Records by subtask, after `spread` from a source with one parallelism to a process function with another.
fn by_subtask(
    from: u32,
    to: u32,
    spread: impl Fn(DataStream<u64>) -> DataStream<u64>,
) -> Result<BTreeMap<u32, Vec<u64>>> {
    let mut env = Environment::new();
    env.config_mut().parallelism = from;
    let (sink, out) = CollectSink::new();
    let numbers = env.source(Generator::sequence(0..RECORDS));
    spread(numbers).process(|_| Ok(Tag)).parallelism(to).sink(sink).parallelism(1);
    env.execute("spread")?;
    let mut by_subtask: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for (subtask, n) in out.values() {
        by_subtask.entry(subtask).or_default().push(n);
    }
    by_subtask.values_mut().for_each(|records| records.sort());
    Ok(by_subtask)
}

fn all(by_subtask: &BTreeMap<u32, Vec<u64>>) -> Vec<u64> {
    let mut all: Vec<u64> = by_subtask.values().flatten().copied().collect();
    all.sort();
    all
}

#[test]
fn rebalance_spreads_evenly_and_loses_nothing() {
    for (from, to) in [(1, 4), (4, 4), (4, 3)] {
        let found = by_subtask(from, to, DataStream::rebalance).unwrap();
        assert!(all(&found).into_iter().eq(0..RECORDS));
        let sizes: Vec<u64> = found.values().map(|records| records.len() as u64).collect();
        assert_eq!(sizes.len() as u32, to);
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        assert!(most - least <= u64::from(from), "{from} to {to}: {sizes:?}");
    }
}

#[test]
fn another_parallelism_means_rebalance() {
    let found = by_subtask(1, 2, |s| s).unwrap();
    assert_eq!(found.values().map(Vec::len).collect::<Vec<_>>(), [2_500, 2_500]);
}

#[test]
fn broadcast_gives_every_record_to_every_subtask_once() {
    for (from, to) in [(1, 3), (2, 2)] {
        let found = by_subtask(from, to, DataStream::broadcast).unwrap();
        assert_eq!(found.len() as u32, to);
        assert!(found.values().all(|records| records.iter().copied().eq(0..RECORDS)), "{from} to {to}");
    }
}

#[test]
fn forward_keeps_a_record_in_subtasks_of_the_same_index() {
    let mut env = Environment::new();
    env.config_mut().parallelism = 3;
    let (sink, out) = CollectSink::new();
    let tagged = env.source(Generator::sequence(0..RECORDS)).process(|_| Ok(Tag));
    // A chain of its own, so that there is an exchange to keep the index over.
    tagged.forward().process(|_| Ok(Tag)).start_new_chain().sink(sink);
    env.execute("forward").unwrap();
    let out = out.values();
    assert_eq!(out.len() as u64, RECORDS);
    assert!(out.iter().all(|(after, (before, _))| after == before));
    assert_eq!(out.iter().map(|(after, _)| after).collect::<BTreeSet<_>>().len(), 3);
}

#[test]
fn forward_to_another_parallelism_is_refused() {
    assert_error(
        by_subtask(2, 3, DataStream::forward),
        ErrorKind::Config,
        &["forward", "'source' (parallelism 2)", "'process' (parallelism 3)", "rebalance"],
    );
}

#[test]
fn a_key_is_in_one_subtask_whether_owned_or_borrowed() {
    let words: Vec<String> = (0..2_000u64).map(|n| format!("word {}", n * n % 97)).collect();
    for parallelism in [1, 2, 4] {
        let mut env = Environment::new();
        env.config_mut().parallelism = parallelism;
        let ((owned, owneds), (borrowed, borroweds)) = (CollectSink::new(), CollectSink::new());
        let stream = env.source(Generator::of(words.clone()));
        let build = |open: &mut KeyedOpenContext<'_, String>| Ok(Keyed { seen: open.value_state("seen")? });
        stream.clone().key_by(|word: &String| word.clone()).process(build).sink(owned);
        stream.key_by_ref(|word: &String| word.as_str()).process(build).sink(borrowed);
        env.execute("keys").unwrap();

        let (mut owned, mut borrowed) = (owneds.values(), borroweds.values());
        owned.sort();
        borrowed.sort();
        assert_eq!(owned, borrowed);
        let mut home: BTreeMap<&str, u32> = BTreeMap::new();
        for (subtask, word, _) in &owned {
            assert_eq!(home.entry(word).or_insert(*subtask), subtask, "{word} is in two subtasks");
        }
        let mut expected: BTreeMap<&String, u64> = BTreeMap::new();
        words.iter().for_each(|word| *expected.entry(word).or_default() += 1);
        let mut last: BTreeMap<&String, u64> = BTreeMap::new();
        owned.iter().for_each(|(_, word, nth)| _ = last.insert(word, *nth));
        assert_eq!(last, expected);
        let used: BTreeSet<u32> = home.values().copied().collect();
        assert!(used.into_iter().eq(0..parallelism), "with 49 keys every subtask has some");
    }
}

#[test]
fn operators_have_parallelisms_of_their_own() {
    let mut env = Environment::new();
    env.config_mut().parallelism = 2;
    let (sink, out) = CollectSink::new();
    env.source(Generator::sequence(0..100))
        .parallelism(1)
        .process(|open| {
            assert_eq!(open.subtask().parallelism, 2);
            Ok(Tag)
        })
        .process(|open| {
            assert_eq!(open.subtask().parallelism, 4);
            Ok(Tag)
        })
        .parallelism(4)
        .sink(sink);
    env.execute("parallelisms").unwrap();
    let out = out.values();
    assert_eq!(out.len(), 100);
    assert_eq!(out.iter().map(|(second, _)| second).collect::<BTreeSet<_>>().len(), 4);
    assert_eq!(out.iter().map(|(_, (first, _))| first).collect::<BTreeSet<_>>().len(), 2);
}

//! What the transformations of a stream do: map, filter, flat map, process, union, side outputs, forks, sinks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::assert_error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate::error::Result;
use tidegate::function::Data;
use tidegate::prelude::*;
use tidegate::testing::example;

fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort();
    values
}

/// Odd numbers to `odd`, multiples of ten to `tens`, all to the main output; the sum when the input ends.
struct Split {
    odd: OutputTag<u64>,
    tens: OutputTag<String>,
    sum: u64,
}

impl Split {
    fn new() -> Self {
        Self { odd: OutputTag::new("odd"), tens: OutputTag::new("tens"), sum: 0 }
    }
}

impl ProcessFunction<u64, u64> for Split {
    fn process(
        &mut self,
        n: u64,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        self.sum += n;
        if n % 2 == 1 {
            context.side_output(&self.odd, n)?;
        }
        if n.is_multiple_of(10) {
            context.side_output(&self.tens, format!("{n}"))?;
        }
        out.collect(n);
        Ok(())
    }

    fn finish(&mut self, out: &mut Collector<'_, u64>) -> Result<()> {
        out.collect(1_000 + self.sum);
        Ok(())
    }
}

fn split(numbers: DataStream<u64>) -> DataStream<u64> {
    numbers.process(|_| Ok(Split::new()))
}

#[test]
fn map_filter_and_flat_map_keep_order() {
    let out = example((1..=6).collect(), |s: DataStream<u64>| {
        s.map(|n| n * 10).filter(|n| n % 20 == 0).flat_map(|n, out| {
            for i in 0..n / 20 {
                out.collect(format!("{n}.{i}"));
            }
        })
    });
    assert_eq!(out.unwrap(), ["20.0", "40.0", "40.1", "60.0", "60.1", "60.2"]);
}

#[test]
fn process_emits_what_is_left_when_the_input_ends() {
    assert_eq!(example(vec![3, 4], split).unwrap(), [3, 4, 1_007]);
    assert_eq!(example(vec![], split).unwrap(), [1_000], "also without a record");
}

#[test]
fn union_takes_every_record_of_every_stream_once() {
    let out = example((0..1_000).collect(), |s: DataStream<u64>| {
        let (more, most) = (s.clone().map(|n| n + 1_000), s.clone().map(|n| n + 2_000).disable_chaining());
        s.union(more).union(most)
    });
    assert!(sorted(out.unwrap()).into_iter().eq(0..3_000));
}

#[test]
fn a_stream_can_be_joined_with_itself() {
    let out = example(vec![1, 2], |s: DataStream<u64>| s.clone().union(s));
    assert_eq!(sorted(out.unwrap()), [1, 1, 2, 2]);
}

/// Runs `program`, which gets the stream of a [`Split`] over 0..30, and returns what it has collected.
fn with_split<U: Data>(
    parallelism: u32,
    program: impl FnOnce(DataStream<u64>) -> DataStream<U>,
) -> Result<Vec<U>> {
    let mut env = Environment::new();
    env.config_mut().parallelism = parallelism;
    let (sink, out) = CollectSink::new();
    program(split(env.source(Generator::sequence(0..30)))).sink(sink);
    env.execute("split")?;
    Ok(out.values())
}

#[test]
fn a_side_output_has_its_own_records_for_each_of_its_consumers() {
    for parallelism in [1, 3] {
        let odd = OutputTag::<u64>::new("odd");
        let out = with_split(parallelism, |main| {
            let named = |name: &'static str| move |n| format!("{name} {n:02}");
            let chained = main.side_output(&odd).map(named("chained"));
            let exchanged = main.side_output(&odd).rebalance().map(named("exchanged"));
            chained.union(exchanged).union(main.filter(|n| *n < 30).map(named("main")))
        });
        let named = |name: &'static str, odd: bool| {
            (0..30).filter(move |n| !odd || n % 2 == 1).map(move |n| format!("{name} {n:02}"))
        };
        let expected = named("chained", true).chain(named("exchanged", true)).chain(named("main", false));
        assert_eq!(sorted(out.unwrap()), expected.collect::<Vec<_>>(), "parallelism {parallelism}");
    }
}

#[test]
fn side_outputs_of_several_types_and_one_that_nobody_reads() {
    let tens = OutputTag::<String>::new("tens");
    let out = with_split(1, |main| main.side_output(&tens));
    assert_eq!(out.unwrap(), ["0", "10", "20"]);
}

#[test]
fn a_side_output_emitted_with_another_type_is_refused_by_name() {
    let wrong = OutputTag::<u32>::new("odd");
    assert_error(
        with_split(1, |main| main.side_output(&wrong)),
        ErrorKind::Config,
        &["side output 'odd'", "operator 'process'", "u64", "u32", "OutputTag"],
    );
}

#[test]
fn a_side_output_read_as_two_types_is_refused_before_anything_runs() {
    let (right, wrong) = (OutputTag::<u64>::new("odd"), OutputTag::<String>::new("odd"));
    let result = with_split(1, |main| {
        main.side_output(&wrong).map(|text| text.len()).name("measure");
        main.side_output(&right)
    });
    assert_error(
        result,
        ErrorKind::Config,
        &["side output 'odd'", "'process'", "u64", "String", "OutputTag"],
    );
}

#[test]
fn a_fork_repeats_the_records_and_not_the_work() {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = calls.clone();
    let env = Environment::new();
    let ((left, lefts), (right, rights), (all, alls)) =
        (CollectSink::new(), CollectSink::new(), CollectSink::new());
    let numbers = env.source(Generator::sequence(0..100)).map(move |n| {
        counted.fetch_add(1, Ordering::Relaxed);
        n
    });
    numbers.clone().filter(|n| n % 2 == 0).sink(left).name("even");
    numbers.clone().rebalance().filter(|n| n % 2 == 1).parallelism(2).sink(right).name("odd");
    numbers.sink(all);
    env.execute("fork").unwrap();
    assert!(lefts.values().into_iter().eq((0..100).filter(|n| n % 2 == 0)));
    assert!(sorted(rights.values()).into_iter().eq((0..100).filter(|n| n % 2 == 1)));
    assert!(alls.values().into_iter().eq(0..100));
    assert_eq!(calls.load(Ordering::Relaxed), 100);
}

#[test]
fn a_stream_without_a_consumer_is_run_and_dropped() {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = calls.clone();
    let env = Environment::new();
    env.source(Generator::sequence(0..10)).map(move |_| counted.fetch_add(1, Ordering::Relaxed));
    let summary = env.execute("no sink").unwrap();
    assert_eq!((calls.load(Ordering::Relaxed), summary.restarts), (10, 0));
    assert!(summary.job.unwrap().as_str().starts_with("no-sink-"));
}

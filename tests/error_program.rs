//! Mistakes in a program and failures in user code: each error names the thing, the place and what to do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::assert_error;
use tidegate::Environment;
use tidegate::config::Role;
use tidegate::error::Result;
use tidegate::function::{
    EnumeratorContext, KeyedOpenContext, ReaderContext, Sink, SinkContext, Source, SourceReader,
    SplitEnumerator,
};
use tidegate::prelude::*;
use tidegate::testing::example;

type Numbers = DataStream<u64>;

fn numbers(env: &Environment) -> Numbers {
    env.source(Generator::sequence(0..10))
}

/// Runs a program that is wrong before anything runs.
fn refused(program: impl FnOnce(&mut Environment)) -> Result<()> {
    let mut env = Environment::new();
    program(&mut env);
    let plan = env.plan("refused", tidegate::config::PlanFormat::Dot);
    plan.map(drop)
}

#[test]
fn an_empty_program() {
    assert_error(refused(|_| {}), ErrorKind::Config, &["no operators", "Environment::source"]);
    assert_error(Environment::new().execute("empty"), ErrorKind::Config, &["no operators"]);
}

#[test]
fn a_uid_given_twice() {
    let result = refused(|env| {
        numbers(env).name("read").uid("same").map(|n| n).name("double").uid("same");
    });
    assert_error(result, ErrorKind::Config, &["'read'", "'double'", "uid 'same'", "uid of its own"]);
}

#[test]
fn an_empty_uid() {
    let result = refused(|env| _ = numbers(env).name("read").uid(""));
    assert_error(result, ErrorKind::Config, &["'read'", "empty uid", "leave uid out"]);
}

#[test]
fn a_parallelism_of_zero_or_above_the_maximum() {
    let of_operator = |p: u32, max: u16| {
        refused(move |env| _ = numbers(env).map(|n| n).name("double").parallelism(p).max_parallelism(max))
    };
    assert_error(of_operator(0, 8), ErrorKind::Config, &["'double'", "parallelism 0", "at least 1"]);
    assert_error(
        of_operator(9, 8),
        ErrorKind::Config,
        &["'double'", "parallelism 9", "max parallelism 8", "lower"],
    );
    assert_error(
        of_operator(1, 0),
        ErrorKind::Config,
        &["'double'", "max parallelism 0", "between 1 and 32768"],
    );
    assert_error(of_operator(1, 40_000), ErrorKind::Config, &["'double'", "max parallelism 40000"]);
    let of_environment = |p: u32, max: Option<u16>| {
        refused(move |env| {
            env.config_mut().parallelism = p;
            env.config_mut().max_parallelism = max;
            numbers(env);
        })
    };
    assert_error(of_environment(0, None), ErrorKind::Config, &["parallelism = 0", "code", "at least 1"]);
    assert_error(
        of_environment(3, Some(2)),
        ErrorKind::Config,
        &["parallelism = 3", "max-parallelism = 2", "lower"],
    );
}

#[test]
fn a_union_of_two_environments_whichever_is_run() {
    let names = ["union", "two environments", "same environment"];
    let (one, other) = (Environment::new(), Environment::new());
    numbers(&one).union(numbers(&other)).map(|n| n);
    assert_error(one.execute("one"), ErrorKind::Config, &names);
    assert_error(other.execute("other"), ErrorKind::Config, &names);
}

#[test]
fn a_side_output_of_what_has_none() {
    let tag = OutputTag::<u64>::new("late");
    type Program = fn(&Environment) -> Numbers;
    let cases: [(&str, Program); 3] = [
        ("source", numbers),
        ("map", |env| numbers(env).map(|n| n)),
        ("timestamps", |env| numbers(env).assign_timestamps_and_watermarks(WatermarkStrategy::monotonous())),
    ];
    for (name, program) in cases {
        let result = refused(|env| _ = program(env).side_output(&tag).map(|n| n).name("rest"));
        let names = ["'rest'", "side output 'late'", &format!("'{name}'"), "only process functions"];
        assert_error(result, ErrorKind::Config, &names);
    }
}

/// Registers state as `build` says.
fn with_state(build: fn(&mut KeyedOpenContext<'_, u64>) -> Result<()>) -> Result<Vec<u64>> {
    struct Nothing;
    impl KeyedProcessFunction<u64, u64, u64> for Nothing {
        fn process(
            &mut self,
            n: u64,
            _: &mut KeyedContext<'_, u64>,
            out: &mut Collector<'_, u64>,
        ) -> Result<()> {
            out.collect(n);
            Ok(())
        }
    }
    example(vec![1, 2, 3], |s: Numbers| s.key_by(|n| *n).process(move |open| build(open).map(|()| Nothing)))
}

#[test]
fn a_state_name_used_for_two_types_or_kinds() {
    let same = with_state(|open| {
        open.value_state::<u64>("total")?;
        open.value_state::<u64>("total").map(drop)
    });
    assert_eq!(same.unwrap(), [1, 2, 3], "the same state asked for twice is no mistake");
    let types = with_state(|open| {
        open.value_state::<u64>("total")?;
        open.value_state::<String>("total").map(drop)
    });
    assert_error(
        types,
        ErrorKind::Config,
        &["`total`", "u64", "String", "operator 'keyed process'", "subtask 1 of 1"],
    );
    let kinds = with_state(|open| {
        open.value_state::<u64>("total")?;
        open.list_state::<u64>("total").map(drop)
    });
    assert_error(
        kinds,
        ErrorKind::Config,
        &["`total`", "ValueState", "ListState", "operator 'keyed process'"],
    );
}

/// A stream whose operator fails with a panic or an error at record 3, in one of two subtasks.
fn fails(program: impl Fn(Numbers) -> DataStream<u64>) -> Result<()> {
    let mut env = Environment::new();
    env.config_mut().parallelism = 2;
    let slow = numbers(&env).rebalance();
    program(slow).name("unlucky").sink(PrintSink::new()).name("print");
    env.execute("fails").map(drop)
}

#[test]
fn a_panic_in_a_closure() {
    let result = fails(|s| s.map(|n| if n == 3 { panic!("three is unlucky") } else { n }));
    let text = assert_error(
        result,
        ErrorKind::RestartJob,
        &[
            "of 2 of 'unlucky -> print'",
            "operator 'unlucky'",
            "user code panicked: three is unlucky",
            "not restarted: the restart strategy is none",
        ],
    );
    assert!(text.starts_with("subtask "), "{text}");
    assert_eq!(text.matches("three").count(), 1, "{text}");
}

struct Fails(bool);

impl ProcessFunction<u64, u64> for Fails {
    fn process(&mut self, n: u64, _: &mut ProcessContext<'_>, out: &mut Collector<'_, u64>) -> Result<()> {
        if n == 3 {
            return Err(Error::data("three is unlucky").hint("leave it out"));
        }
        out.collect(n);
        Ok(())
    }

    fn finish(&mut self, _: &mut Collector<'_, u64>) -> Result<()> {
        if self.0 { Err(std::io::Error::other("the last page is missing").into()) } else { Ok(()) }
    }
}

impl KeyedProcessFunction<u64, u64, u64> for Fails {
    fn process(&mut self, _: u64, c: &mut KeyedContext<'_, u64>, _: &mut Collector<'_, u64>) -> Result<()> {
        c.register_event_timer(5)
    }

    fn on_timer(
        &mut self,
        time: i64,
        c: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        panic!("timer {time} of key {}", c.key())
    }
}

#[test]
fn an_error_returned_from_a_function() {
    let text = assert_error(
        fails(|s| s.process(|_| Ok(Fails(false)))),
        ErrorKind::Data,
        &["of 2 of 'unlucky -> print'", "operator 'unlucky'", "three is unlucky (leave it out)"],
    );
    assert_eq!(text.matches("operator").count(), 1, "{text}");
}

#[test]
fn an_error_at_the_end_of_the_input() {
    let result = example(vec![1], |s: Numbers| s.process(|_| Ok(Fails(true))).map(|n| n));
    let names = ["operator 'process'", "input/output failed: the last page is missing"];
    assert_error(result, ErrorKind::RestartJob, &names);
}

#[test]
fn a_panic_in_a_timer_and_in_a_key() {
    let in_timer = example(vec![7], |s: Numbers| s.key_by(|n| *n).process(|_| Ok(Fails(false))));
    assert_error(in_timer, ErrorKind::RestartJob, &["operator 'keyed process'", "timer 5 of key 7"]);
    let in_key = example(vec![7], |s: Numbers| {
        s.key_by(|n| -> u64 { panic!("no key for {n}") }).process(|_| Ok(Fails(false))).name("count")
    });
    assert_error(in_key, ErrorKind::RestartJob, &["no key for 7", "subtask 1 of 1", "'count'"]);
}

/// A source and a sink that panic where they are told to.
struct Breaks(&'static str);

impl Source for Breaks {
    type Record = u64;
    type Split = u64;

    fn is_bounded(&self) -> bool {
        true
    }

    fn enumerator(&self, _: &EnumeratorContext, _: Option<&[u8]>) -> Result<Box<dyn SplitEnumerator<u64>>> {
        panic!("{} in the enumerator", self.0)
    }

    fn reader(&self, _: &ReaderContext) -> Result<Box<dyn SourceReader<Record = u64, Split = u64>>> {
        panic!("{} in the reader", self.0)
    }
}

impl Sink for Breaks {
    type Record = u64;
    type Committable = ();

    fn writer(
        &self,
        _: &SinkContext,
    ) -> Result<Box<dyn tidegate::function::SinkWriter<Record = u64, Committable = ()>>> {
        Err(Error::config("the table does not exist").hint("create it"))
    }

    fn committer(&self, _: &SinkContext) -> Result<Box<dyn tidegate::function::Committer<()>>> {
        panic!("{} in the committer", self.0)
    }
}

#[test]
fn a_panic_in_an_enumerator_fails_the_job_and_not_the_jobmanager() {
    let env = Environment::new();
    env.source(Breaks("a panic")).uid("broken");
    let names = ["source 'broken'", "user code panicked: a panic in the enumerator"];
    assert_error(env.execute("breaks"), ErrorKind::RestartJob, &names);
}

#[test]
fn a_sink_that_cannot_start() {
    let env = Environment::new();
    numbers(&env).sink(Breaks("no")).name("table");
    let names = ["operator 'table'", "subtask 1 of 1", "the table does not exist (create it)"];
    assert_error(env.execute("breaks"), ErrorKind::Config, &names);
}

#[test]
fn main_that_returns_an_error_shows_the_kind_and_the_text() {
    let error = refused(|_| {}).unwrap_err();
    assert_eq!(format!("{error:?}"), format!("[config] {error}"));
}

#[test]
fn a_sink_that_collects_in_a_cluster_of_processes() {
    for role in [Role::JobManager, Role::TaskManager, Role::LocalCluster] {
        let result = refused(|env| {
            env.config_mut().cluster.role = role;
            env.config_mut().checkpoint_dir = Some("checkpoints".to_owned());
            numbers(env).sink(CollectSink::new().0).name("collected");
        });
        assert_error(result, ErrorKind::Config, &["'collected'", "nobody would see it", "FileSink"]);
    }
}

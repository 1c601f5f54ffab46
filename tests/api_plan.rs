//! Chaining, and the execution plan as JSON and DOT.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::assert_error;
use std::path::Path;
use std::process::Command;
use tidegate::config::{Action, Arguments, PlanFormat};
use tidegate::error::Result;
use tidegate::function::KeyedOpenContext;
use tidegate::graph::JobGraph;
use tidegate::prelude::*;

struct Count {
    total: ValueState<u64>,
}

impl KeyedProcessFunction<u64, u64, u64> for Count {
    fn process(&mut self, _: u64, _: &mut KeyedContext<'_, u64>, out: &mut Collector<'_, u64>) -> Result<()> {
        out.collect(self.total.update(
            || 0,
            |n| {
                *n += 1;
                *n
            },
        )?);
        Ok(())
    }
}

fn count(open: &mut KeyedOpenContext<'_, u64>) -> Result<Count> {
    Ok(Count { total: open.value_state("total")? })
}

struct Pass;

impl ProcessFunction<u64, u64> for Pass {
    fn process(&mut self, n: u64, _: &mut ProcessContext<'_>, out: &mut Collector<'_, u64>) -> Result<()> {
        out.collect(n);
        Ok(())
    }
}

type Numbers = DataStream<u64>;

fn numbers(env: &Environment) -> Numbers {
    env.source(Generator::sequence(0..10))
}

fn graph(parallelism: u32, program: impl FnOnce(&Environment)) -> JobGraph {
    let mut env = Environment::new();
    env.config_mut().parallelism = parallelism;
    program(&env);
    serde_json::from_str(&env.plan("plan", PlanFormat::Json).unwrap()).unwrap()
}

/// Names of the vertices of a program, and its exchanges.
fn chains(program: impl FnOnce(&Environment)) -> (Vec<String>, Vec<String>) {
    let graph = graph(2, program);
    let name = |id| graph.vertex(id).unwrap().name.clone();
    let edges =
        graph.edges.iter().map(|e| format!("{} =({:?})=> {}", name(e.from), e.partitioning, name(e.to)));
    (graph.vertices.iter().map(|v| format!("{} x{}", v.name, v.parallelism)).collect(), edges.collect())
}

/// A rule of chaining: a program, its vertices, its exchanges.
type Rule = (&'static str, fn(&Environment), &'static [&'static str], &'static [&'static str]);

const RULES: &[Rule] = &[
    (
        "what follows without exchange is one chain",
        |env| _ = numbers(env).map(|n| n).name("a").filter(|_| true).name("b").sink(PrintSink::new()),
        &["source -> a -> b -> sink x2"],
        &[],
    ),
    (
        "start_new_chain breaks before the operator",
        |env| _ = numbers(env).map(|n| n).name("a").start_new_chain().map(|n| n).name("b"),
        &["source x2", "a -> b x2"],
        &["source =(Forward)=> a -> b"],
    ),
    (
        "disable_chaining breaks before and after it",
        |env| _ = numbers(env).map(|n| n).name("a").disable_chaining().map(|n| n).name("b"),
        &["source x2", "a x2", "b x2"],
        &["source =(Forward)=> a", "a =(Forward)=> b"],
    ),
    (
        "another parallelism breaks",
        |env| _ = numbers(env).map(|n| n).name("a").parallelism(3).map(|n| n).name("b").parallelism(3),
        &["source x2", "a -> b x3"],
        &["source =(Rebalance)=> a -> b"],
    ),
    (
        "rebalance breaks even between equal parallelisms",
        |env| _ = numbers(env).rebalance().map(|n| n).name("a"),
        &["source x2", "a x2"],
        &["source =(Rebalance)=> a"],
    ),
    ("forward chains", |env| _ = numbers(env).forward().map(|n| n).name("a"), &["source -> a x2"], &[]),
    (
        "a key breaks even at parallelism 1",
        |env| _ = numbers(env).parallelism(1).key_by(|n| *n).process(count).name("count").parallelism(1),
        &["source x1", "count x1"],
        &["source =(Hash)=> count"],
    ),
    (
        "a union breaks, since its reader has several inputs",
        |env| _ = numbers(env).name("left").union(numbers(env).name("right")).map(|n| n).name("a"),
        &["left x2", "right x2", "a x2"],
        &["left =(Forward)=> a", "right =(Forward)=> a"],
    ),
    (
        "the branches of a fork share the chain",
        |env| {
            let fork = numbers(env);
            fork.clone().map(|n| n).name("a");
            fork.clone().map(|n| n).name("b").start_new_chain();
            fork.map(|n| n).name("c");
        },
        &["source -> a -> c x2", "b x2"],
        &["source -> a -> c =(Forward)=> b"],
    ),
    (
        "side outputs chain like main ones",
        |env| {
            let main = numbers(env).process(|_| Ok(Pass));
            main.side_output(&OutputTag::<u64>::new("late")).map(|n| n).name("late");
            main.broadcast().map(|n| n).name("main");
        },
        &["source -> process -> late x2", "main x2"],
        &["source -> process -> late =(Broadcast)=> main"],
    ),
];

#[test]
fn chaining_follows_its_rules() {
    for (rule, program, vertices, exchanges) in RULES {
        let (found, edges) = chains(program);
        assert_eq!(found, *vertices, "{rule}");
        assert_eq!(edges, *exchanges, "{rule}");
    }
}

/// Uses everything that shows in a plan.
fn golden(env: &Environment) {
    let pass = numbers(env).name("read \"it\"").uid("read").process(|_| Ok(Pass)).uid("pass");
    pass.side_output(&OutputTag::<u64>::new("odd")).rebalance().sink(PrintSink::new()).name("print");
    pass.clone().map(|n| n + 1).name("plus one");
    pass.clone().map(|n| n + 2).name("plus two");
    pass.key_by(|n| *n).process(count).uid("count").parallelism(3).max_parallelism(12).sink(PrintSink::new());
}

fn golden_environment() -> Environment {
    let mut env = Environment::new();
    env.config_mut().parallelism = 2;
    golden(&env);
    env
}

/// Compares with a golden file; with TIDEGATE_UPDATE_GOLDEN set, writes it.
fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("TIDEGATE_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap());
}

#[test]
fn the_plan_in_dot() {
    assert_golden("plan.dot", &golden_environment().plan("golden", PlanFormat::Dot).unwrap());
}

#[test]
fn the_plan_in_json() {
    assert_golden("plan.json", &golden_environment().plan("golden", PlanFormat::Json).unwrap());
}

#[test]
fn names_and_uids_are_those_given_or_derived_from_the_place() {
    let graph = graph(1, golden);
    let operators: Vec<_> =
        graph.operators().map(|(_, o)| (o.name.as_str(), o.uid.as_str(), o.uid_is_explicit)).collect();
    assert_eq!(
        operators,
        [
            ("read \"it\"", "read", true),
            ("process", "pass", true),
            ("plus one", "auto-3-plus one", false),
            ("plus two", "auto-4-plus two", false),
            ("print", "auto-2-print", false),
            ("keyed process", "count", true),
            ("sink", "auto-6-sink", false),
        ]
    );
}

#[test]
fn settings_on_what_is_no_operator_are_refused() {
    type Program = fn(&Environment);
    let cases: [(&str, Program); 3] = [
        ("uid", |env| _ = numbers(env).union(numbers(env)).uid("both")),
        ("name", |env| _ = numbers(env).rebalance().name("spread")),
        ("parallelism", |env| {
            _ = numbers(env).process(|_| Ok(Pass)).side_output(&OutputTag::<u64>::new("s")).parallelism(2);
        }),
    ];
    for (setting, program) in cases {
        let env = Environment::new();
        program(&env);
        let place = ["right behind the operator", &format!("'{setting}'")];
        assert_error(env.plan("settings", PlanFormat::Dot), ErrorKind::Config, &place);
    }
}

/// Set for the process that [`plan_prints_and_runs_nothing`] starts.
const CHILD: &str = "TIDEGATE_TEST_PLAN";

#[test]
fn plan_prints_and_runs_nothing() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_program_that_is_asked_for_its_plan", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let printed = String::from_utf8(child.stdout).unwrap();
    assert!(child.status.success(), "{printed}");
    assert!(printed.contains(&golden_environment().plan("golden", PlanFormat::Dot).unwrap()), "{printed}");
}

#[test]
fn the_program_that_is_asked_for_its_plan() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let line = ["program", "--parallelism", "2", "--plan", "dot"].map(Into::into);
    let parsed = Arguments::new("program", "").parse(line).unwrap();
    assert_eq!(parsed.action, Action::PrintPlan(PlanFormat::Dot));
    let env = Environment::from_parsed(&parsed);
    golden(&env);
    let summary = env.execute("golden").unwrap();
    assert_eq!(summary.job, None);
}

#[test]
fn slot_sharing_groups_pass_on_to_what_is_behind_and_cut_chains() {
    let graph = graph(2, |env| {
        let numbers = env.source(Generator::sequence(0..1)).name("read");
        let heavy = numbers.clone().map(|n| n).name("heavy").slot_sharing_group("heavy");
        let behind = heavy.map(|n| n).name("behind");
        let light = numbers.map(|n| n).name("light");
        behind.clone().union(light).map(|n| n).name("both").sink(PrintSink::new());
        behind.map(|n| n).name("back").slot_sharing_group("default").sink(PrintSink::new());
    });
    let groups: Vec<_> = graph.vertices.iter().map(|v| (&*v.name, &*v.slot_sharing_group)).collect();
    let expected = [
        ("read -> light", "default"),
        ("heavy -> behind", "heavy"),
        ("both -> sink", "default"),
        ("back -> sink", "default"),
    ];
    assert_eq!(groups, expected);
    assert_eq!(graph.slots_needed(), 4);
}

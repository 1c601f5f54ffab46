//! Operator state of a program that is cancelled and restored, or crashes: lists, union lists, broadcast states, keyed
//! state changed from the broadcast side, at the same and at other parallelisms.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{Gate, Log, assert_error, gated, published, run_out, wait_for_checkpoints};
use std::path::{Path, PathBuf};
use tidegate::Environment;
use tidegate::cluster::RestartStrategyConfig;
use tidegate::cluster::jobmaster::{JobNotice, JobResult};
use tidegate::error::Result;
use tidegate::function::OpenContext;
use tidegate::prelude::*;

const RECORDS: u64 = 1_200;
const KEYS: u64 = 20;

/// Keeps all numbers until the end in a list, counts them in a union list, and notes the broadcast rules.
struct Keeper {
    held: OperatorListState<u64>,
    counted: OperatorListState<u64>,
    rules: BroadcastState<u64, String>,
    log: Log<&'static str>,
}

impl Keeper {
    fn open(open: &mut OpenContext<'_>, log: &Log<&'static str>, totals: &Log<u64>) -> Result<Self> {
        let mut counted = open.union_list_state::<u64>("counted")?;
        if !counted.is_empty()? {
            let total = counted.iter()?.sum();
            totals.push(total);
            // The first subtask goes on with what all have counted.
            counted.replace((open.subtask().index == 0).then_some(total))?;
        }
        Ok(Self {
            held: open.operator_list_state("held")?,
            counted,
            rules: open.broadcast_state("rules")?,
            log: log.clone(),
        })
    }
}

impl BroadcastProcessFunction<u64, u64, String> for Keeper {
    fn process_element(
        &mut self,
        n: u64,
        _: &mut ProcessContext<'_>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        self.held.push(n)?;
        let count = self.counted.iter()?.sum::<u64>() + 1;
        self.counted.replace([count])?;
        self.log.push("number");
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        rule: u64,
        context: &mut BroadcastContext<'_>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        let mut rules = context.writable(&self.rules);
        rules.update(rule % 3, String::new, |text| *text += &format!(".{rule}"))?;
        self.log.push("rule");
        Ok(())
    }

    fn finish(&mut self, out: &mut Collector<'_, String>) -> Result<()> {
        let rules = self.rules.with_all(|all| format!("{all:?}"))?;
        for n in self.held.iter()? {
            out.collect(format!("{n} {rules}"));
        }
        self.held.clear()
    }
}

/// Counts the numbers of a key; each rule adds one to the rules of every key.
struct PerKey {
    count: ValueState<u64>,
    rules: ValueState<u64>,
    all: BroadcastState<u64, ()>,
    log: Log<&'static str>,
}

impl KeyedBroadcastProcessFunction<u64, u64, u64, String> for PerKey {
    fn process_element(
        &mut self,
        _: u64,
        context: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        self.count.update(|| 0, |count| *count += 1)?;
        context.register_event_timer(MAX_WATERMARK)?;
        self.log.push("number");
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        rule: u64,
        context: &mut KeyedBroadcastContext<'_, u64>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        context.writable(&self.all).insert(rule, ())?;
        context.apply_to_keyed_state(&self.count, |_, _| self.rules.update(|| 0, |rules| *rules += 1))?;
        self.log.push("rule");
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: i64,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let (count, rules, all) = (self.count.get()?, self.rules.get()?, self.all.len()?);
        out.collect(format!("key {} {count:?} {rules:?} of {all}", context.key()));
        Ok(())
    }
}

/// One life of the program.
struct Life {
    job: tidegate::cluster::JobHandle,
    numbers: Gate,
    rules: Gate,
    /// What the two functions have been given.
    plain: Log<&'static str>,
    keyed: Log<&'static str>,
    /// What each subtask has found in the union list.
    totals: Log<u64>,
}

struct Setup<'a> {
    directory: &'a Path,
    parallelism: u32,
    restore: Option<PathBuf>,
    /// Rules there are in all.
    rules: u64,
}

impl Setup<'_> {
    fn start(&self) -> Life {
        let mut env = Environment::new();
        let config = env.config_mut();
        config.parallelism = self.parallelism;
        config.cluster.taskmanagers = 2;
        config.checkpoint_dir = Some(self.directory.join("checkpoints").to_string_lossy().into_owned());
        config.checkpoint.interval_ms = Some(5);
        config.restart = Some(RestartStrategyConfig::FixedDelay { attempts: 5, delay_ms: 1 });
        config.restore.path = self.restore.as_ref().map(|path| path.to_string_lossy().into_owned());
        let (plain, keyed, totals) = (Log::new(), Log::new(), Log::new());
        let (numbers, number_gate) = gated(RECORDS, 4, |n| n);
        let (rules, rule_gate) = gated(self.rules, 1, |n| n);
        let numbers = env.source(numbers).uid("numbers");
        let rules = env.source(rules).uid("rule source").parallelism(1);
        let (log, all) = (plain.clone(), totals.clone());
        let kept = numbers
            .clone()
            .connect(rules.clone().broadcast_state())
            .process(move |open| Keeper::open(open, &log, &all))
            .uid("keeper");
        let log = keyed.clone();
        numbers
            .key_by(|n| n % KEYS)
            .connect(rules.broadcast_state())
            .process(move |open| {
                Ok(PerKey {
                    count: open.value_state("count")?,
                    rules: open.value_state("rules")?,
                    all: open.broadcast_state("all")?,
                    log: log.clone(),
                })
            })
            .uid("per key")
            .union(kept)
            .sink(FileSink::lines(self.directory.join("out")))
            .uid("lines");
        let job = env.start("operator state").unwrap();
        Life { job, numbers: number_gate, rules: rule_gate, plain, keyed, totals }
    }

    fn count(&self, what: &'static str, entries: u64) -> impl Fn(&[&'static str]) -> bool {
        move |log| log.iter().filter(|entry| **entry == what).count() as u64 == entries
    }
}

impl Life {
    /// Takes `numbers` more numbers, then one more rule; ends in a checkpoint that covers them.
    fn go_on(&self, setup: &Setup<'_>, to: u64, numbers: u64, rule: u64) {
        self.numbers.open_to(to);
        for log in [&self.plain, &self.keyed] {
            log.wait_until(setup.count("number", numbers));
        }
        self.rules.open_to(rule + 1);
        for log in [&self.plain, &self.keyed] {
            log.wait_until(setup.count("rule", setup.parallelism.into()));
        }
        wait_for_checkpoints(&self.job, 3);
    }

    fn cancel(self, setup: &Setup<'_>) -> PathBuf {
        let directory = setup.directory.join("checkpoints").join(self.job.job_id().as_str());
        self.job.controller().cancel();
        assert_eq!(run_out(self.job).0, JobResult::Canceled);
        directory
    }

    fn run_to_the_end(self) {
        self.numbers.open();
        self.rules.open();
        assert_eq!(run_out(self.job).0, JobResult::Finished);
    }
}

/// What is published if `rules` rules came, all behind the first number of each key.
fn expected(rules: u64) -> Vec<String> {
    let mut texts = std::collections::BTreeMap::<u64, String>::new();
    for rule in 0..rules {
        *texts.entry(rule % 3).or_default() += &format!(".{rule}");
    }
    let kept = (0..RECORDS).map(|n| format!("{n} {texts:?}"));
    let per_key =
        (0..KEYS).map(|key| format!("key {key} {:?} {:?} of {rules}", Some(RECORDS / KEYS), Some(rules)));
    let mut lines: Vec<String> = kept.chain(per_key).collect();
    lines.sort();
    lines
}

/// Lives with these parallelisms, one after the other, each from the checkpoint of the one before.
fn lives(parallelisms: &[u32]) {
    let directory = tempfile::tempdir().unwrap();
    let lives = parallelisms.len() as u64;
    let step = RECORDS / lives;
    let mut setup = Setup { directory: directory.path(), parallelism: 1, restore: None, rules: lives - 1 };
    for (number, parallelism) in (0u64..).zip(parallelisms) {
        setup.parallelism = *parallelism;
        let life = setup.start();
        if number + 1 == lives {
            let totals = life.totals.clone();
            life.run_to_the_end();
            assert_eq!(totals.entries(), vec![number * step; *parallelism as usize]);
            break;
        }
        life.go_on(&setup, (number + 1) * step, step, number);
        let found = if number == 0 { vec![] } else { vec![number * step; *parallelism as usize] };
        assert_eq!(life.totals.entries(), found, "every subtask finds the counts of all");
        setup.restore = Some(life.cancel(&setup));
    }
    assert_eq!(published(&directory.path().join("out")), expected(lives - 1));
}

#[test]
fn operator_state_goes_on_at_the_same_parallelism() {
    lives(&[1, 1]);
    lives(&[2, 2, 2]);
}

#[test]
fn operator_state_is_dealt_out_at_another_parallelism() {
    lives(&[1, 3]);
    lives(&[4, 2, 3, 1]);
}

#[test]
fn operator_state_outlives_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let setup = Setup { directory: directory.path(), parallelism: 2, restore: None, rules: 2 };
    let life = setup.start();
    life.go_on(&setup, RECORDS / 2, RECORDS / 2, 0);
    life.job.controller().crash_taskmanager(1);
    let totals = life.totals.wait_for(2);
    assert_eq!(totals, [RECORDS / 2; 2]);
    life.run_to_the_end();
    assert_eq!(published(&directory.path().join("out")), expected(2));
}

/// Notes the end of each of its inputs.
struct Ends(Log<&'static str>);

impl CoProcessFunction<u64, u64, String> for Ends {
    fn process_first(
        &mut self,
        _: u64,
        _: &mut ProcessContext<'_>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        Ok(())
    }

    fn process_second(
        &mut self,
        n: u64,
        _: &mut ProcessContext<'_>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        out.collect(format!("number {n}"));
        Ok(())
    }

    fn finish_first(&mut self, out: &mut Collector<'_, String>) -> Result<()> {
        self.0.push("first");
        out.collect("first".into());
        Ok(())
    }

    fn finish_second(&mut self, out: &mut Collector<'_, String>) -> Result<()> {
        self.0.push("second");
        out.collect("second".into());
        Ok(())
    }
}

#[test]
fn the_end_of_each_input_is_told_once_also_across_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let mut env = Environment::new();
    let config = env.config_mut();
    config.parallelism = 2;
    config.cluster.taskmanagers = 2;
    config.checkpoint_dir = Some(directory.path().join("checkpoints").to_string_lossy().into_owned());
    config.checkpoint.interval_ms = Some(5);
    config.restart = Some(RestartStrategyConfig::FixedDelay { attempts: 5, delay_ms: 1 });
    let (second, gate) = gated(10, 2, |n| n);
    let log = Log::new();
    let shared = log.clone();
    env.source(Generator::sequence(0..10))
        .connect(env.source(second))
        .process(move |_| Ok(Ends(shared.clone())))
        .sink(FileSink::lines(directory.path().join("out")));
    let job = env.start("ends").unwrap();
    assert_eq!(log.wait_for(2), ["first"; 2]);
    wait_for_checkpoints(&job, 3);
    job.controller().crash_taskmanager(0);
    let restarted = job.notices().any(|notice| matches!(notice, JobNotice::Restored { .. }));
    assert!(restarted);
    gate.open();
    assert_eq!(run_out(job).0, JobResult::Finished);
    assert_eq!(log.entries(), ["first", "first", "second", "second"]);
    let mut expected: Vec<String> = (0..10).map(|n| format!("number {n}")).collect();
    expected.splice(0..0, ["first", "first"].map(String::from));
    expected.extend(["second", "second"].map(String::from));
    assert_eq!(published(&directory.path().join("out")), expected);
}

#[test]
fn a_restored_operator_state_of_another_kind_or_type_is_refused() {
    type Open = fn(&mut OpenContext<'_>) -> Result<()>;
    struct Nothing;
    impl ProcessFunction<u64, u64> for Nothing {
        fn process(&mut self, _: u64, _: &mut ProcessContext<'_>, _: &mut Collector<'_, u64>) -> Result<()> {
            Ok(())
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let start = |restore: Option<&Path>, open: Open| {
        let mut env = Environment::new();
        let config = env.config_mut();
        config.checkpoint_dir = Some(directory.path().to_string_lossy().into_owned());
        config.checkpoint.interval_ms = Some(5);
        config.restore.path = restore.map(|path| path.to_string_lossy().into_owned());
        let (numbers, gate) = gated(10, 1, |n| n);
        let open = move |context: &mut OpenContext<'_>| open(context).map(|()| Nothing);
        env.source(numbers).uid("numbers").process(open).uid("nothing");
        (env.start("refused"), gate)
    };
    let (job, _gate) = start(None, |open| open.operator_list_state("offsets")?.push(7u64));
    let job = job.unwrap();
    wait_for_checkpoints(&job, 2);
    let from = directory.path().join(job.job_id().as_str());
    job.controller().cancel();
    run_out(job);
    let refused: [(Open, &str); 2] = [
        (|open| open.union_list_state::<u64>("offsets").map(drop), "union list of u64"),
        (|open| open.operator_list_state::<String>("offsets").map(drop), "list of String"),
    ];
    for (open, asked) in refused {
        let (job, _gate) = start(Some(&from), open);
        let names = ["operator 'process'", "'offsets'", "list of u64 in the checkpoint", asked];
        let result: Result<()> = job.and_then(|job| match run_out(job).0 {
            JobResult::Failed(failure) => Err(failure.into()),
            other => panic!("{other:?}"),
        });
        assert_error(result, ErrorKind::Config, &names);
    }
}

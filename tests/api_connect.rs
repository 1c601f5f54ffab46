//! What connected streams and broadcast streams do: results, timers, ends, settings, plans, mistakes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::assert_error;
use tidegate::config::PlanFormat;
use tidegate::error::Result;
use tidegate::function::Data;
use tidegate::graph::{JobGraph, Partitioning};
use tidegate::operator::InputSide;
use tidegate::prelude::*;

type Numbers = DataStream<u64>;
type Words = DataStream<String>;

fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort();
    values
}

fn words() -> Vec<String> {
    ["to", "be", "or", "not", "to", "be"].map(String::from).to_vec()
}

/// Runs a program over the numbers 0..100 and some words; what it puts out, sorted.
fn run<U: Data + Ord>(
    parallelism: u32,
    program: impl FnOnce(Numbers, Words) -> DataStream<U>,
) -> Result<Vec<U>> {
    let mut env = Environment::new();
    env.config_mut().parallelism = parallelism;
    let (sink, out) = CollectSink::new();
    program(env.source(Generator::sequence(0..100)), env.source(Generator::of(words()))).sink(sink);
    env.execute("connect")?;
    Ok(sorted(out.values()))
}

fn texts(numbers: std::ops::Range<u64>) -> Vec<String> {
    sorted(numbers.map(|n| n.to_string()).chain(words()).collect())
}

#[test]
fn each_record_goes_through_the_function_of_its_stream_once() {
    for parallelism in [1, 3] {
        let map = run(parallelism, |n, w| n.connect(w).map(|n| n.to_string(), |w| w));
        assert_eq!(map.unwrap(), texts(0..100), "parallelism {parallelism}");
        let flat_map = run(parallelism, |numbers, words| {
            let some = |n: u64, out: &mut Collector<'_, String>| {
                if n < 10 {
                    out.collect(n.to_string());
                }
            };
            numbers.connect(words).flat_map(some, |word, out| out.collect(word))
        });
        assert_eq!(flat_map.unwrap(), texts(0..10), "parallelism {parallelism}");
    }
}

#[test]
fn a_side_of_a_connection_may_be_a_union_a_side_output_or_spread_in_its_own_way() {
    let union = run(2, |n, w| n.clone().union(n).connect(w.clone().union(w)).map(|_| 1u64, |_| 100u64));
    assert_eq!(union.unwrap().into_iter().sum::<u64>(), 200 + 100 * 12);
    let broadcast = run(3, |n, w| n.connect(w.broadcast()).map(|_| 1u64, |_| 1_000u64));
    assert_eq!(broadcast.unwrap().into_iter().sum::<u64>(), 100 + 3 * 6 * 1_000);
    let itself = run(2, |n, _| n.clone().connect(n).map(|n| n, |n| n));
    assert_eq!(itself.unwrap().into_iter().sum::<u64>(), 2 * 4950);
}

/// Counts its records; says at each end what it has seen.
struct Ends {
    numbers: u64,
    words: u64,
    tag: OutputTag<String>,
}

impl Ends {
    fn new() -> Self {
        Self { numbers: 0, words: 0, tag: OutputTag::new("words") }
    }
}

impl CoProcessFunction<u64, String, String> for Ends {
    fn process_first(
        &mut self,
        _: u64,
        _: &mut ProcessContext<'_>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        self.numbers += 1;
        Ok(())
    }

    fn process_second(
        &mut self,
        word: String,
        context: &mut ProcessContext<'_>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        self.words += 1;
        context.side_output(&self.tag, word)
    }

    fn finish_first(&mut self, out: &mut Collector<'_, String>) -> Result<()> {
        out.collect(format!("numbers {}", self.numbers));
        Ok(())
    }

    fn finish_second(&mut self, out: &mut Collector<'_, String>) -> Result<()> {
        out.collect(format!("words {}", self.words));
        Ok(())
    }
}

#[test]
fn a_co_process_function_learns_of_each_end_once_per_subtask_and_has_side_outputs() {
    let one = run(1, |n, w| n.connect(w).process(|_| Ok(Ends::new())));
    assert_eq!(one.unwrap(), ["numbers 100", "words 6"]);
    let two = run(2, |n, w| {
        let ends =
            n.rebalance().connect(w.parallelism(1).rebalance()).process(|_| Ok(Ends::new())).name("ends");
        let tag = OutputTag::<String>::new("words");
        ends.side_output(&tag).union(ends)
    });
    let mut expected = words();
    expected.extend(["numbers 50", "numbers 50", "words 3", "words 3"].map(String::from));
    assert_eq!(two.unwrap(), sorted(expected));
}

/// Sums per key over both streams; a timer at the end says them.
struct Sums {
    numbers: ValueState<u64>,
    letters: ValueState<u64>,
}

impl KeyedCoProcessFunction<u64, u64, String, String> for Sums {
    fn process_first(
        &mut self,
        n: u64,
        context: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        assert_eq!(*context.key(), n % 4);
        self.numbers.update(|| 0, |sum| *sum += n)?;
        context.register_event_timer(MAX_WATERMARK)
    }

    fn process_second(
        &mut self,
        word: String,
        context: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        assert_eq!(*context.key(), word.len() as u64);
        self.letters.update(|| 0, |sum| *sum += word.len() as u64)?;
        context.register_event_timer(MAX_WATERMARK)
    }

    fn on_timer(
        &mut self,
        time: i64,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        assert!(time == MAX_WATERMARK && context.is_event_timer());
        let (numbers, letters) = (self.numbers.get()?, self.letters.get()?);
        out.collect(format!("{} {numbers:?} {letters:?}", context.key()));
        Ok(())
    }
}

fn sums(numbers: Numbers, words: Words) -> DataStream<String> {
    let words = words.key_by(|word: &String| word.len() as u64);
    numbers.key_by(|n| n % 4).connect(words).process(|open| {
        Ok(Sums { numbers: open.value_state("numbers")?, letters: open.value_state("letters")? })
    })
}

#[test]
fn connected_keyed_streams_share_the_state_of_a_key() {
    for parallelism in [1, 2, 5] {
        let out = run(parallelism, sums);
        let expected =
            ["0 Some(1200) None", "1 Some(1225) None", "2 Some(1250) Some(10)", "3 Some(1275) Some(3)"];
        assert_eq!(out.unwrap(), expected, "parallelism {parallelism}");
    }
}

/// Keeps numbers until the end, when all broadcast words are known.
struct Prefix {
    numbers: OperatorListState<u64>,
    known: BroadcastState<String, u64>,
}

impl BroadcastProcessFunction<u64, String, String> for Prefix {
    fn process_element(
        &mut self,
        n: u64,
        _: &mut ProcessContext<'_>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        self.numbers.push(n)
    }

    fn process_broadcast(
        &mut self,
        word: String,
        context: &mut BroadcastContext<'_>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        context.writable(&self.known).update(word, || 0, |count| *count += 1)
    }

    fn finish(&mut self, out: &mut Collector<'_, String>) -> Result<()> {
        let known = self.known.with_all(|all| format!("{all:?}"))?;
        for n in self.numbers.iter()? {
            out.collect(format!("{n} {known}"));
        }
        self.numbers.clear()
    }
}

fn prefix(numbers: Numbers, words: Words) -> DataStream<String> {
    numbers.connect(words.broadcast_state()).process(|open| {
        Ok(Prefix { numbers: open.operator_list_state("numbers")?, known: open.broadcast_state("known")? })
    })
}

#[test]
fn every_subtask_gets_every_broadcast_record() {
    let known = r#"{"be": 2, "not": 1, "or": 1, "to": 2}"#;
    let expected = sorted((0..100).map(|n| format!("{n} {known}")).collect());
    for parallelism in [1, 3] {
        assert_eq!(run(parallelism, prefix).unwrap(), expected, "parallelism {parallelism}");
    }
}

/// Sums the numbers of a key. Each broadcast word is added to the words of the keys that are there.
struct Marked {
    sum: ValueState<u64>,
    marks: ListState<String>,
    seen: BroadcastState<String, ()>,
}

impl KeyedBroadcastProcessFunction<u64, u64, String, String> for Marked {
    fn process_element(
        &mut self,
        n: u64,
        context: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        self.sum.update(|| 0, |sum| *sum += n)?;
        context.register_event_timer(MAX_WATERMARK)
    }

    fn process_broadcast(
        &mut self,
        word: String,
        context: &mut KeyedBroadcastContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        assert_eq!(self.sum.get().unwrap_err().kind(), ErrorKind::Config, "there is no current key");
        context.writable(&self.seen).insert(word.clone(), ())?;
        context.apply_to_keyed_state(&self.sum, |key, sum| {
            if sum.get()?.is_none() {
                out.collect(format!("key {key} without a sum"));
            }
            self.marks.push(word.clone())
        })
    }

    fn on_timer(
        &mut self,
        _: i64,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let (seen, marks) = (self.seen.len()?, self.marks.iter()?.collect::<Vec<_>>());
        // Words that came before the first number of the key have left no mark.
        if !words().ends_with(&marks) {
            out.collect(format!("key {} has marks {marks:?}", context.key()));
        }
        out.collect(format!("{} {} {seen}", context.key(), self.sum.get()?.unwrap_or(0)));
        Ok(())
    }
}

fn marked(numbers: Numbers, words: Words) -> DataStream<String> {
    numbers.key_by(|n| n % 4).connect(words.parallelism(1).broadcast_state()).process(|open| {
        Ok(Marked {
            sum: open.value_state("sum")?,
            marks: open.list_state("marks")?,
            seen: open.broadcast_state("seen")?,
        })
    })
}

#[test]
fn a_keyed_broadcast_function_has_keyed_state_on_one_side_and_all_keys_on_the_other() {
    for parallelism in [1, 2, 5] {
        let out = run(parallelism, marked).unwrap();
        assert_eq!(out, ["0 1200 4", "1 1225 4", "2 1250 4", "3 1275 4"], "parallelism {parallelism}");
    }
}

/// All programs with two inputs, with every setting.
fn declare(env: &Environment) {
    let numbers = || env.source(Generator::sequence(0..10)).name("numbers");
    let words = || env.source(Generator::of(words())).name("words");
    let settled = |stream: DataStream<String>, uid: &str| {
        stream.name(uid).uid(uid).parallelism(3).max_parallelism(12).map(|text| text).name("text")
    };
    settled(numbers().connect(words()).process(|_| Ok(Ends::new())), "ends");
    settled(sums(numbers(), words()), "sums").disable_chaining();
    settled(prefix(numbers(), words()), "prefix");
    settled(marked(numbers(), words()), "marked").start_new_chain();
}

#[test]
fn two_input_operators_are_set_and_planned_like_others() {
    let mut env = Environment::new();
    env.config_mut().parallelism = 2;
    declare(&env);
    let graph: JobGraph = serde_json::from_str(&env.plan("two inputs", PlanFormat::Json).unwrap()).unwrap();
    let mut found = Vec::new();
    for vertex in graph.vertices.iter().filter(|v| v.parallelism == 3 && v.operators[0].uid_is_explicit) {
        let operator = &vertex.operators[0];
        let edges: Vec<_> = graph.edges.iter().filter(|e| e.to == vertex.id).collect();
        let how: Vec<_> = edges.iter().map(|e| (e.partitioning, e.input)).collect();
        found.push((vertex.name.as_str(), operator.uid.as_str(), operator.max_parallelism, how));
    }
    let (first, second) = (Some(InputSide::First), Some(InputSide::Second));
    let (rebalance, hash, broadcast) = (Partitioning::Rebalance, Partitioning::Hash, Partitioning::Broadcast);
    assert_eq!(
        found,
        [
            // The words behind each have the parallelism of the program, not of the operator.
            ("ends", "ends", 12, vec![(rebalance, first), (rebalance, second)]),
            ("sums", "sums", 12, vec![(hash, first), (hash, second)]),
            ("prefix", "prefix", 12, vec![(rebalance, first), (broadcast, second)]),
            ("marked", "marked", 12, vec![(hash, first), (broadcast, second)]),
        ]
    );
    let mut env = Environment::new();
    env.config_mut().parallelism = 2;
    declare(&env);
    let dot = env.plan("two inputs", PlanFormat::Dot).unwrap();
    for edge in
        ["hash, first input", "hash, second input", "broadcast, second input", "rebalance, first input"]
    {
        assert!(dot.contains(&format!("[label=\"{edge}\"]")), "{edge} is missing:\n{dot}");
    }
}

#[test]
fn what_follows_a_two_input_operator_is_chained_to_it() {
    let mut env = Environment::new();
    env.config_mut().parallelism = 2;
    let (numbers, words) = (env.source(Generator::sequence(0..10)), env.source(Generator::of(words())));
    sums(numbers, words).map(|text| text).sink(PrintSink::new());
    let graph: JobGraph = serde_json::from_str(&env.plan("chain", PlanFormat::Json).unwrap()).unwrap();
    let names: Vec<&str> = graph.vertices.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["source", "source", "keyed co process -> map -> sink"]);
}

#[test]
fn streams_of_two_environments_cannot_be_connected() {
    type Program = fn(Numbers, Words);
    let programs: [Program; 4] = [
        |n, w| _ = n.connect(w).map(|_| 1u64, |_| 2),
        |n, w| _ = sums(n, w),
        |n, w| _ = prefix(n, w),
        |n, w| _ = marked(n, w),
    ];
    for program in programs {
        let (one, other) = (Environment::new(), Environment::new());
        program(one.source(Generator::sequence(0..10)), other.source(Generator::of(words())));
        for env in [one, other] {
            let plan = env.plan("two environments", PlanFormat::Dot);
            assert_error(plan, ErrorKind::Config, &["connect of streams of two environments"]);
        }
    }
}

#[test]
fn a_state_registered_with_two_types_is_refused_with_the_operators_name() {
    let twice = run(1, |n, w| {
        let connected = n.connect(w.broadcast_state());
        let build = |open: &mut OpenContext<'_>| {
            open.union_list_state::<u64>("numbers")?;
            Ok(Prefix {
                numbers: open.operator_list_state("numbers")?,
                known: open.broadcast_state("known")?,
            })
        };
        connected.process(build).name("prefix")
    });
    let names = ["operator 'prefix'", "'numbers'", "union list of u64", "list of u64"];
    assert_error(twice, ErrorKind::Config, &names);
}

/// A plain function that wants a broadcast state, which nothing would ever write.
struct Reader;

impl ProcessFunction<u64, u64> for Reader {
    fn process(&mut self, n: u64, _: &mut ProcessContext<'_>, out: &mut Collector<'_, u64>) -> Result<()> {
        out.collect(n);
        Ok(())
    }
}

#[test]
fn a_broadcast_state_without_a_broadcast_input_is_refused() {
    let result = run(1, |n, _| {
        n.process(|open| {
            open.broadcast_state::<u64, u64>("rules")?;
            Ok(Reader)
        })
    });
    assert_error(result, ErrorKind::Config, &["'rules'", "broadcast input", "operator 'process'"]);
}

/// Fails on one side.
struct Failing;

impl KeyedCoProcessFunction<u64, u64, String, u64> for Failing {
    fn process_first(
        &mut self,
        _: u64,
        _: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        Ok(())
    }

    fn process_second(
        &mut self,
        word: String,
        _: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        assert!(word != "not", "the word is {word}");
        Ok(())
    }
}

#[test]
fn an_error_of_either_side_names_the_operator() {
    let result = run(1, |n, w| {
        n.key_by(|n| *n).connect(w.key_by(|word| word.len() as u64)).process(|_| Ok(Failing)).name("failing")
    });
    assert_error(result, ErrorKind::RestartJob, &["operator 'failing'", "the word is not"]);
    let key = run(1, |n, w| {
        let words = w.key_by(|word| if word == "or" { panic!("no key for {word}") } else { 0 });
        n.key_by(|n| *n).connect(words).process(|_| Ok(Failing)).name("failing")
    });
    assert_error(key, ErrorKind::RestartJob, &["operator 'failing'", "no key for or"]);
}

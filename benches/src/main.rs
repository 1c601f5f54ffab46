//! Benchmarks: word count and keyed counter, beside a hand-written loop and, if it is there, Apache Flink.
//!
//! `cargo run --release -p tidegate-bench --features rocksdb -- [word-count|keyed-counter|collections|all] [--quick]`
//!
//! All contenders take turns within one run of the program, each in a process of its own, and medians are printed:
//! on a machine that others use too, only ratios within one run mean anything.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "measuring time is what it is for")]

mod backpressure;
mod case;
mod checkpoints;
mod engine;
mod flink;
mod hand;
mod keys;
mod large;
mod measure;
mod members;
mod recovery;
mod report;
mod roles;
mod shuffle;
mod state_ops;
mod structures;
mod text;

use case::{Backend, Case, Contender, Kind, Work, from_words, to_words};
use flink::Flink;
use report::{Outcome, Report};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HELP: &str = "\
usage: tidegate-bench [word-count|keyed-counter|collections|all] [options]
                                             all: these and, without --only, --reps or --big, those below but structures
       tidegate-bench large-state [MB [memory|rocksdb]]
                                             checkpoints and restore of much state; 1000 MB if not said otherwise
       tidegate-bench checkpoints [MB [memory|rocksdb]]
                                             checkpoints against size and change, beside plain writes; 10, 100 and 1000 MB
       tidegate-bench backpressure           checkpoints under backpressure, aligned and unaligned
       tidegate-bench recovery [MB]          from the death of a taskmanager to records; 64 and 1000 MB
       tidegate-bench roles                  start-up and idle memory of each role; word count in two processes and one
       tidegate-bench shuffle                records between two processes, beside plain TCP and HTTP/2
       tidegate-bench state-ops              the cost of one operation on state
       tidegate-bench structures             what the memory backend could be made of

  --quick          a hundredth of the work, once, without Flink: does it run at all
  --reps <n>       runs of each case, 3 if not given; Flink on RocksDB runs once
  --only <text>    only cases whose name contains the text, such as 'memory, p=2'
  --big            the keyed counter with 1e7 keys too
  --no-flink       leave Flink out

FLINK_PEER names the directory of the Flink jobs; without it, or without Java, Flink is left out.";

/// What was asked for.
struct Options {
    word_count: bool,
    keyed_counter: bool,
    collections: bool,
    /// What is no cell of the grid: state, checkpoints.
    others: bool,
    quick: bool,
    reps: usize,
    only: String,
    big: bool,
    flink: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.split_first() {
        Some((first, rest)) if first == "one" => one(rest),
        Some((first, rest)) if first == "state-ops" => state_costs(rest),
        Some((first, rest)) if first == "structures" => structures::run(rest),
        Some((first, rest)) if first == "backpressure" => match rest.first() {
            Some(mode) => backpressure::one(mode).map_err(Into::into),
            None => backpressure::run(),
        },
        Some((first, _)) if first == "shuffle" => shuffle::run(),
        Some((first, rest)) if first == "shuffle-peer" => shuffle::peer(rest),
        Some((first, rest)) if first == "shuffle-job" => shuffle::member(rest).map_err(Into::into),
        Some((first, rest)) if first == "roles-job" => roles::member(rest).map_err(Into::into),
        Some((first, _)) if first == "roles" => roles::run(128),
        Some((first, rest)) if first == "recovery-job" => recovery::member(rest).map_err(Into::into),
        Some((first, rest)) if first == "recovery" => {
            let mb = rest.first().map(|mb| mb.parse()).transpose();
            mb.map_err(Into::into)
                .and_then(|mb| recovery::run(&mb.map_or_else(|| vec![64, 1_000], |mb| vec![mb])))
        }
        Some((first, rest)) if first == "checkpoints" => {
            let mb = rest.first().map(|mb| mb.parse()).transpose();
            mb.map_err(Into::into).and_then(|mb| match (mb, rest.get(1)) {
                (Some(mb), Some(backend)) => checkpoints::one(mb, backend).map_err(Into::into),
                (Some(mb), None) => checkpoints::run(&[mb]),
                (None, _) => checkpoints::run(&[10, 100, 1000]),
            })
        }
        Some((first, rest)) if first == "large-state" => {
            let mb = rest.first().map_or(Ok(1000), |mb| mb.parse());
            mb.map_err(Into::into).and_then(|mb| match rest.get(1) {
                Some(backend) => large::one(mb, backend).map_err(Into::into),
                None => large::run(mb),
            })
        }
        _ => match options(&words) {
            Some(options) => {
                grid(&options).and_then(|()| if options.others { others(options.quick) } else { Ok(()) })
            }
            None => {
                println!("{HELP}");
                return ExitCode::from(2);
            }
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("tidegate-bench: {e}");
            ExitCode::FAILURE
        }
    }
}

fn options(words: &[String]) -> Option<Options> {
    let mut options = Options {
        word_count: true,
        keyed_counter: true,
        collections: true,
        others: true,
        quick: false,
        reps: 3,
        only: String::new(),
        big: false,
        flink: true,
    };
    options.others = words.iter().all(|word| word == "all" || word == "--quick" || word == "--no-flink");
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "all" => {}
            "word-count" => (options.keyed_counter, options.collections) = (false, false),
            "keyed-counter" => (options.word_count, options.collections) = (false, false),
            "collections" => (options.word_count, options.keyed_counter) = (false, false),
            "--quick" => (options.quick, options.reps, options.flink) = (true, 1, false),
            "--reps" => options.reps = words.next()?.parse().ok().filter(|reps| *reps > 0)?,
            "--only" => options.only = words.next()?.clone(),
            "--big" => options.big = true,
            "--no-flink" => options.flink = false,
            _ => return None,
        }
    }
    Some(options)
}

/// The cost of single operations, and the memory of an entry, which is measured in processes of their own.
fn state_costs(words: &[String]) -> Result<(), Box<dyn Error>> {
    if let Some(who) = words.first() {
        println!("{}", state_ops::resident(who == "engine")?);
        return Ok(());
    }
    state_ops::run()?;
    let bytes = |who: &str| -> Result<f64, Box<dyn Error>> {
        let output = Command::new(std::env::current_exe()?).args(["state-ops", who]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
    };
    let (ours, plain) = (bytes("engine")?, bytes("map")?);
    println!(
        "\nmemory of a count by a number: {ours} bytes, in a hash map {plain}: {:.2} times",
        ours / plain
    );
    Ok(())
}

/// One run, in this process.
fn one(words: &[String]) -> Result<(), Box<dyn Error>> {
    let (contender, case) = from_words(words).ok_or("not a case")?;
    let outcome = match contender {
        Contender::Tidegate => {
            let scratch = tempfile::Builder::new().prefix("tidegate-bench").tempdir()?;
            Outcome::of_engine(&engine::run(&case, scratch.path())?, case.checkpoint_ms.is_some())
        }
        Contender::Hand | Contender::Tuned => {
            Outcome::of(hand::run(&case.work, case.parallelism as usize, contender == Contender::Tuned)?)
        }
        Contender::FlinkG1 | Contender::FlinkParallel => return Err("Flink runs in a process of Java".into()),
    };
    println!("{}", outcome.line());
    Ok(())
}

fn in_own_process(contender: Contender, case: &Case) -> Result<Outcome, Box<dyn Error>> {
    let output = Command::new(std::env::current_exe()?)
        .arg("one")
        .args(to_words(contender, case))
        .stderr(Stdio::inherit())
        .output()?;
    Outcome::parse(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| format!("{case}: no result").into())
}

/// Everything, in turns.
fn grid(options: &Options) -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::Builder::new().prefix("tidegate-bench-text").tempdir()?;
    let cases: Vec<Case> = cases(options, scratch.path())?
        .into_iter()
        .filter(|case| case.to_string().contains(&options.only))
        .collect();
    let flink = if options.flink { Flink::find() } else { Err("not asked for".into()) };
    if let Err(why) = &flink {
        println!("Flink is left out: {why}");
    }
    let mut report = Report::default();
    for rep in 0..options.reps {
        for case in &cases {
            for contender in Contender::ALL {
                let outcome = match (contender, &flink) {
                    (Contender::Tidegate, _) => Some(in_own_process(contender, case)?),
                    (Contender::Hand, _) => Some(in_own_process(contender, case)?),
                    (Contender::Tuned, _) if matches!(case.work, Work::WordCount { .. }) => {
                        Some(in_own_process(contender, case)?)
                    }
                    (Contender::FlinkG1, Ok(flink)) if case.backend == Backend::Memory || rep == 0 => {
                        flink.run(contender, case)
                    }
                    // On RocksDB little is left for the collector to do.
                    (Contender::FlinkParallel, Ok(flink)) if case.backend == Backend::Memory => {
                        flink.run(contender, case)
                    }
                    _ => None,
                };
                if let Some(outcome) = outcome {
                    println!("{case}: {} {}", contender.name(), outcome.line());
                    report.add(case, contender, outcome);
                }
            }
        }
    }
    println!("\nMedians of {} runs; Flink on RocksDB: one run.\n\n{}", options.reps, report.table());
    Ok(())
}

/// Everything that is no cell of the grid.
fn others(quick: bool) -> Result<(), Box<dyn Error>> {
    println!("\nSingle operations on state:\n");
    state_costs(&[])?;
    println!("\nMuch state:\n");
    large::run(if quick { 20 } else { 1000 })?;
    println!("\nCheckpoints against size and change:\n");
    checkpoints::run(if quick { &[10] } else { &[10, 100, 1000] })?;
    println!("\nBarriers under backpressure:\n");
    backpressure::run()?;
    println!("\nRecords between two processes:\n");
    shuffle::run()?;
    println!("\nProcesses that do nothing, and two that count words:\n");
    roles::run(if quick { 4 } else { 128 })?;
    println!("\nFrom the death of a taskmanager to records:\n");
    recovery::run(if quick { &[8] } else { &[64, 1000] })
}

fn cases(options: &Options, scratch: &Path) -> Result<Vec<Case>, Box<dyn Error>> {
    let mut works = Vec::new();
    if options.word_count {
        works.push(Work::WordCount { text: text(options, scratch)? });
    }
    if options.keyed_counter {
        let sizes = [100_000, 1_000_000].into_iter().chain(options.big.then_some(10_000_000));
        let records = if options.quick { 1_000_000 } else { 40_000_000 };
        works.extend(sizes.map(|keys| Work::Keyed { kind: Kind::Value, keys, records }));
    }
    if options.collections {
        let records = if options.quick { 500_000 } else { 10_000_000 };
        works.extend([Kind::List, Kind::Map].map(|kind| Work::Keyed { kind, keys: 1_000_000, records }));
    }
    let backends = [Some(Backend::Memory), cfg!(feature = "rocksdb").then_some(Backend::RocksDb)];
    let mut cases = Vec::new();
    for work in works {
        for backend in backends.into_iter().flatten() {
            for parallelism in [1, 2] {
                for checkpoint_ms in [None, Some(1000)] {
                    cases.push(Case { work: work.clone(), backend, parallelism, checkpoint_ms });
                }
            }
        }
    }
    Ok(cases)
}

/// The text: some files, each of them there under several names so that it is read several times.
fn text(options: &Options, scratch: &Path) -> Result<PathBuf, Box<dyn Error>> {
    const PARTS: usize = 8;
    let (bytes, passes) = if options.quick { (4 << 20, 1) } else { (128 << 20, 3) };
    let words = text::write_repeated(scratch, PARTS, bytes / PARTS, passes)?;
    println!("text: {words} words in {PARTS} files, read {passes} times");
    Ok(scratch.to_path_buf())
}

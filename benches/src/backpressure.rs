//! How long a checkpoint takes under backpressure: barriers that wait in the queues, barriers that overtake, and barriers that
//! overtake after a while.
//!
//! Three stages with a shuffle between each two; the last one is too slow, so that every queue in front of it is full. Beside
//! it the same job with a source that sends less than the last stage can take.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;
use tidegate::Environment;
use tidegate::checkpoint::CheckpointConfig;
use tidegate::cluster::jobmaster::JobNotice;
use tidegate::connector::{DiscardSink, Generator};
use tidegate::error::{Error, Result};
use tidegate::prelude::{Collector, KeyedContext, KeyedProcessFunction, ValueState};

const PARALLELISM: u32 = 2;
const INTERVAL_MS: u64 = 250;
const TIMEOUT_MS: u64 = 100;
/// Checkpoints that are measured, behind as many as it takes the queues to fill.
const MEASURED: usize = 20;
const FIRST: usize = 4;
const RECORD_BYTES: usize = 200;
/// A subtask of the last stage rests for a millisecond after so many records.
const RECORDS_PER_MS: u64 = 5;

/// Name, records a second of the source if it is held back, and whether and when barriers overtake.
const MODES: [(&str, Option<f64>, Option<u64>); 4] = [
    ("no-backpressure", Some(1000.0), None),
    ("aligned", None, None),
    ("aligned-timeout", None, Some(TIMEOUT_MS)),
    ("unaligned", None, Some(0)),
];

type Record = (u64, String);

/// Counts, and rests after some records if it is the slow stage.
struct Stage {
    count: ValueState<u64>,
    records: u64,
    is_slow: bool,
}

impl KeyedProcessFunction<u64, Record, Record> for Stage {
    fn process(
        &mut self,
        record: Record,
        _: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Record>,
    ) -> Result<()> {
        self.count.update(|| 0, |count| *count += 1)?;
        self.records += 1;
        if self.is_slow && self.records.is_multiple_of(RECORDS_PER_MS) {
            sleep(Duration::from_millis(1));
        }
        out.collect(record);
        Ok(())
    }
}

/// Measures each mode in a process of its own, and prints a table.
pub(crate) fn run() -> std::result::Result<(), Box<dyn std::error::Error>> {
    println!(
        "| barriers | records/s | checkpoint, ms, median | longest, ms | kB written |\n\
         |---|---|---|---|---|"
    );
    for (name, ..) in MODES {
        if !Command::new(std::env::current_exe()?).args(["backpressure", name]).status()?.success() {
            return Err(format!("{name} failed").into());
        }
    }
    Ok(())
}

/// Measures one mode, and prints its row.
pub(crate) fn one(name: &str) -> Result<()> {
    let mode = MODES.into_iter().find(|mode| mode.0 == name);
    let (_, rate, overtakes) = mode.ok_or_else(|| Error::config(format!("no mode is called {name}")))?;
    let scratch = tempfile::Builder::new().prefix("tidegate-backpressure").tempdir()?;
    let mut env = Environment::new();
    let config = env.config_mut();
    config.parallelism = PARALLELISM;
    config.checkpoint_dir = Some(scratch.path().join("checkpoints").to_string_lossy().into_owned());
    config.checkpoint = CheckpointConfig {
        unaligned: overtakes.is_some(),
        aligned_timeout_ms: overtakes.unwrap_or(0),
        ..CheckpointConfig::every_ms(INTERVAL_MS)
    };
    let (sink, counters) = DiscardSink::new();
    let mut source = Generator::new(None, |n| (n, format!("{n:0RECORD_BYTES$}")));
    if let Some(rate) = rate {
        source = source.with_rate(rate);
    }
    let stage = |is_slow| {
        move |open: &mut tidegate::function::KeyedOpenContext<'_, u64>| {
            Ok(Stage { count: open.value_state("count")?, records: 0, is_slow })
        }
    };
    env.source(source)
        .uid("numbers")
        .key_by(|(n, _): &Record| n % 1000)
        .process(stage(false))
        .uid("fast")
        .key_by(|(n, _): &Record| n % 997)
        .process(stage(true))
        .uid("slow")
        .sink(sink)
        .uid("out");
    let job = env.start("backpressure")?;
    let (mut seen, mut completed) = (0, Vec::new());
    let mut began = None;
    let records = || counters.per_subtask().iter().sum::<u64>();
    for notice in job.notices() {
        match notice {
            JobNotice::CheckpointCompleted(done) => {
                seen += 1;
                match seen > FIRST {
                    true => completed.push(done),
                    false => began = Some((std::time::Instant::now(), records())),
                }
            }
            notice if notice.is_trouble() => eprintln!("{notice}"),
            _ => {}
        }
        if completed.len() == MEASURED {
            break;
        }
    }
    let rate = began.map_or(0.0, |(at, before)| (records() - before) as f64 / at.elapsed().as_secs_f64());
    job.controller().cancel();
    job.wait()?;
    let mut duration: Vec<f64> = completed.iter().map(|c| c.duration_ms as f64).collect();
    duration.sort_by(f64::total_cmp);
    println!(
        "| {name} | {rate:.0} | {:.0} | {:.0} | {:.0} |",
        crate::checkpoints::median(duration.clone()),
        duration.last().copied().unwrap_or_default(),
        crate::checkpoints::median(completed.iter().map(|c| c.uploaded_bytes as f64 / 1e3).collect()),
    );
    Ok(())
}

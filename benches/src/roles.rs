//! What it costs to be a process: start-up and idle memory of each role, and word count in two processes beside one.

use crate::checkpoints::median;
use crate::engine;
use crate::members::{LONGEST, Members, Outcome};
use crate::text;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tidegate::Environment;
use tidegate::config::Arguments;
use tidegate::error::Result;

const ROUNDS: usize = 3;
const PARTS: usize = 8;
const PASSES: usize = 3;
/// How long a member has nothing to do before its memory is read.
const IDLE: Duration = Duration::from_secs(2);

/// Both tables.
pub(crate) fn run(megabytes: usize) -> Outcome<()> {
    idle()?;
    println!();
    word_counts(megabytes)
}

/// The job of the members: word count.
pub(crate) fn member(words: &[String]) -> Result<()> {
    let parsed = Arguments::new("tidegate-bench roles-job", "Counts words.")
        .option("text", "DIR", None, "files with lines of words")
        .parse(["tidegate-bench".into()].into_iter().chain(words.iter().map(Into::into)))?;
    let env = Environment::from_parsed(&parsed);
    _ = engine::word_count(&env, Path::new(parsed.required("text")?));
    env.execute("word-count").map(drop)
}

/// Two taskmanagers with one slot of a job that needs three: all are registered, and none does anything.
fn idle() -> Outcome<()> {
    let (mut jobmanager_ms, mut taskmanager_ms) = (Vec::new(), Vec::new());
    let (mut jobmanager_mb, mut taskmanager_mb) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut members = Members::of("roles-job")?;
        let empty = members.path("text");
        std::fs::create_dir(&empty)?;
        std::fs::write(Path::new(&empty).join("one.txt"), "one\n")?;
        members.arg("--text", &empty);
        members.arg("--parallelism", 3);
        let start = Instant::now();
        members.spawn_jobmanager()?;
        jobmanager_ms.push(until(start, || members.info().is_ok())?);
        for there in 1..=2 {
            let start = Instant::now();
            members.spawn_taskmanager()?;
            let is_there = || members.info().is_ok_and(|info| info.taskmanagers.len() == there);
            taskmanager_ms.push(until(start, is_there)?);
        }
        sleep(IDLE);
        jobmanager_mb.push(resident_mb(members.processes[0].id())?);
        taskmanager_mb.push(resident_mb(members.processes[1].id())?);
    }
    println!("| role | from its start to its work, ms | idle memory, MB |\n|---|---|---|");
    println!("| jobmanager | {:.0} | {:.1} |", median(jobmanager_ms), median(jobmanager_mb));
    println!("| taskmanager | {:.0} | {:.1} |", median(taskmanager_ms), median(taskmanager_mb));
    Ok(())
}

/// Milliseconds since `start` when it is so.
fn until(start: Instant, is_so: impl Fn() -> bool) -> Outcome<f64> {
    while !is_so() {
        if start.elapsed() > LONGEST {
            return Err("a member does not come up".into());
        }
        sleep(Duration::from_millis(1));
    }
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn resident_mb(pid: u32) -> Outcome<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("the system does not say")?;
    Ok(line.split_whitespace().next().ok_or("no number")?.parse::<f64>()? / 1024.0)
}

/// Whole runs at parallelism 2, in turns: from the start of the process that the job ends with to its end.
fn word_counts(megabytes: usize) -> Outcome<()> {
    let directory = tempfile::Builder::new().prefix("tidegate-bench-text").tempdir()?;
    let words = text::write_repeated(directory.path(), PARTS, (megabytes << 20) / PARTS, PASSES)?;
    let words = words as f64 * PASSES as f64;
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for is_one in [true, false] {
            let mut members = Members::of("roles-job")?;
            members.arg("--text", directory.path().display());
            members.arg("--parallelism", 2);
            members.arg("--checkpoint.interval", "1s");
            if !is_one {
                // They wait for their jobmanager.
                members.spawn_taskmanager()?;
                members.spawn_taskmanager()?;
            }
            let start = Instant::now();
            if is_one {
                members.spawn(&[])?
            } else {
                members.spawn_jobmanager()?
            }
            members.wait(members.processes.len() - 1)?;
            let rate = words / start.elapsed().as_secs_f64() / 1e6;
            if is_one { one.push(rate) } else { two.push(rate) }
        }
    }
    let (one, two) = (median(one), median(two));
    println!("| word count, memory, p=2, every second | M words/s |\n|---|---|");
    println!("| one process | {one:.2} |\n| two taskmanagers | {two:.2} |\n\n{:.0} %", two / one * 100.0);
    Ok(())
}

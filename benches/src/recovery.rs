//! From the death of a taskmanager to records that flow again: real processes, SIGKILL, the default configuration but for a
//! checkpoint every second and one taskmanager to spare.
//!
//! Every subtask writes down when it has processed its first record, and how far it is, in a file that the supervisor reads.

use crate::members::{LONGEST, Members, Outcome};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tidegate::Environment;
use tidegate::cluster::JobReport;
use tidegate::config::Arguments;
use tidegate::connector::{DiscardSink, Generator};
use tidegate::error::Result;
use tidegate::prelude::{Collector, KeyedContext, KeyedProcessFunction, ValueState};

/// When a subtask was how far.
type Notes = Vec<(u128, u64)>;

const PARALLELISM: u32 = 2;
/// One of them has nothing to do.
const TASKMANAGERS: u32 = 3;
const VALUE_BYTES: usize = 1_000;
/// A subtask writes down how far it is after so many records.
const NOTE_EVERY: u64 = 1_000;
const POLL: Duration = Duration::from_millis(2);
/// How long the job runs on before it is struck.
const QUIET: Duration = Duration::from_millis(2_300);
const STRIKES: usize = 3;

/// Kills taskmanagers in clusters with so much state, and prints a table.
pub(crate) fn run(megabytes: &[u64]) -> Outcome<()> {
    println!("| state | backend | records again, ms | caught up, ms | attempts |\n|---|---|---|---|---|");
    for mb in megabytes {
        strike(*mb, "memory", true)?;
        if cfg!(feature = "rocksdb") {
            strike(*mb, "rocksdb", true)?;
            strike(*mb, "rocksdb", false)?;
        }
    }
    Ok(())
}

/// Keeps a value of a kilobyte per key.
struct Keep {
    value: ValueState<String>,
    notes: File,
    records: u64,
    furthest: u64,
}

impl Keep {
    fn note(&mut self) -> Result<()> {
        Ok(writeln!(self.notes, "{} {}", now_ms(), self.furthest)?)
    }
}

impl KeyedProcessFunction<u64, u64, u64> for Keep {
    fn process(
        &mut self,
        number: u64,
        _: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        if self.value.get()?.is_none_or(|value| value.len() != VALUE_BYTES) || number.is_multiple_of(97) {
            self.value.set(format!("{number:0VALUE_BYTES$}"))?;
        }
        self.furthest = self.furthest.max(number);
        if self.records.is_multiple_of(NOTE_EVERY) {
            self.note()?;
        }
        self.records += 1;
        out.collect(number);
        Ok(())
    }
}

/// A member of the cluster.
pub(crate) fn member(words: &[String]) -> Result<()> {
    let parsed = Arguments::new("tidegate-bench recovery-job", "Keeps a kilobyte for each key.")
        .option("keys", "N", Some("1000"), "different keys")
        .option("notes", "DIR", None, "where subtasks write down how far they are")
        .parse(["tidegate-bench".into()].into_iter().chain(words.iter().map(Into::into)))?;
    let keys: u64 = parsed.number("keys")?;
    let notes = PathBuf::from(parsed.required("notes")?);
    let env = Environment::from_parsed(&parsed);
    env.source(Generator::new(None, |n| n))
        .uid("numbers")
        .key_by(move |n: &u64| n % keys)
        .process(move |open| {
            let name = format!("{}-{}", std::process::id(), now_ms());
            let notes = File::create(notes.join(format!("{name}-{}", open.subtask().index)))?;
            Ok(Keep { value: open.value_state("value")?, notes, records: 0, furthest: 0 })
        })
        .uid("keep")
        .sink(DiscardSink::new().0)
        .uid("out");
    env.execute("recovery").map(drop)
}

fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis())
}

/// The members, and what their subtasks have written down.
struct Cluster(Members);

impl Cluster {
    fn start(mb: u64, backend: &str) -> Outcome<Self> {
        let mut members = Members::of("recovery-job")?;
        let (notes, local) = (members.path("notes"), members.path("local"));
        std::fs::create_dir(&notes)?;
        members.arg("--keys", mb * 1_000);
        members.arg("--notes", notes);
        members.arg("--parallelism", PARALLELISM);
        members.arg("--state.backend", backend);
        members.arg("--state.local-dir", local);
        members.arg("--checkpoint.interval", "1s");
        members.spawn_jobmanager()?;
        for _ in 0..TASKMANAGERS {
            members.spawn_taskmanager()?;
        }
        Ok(Self(members))
    }

    fn report(&self) -> Result<JobReport> {
        self.0.info().map(|info| info.report)
    }

    fn remove_copies(&self) -> Outcome<()> {
        for entry in std::fs::read_dir(self.0.path("local"))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().contains("local-copies") {
                for file in std::fs::read_dir(entry.path())? {
                    std::fs::remove_file(file?.path())?;
                }
            }
        }
        Ok(())
    }

    /// What the subtasks have written down since.
    fn notes_since(&self, since_ms: u128) -> Outcome<Vec<Notes>> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(self.0.path("notes"))? {
            let path = entry?.path();
            if opened_at(&path).is_some_and(|at| at >= since_ms) {
                let text = std::fs::read_to_string(&path)?;
                let note = |line: &str| {
                    let (at, number) = line.split_once(' ')?;
                    Some((at.parse().ok()?, number.parse().ok()?))
                };
                all.push(text.lines().filter_map(note).collect());
            }
        }
        Ok(all)
    }

    fn wait_until(&self, what: &str, is_so: impl Fn(&Self) -> Outcome<bool>) -> Outcome<()> {
        let start = Instant::now();
        while !is_so(self).unwrap_or(false) {
            if start.elapsed() > LONGEST {
                let log = self.0.log();
                let notes = self.notes_since(0)?;
                let last: Vec<_> = notes.iter().map(|notes| notes.last()).collect();
                return Err(format!("not {what} after {} s:\n{log}\n{last:?}", LONGEST.as_secs()).into());
            }
            sleep(POLL);
        }
        Ok(())
    }
}

/// When the subtask was opened that writes this file, by its name.
fn opened_at(path: &Path) -> Option<u128> {
    path.file_name()?.to_str()?.split('-').nth(1)?.parse().ok()
}

/// Kills taskmanagers that work, one after the other, and prints a row. Local copies of state files are taken away from
/// those that go on, if they are not to have any.
fn strike(mb: u64, backend: &str, copies: bool) -> Outcome<()> {
    let mut cluster = Cluster::start(mb, backend)?;
    let keys = mb * 1_000;
    let furthest = |notes: &[Notes]| notes.iter().flatten().map(|(_, number)| *number).max();
    cluster.wait_until("all state written", |cluster| {
        sleep(Duration::from_millis(100));
        Ok(furthest(&cluster.notes_since(0)?).is_some_and(|number| number > keys))
    })?;
    let before = cluster.report()?.attempt;
    let (mut again, mut caught_up) = (Vec::new(), Vec::new());
    for _ in 0..STRIKES {
        let completed = cluster.report()?.completed;
        cluster.wait_until("checkpointed", |cluster| {
            sleep(Duration::from_millis(50));
            Ok(cluster.report()?.completed > completed + 1)
        })?;
        sleep(QUIET);
        let info = cluster.0.info()?;
        let busy = info.taskmanagers.iter().filter(|t| !t.subtasks.is_empty());
        let victim =
            busy.filter_map(|t| t.process.as_ref()).map(|p| p.pid).next().ok_or("no taskmanager works")?;
        let was = furthest(&cluster.notes_since(0)?).unwrap_or_default();
        let index =
            cluster.0.processes.iter().position(|p| p.id() == victim).ok_or("not a process of ours")?;
        if !copies {
            cluster.remove_copies()?;
        }
        let struck_ms = now_ms();
        let mut process = cluster.0.processes.remove(index);
        let killed = process.kill();
        process.wait()?;
        killed?;
        let flowing = |notes: &[Notes]| {
            let begun: Vec<u128> = notes.iter().filter_map(|n| n.first()).map(|(at, _)| *at).collect();
            (begun.len() >= PARALLELISM as usize).then(|| begun.into_iter().max()).flatten()
        };
        let reached = |notes: &[Notes]| {
            notes.iter().flatten().filter(|(_, number)| *number >= was).map(|(at, _)| *at).min()
        };
        cluster.wait_until("caught up", |cluster| {
            let notes = cluster.notes_since(struck_ms)?;
            Ok(flowing(&notes).is_some() && reached(&notes).is_some())
        })?;
        let notes = cluster.notes_since(struck_ms)?;
        again.push((flowing(&notes).unwrap_or_default() - struck_ms) as f64);
        caught_up.push((reached(&notes).unwrap_or_default() - struck_ms) as f64);
        // The next one to spare.
        cluster.0.spawn_taskmanager()?;
    }
    let backend = if copies { backend.to_owned() } else { format!("{backend}, without local copies") };
    let attempts = cluster.report()?.attempt.0 - before.0;
    println!(
        "| {mb} MB | {backend} | {:.0} | {:.0} | {attempts} for {STRIKES} |",
        crate::checkpoints::median(again),
        crate::checkpoints::median(caught_up),
    );
    Ok(())
}

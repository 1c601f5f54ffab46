//! From the death of a taskmanager to records that flow again: real processes, SIGKILL, the default configuration but for a
//! checkpoint every second and one taskmanager to spare.
//!
//! Every subtask writes down when it has processed its first record, and how far it is, in a file that the supervisor reads.

use std::error::Error as StdError;
use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tidegate::Environment;
use tidegate::cluster::control::{ControlReply, ControlRequest, JobManagerAddress, JobManagerClient};
use tidegate::cluster::{JobInfo, JobReport};
use tidegate::config::Arguments;
use tidegate::connector::{DiscardSink, Generator};
use tidegate::error::{Error, Result};
use tidegate::prelude::{Collector, KeyedContext, KeyedProcessFunction, ValueState};

type Outcome<T> = std::result::Result<T, Box<dyn StdError>>;
/// When a subtask was how far.
type Notes = Vec<(u128, u64)>;

const PARALLELISM: u32 = 2;
/// One of them has nothing to do.
const TASKMANAGERS: u32 = 3;
const VALUE_BYTES: usize = 1_000;
/// A subtask writes down how far it is after so many records.
const NOTE_EVERY: u64 = 1_000;
const POLL: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_secs(120);
/// How long the job runs on before it is struck.
const QUIET: Duration = Duration::from_millis(2_300);
const STRIKES: usize = 3;

/// Kills taskmanagers in clusters with so much state, and prints a table.
pub(crate) fn run(megabytes: &[u64]) -> Outcome<()> {
    println!("| state | backend | records again, ms | caught up, ms | attempts |\n|---|---|---|---|---|");
    for mb in megabytes {
        for backend in backends() {
            strike(*mb, backend)?;
        }
    }
    Ok(())
}

fn backends() -> &'static [&'static str] {
    if cfg!(feature = "rocksdb") { &["memory", "rocksdb"] } else { &["memory"] }
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

/// The processes, which go with it.
struct Cluster {
    address: String,
    scratch: tempfile::TempDir,
    processes: Vec<Child>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in &mut self.processes {
            _ = process.kill();
            _ = process.wait();
        }
    }
}

impl Cluster {
    fn start(mb: u64, backend: &str) -> Outcome<Self> {
        let scratch = tempfile::Builder::new().prefix("tidegate-recovery").tempdir()?;
        std::fs::create_dir(scratch.path().join("notes"))?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut cluster = Self { address, scratch, processes: Vec::new() };
        let own = cluster.address.clone();
        cluster.spawn(mb, backend, &["--role", "jobmanager", "--listen", &own])?;
        for _ in 0..TASKMANAGERS {
            cluster.spawn(mb, backend, &["--role", "taskmanager", "--jobmanager", &own, "--slots", "1"])?;
        }
        Ok(cluster)
    }

    fn spawn(&mut self, mb: u64, backend: &str, role: &[&str]) -> Outcome<()> {
        let path = |name: &str| self.scratch.path().join(name).to_string_lossy().into_owned();
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("recovery-job").args(["--keys", &(mb * 1_000).to_string(), "--notes", &path("notes")]);
        command.args(["--parallelism", &PARALLELISM.to_string(), "--state.backend", backend]);
        command.args(["--checkpoint.interval", "1s", "--checkpoint.dir", &path("checkpoints")]);
        command.args(["--job-id", "recovery", "--state.local-dir", &path("local")]);
        command.args(role).stdin(Stdio::null()).stdout(Stdio::null());
        let log = File::options().create(true).append(true).open(path("log"))?;
        self.processes.push(command.stderr(log).spawn()?);
        Ok(())
    }

    fn ask(&self, request: &ControlRequest) -> Result<ControlReply> {
        let address = JobManagerAddress::new(&self.address, None)?;
        JobManagerClient::find(&address)?.ask(request)?.reply()
    }

    fn info(&self) -> Result<JobInfo> {
        match self.ask(&ControlRequest::Info)? {
            ControlReply::Info(info) => Ok(info),
            other => Err(Error::data(format!("an unexpected reply: {other:?}"))),
        }
    }

    fn report(&self) -> Result<JobReport> {
        self.info().map(|info| info.report)
    }

    /// What the subtasks have written down since.
    fn notes_since(&self, since_ms: u128) -> Outcome<Vec<Notes>> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(self.scratch.path().join("notes"))? {
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
                let log = std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default();
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

/// Kills taskmanagers that work, one after the other, and prints a row.
fn strike(mb: u64, backend: &str) -> Outcome<()> {
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
        let info = cluster.info()?;
        let busy = info.taskmanagers.iter().filter(|t| !t.subtasks.is_empty());
        let victim =
            busy.filter_map(|t| t.process.as_ref()).map(|p| p.pid).next().ok_or("no taskmanager works")?;
        let was = furthest(&cluster.notes_since(0)?).unwrap_or_default();
        let index = cluster.processes.iter().position(|p| p.id() == victim).ok_or("not a process of ours")?;
        let struck_ms = now_ms();
        let mut process = cluster.processes.remove(index);
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
        let own = cluster.address.clone();
        cluster.spawn(mb, backend, &["--role", "taskmanager", "--jobmanager", &own, "--slots", "1"])?;
    }
    let attempts = cluster.report()?.attempt.0 - before.0;
    println!(
        "| {mb} MB | {backend} | {:.0} | {:.0} | {attempts} for {STRIKES} |",
        crate::checkpoints::median(again),
        crate::checkpoints::median(caught_up),
    );
    Ok(())
}

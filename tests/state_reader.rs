//! The state of a job is read from outside, without its types: every kind, exactly, the same from both backends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{Log, assert_error, gated, run_out};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tidegate::checkpoint::{StateFileKind, StateQuery, StateReader};
use tidegate::cluster::jobmaster::JobResult;
use tidegate::error::Result;
use tidegate::prelude::*;
use tidegate_state::BackendOptions;
#[cfg(feature = "rocksdb")]
use tidegate_state::RocksDbOptions;

const RECORDS: u64 = 6;

#[derive(Clone, Serialize, Deserialize)]
struct Visit {
    n: u64,
    by: Option<By>,
}

#[derive(Clone, Serialize, Deserialize)]
enum By {
    Guest,
    User { name: String },
}

/// Sum and count.
struct Mean;

impl AggregateFunction for Mean {
    type Input = u64;
    type Accumulator = (u64, u32);
    type Output = u64;

    fn create(&self) -> (u64, u32) {
        (0, 0)
    }

    fn add(&self, mean: &mut (u64, u32), value: u64) {
        *mean = (mean.0 + value, mean.1 + 1);
    }

    fn result(&self, mean: &(u64, u32)) -> u64 {
        mean.0 / u64::from(mean.1)
    }

    fn merge(&self, mean: &mut (u64, u32), other: (u64, u32)) {
        *mean = (mean.0 + other.0, mean.1 + other.1);
    }
}

/// Keeps what came, in every kind of state.
struct Keep {
    last: ValueState<Visit>,
    all: ListState<u64>,
    by_parity: MapState<bool, String>,
    /// Large, and written once: it is worth keeping in the file of an older checkpoint.
    ballast: ValueState<String>,
    recent: ListState<u64>,
    sum: ReducingState<u64>,
    mean: AggregatingState<Mean>,
    seen: OperatorListState<u64>,
    rules: BroadcastState<String, Visit>,
    processed: Log<u64>,
}

impl KeyedBroadcastProcessFunction<String, u64, String, u64> for Keep {
    fn process_element(
        &mut self,
        n: u64,
        c: &mut KeyedContext<'_, String>,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        let by = if n < 3 { By::Guest } else { By::User { name: format!("user {n}") } };
        self.last.set(Visit { n, by: (n != 4).then_some(by) })?;
        self.all.push(n)?;
        if n < RECORDS / 2 {
            self.ballast.set("x".repeat(20_000))?;
        }
        self.by_parity.insert(n.is_multiple_of(2), n.to_string())?;
        self.recent.push(n)?;
        self.sum.add(n)?;
        self.mean.add(n)?;
        self.seen.push(n)?;
        c.register_event_timer(1_000_000 + n as i64)?;
        self.processed.push(n);
        Ok(())
    }

    fn process_broadcast(
        &mut self,
        rule: String,
        c: &mut KeyedBroadcastContext<'_, String>,
        _: &mut Collector<'_, u64>,
    ) -> Result<()> {
        c.writable(&self.rules).insert(rule, Visit { n: 1, by: None })?;
        self.processed.push(0);
        Ok(())
    }
}

/// Runs a job that has processed everything and has completed a checkpoint of it; returns its directory.
fn job(directory: &Path, backend: BackendOptions) -> PathBuf {
    let mut env = Environment::new();
    let config = env.config_mut();
    config.parallelism = 2;
    config.state.backend = backend;
    config.state.local_dir = Some(directory.join("local"));
    config.checkpoint_dir = Some(directory.join("checkpoints").to_string_lossy().into_owned());
    config.checkpoint.interval_ms = Some(5);
    let (source, gate) = gated(RECORDS, 1, |n| n);
    let processed = Log::new();
    let log = processed.clone();
    let (sink, _) = CollectSink::new();
    let rules = env.source(Generator::of(vec!["a rule".to_owned()])).uid("rules").parallelism(1);
    env.source(source)
        .uid("numbers")
        .parallelism(1)
        .key_by(|n: &u64| format!("key-{}", n % 3))
        .connect(rules.broadcast_state())
        .process(move |open| {
            let day = Ttl::new(Duration::from_secs(86_400));
            let subtask = u64::from(open.subtask().index);
            open.union_list_state("subtasks")?.replace([subtask])?;
            Ok(Keep {
                last: open.value_state("last")?,
                all: open.list_state("all")?,
                by_parity: open.map_state("by parity")?,
                ballast: open.value_state("ballast")?,
                recent: open.list_state_with("recent", StateOptions::new().ttl(day))?,
                sum: open.reducing_state("sum", |sum, n| *sum += n)?,
                mean: open.aggregating_state("mean", Mean)?,
                seen: open.operator_list_state("seen")?,
                rules: open.broadcast_state("rules")?,
                processed: log.clone(),
            })
        })
        .name("keep visits")
        .uid("keep")
        .sink(sink)
        .uid("lines");
    let job = env.start("visits").unwrap();
    // In two parts, so that the last checkpoint builds on one before.
    gate.open_to(RECORDS / 2);
    processed.wait_for(RECORDS as usize / 2 + 2);
    gate.wait_for_checkpoint(1);
    gate.open_to(RECORDS);
    processed.wait_for(RECORDS as usize + 2);
    gate.wait_for_checkpoint(1);
    let checkpoints = directory.join("checkpoints").join(job.job_id().as_str());
    job.controller().cancel();
    assert_eq!(run_out(job).0, JobResult::Canceled);
    checkpoints
}

fn open(checkpoints: &Path) -> StateReader {
    StateReader::open(checkpoints.to_str().unwrap(), &[]).unwrap()
}

fn query(operator: &str, state: Option<&str>, key: Option<&str>) -> StateQuery {
    StateQuery {
        operator: Some(operator.to_owned()),
        state: state.map(str::to_owned),
        key: key.map(str::to_owned),
    }
}

/// The records as JSON lines, sorted.
fn lines(reader: &StateReader, query: &StateQuery) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let flow = reader.read(query, &mut |record| {
        lines.push(serde_json::to_string(&record).unwrap());
        Ok(ControlFlow::Continue(()))
    })?;
    assert!(flow.is_continue());
    lines.sort();
    Ok(lines)
}

fn everything_is_read(backend: BackendOptions) {
    let is_memory = matches!(backend, BackendOptions::Memory);
    let directory = tempfile::tempdir().unwrap();
    let reader = open(&job(directory.path(), backend));
    let newest = reader.manifest().checkpoint;
    let keyed = || reader.manifest().files().filter(|file| file.kind != StateFileKind::Operator);
    if is_memory {
        assert!(keyed().any(|file| file.checkpoint < newest), "the checkpoint builds on an older one");
    } else {
        assert!(keyed().any(|file| file.kind == StateFileKind::Table), "there are files of RocksDB");
    }

    let expected = |state: &str, rest: &[&str]| -> Vec<String> {
        let line = |rest: &&str| format!(r#"{{"operator":"keep","state":"{state}",{rest}}}"#);
        rest.iter().map(line).collect()
    };
    for (state, rows) in [
        (
            "last",
            &[
                r#""key":"key-0","value":{"n":3,"by":{"User":{"name":"user 3"}}}"#,
                r#""key":"key-1","value":{"n":4,"by":null}"#,
                r#""key":"key-2","value":{"n":5,"by":{"User":{"name":"user 5"}}}"#,
            ][..],
        ),
        (
            "all",
            &[
                r#""key":"key-0","value":[0,3]"#,
                r#""key":"key-1","value":[1,4]"#,
                r#""key":"key-2","value":[2,5]"#,
            ],
        ),
        (
            "by parity",
            &[
                r#""key":"key-0","map_key":false,"value":"3""#,
                r#""key":"key-0","map_key":true,"value":"0""#,
                r#""key":"key-1","map_key":false,"value":"1""#,
                r#""key":"key-1","map_key":true,"value":"4""#,
                r#""key":"key-2","map_key":false,"value":"5""#,
                r#""key":"key-2","map_key":true,"value":"2""#,
            ],
        ),
        (
            "mean",
            &[
                r#""key":"key-0","value":[3,2]"#,
                r#""key":"key-1","value":[5,2]"#,
                r#""key":"key-2","value":[7,2]"#,
            ],
        ),
        ("sum", &[r#""key":"key-0","value":3"#, r#""key":"key-1","value":5"#, r#""key":"key-2","value":7"#]),
        (
            "timer/event",
            &[
                r#""key":"key-0","time":1000000"#,
                r#""key":"key-0","time":1000003"#,
                r#""key":"key-1","time":1000001"#,
                r#""key":"key-1","time":1000004"#,
                r#""key":"key-2","time":1000002"#,
                r#""key":"key-2","time":1000005"#,
            ],
        ),
    ] {
        let rows = expected(state, rows);
        assert_eq!(lines(&reader, &query("keep", Some(state), None)).unwrap(), rows);
        let of_one: Vec<_> = rows.into_iter().filter(|row| row.contains("\"key-1\"")).collect();
        assert_eq!(lines(&reader, &query("keep", Some(state), Some("key-1"))).unwrap(), of_one);
        assert!(lines(&reader, &query("keep", Some(state), Some("key-"))).unwrap().is_empty());
    }
    for (state, rows) in [
        ("subtasks", [r#""subtask":0,"value":0"#, r#""subtask":1,"value":1"#]),
        (
            "rules",
            [
                r#""subtask":0,"map_key":"a rule","value":{"n":1,"by":null}"#,
                r#""subtask":1,"map_key":"a rule","value":{"n":1,"by":null}"#,
            ],
        ),
    ] {
        assert_eq!(lines(&reader, &query("keep", Some(state), None)).unwrap(), expected(state, &rows));
    }
    let parsed = |state: &str| -> Vec<Json> {
        let lines = lines(&reader, &query("keep", Some(state), None)).unwrap();
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let mut seen: Vec<u64> = parsed("seen").iter().map(|line| line["value"].as_u64().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..RECORDS).collect::<Vec<_>>());
    for (line, key) in parsed("recent").iter().zip(0..) {
        assert_eq!(
            (line["key"].as_str(), &line["value"]),
            (Some(&*format!("key-{key}")), &json!([key, key + 3]))
        );
        let stamps = line["updated_at"].as_array().unwrap();
        assert!(stamps.len() == 2 && stamps[0].as_i64() > Some(1_600_000_000_000), "{line}");
    }
    let splits = lines(&reader, &query("numbers", Some("splits"), None)).unwrap();
    assert!(splits.len() == 1 && splits[0].contains(r#""subtask":0,"value":{"type":""#), "{splits:?}");

    let operators = reader.operators().unwrap();
    let keep = operators.iter().find(|operator| operator.uid.as_str() == "keep").unwrap();
    assert_eq!((keep.key_type.as_deref(), keep.parallelism), (Some("String"), 2));
    let states: Vec<_> = keep.states.iter().map(|s| (s.name.as_str(), s.kind, s.rows)).collect();
    assert_eq!(
        states,
        [
            ("all", "list", 3),
            ("ballast", "value", 3),
            ("by parity", "map", 6),
            ("last", "value", 3),
            ("mean", "aggregating", 3),
            ("recent", "list", 3),
            ("sum", "reducing", 3),
            ("timer/event", "timer", 6),
            ("timer/processing", "timer", 0),
            ("rules", "broadcast", 2),
            ("seen", "operator-list", 6),
            ("subtasks", "union-list", 2),
        ]
    );
    let by_parity = &keep.states[2];
    assert_eq!(by_parity.map_key_type.as_deref(), Some("bool"));
    assert_eq!(by_parity.schema.as_deref(), Some("string"));
    assert_eq!(by_parity.bytes, 6 * (5 + 2 + 1 + 2), "key, its end, the map's key, a string of one letter");
}

#[test]
fn everything_is_read_from_memory() {
    everything_is_read(BackendOptions::Memory);
}

#[cfg(feature = "rocksdb")]
#[test]
fn everything_is_read_from_rocksdb() {
    // Next to no cache, so that rows are in RocksDB's own files.
    let options = RocksDbOptions { cache_bytes: 1, ..RocksDbOptions::default() };
    everything_is_read(BackendOptions::RocksDb(options));
}

/// A job on the memory backend.
fn in_memory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let checkpoints = job(directory.path(), BackendOptions::Memory);
    (directory, checkpoints)
}

#[test]
fn a_reader_stops_when_its_visitor_has_had_enough() {
    let (_directory, checkpoints) = in_memory();
    let mut seen = 0;
    let flow = open(&checkpoints).read(&StateQuery::default(), &mut |_| {
        seen += 1;
        Ok(if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    assert_eq!((flow.unwrap(), seen), (ControlFlow::Break(()), 2));
}

#[test]
fn what_is_not_there_is_refused_with_what_is() {
    let (_directory, checkpoints) = in_memory();
    let reader = open(&checkpoints);
    let e = lines(&reader, &query("keeper", None, None));
    assert_error(e, ErrorKind::Config, &["\"keeper\"", "numbers", "keep", "lines"]);
    let e = lines(&reader, &query("keep", Some("first"), None));
    assert_error(e, ErrorKind::Config, &["\"first\"", "keep/last", "keep/timer/event", "keep/seen"]);
    let e = lines(&reader, &query("numbers", None, Some("7")));
    assert_error(e, ErrorKind::Config, &["numbers", "no keyed state"]);
    let nothing = checkpoints.join("chk-999");
    assert_error(StateReader::open(nothing.to_str().unwrap(), &[]), ErrorKind::Config, &["chk-999"]);
}

#[test]
fn a_damaged_file_is_named() {
    let (_directory, checkpoints) = in_memory();
    let reader = open(&checkpoints);
    for (kind, operator) in [(StateFileKind::Keyed, "keep"), (StateFileKind::Operator, "numbers")] {
        let operators = &reader.manifest().operators;
        let stored = operators.iter().find(|stored| stored.uid.as_str() == operator).unwrap();
        let mut files = stored.subtasks.iter().flat_map(|subtask| &subtask.files);
        let file = files.find(|file| file.kind == kind).unwrap();
        let path = checkpoints.join(&file.path);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let names = [file.path.as_str(), operator];
        assert_error(lines(&reader, &query(operator, None, None)), ErrorKind::Data, &names);
        assert_error(reader.operators(), ErrorKind::Data, &[&file.path]);
        fs::remove_file(&path).unwrap();
        assert_error(lines(&reader, &query(operator, None, None)), ErrorKind::Data, &names);
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).unwrap();
    }
    assert!(reader.operators().is_ok());
}

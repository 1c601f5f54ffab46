//! Every kind of damage to every file of a checkpoint and of a savepoint: a job that is to start from it ends with an
//! error that names the file, before user code has seen a record.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{Gate, Log, files_below, gated, run_out};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tidegate::cluster::JobHandle;
use tidegate::cluster::jobmaster::JobResult;
use tidegate::error::Result;
use tidegate::prelude::*;
use tidegate_state::BackendOptions;
#[cfg(feature = "rocksdb")]
use tidegate_state::RocksDbOptions;
use tidegate_state::envelope::Compression;

const RECORDS: u64 = 40;

struct Keep {
    all: ListState<u64>,
    /// Large and written early, so that later checkpoints refer to files of earlier ones.
    ballast: ValueState<String>,
    seen: OperatorListState<u64>,
    processed: Log<u64>,
}

impl KeyedProcessFunction<u64, u64, u64> for Keep {
    fn process(&mut self, n: u64, _: &mut KeyedContext<'_, u64>, _: &mut Collector<'_, u64>) -> Result<()> {
        self.processed.push(n);
        self.all.push(n)?;
        if n < RECORDS / 2 {
            self.ballast.set("x".repeat(20_000))?;
        }
        self.seen.push(n)
    }
}

/// A job whose functions log what they see; the gate lets its sources on.
fn job(
    directory: &Path,
    files: (&BackendOptions, Compression),
    restore: Option<&Path>,
) -> Result<(JobHandle, Gate, Log<u64>)> {
    let (env, gate, processed) = program(directory, files, restore, RECORDS);
    Ok((env.start("damaged")?, gate, processed))
}

fn program(
    directory: &Path,
    (backend, compression): (&BackendOptions, Compression),
    restore: Option<&Path>,
    records: u64,
) -> (Environment, Gate, Log<u64>) {
    let mut env = Environment::new();
    let config = env.config_mut();
    config.parallelism = 2;
    config.state.backend = backend.clone();
    config.state.local_dir = Some(directory.join("local"));
    config.checkpoint_dir = Some(directory.join("checkpoints").to_string_lossy().into_owned());
    config.checkpoint.interval_ms = Some(5);
    config.checkpoint.compression = compression;
    config.restore.path = restore.map(|path| path.to_string_lossy().into_owned());
    let (source, gate) = gated(records, 2, |n| n);
    let processed = Log::new();
    let log = processed.clone();
    env.source(source)
        .uid("numbers")
        .key_by(|n: &u64| n % 7)
        .process(move |open| {
            Ok(Keep {
                all: open.list_state("all")?,
                ballast: open.value_state("ballast")?,
                seen: open.operator_list_state("seen")?,
                processed: log.clone(),
            })
        })
        .uid("keep")
        .sink(CollectSink::new().0)
        .uid("out");
    (env, gate, processed)
}

/// A whole checkpoint (a job's directory) or savepoint, on which jobs can be started.
fn stored(directory: &Path, files: (&BackendOptions, Compression), savepoint: bool) -> PathBuf {
    let (job, gate, processed) = job(directory, files, None).unwrap();
    for part in [RECORDS / 2, RECORDS] {
        gate.open_to(part);
        processed.wait_for(part as usize);
        gate.wait_for_checkpoint(2);
    }
    if savepoint {
        let savepoint = job.controller().stop(None, false).unwrap();
        assert_eq!(run_out(job).0, JobResult::Finished);
        return savepoint.location.strip_prefix("file://").unwrap_or(&savepoint.location).into();
    }
    let place = directory.join("checkpoints").join(job.job_id().as_str());
    job.controller().cancel();
    assert_eq!(run_out(job).0, JobResult::Canceled);
    place
}

/// The files that a restore reads, by kind. Those of superseded entries of the commit log, of the leaders, and what is
/// kept for people are not among them.
fn needed(place: &Path) -> BTreeMap<&'static str, Vec<PathBuf>> {
    let mut kinds: BTreeMap<&str, Vec<PathBuf>> = BTreeMap::new();
    let manifests: Vec<_> = files_below(place).into_iter().filter(|p| p.ends_with("manifest.json")).collect();
    let number = |path: &PathBuf| -> u64 {
        let digits = |c: char| !c.is_ascii_digit();
        path.to_str().unwrap().split(digits).rfind(|part| !part.is_empty()).unwrap_or("0").parse().unwrap()
    };
    let records = files_below(place).into_iter().filter(|p| p.extension().is_some_and(|x| x == "record"));
    let newest = records.max_by_key(number);
    let committed = newest.as_ref().map(|record| {
        let text = fs::read_to_string(record).unwrap();
        let body: serde_json::Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
        body["checkpoint"]["id"].as_u64().unwrap_or_default()
    });
    let is_newest =
        |path: &PathBuf| committed.is_none_or(|id| path.starts_with(place.join(format!("chk-{id}"))));
    let Some(manifest) = manifests.into_iter().find(is_newest) else { return kinds };
    let text = fs::read_to_string(&manifest).unwrap();
    kinds.insert("manifest", vec![manifest]);
    kinds.extend(newest.map(|newest| ("record", vec![newest])));
    if place.join("status.json").exists() {
        kinds.insert("status", vec![place.join("status.json")]);
    }
    for path in files_below(place) {
        let relative = path.strip_prefix(place).unwrap().to_str().unwrap();
        if !text.contains(&format!("\"{relative}\"")) {
            continue;
        }
        let kind = match relative {
            name if name.ends_with(".table") => "table",
            name if name.ends_with(".in-flight") => "in-flight",
            name if name.contains("operator") => "operator",
            _ => "keyed",
        };
        kinds.entry(kind).or_default().push(path);
    }
    kinds
}

/// Ways to damage a file, with what they are called.
fn damages(whole: &[u8], other: Option<&[u8]>) -> Vec<(String, Option<Vec<u8>>)> {
    let mut damages = vec![
        ("is missing".to_owned(), None),
        ("is empty".to_owned(), Some(Vec::new())),
        ("has lost its last byte".to_owned(), Some(whole[..whole.len() - 1].to_vec())),
        ("has lost a half".to_owned(), Some(whole[..whole.len() / 2].to_vec())),
        ("has a byte more".to_owned(), Some([whole, b"\n"].concat())),
    ];
    // Every byte of the beginning, where formats have their lengths, and some of the rest.
    let step = (whole.len() / 8).max(1);
    for at in
        (0..whole.len().min(24)).step_by(3).chain((step..whole.len()).step_by(step)).chain([whole.len() - 1])
    {
        let mut flipped = whole.to_vec();
        flipped[at] ^= 1 << (at % 8);
        damages.push((format!("has a flipped bit in byte {at}"), Some(flipped)));
    }
    if let Some(other) = other.filter(|other| *other != whole) {
        damages.push(("is another one of its kind".to_owned(), Some(other.to_vec())));
    }
    damages
}

/// Starts a job on what is stored; says what is wrong with what happens.
fn start_on(place: &Path, backend: &BackendOptions, file: &Path) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    let refused = match job(directory.path(), (backend, Compression::None), Some(place)) {
        Err(e) => (e.kind(), e.to_string()),
        Ok((job, gate, processed)) => {
            gate.open();
            let (result, _) = run_out(job);
            let seen = processed.entries().len();
            match result {
                JobResult::Failed(failure) if seen == 0 => (failure.kind, failure.message),
                other => return Some(format!("{other:?} after user code had seen {seen} records")),
            }
        }
    };
    let name = file.file_name().unwrap().to_str().unwrap();
    match refused {
        (ErrorKind::Data, text) if text.contains(name) => None,
        (ErrorKind::Config, text) if text.contains("no completed checkpoint") || text.contains(name) => None,
        (kind, text) => Some(format!("{kind:?}, and the file is not named: {text}")),
    }
}

fn every_damage_is_found(backend: &BackendOptions, savepoint: bool, kinds: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    // Savepoints are compressed, so that both are seen.
    let compression = if savepoint { Compression::Zstd } else { Compression::None };
    let place = stored(directory.path(), (backend, compression), savepoint);
    let bytes: u64 = files_below(&place).iter().map(|file| file.metadata().unwrap().len()).sum();
    assert_eq!(bytes < 20_000, savepoint, "{bytes} bytes with and without compression");
    assert_eq!(needed(&place).keys().copied().collect::<Vec<_>>(), kinds);
    let again = tempfile::tempdir().unwrap();
    let (job, gate, processed) = job(again.path(), (backend, Compression::None), Some(&place)).unwrap();
    gate.open();
    assert_eq!(
        (run_out(job).0, processed.entries()),
        (JobResult::Finished, Vec::new()),
        "undamaged, it is whole"
    );
    do_all_damage(&place, backend);
}

fn do_all_damage(place: &Path, backend: &BackendOptions) {
    let (mut tried, mut wrong) = (0, Vec::new());
    for (kind, files) in &needed(place) {
        for (index, file) in files.iter().enumerate() {
            let whole = fs::read(file).unwrap();
            let other = files.get((index + 1) % files.len()).map(|other| fs::read(other).unwrap());
            for (what, damaged) in damages(&whole, other.as_deref()) {
                // The commit log says how the job ended, too. Without its last entry a log looks like that of a younger job,
                // if the job has not ended.
                let is_log = *kind == "record" && !place.join("status.json").exists();
                if damaged.is_none() && (*kind == "status" || is_log) {
                    continue;
                }
                match damaged {
                    Some(damaged) => fs::write(file, damaged).unwrap(),
                    None => fs::remove_file(file).unwrap(),
                }
                tried += 1;
                if let Some(why) = start_on(place, backend, file) {
                    wrong.push(format!("{kind} file {} {what}: {why}", file.display()));
                }
                fs::write(file, &whole).unwrap();
            }
        }
    }
    println!("{tried} damages");
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn to_a_checkpoint_of_the_memory_backend() {
    every_damage_is_found(
        &BackendOptions::Memory,
        false,
        &["keyed", "manifest", "operator", "record", "status"],
    );
}

#[test]
fn to_a_savepoint() {
    every_damage_is_found(&BackendOptions::Memory, true, &["keyed", "manifest", "operator"]);
}

/// A checkpoint whose barriers have overtaken records, of a job that dies.
#[cfg(feature = "testing")]
#[test]
fn to_a_checkpoint_with_records_in_flight() {
    use object_store::local::LocalFileSystem;
    use tidegate::testing::simulation::Simulation;

    let directory = tempfile::tempdir().unwrap();
    let files = (&BackendOptions::Memory, Compression::None);
    // Which subtasks are slow is drawn from the seed.
    let mut runs = (0..16).flat_map(|seed| [100, 200, 400, 800].map(|until_ms| (seed, until_ms)));
    let place = runs.find_map(|(seed, until_ms)| {
        let store = directory.path().join(format!("store-{seed}-{until_ms}"));
        fs::create_dir(&store).unwrap();
        let (mut env, gate, _) = program(directory.path(), files, None, 2_000);
        gate.open();
        env.config_mut().checkpoint.interval_ms = Some(20);
        env.config_mut().checkpoint.unaligned = true;
        let mut simulation = Simulation::new(seed);
        simulation.faults.slow_step_us = Some(20_000);
        simulation.channel_bytes = Some(500);
        simulation.max_virtual_ms = until_ms;
        simulation.store = Some(std::sync::Arc::new(LocalFileSystem::new_with_prefix(&store).unwrap()));
        let id = simulation.run(env, "damaged").unwrap().job;
        let place = store.join(id.as_str());
        if !needed(&place).contains_key("in-flight") {
            return None;
        }
        // The source has nothing more for this job: what it processes was in flight.
        let again = tempfile::tempdir().unwrap();
        let (job, gate, processed) = job(again.path(), files, Some(&place)).unwrap();
        gate.open();
        assert_eq!(run_out(job).0, JobResult::Finished);
        (!processed.entries().is_empty()).then_some(place)
    });
    let place = place.expect("no barrier has overtaken a record");
    let kinds = needed(&place);
    assert_eq!(
        kinds.keys().copied().collect::<Vec<_>>(),
        ["in-flight", "keyed", "manifest", "operator", "record"]
    );
    do_all_damage(&place, files.0);
}

#[cfg(feature = "rocksdb")]
#[test]
fn to_a_checkpoint_of_rocksdb() {
    // Without room for live objects everything is in tables.
    let options = RocksDbOptions { cache_bytes: 1, ..RocksDbOptions::default() };
    let kinds = ["keyed", "manifest", "operator", "record", "status", "table"];
    every_damage_is_found(&BackendOptions::RocksDb(options), false, &kinds);
}

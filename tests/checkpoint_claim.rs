//! `--restore-mode claim`: what a job was restored from becomes its own, and goes when the job has checkpoints enough.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{Gate, assert_error, gated, run_out};
use std::path::{Path, PathBuf};
use tidegate::Environment;
use tidegate::checkpoint::{
    DirectoryCheck, FsckOptions, Manifest, Place, RestoreMode, Retention, StateFileKind, StateHandle,
    StoredCheckpoint, check_directory, delete_orphans, latest_completed, open_place, verify_checkpoint,
};
use tidegate::cluster::JobHandle;
use tidegate::cluster::jobmaster::JobResult;
use tidegate::error::Result;
use tidegate::prelude::*;
use tidegate_state::BackendOptions;

const RECORDS: u64 = 100;

struct Count {
    count: ValueState<u64>,
}

impl KeyedProcessFunction<u64, u64, String> for Count {
    fn process(
        &mut self,
        _: u64,
        c: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let count = self.count.get()?.unwrap_or(0) + 1;
        self.count.set(count)?;
        let key = *c.key();
        out.collect(format!("{key}: {count}"));
        Ok(())
    }
}

/// A checkpoint directory with the jobs in it.
struct Store(tempfile::TempDir);

struct Life {
    job: JobHandle,
    gate: Gate,
    directory: PathBuf,
}

impl Store {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn env(&self, restore: Option<&Path>, mode: RestoreMode) -> (Environment, Gate) {
        let mut env = Environment::new();
        let config = env.config_mut();
        config.checkpoint_dir = Some(self.0.path().join("checkpoints").to_string_lossy().into_owned());
        config.checkpoint.interval_ms = Some(5);
        config.restore.path = restore.map(|path| path.to_string_lossy().into_owned());
        config.restore.mode = mode;
        let (source, gate) = gated(RECORDS, 1, |n| n);
        env.source(source)
            .uid("numbers")
            .key_by(|n| n % 3)
            .process(|open| Ok(Count { count: open.value_state("count")? }))
            .uid("count")
            .sink(FileSink::lines(self.0.path().join("out")))
            .uid("out");
        (env, gate)
    }

    fn start_with(&self, (env, gate): (Environment, Gate)) -> Result<Life> {
        let job = env.start("claims")?;
        let directory = self.0.path().canonicalize().unwrap().join("checkpoints").join(job.job_id().as_str());
        Ok(Life { job, gate, directory })
    }

    fn start(&self, restore: Option<&Path>, mode: RestoreMode) -> Result<Life> {
        self.start_with(self.env(restore, mode))
    }

    /// Every record came through once, whoever has processed it.
    fn check_output(&self) {
        let mut expected: Vec<String> = (0..RECORDS).map(|n| format!("{}: {}", n % 3, n / 3 + 1)).collect();
        expected.sort();
        assert_eq!(common::published(&self.0.path().join("out")), expected);
    }
}

impl Life {
    /// Goes on to record `to` and is cancelled after a checkpoint.
    fn cancelled_at(self, to: u64) -> PathBuf {
        self.gate.open_to(to);
        self.gate.wait_for_checkpoint(1);
        self.job.controller().cancel();
        assert_eq!(run_out(self.job).0, JobResult::Canceled);
        self.directory
    }

    /// As [`cancelled_at`](Self::cancelled_at), when what it has claimed is deleted.
    fn released_at(self, to: u64) -> PathBuf {
        self.gate.open_to(to);
        self.wait_until_released();
        self.cancelled_at(to)
    }

    fn wait_until_released(&self) {
        let claim = self.directory.join("claim.json");
        let lets_go = (0..6_000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            !claim.exists()
        });
        assert!(lets_go, "it keeps what it has claimed");
    }

    fn stopped_at(self, to: u64) -> PathBuf {
        self.gate.open_to(to);
        self.gate.wait_for_checkpoint(1);
        let savepoint = self.job.controller().stop(None, false).unwrap();
        assert_eq!(run_out(self.job).0, JobResult::Finished);
        savepoint.location.into()
    }

    fn finished(self) -> PathBuf {
        self.gate.open();
        assert_eq!(run_out(self.job).0, JobResult::Finished);
        self.directory
    }
}

/// All files below a directory, by name relative to it.
fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(|e| e.unwrap().path()) {
            match entry.is_dir() {
                true => open.push(entry),
                false => found.push(entry.strip_prefix(directory).unwrap().to_string_lossy().into_owned()),
            }
        }
    }
    found.sort();
    found
}

/// The files of checkpoints in a job's directory.
fn checkpoints(job: &Path) -> Vec<String> {
    files(job).into_iter().filter(|f| f.starts_with("chk-")).collect()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

const NOW: FsckOptions = FsckOptions { now_ms: u64::MAX, grace_ms: 0 };

fn fsck(directory: &Path) -> DirectoryCheck {
    block_on(async {
        match open_place(&directory.to_string_lossy(), &[]).await.unwrap() {
            Place::Job(store) | Place::Savepoint(store) => check_directory(&store, NOW).await.unwrap(),
            _ => panic!("{} is something else", directory.display()),
        }
    })
}

fn assert_clean(directory: &Path) {
    let check = fsck(directory);
    // What a cancelled job was about to store is an orphan, whatever was claimed.
    assert!(check.problems.is_empty() && check.orphans.is_some(), "{check:?}");
    assert_eq!(check.half_deleted, None);
}

#[test]
fn a_claimed_savepoint_goes_with_the_first_checkpoint_of_the_job_that_has_it() {
    let place = Store::new();
    let first = place.start(None, RestoreMode::NoClaim).unwrap();
    let old = first.directory.clone();
    let savepoint = first.stopped_at(40);
    assert!(files(&savepoint).len() > 2);
    let second = place.start(Some(&savepoint), RestoreMode::Claim).unwrap();
    assert!(savepoint.join("claimed.json").exists() && second.directory.join("claim.json").exists());
    let job = second.released_at(70);
    assert_eq!(files(&savepoint), ["claimed.json"], "only whose it was is left");
    assert!(!job.join("claim.json").exists());
    // The old job ended with it, which is no damage; the new one has all that it needs.
    assert_clean(&old);
    assert_clean(&job);

    // Whoever comes later is told where to go, by the savepoint and by the old job that ended with it.
    for gone in [&savepoint, &old] {
        for mode in [RestoreMode::NoClaim, RestoreMode::Claim] {
            let refused = place.start(Some(gone), mode).map(|_| ());
            let parts = ["has been deleted", "had claimed it", job.to_str().unwrap()];
            assert_error(refused, ErrorKind::Config, &parts);
        }
    }
    place.start(Some(&job), RestoreMode::NoClaim).unwrap().finished();
    place.check_output();
}

#[test]
fn a_claimed_job_is_deleted_with_all_its_checkpoints_and_what_it_had_claimed() {
    let place = Store::new();
    let first = place.start(None, RestoreMode::NoClaim).unwrap().cancelled_at(30);
    // The second one keeps so many that it never needs to let go of the first.
    let (mut env, gate) = place.env(Some(&first), RestoreMode::Claim);
    env.config_mut().checkpoint.retained = 1_000_000;
    let second = place.start_with((env, gate)).unwrap().cancelled_at(60);
    assert!(!checkpoints(&first).is_empty() && second.join("claim.json").exists(), "it counts as kept");
    assert_clean(&first);
    assert_clean(&second);

    let third = place.start(Some(&second), RestoreMode::Claim).unwrap().released_at(80);
    for gone in [&first, &second] {
        assert_eq!(checkpoints(gone), [""; 0], "{}", gone.display());
        assert_clean(gone);
        let refused = place.start(Some(gone), RestoreMode::NoClaim).map(|_| ());
        assert_error(refused, ErrorKind::Config, &["has been deleted", "had claimed it"]);
    }
    assert!(!checkpoints(&third).is_empty());
    let fourth = place.start(Some(&third), RestoreMode::Claim).unwrap().finished();
    assert_eq!((checkpoints(&third), checkpoints(&fourth)), (vec![], vec![]), "the job has finished");
    place.check_output();
}

#[test]
fn what_is_not_claimed_stays() {
    let place = Store::new();
    let savepoint = place.start(None, RestoreMode::NoClaim).unwrap().stopped_at(40);
    let before = files(&savepoint);
    place.start(Some(&savepoint), RestoreMode::NoClaim).unwrap().finished();
    assert_eq!(files(&savepoint), before);
    place.check_output();
}

#[test]
fn only_one_job_can_claim_and_only_the_newest_checkpoint() {
    let place = Store::new();
    let (mut env, gate) = place.env(None, RestoreMode::NoClaim);
    env.config_mut().checkpoint.retained = 3;
    let life = place.start_with((env, gate)).unwrap();
    for to in [10, 20, 30] {
        life.gate.open_to(to);
        life.gate.wait_for_checkpoint(1);
    }
    let old = life.cancelled_at(40);
    let oldest = checkpoints(&old)[0].split('/').next().unwrap().to_owned();
    let refused = place.start(Some(&old.join(oldest)), RestoreMode::Claim).map(|_| ());
    let names = ["cannot claim", "the newest checkpoint of the job is", "--restore-mode no-claim"];
    assert_error(refused, ErrorKind::Config, &names);
    assert!(!old.join("claimed.json").exists());

    // While one has it that has not ended, no other gets it.
    let (mut env, gate) = place.env(Some(&old), RestoreMode::Claim);
    env.config_mut().checkpoint.interval_ms = None;
    env.config_mut().checkpoint.retention = Retention::Always;
    let second = place.start_with((env, gate)).unwrap();
    let refused = place.start(Some(&old), RestoreMode::Claim).map(|_| ());
    let names = ["cannot claim", second.job.job_id().as_str(), "has not ended", "stop it"];
    assert_error(refused, ErrorKind::Config, &names);
    // What it was restored from became its own, and so the old one went.
    second.wait_until_released();
    assert_eq!(checkpoints(&old), [""; 0]);
    assert_clean(&old);
    second.job.controller().cancel();
    assert_eq!(run_out(second.job).0, JobResult::Canceled);
    place.start(Some(&second.directory), RestoreMode::NoClaim).unwrap().finished();
    place.check_output();
}

#[test]
fn what_a_job_had_claimed_that_ended_without_a_checkpoint_is_free_again() {
    let place = Store::new();
    let savepoint = place.start(None, RestoreMode::NoClaim).unwrap().stopped_at(40);
    let (mut env, gate) = place.env(Some(&savepoint), RestoreMode::Claim);
    env.config_mut().checkpoint.interval_ms = None;
    env.config_mut().checkpoint.retention = Retention::Always;
    let second = place.start_with((env, gate)).unwrap();
    second.job.controller().cancel();
    assert_eq!(run_out(second.job).0, JobResult::Canceled);
    assert!(files(&savepoint).len() > 2);
    let third = place.start(Some(&savepoint), RestoreMode::Claim).unwrap().released_at(60);
    assert_eq!(files(&savepoint), ["claimed.json"]);
    place.start(Some(&third), RestoreMode::NoClaim).unwrap().finished();
    place.check_output();
}

fn backends() -> Vec<BackendOptions> {
    vec![
        BackendOptions::Memory,
        #[cfg(feature = "rocksdb")]
        BackendOptions::RocksDb(tidegate_state::RocksDbOptions::small()),
    ]
}

/// The newest checkpoint of a job, every byte of which is read.
fn newest(job: &Path) -> Manifest {
    block_on(async {
        let Place::Job(store) = open_place(&job.to_string_lossy(), &[]).await.unwrap() else { panic!() };
        let manifest = latest_completed(&store).await.unwrap().unwrap();
        let (files, location) = (store.clone(), store.location());
        let stored = StoredCheckpoint { manifest: manifest.clone(), files, job: store, location };
        let (_, problems) = verify_checkpoint(&stored).await.unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        manifest
    })
}

/// Whether the newest checkpoint of a job that runs has table files.
fn has_tables(job: &Path) -> bool {
    let manifest = block_on(async {
        let Place::Job(store) = open_place(&job.to_string_lossy(), &[]).await.unwrap() else { panic!() };
        latest_completed(&store).await
    });
    // One that is read too late has been deleted.
    matches!(manifest, Ok(Some(m)) if m.files().any(|file| file.kind == StateFileKind::Table))
}

/// State that nobody changes goes from job to job without being written again, and nobody needs the jobs before.
#[test]
fn a_job_shares_files_with_the_checkpoint_that_it_was_restored_from() {
    for (backend, mode) in
        backends().into_iter().flat_map(|b| [(b.clone(), RestoreMode::NoClaim), (b, RestoreMode::Claim)])
    {
        let place = Store::new();
        let start = |restore: Option<&Path>| {
            let (mut env, gate) = place.env(restore, mode);
            env.config_mut().state.backend = backend.clone();
            place.start_with((env, gate)).unwrap()
        };
        let first = place.start_with({
            let (mut env, gate) = place.env(None, RestoreMode::NoClaim);
            env.config_mut().state.backend = backend.clone();
            (env, gate)
        });
        let first = first.unwrap();
        first.gate.open_to(60);
        // What does not change comes to RocksDB's files by and by.
        while !matches!(backend, BackendOptions::Memory) && !has_tables(&first.directory) {
            first.gate.wait_for_checkpoint(1);
        }
        let first = first.cancelled_at(60);
        let writer = first.file_name().and_then(|name| name.to_str()).unwrap().to_owned();
        let mut last = first;
        for _ in 0..2 {
            let next = start(Some(&last));
            next.gate.wait_for_checkpoint(1);
            let next = next.cancelled_at(60);
            let manifest = newest(&next);
            let is_keyed = |file: &&StateHandle| file.kind != StateFileKind::Operator;
            let writers: Vec<_> = manifest.files().filter(is_keyed).map(|f| f.written_by.clone()).collect();
            // In memory the first checkpoint behind a restore has everything anew.
            assert!(
                matches!(backend, BackendOptions::Memory)
                    || writers.iter().flatten().any(|job| job.as_str() == writer),
                "{backend:?} {mode:?}: nothing of {writer} in {writers:?}"
            );
            assert_clean(&next);
            std::fs::remove_dir_all(&last).unwrap();
            last = next;
        }
        start(Some(&last)).finished();
        place.check_output();
    }
}

/// The job that is claimed still runs: it can complete nothing any more.
#[test]
fn a_job_that_is_claimed_while_it_runs_stops() {
    let place = Store::new();
    let (mut env, gate) = place.env(None, RestoreMode::NoClaim);
    env.config_mut().checkpoint.interval_ms = Some(300);
    let first = place.start_with((env, gate)).unwrap();
    first.gate.open_to(30);
    first.gate.wait_for_checkpoint(1);
    let second = place.start(Some(&first.directory), RestoreMode::Claim).unwrap();
    let (result, _) = run_out(first.job);
    assert!(matches!(result, JobResult::Fenced(_)), "{result:?}");
    second.finished();
    // What its taskmanagers were still storing is an orphan.
    assert!(!checkpoints(&first.directory).iter().any(|f| f.ends_with("manifest.json")));
    assert_clean(&first.directory);
}

#[test]
fn a_deletion_that_was_interrupted_is_found_and_finished() {
    let place = Store::new();
    let savepoint = place.start(None, RestoreMode::NoClaim).unwrap().stopped_at(40);
    let (mut env, gate) = place.env(Some(&savepoint), RestoreMode::Claim);
    let points = tidegate::checkpoint::CrashPoints::armable();
    points.arm("claim.k_of_n", 1, tidegate::checkpoint::CrashAction::Kill).unwrap();
    env.set_crash_points(tidegate::CrashSite::JobManager, points);
    let second = place.start_with((env, gate)).unwrap();
    second.gate.open_to(60);
    assert!(!matches!(run_out(second.job).0, JobResult::Finished));
    let check = fsck(&second.directory);
    assert_eq!(check.half_deleted.as_deref(), savepoint.to_str(), "{check:?}");
    assert!(check.problems.is_empty() && files(&savepoint).len() > 1);
    block_on(async {
        let Place::Job(job) = open_place(&second.directory.to_string_lossy(), &[]).await.unwrap() else {
            panic!("no job")
        };
        delete_orphans(&job, "by hand", NOW).await.unwrap();
    });
    assert_eq!(files(&savepoint), ["claimed.json"]);
    assert_clean(&second.directory);
    place.start(Some(&second.directory), RestoreMode::Claim).unwrap().finished();
    place.check_output();
}

#[test]
fn claiming_needs_something_to_claim_and_a_place_that_lasts() {
    let place = Store::new();
    let refused = place.start(None, RestoreMode::Claim).map(|_| ());
    assert_error(refused, ErrorKind::Config, &["restore.mode is claim and restore.path is not set"]);
    let savepoint = place.start(None, RestoreMode::NoClaim).unwrap().stopped_at(10);
    let (mut env, _) = place.env(Some(&savepoint), RestoreMode::Claim);
    env.config_mut().checkpoint_dir = None;
    let refused = env.start("claims").map(|_| ());
    assert_error(refused, ErrorKind::Config, &["checkpoint.dir is not set"]);
    let line = ["program", "--restore", "/some/where", "--restore-mode", "claim"].map(Into::into);
    let config = tidegate::config::Arguments::new("program", "").parse(line).unwrap().config;
    assert_eq!(config.restore.mode, RestoreMode::Claim);
}

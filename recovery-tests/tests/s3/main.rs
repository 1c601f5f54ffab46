//! Checkpoints in S3, over HTTP, in a server that is not ours: moto (`scripts/need.sh s3` installs it).

#![cfg(feature = "aws")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod lives;
mod parts;
mod server;
#[cfg(feature = "rocksdb")]
mod tables;

use server::{BUCKET, with_server};
use std::path::Path;
use std::sync::Arc;
use tidegate::checkpoint::{
    CheckpointStore, CrashAction, CrashPoints, FsckOptions, Place, Retention, StoredCheckpoint,
    check_directory, claim_leadership, open_place,
};
use tidegate::cluster::JobHandle;
use tidegate::cluster::RestartStrategyConfig;
use tidegate::cluster::jobmaster::{JobNotice, JobResult};
use tidegate::error::ErrorKind;
use tidegate::id::JobId;
use tidegate::{CrashSite, Environment};
use tidegate_recovery_tests::workload::Workload;
use tidegate_recovery_tests::{oracle, snapshots};
use tokio::runtime::Runtime;

/// Where all jobs have their checkpoints.
fn checkpoints() -> String {
    format!("s3://{BUCKET}/checkpoints")
}

/// Where savepoints go.
fn savepoints() -> String {
    format!("s3://{BUCKET}/savepoints")
}

/// An environment without a program, of a job with a name and what it starts from.
fn bare(directory: &Path, job: &str, restore: Option<&str>) -> Environment {
    let mut env = Environment::new();
    let config = env.config_mut();
    config.job_id = Some(job.to_owned());
    config.parallelism = 2;
    config.cluster.taskmanagers = 2;
    config.state.local_dir = Some(directory.join("local").join(job));
    config.checkpoint_dir = Some(checkpoints());
    config.checkpoint.interval_ms = Some(100);
    config.checkpoint.tolerable_failures = 10;
    config.checkpoint.retained = 2;
    config.checkpoint.retention = Retention::Always;
    config.restart = Some(RestartStrategyConfig::FixedDelay { attempts: 100, delay_ms: 5 });
    config.restore.path = restore.map(str::to_owned);
    env
}

/// The same with the program of the workload, which publishes into `out`.
fn environment(workload: &Workload, directory: &Path, job: &str, restore: Option<&str>) -> Environment {
    let env = bare(directory, job, restore);
    workload.declare(&env, &directory.join("out"));
    env
}

/// A workload that lasts longer than the server needs for all of a test, on a busy machine, too: the job must not end by
/// itself.
fn long_workload(seed: u64) -> Arc<Workload> {
    Arc::new(Workload::new(seed, 20_000, 60, 15_000))
}

/// The same records, as fast as they come.
fn hurried(workload: &Workload) -> Workload {
    Workload { lasts_ms: 1, ..workload.clone() }
}

/// What happened until a job had taken so many checkpoints from now on.
fn wait_for_checkpoints(job: &JobHandle, checkpoints: usize) -> Vec<JobNotice> {
    let (mut seen, mut completed) = (Vec::new(), 0);
    for notice in job.notices() {
        completed += usize::from(matches!(notice, JobNotice::CheckpointCompleted(_)));
        seen.push(notice);
        if completed == checkpoints {
            return seen;
        }
    }
    panic!("the job ended before its checkpoint {checkpoints}: {seen:?}");
}

fn has_crashed(notices: &[JobNotice]) -> bool {
    notices.iter().any(|notice| matches!(notice, JobNotice::Restarting { .. }))
}

/// Looks into every checkpoint of a job when it is completed.
fn look_into_all(env: &mut Environment, job: &str, workload: &Arc<Workload>) -> snapshots::Seen {
    let checked = Arc::clone(workload);
    let check = move |stored| snapshots::check_union(stored, &checked);
    let (watcher, seen) = snapshots::newest_watcher(format!("{}/{job}", checkpoints()), check);
    let jobmanager = CrashPoints::armable();
    jobmanager.watch("complete.before_notify", watcher).unwrap();
    env.set_crash_points(CrashSite::JobManager, jobmanager);
    seen
}

/// The checkpoint, savepoint, or newest checkpoint of a job at a place.
fn stored(location: &str) -> StoredCheckpoint {
    let open = async { open_place(location, &[]).await?.checkpoint().await };
    Runtime::new().unwrap().block_on(open).unwrap()
}

/// A checkpoint or savepoint is what the records before its positions make of it.
fn check_stored(location: &str, workload: &Workload) {
    let stored = stored(location);
    // On another thread: its calls block, and it has a runtime of its own.
    std::thread::scope(|scope| {
        let check =
            std::thread::Builder::new().spawn_scoped(scope, || snapshots::check_union(stored, workload));
        check.unwrap().join().unwrap().unwrap();
    });
}

/// Nothing is wrong with the directory of a job or a savepoint.
fn check_clean(location: &str) {
    let options = FsckOptions { now_ms: u64::MAX, grace_ms: 0 };
    let check = Runtime::new().unwrap().block_on(async {
        match open_place(location, &[]).await.unwrap() {
            Place::Job(directory) | Place::Savepoint(directory) => check_directory(&directory, options).await,
            other => panic!("{location} is {other:?}"),
        }
    });
    assert_eq!(check.unwrap().problems, [], "{location}");
}

/// All that was published is all that is due.
fn check_output(workload: &Workload, directory: &Path) {
    let published = oracle::published(&directory.join("out")).unwrap();
    assert_eq!(oracle::difference(&workload.expected(), &published), None);
}

#[test]
fn a_job_that_crashes_and_stops_goes_on_from_s3() {
    with_server("a_job_that_crashes_and_stops_goes_on_from_s3", || {
        let directory = tempfile::tempdir().unwrap();
        let workload = long_workload(11);
        let mut env = environment(&workload, directory.path(), "s3-1", None);
        let seen = look_into_all(&mut env, "s3-1", &workload);
        for (index, point) in ["ack.before_send", "upload.file_k"].into_iter().enumerate() {
            let points = CrashPoints::armable();
            points.arm(point, 6 + 4 * index as u64, CrashAction::Kill).unwrap();
            env.set_crash_points(CrashSite::TaskManager(index as u32), points);
        }
        let job = env.start("s3").unwrap();
        assert!(has_crashed(&wait_for_checkpoints(&job, 8)), "nothing has crashed");
        let savepoint = job.controller().stop(Some(&savepoints()), false).unwrap();
        assert_eq!(job.wait().unwrap(), JobResult::Finished);
        assert!(snapshots::all_right(&seen).unwrap() > 8, "checkpoints were not looked into");
        check_stored(&savepoint.location, &workload);
        check_clean(&format!("{}/s3-1", checkpoints()));
        let env = environment(&hurried(&workload), directory.path(), "s3-2", Some(&savepoint.location));
        assert_eq!(env.start("s3").unwrap().wait().unwrap(), JobResult::Finished);
        check_output(&workload, directory.path());
    });
}

#[test]
fn of_many_jobmanagers_one_leads() {
    with_server("of_many_jobmanagers_one_leads", || {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            let store = CheckpointStore::open(&format!("s3://{BUCKET}/race"), &[]).unwrap();
            store.probe().await.unwrap();
            for round in 0..10 {
                let job = store.job(&JobId::from(format!("job-{round}"))).unwrap();
                let claims =
                    (0..8).map(|rival| {
                        let job = job.clone();
                        async move {
                            claim_leadership(&job, &CrashPoints::none(), &format!("rival-{rival}")).await
                        }
                    });
                let claims = futures::future::join_all(claims).await;
                let mut terms: Vec<u64> = Vec::new();
                for claim in claims {
                    match claim {
                        Ok(term) => terms.push(term.0),
                        Err(e) => assert_eq!(e.kind(), ErrorKind::Fenced, "{e}"),
                    }
                }
                let led = terms.len();
                terms.sort_unstable();
                terms.dedup();
                assert!(
                    led > 0 && terms.len() == led,
                    "round {round}: a term has two leaders: {terms:?} of {led}"
                );
            }
        });
    });
}

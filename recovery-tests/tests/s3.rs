//! Checkpoints in S3, over HTTP, in a server that is not ours: moto (`scripts/need.sh s3` installs it).

#![cfg(feature = "aws")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tidegate::checkpoint::{
    CheckpointStore, CrashAction, CrashPoints, FsckOptions, Retention, StoredCheckpoint, check_directory,
    claim_leadership, open_place,
};
use tidegate::cluster::RestartStrategyConfig;
use tidegate::cluster::jobmaster::{JobNotice, JobResult};
use tidegate::error::ErrorKind;
use tidegate::id::JobId;
use tidegate::{CrashSite, Environment};
use tidegate_recovery_tests::workload::Workload;
use tidegate_recovery_tests::{oracle, snapshots};
use tokio::runtime::Runtime;

const BUCKET: &str = "tidegate";

/// The server, stopped on drop.
struct Moto {
    process: Child,
    port: u16,
}

impl Moto {
    fn start() -> Self {
        let program =
            std::env::var_os("TIDEGATE_MOTO").map_or_else(|| PathBuf::from("moto_server"), PathBuf::from);
        // Free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(&program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}; run scripts/need.sh s3 first", program.display()));
        let moto = Self { process, port };
        for _ in 0..600 {
            if moto.request("PUT", &format!("/{BUCKET}")).is_some_and(|answer| answer.contains(" 200 ")) {
                return moto;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("no answer from {}", program.display());
    }

    fn request(&self, method: &str, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// The body of a test runs in a process of its own, which finds the server in its environment as jobs do.
fn with_server(test: &str, body: impl FnOnce()) {
    if std::env::var_os("AWS_ENDPOINT").is_some() {
        return body();
    }
    let moto = Moto::start();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("AWS_ENDPOINT", format!("http://127.0.0.1:{}", moto.port))
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .status()
        .unwrap();
    assert!(status.success());
}

fn environment(workload: &Workload, directory: &std::path::Path, restore: Option<&str>) -> Environment {
    let mut env = Environment::new();
    let config = env.config_mut();
    config.parallelism = 2;
    config.cluster.taskmanagers = 2;
    config.state.local_dir = Some(directory.join("local"));
    config.checkpoint_dir = Some(format!("s3://{BUCKET}/checkpoints"));
    config.checkpoint.interval_ms = Some(100);
    config.checkpoint.tolerable_failures = 10;
    config.checkpoint.retained = 2;
    config.checkpoint.retention = Retention::Always;
    config.restart = Some(RestartStrategyConfig::FixedDelay { attempts: 100, delay_ms: 5 });
    config.restore.path = restore.map(str::to_owned);
    workload.declare(&env, &directory.join("out"));
    env
}

fn check_stored(stored: StoredCheckpoint, workload: &Workload) {
    // On another thread: its calls block, and it has a runtime of its own.
    std::thread::scope(|scope| {
        let check =
            std::thread::Builder::new().spawn_scoped(scope, || snapshots::check_union(stored, workload));
        check.unwrap().join().unwrap().unwrap();
    });
}

#[test]
fn a_job_that_crashes_and_stops_goes_on_from_s3() {
    with_server("a_job_that_crashes_and_stops_goes_on_from_s3", || {
        let directory = tempfile::tempdir().unwrap();
        // Longer than the server needs for all of it, on a busy machine, too: the job must not end by itself.
        let workload = Arc::new(Workload::new(11, 20_000, 60, 15_000));
        let mut env = environment(&workload, directory.path(), None);
        env.config_mut().job_id = Some("s3-1".to_owned());
        let place = format!("s3://{BUCKET}/checkpoints/s3-1");
        let checked = Arc::clone(&workload);
        let check = move |stored| snapshots::check_union(stored, &checked);
        let (watcher, seen) = snapshots::newest_watcher(place.clone(), check);
        let jobmanager = CrashPoints::armable();
        jobmanager.watch("complete.before_notify", watcher).unwrap();
        env.set_crash_points(CrashSite::JobManager, jobmanager);
        for (index, point) in ["ack.before_send", "upload.file_k"].into_iter().enumerate() {
            let points = CrashPoints::armable();
            points.arm(point, 6 + 4 * index as u64, CrashAction::Kill).unwrap();
            env.set_crash_points(CrashSite::TaskManager(index as u32), points);
        }
        let job = env.start("s3").unwrap();
        let (mut restarts, mut completed) = (0, 0);
        for notice in job.notices() {
            restarts += u32::from(matches!(notice, JobNotice::Restarting { .. }));
            completed += u32::from(matches!(notice, JobNotice::CheckpointCompleted(_)));
            if completed == 8 {
                break;
            }
        }
        assert!(restarts > 0, "nothing has crashed");
        let savepoint = job.controller().stop(Some(&format!("s3://{BUCKET}/savepoints")), false).unwrap();
        assert_eq!(job.wait().unwrap(), JobResult::Finished);
        assert!(snapshots::all_right(&seen).unwrap() > 8, "checkpoints were not looked into");
        let runtime = Runtime::new().unwrap();
        let stored =
            |location: &str| runtime.block_on(async { open_place(location, &[]).await?.checkpoint().await });
        check_stored(stored(&savepoint.location).unwrap(), &workload);
        let job_directory = stored(&place).unwrap().job;
        let options = FsckOptions { now_ms: u64::MAX, grace_ms: 0 };
        let check = runtime.block_on(check_directory(&job_directory, options)).unwrap();
        assert_eq!(check.problems, []);
        drop(runtime);
        let env = environment(&workload, directory.path(), Some(&savepoint.location));
        let job = env.start("s3").unwrap();
        assert_eq!(job.wait().unwrap(), JobResult::Finished);
        let published = oracle::published(&directory.path().join("out")).unwrap();
        assert_eq!(oracle::difference(&workload.expected(), &published), None);
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

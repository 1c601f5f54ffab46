//! Incremental checkpoints of RocksDB in a bucket.

use crate::server::with_server;
use crate::{
    check_clean, check_output, checkpoints, environment, has_crashed, hurried, long_workload, look_into_all,
    stored, wait_for_checkpoints,
};
use tidegate::checkpoint::{CrashAction, CrashPoints, Manifest, StateFileKind, StateHandle};
use tidegate::cluster::jobmaster::JobResult;
use tidegate::{CrashSite, Environment};
use tidegate_recovery_tests::snapshots;
use tidegate_state::{BackendOptions, RocksDbOptions};

/// State that does not fit into the cache: all of it is in table files.
fn with_tables(mut env: Environment) -> Environment {
    let options = RocksDbOptions { cache_bytes: 500, ..RocksDbOptions::small() };
    env.config_mut().state.backend = BackendOptions::RocksDb(options);
    env
}

fn tables(manifest: &Manifest) -> Vec<&StateHandle> {
    manifest.files().filter(|file| file.kind == StateFileKind::Table).collect()
}

#[test]
fn a_job_on_rocksdb_that_crashes_goes_on_from_table_files_in_s3() {
    with_server("tables::a_job_on_rocksdb_that_crashes_goes_on_from_table_files_in_s3", || {
        let directory = tempfile::tempdir().unwrap();
        let workload = long_workload(14);
        let place = |job: &str| format!("{}/{job}", checkpoints());
        let mut env = with_tables(environment(&workload, directory.path(), "tables", None));
        let seen = look_into_all(&mut env, "tables", &workload);
        for (index, point) in ["ack.after_send", "upload.file_k"].into_iter().enumerate() {
            let points = CrashPoints::armable();
            points.arm(point, 6 + 8 * index as u64, CrashAction::Kill).unwrap();
            env.set_crash_points(CrashSite::TaskManager(index as u32), points);
        }
        let job = env.start("s3").unwrap();
        assert!(has_crashed(&wait_for_checkpoints(&job, 8)), "nothing has crashed");
        job.controller().cancel();
        assert_eq!(job.wait().unwrap(), JobResult::Canceled);
        assert!(snapshots::all_right(&seen).unwrap() >= 8, "checkpoints were not looked into");
        check_clean(&place("tables"));
        let last = stored(&place("tables")).manifest;
        let shared = tables(&last).iter().filter(|table| table.checkpoint < last.checkpoint).count();
        assert!(shared > 0, "no table of an earlier checkpoint in {:?}", tables(&last));

        // It has nothing but the bucket, and half of the tables' key groups each of its subtasks.
        let mut env =
            with_tables(environment(&hurried(&workload), directory.path(), "rest", Some(&place("tables"))));
        env.config_mut().parallelism = 4;
        env.config_mut().cluster.taskmanagers = 4;
        assert_eq!(env.start("s3").unwrap().wait().unwrap(), JobResult::Finished);
        check_output(&workload, directory.path());
    });
}

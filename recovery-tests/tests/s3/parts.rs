//! State files that go into a bucket in parts.

use crate::server::{ask, with_server};
use crate::{bare, check_clean, checkpoints, savepoints, stored, wait_for_checkpoints};
use std::path::Path;
use tidegate::checkpoint::{
    CrashAction, CrashPoints, Retention, StateFileKind, StateHandle, verify_checkpoint,
};
use tidegate::cluster::jobmaster::{JobNotice, JobResult};
use tidegate::prelude::*;
use tidegate::testing::simulation::SeededRng;
use tidegate::{CrashSite, Environment};
use tidegate_recovery_tests::oracle;
use tokio::runtime::Runtime;

/// Bytes of state of a key.
const VALUE: usize = 1 << 20;
const KEYS: u64 = 20;
/// Bytes of every part but the last.
const PART: u64 = 8 << 20;

/// Keeps a large value of each key; says at the end of all time whether it still is what it was.
struct Keep {
    values: ValueState<Vec<u8>>,
}

/// Nothing that could be compressed.
fn value_of(key: u64) -> Vec<u8> {
    let mut rng = SeededRng::new(key);
    (0..VALUE / 8).flat_map(|_| rng.next_u64().to_le_bytes()).collect()
}

impl KeyedProcessFunction<u64, u64, String> for Keep {
    fn process(
        &mut self,
        n: u64,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        if self.values.get()?.is_none() {
            self.values.set(value_of(*context.key()))?;
        }
        context.register_event_timer(i64::MAX)?;
        out.collect(format!("{n}"));
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: i64,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let is_right = self.values.get()? == Some(value_of(*context.key()));
        out.collect(format!("key {}: {is_right}", context.key()));
        Ok(())
    }
}

const RECORDS: u64 = 4_000;

fn environment(directory: &Path, job: &str, restore: Option<&str>) -> Environment {
    let mut env = bare(directory, job, restore);
    let config = env.config_mut();
    config.parallelism = 1;
    config.checkpoint.interval_ms = Some(500);
    config.checkpoint.retention = Retention::Always;
    let mut numbers = Generator::sequence(0..RECORDS);
    if restore.is_none() {
        // Longer than the test takes.
        numbers = numbers.with_rate(100.0);
    }
    env.source(numbers)
        .uid("numbers")
        .key_by(|n| n % KEYS)
        .process(|open| Ok(Keep { values: open.value_state("values")? }))
        .uid("keep")
        .sink(FileSink::lines(directory.join("out")))
        .uid("sink");
    env
}

/// The one large file of a checkpoint, of which the server says that it came in parts.
fn check_parts(location: &str, directory: &str) {
    let stored = stored(location);
    let (_, problems) = Runtime::new().unwrap().block_on(verify_checkpoint(&stored)).unwrap();
    assert_eq!(problems, []);
    let is_large = |file: &&StateHandle| file.kind == StateFileKind::Keyed && file.length > PART;
    let large: Vec<_> = stored.manifest.files().filter(is_large).collect();
    let [file] = large[..] else { panic!("{large:?}") };
    assert!(file.length > KEYS * VALUE as u64);
    let answer = ask("HEAD", &format!("{directory}/{}", file.path)).to_lowercase();
    // The tag of an object in parts ends with their number.
    let parts = format!("-{}\"", file.length.div_ceil(PART));
    let tag = answer.lines().find(|line| line.starts_with("etag:")).unwrap();
    assert!(tag.trim_end().ends_with(&parts), "{tag} does not end with {parts}");
    assert!(answer.contains(&format!("content-length: {}", file.length)), "{answer}");
}

#[test]
fn large_files_go_up_in_parts_and_parts_of_what_fails_are_given_back() {
    with_server("parts::large_files_go_up_in_parts_and_parts_of_what_fails_are_given_back", || {
        let directory = tempfile::tempdir().unwrap();
        let mut env = environment(directory.path(), "parts", None);
        // The first part is there when the second one fails.
        let points = CrashPoints::armable();
        points.arm("upload.part_k", 2, CrashAction::Error).unwrap();
        for index in 0..2 {
            env.set_crash_points(CrashSite::TaskManager(index), points.clone());
        }
        let job = env.start("parts").unwrap();
        let notices = wait_for_checkpoints(&job, 2);
        let has_failed = notices.iter().any(|notice| match notice {
            JobNotice::CheckpointAborted { why, .. } => why.contains("upload.part_k"),
            _ => false,
        });
        assert!(has_failed, "no part has failed: {notices:?}");
        let savepoint = job.controller().stop(Some(&savepoints()), false).unwrap();
        assert_eq!(job.wait().unwrap(), JobResult::Finished);
        let place = format!("{}/parts", checkpoints());
        let name = savepoint.location.rsplit('/').next().unwrap();
        check_parts(&savepoint.location, &format!("savepoints/{name}"));
        for location in [&place, &savepoint.location] {
            check_clean(location);
        }
        let uploads = ask("GET", "?uploads");
        assert!(uploads.contains("ListMultipartUploadsResult"), "{uploads}");
        assert!(!uploads.contains("<UploadId>"), "{uploads}");
        let env = environment(directory.path(), "parts-2", Some(&savepoint.location));
        let job = env.start("parts").unwrap();
        assert_eq!(job.wait().unwrap(), JobResult::Finished);
        let mut expected: Vec<String> = (0..RECORDS).map(|n| format!("{n}")).collect();
        expected.extend((0..KEYS).map(|key| format!("key {key}: true")));
        expected.sort();
        let published = oracle::published(&directory.path().join("out")).unwrap();
        assert_eq!(oracle::difference(&expected, &published), None);
    });
}

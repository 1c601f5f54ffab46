//! Jobs that follow each other in a bucket: from a savepoint of a job that goes on, and by claiming what another has left.

use crate::server::{BUCKET, ask, with_server};
use crate::{
    check_clean, check_output, check_stored, checkpoints, environment, hurried, long_workload, look_into_all,
    savepoints, wait_for_checkpoints,
};
use std::collections::BTreeSet;
use std::time::Duration;
use tidegate::checkpoint::{RestoreMode, Retention};
use tidegate::cluster::jobmaster::JobResult;
use tidegate_recovery_tests::workload::record_line;
use tidegate_recovery_tests::{oracle, snapshots};

/// All objects of the bucket whose names begin like this.
fn objects(prefix: &str) -> Vec<String> {
    let answer = ask("GET", &format!("?list-type=2&max-keys=10000&prefix={prefix}"));
    assert!(answer.contains("<IsTruncated>false"), "{answer}");
    let keys = answer.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
    keys.map(|(key, _)| key.to_owned()).collect()
}

#[test]
fn a_savepoint_of_a_job_that_goes_on_starts_another() {
    with_server("lives::a_savepoint_of_a_job_that_goes_on_starts_another", || {
        let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let workload = long_workload(12);
        let env = environment(&workload, directory.path(), "goes-on", None);
        let job = env.start("s3").unwrap();
        wait_for_checkpoints(&job, 3);
        let savepoint = job.controller().savepoint(Some(&savepoints())).unwrap();
        assert!(savepoint.location.starts_with(&savepoints()), "{savepoint:?}");
        wait_for_checkpoints(&job, 1);
        // It is drained: event time comes to its end, and the savepoint holds that.
        let last = job.controller().stop(Some(&savepoints()), true).unwrap();
        assert_eq!(job.wait().unwrap(), JobResult::Finished);
        for location in [&savepoint.location, &last.location] {
            check_stored(location, &workload);
            check_clean(location);
        }
        check_clean(&format!("{}/goes-on", checkpoints()));
        let lines = oracle::published(&directory.path().join("out")).unwrap();
        let count = |lines: &[String], kind: &str| lines.iter().filter(|l| l.starts_with(kind)).count();
        assert!(count(&lines, "record") < workload.input.len(), "it has come to its own end");
        let set: BTreeSet<&str> = lines.iter().map(String::as_str).collect();
        let due = workload.expected_of(|r| set.contains(record_line(r).as_str()));
        assert_eq!(oracle::difference(&due, &lines), None, "the savepoint on the way has disturbed nothing");
        // Another job does what is left after the savepoint on the way, and nothing of what came before.
        let env = environment(&hurried(&workload), other.path(), "another", Some(&savepoint.location));
        assert_eq!(env.start("s3").unwrap().wait().unwrap(), JobResult::Finished);
        let lines = oracle::published(&other.path().join("out")).unwrap();
        let all = workload.expected();
        let set: BTreeSet<&String> = all.iter().collect();
        assert!(lines.is_sorted_by(|a, b| a < b), "something was published twice");
        assert!(lines.iter().all(|line| set.contains(line)), "something wrong was published");
        assert_eq!(count(&lines, "total"), count(&all, "total"), "all keys are in the savepoint");
        assert!(count(&lines, "record") < workload.input.len(), "it has begun anew");
    });
}

#[test]
fn what_is_claimed_in_a_bucket_goes_when_the_claimer_has_checkpoints() {
    with_server("lives::what_is_claimed_in_a_bucket_goes_when_the_claimer_has_checkpoints", || {
        let directory = tempfile::tempdir().unwrap();
        let workload = long_workload(13);
        let place = |job: &str| format!("{}/{job}", checkpoints());
        let job = environment(&workload, directory.path(), "first", None).start("s3").unwrap();
        wait_for_checkpoints(&job, 3);
        job.controller().cancel();
        assert_eq!(job.wait().unwrap(), JobResult::Canceled);
        check_stored(&place("first"), &workload);
        assert!(!objects("checkpoints/first/chk-").is_empty());

        let mut env = environment(&workload, directory.path(), "second", Some(&place("first")));
        env.config_mut().restore.mode = RestoreMode::Claim;
        let seen = look_into_all(&mut env, "second", &workload);
        let job = env.start("s3").unwrap();
        let is_claimed = || !objects("checkpoints/second/claim.json").is_empty();
        assert!(is_claimed() && !objects("checkpoints/first/claimed.json").is_empty());
        wait_for_checkpoints(&job, 3);
        let lets_go = (0..600).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            !is_claimed()
        });
        assert!(lets_go, "it keeps what it has claimed: {:?}", objects("checkpoints/"));
        assert_eq!(objects("checkpoints/first/chk-"), [""; 0]);
        let savepoint = job.controller().stop(Some(&savepoints()), false).unwrap();
        assert_eq!(job.wait().unwrap(), JobResult::Finished);
        assert!(snapshots::all_right(&seen).unwrap() > 3, "checkpoints were not looked into");
        check_stored(&savepoint.location, &workload);
        for location in [&place("first"), &place("second"), &savepoint.location] {
            check_clean(location);
        }
        let workload = hurried(&workload);
        let mut env = environment(&workload, directory.path(), "third", Some(&savepoint.location));
        env.config_mut().restore.mode = RestoreMode::Claim;
        env.config_mut().checkpoint.retention = Retention::OnFailure;
        assert_eq!(env.start("s3").unwrap().wait().unwrap(), JobResult::Finished);
        check_output(&workload, directory.path());
        check_clean(&place("third"));
        let name = savepoint.location.strip_prefix(&format!("s3://{BUCKET}/")).unwrap();
        assert_eq!(
            objects(name),
            [format!("{name}/claimed.json")],
            "it goes with the job that has claimed it"
        );
    });
}

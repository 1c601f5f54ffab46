//! What outlives a cluster.

use super::*;
use crate::cluster::dispatcher::record::{EndStatus, Outcome};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

fn hash(digit: &str) -> ProgramHash {
    digit.repeat(64).parse().unwrap()
}

fn record(job: &str, number: u64) -> JobRecord {
    JobRecord {
        number,
        job: JobId::from(job.to_owned()),
        program: "program".to_owned(),
        sha256: hash("a"),
        arguments: vec!["--input".to_owned(), "x".to_owned()],
        taskmanagers: vec![2, 1],
        checkpoint_dir: "/tmp/checkpoints".to_owned(),
        submitted_at_ms: 5,
        outcome: None,
    }
}

#[test]
fn records_come_back_in_order_and_are_replaced_as_a_whole() {
    let temp = tempfile::tempdir().unwrap();
    let data = DataDirectory::open(temp.path()).unwrap();
    let (second, mut first) = (record("a", 2), record("b", 1));
    data.write(&second).unwrap();
    data.write(&first).unwrap();
    assert_eq!(data.records().unwrap(), [first.clone(), second.clone()]);
    first.outcome = Some(Outcome { status: EndStatus::Failed, why: Some("so".to_owned()) });
    data.write(&first).unwrap();
    // A write that was cut off.
    std::fs::write(data.jobs().join("a.json.new"), b"half").unwrap();
    std::fs::write(data.programs().join(".new-1"), b"half").unwrap();
    drop(data);
    let data = DataDirectory::open(temp.path()).unwrap();
    assert_eq!(data.records().unwrap(), [first, second]);
    assert_eq!(std::fs::read_dir(data.jobs()).unwrap().count(), 2);
    assert_eq!(std::fs::read_dir(data.programs()).unwrap().count(), 0);
}

#[test]
fn a_record_that_is_damaged_or_in_a_wrong_place_is_refused_by_name() {
    let temp = tempfile::tempdir().unwrap();
    let data = DataDirectory::open(temp.path()).unwrap();
    data.write(&record("a", 1)).unwrap();
    let path = data.jobs().join("a.json");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::rename(&path, data.jobs().join("b.json")).unwrap();
    let misplaced = data.records().unwrap_err().to_string();
    assert!(misplaced.contains("b.json: it is of job a"), "{misplaced}");
    std::fs::remove_file(data.jobs().join("b.json")).unwrap();
    for index in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[index] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        assert!(data.records().unwrap_err().to_string().contains("a.json"), "byte {index}");
    }
}

#[test]
fn one_cluster_at_a_time_in_a_directory_of_its_own() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("data");
    let data = DataDirectory::open(&path).unwrap();
    let second = DataDirectory::open(&path).unwrap_err().to_string();
    assert!(second.contains("another cluster runs on it"), "{second}");
    drop(data);
    drop(DataDirectory::open(&path).unwrap());
    std::fs::set_permissions(&path, Permissions::from_mode(0o770)).unwrap();
    let open = DataDirectory::open(&path).unwrap_err().to_string();
    assert!(open.contains("others may write in it: its mode is 770"), "{open}");
}

#[test]
fn a_program_that_was_changed_is_found_and_one_that_nobody_runs_is_removed() {
    let temp = tempfile::tempdir().unwrap();
    let data = DataDirectory::open(temp.path()).unwrap();
    let good = ProgramHash::of_copy(&mut &b"good"[..], &mut io::sink()).unwrap();
    std::fs::write(data.program(&good), b"good").unwrap();
    data.verify(&good).unwrap();
    std::fs::write(data.program(&good), b"evil").unwrap();
    let changed = data.verify(&good).unwrap_err().to_string();
    assert!(changed.contains("the program was changed"), "{changed}");
    assert!(data.verify(&hash("b")).unwrap_err().to_string().contains("cannot be read"));
    std::fs::write(data.program(&hash("b")), b"old").unwrap();
    data.keep_programs(&BTreeSet::from([good.clone()]));
    assert!(data.program(&good).exists() && !data.program(&hash("b")).exists());
}

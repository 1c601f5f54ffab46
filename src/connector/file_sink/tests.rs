//! Crashes at every step, commits repeated, files lost or changed: output is complete, single, or an error.

use super::*;
use crate::connector::test_context::context;
use crate::error::ErrorKind;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

struct Task {
    writer: Box<dyn SinkWriter<Record = String, Committable = Part>>,
    committer: Box<dyn Committer<Part>>,
}

impl Task {
    /// Starts as the runtime does: commits what was restored, cleans up, then takes records.
    fn start(directory: &Path, context: &SinkContext, restored: &[Part]) -> Result<Self> {
        let sink = FileSink::lines(directory);
        let writer = sink.writer(context)?;
        let mut committer = sink.committer(context)?;
        restored.iter().try_for_each(|part| committer.commit(part))?;
        committer.clean_up(restored)?;
        Ok(Self { writer, committer })
    }

    fn write(&mut self, line: &str) {
        self.writer.write(line.to_owned(), 0).unwrap();
    }

    /// Writes `lines` and completes their part.
    fn prepare(&mut self, lines: &[&str]) -> Vec<Part> {
        lines.iter().for_each(|line| self.write(line));
        self.writer.prepare_commit().unwrap()
    }

    /// The process dies: nothing is tidied up.
    fn crash(self) {
        std::mem::forget(self);
    }
}

fn files(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn published(directory: &TempDir) -> Vec<String> {
    let mut lines = Vec::new();
    for name in files(directory.path()).iter().filter(|name| name.starts_with("part-")) {
        let text = fs::read_to_string(directory.path().join(name)).unwrap();
        lines.extend(text.lines().map(str::to_owned));
    }
    lines.sort();
    lines
}

#[test]
fn a_part_appears_when_it_is_committed_and_not_before() {
    let directory = tempfile::tempdir().unwrap();
    let mut task = Task::start(directory.path(), &context("job", 1, 0), &[]).unwrap();
    task.write("a");
    assert_eq!(files(directory.path()), [".staging-job"]);
    let parts = task.prepare(&["b"]);
    assert_eq!(files(directory.path()), [".staging-job"]);
    assert_eq!(parts.len(), 1);
    assert_eq!((parts[0].length, parts[0].crc32), (4, crc32fast::hash(b"a\nb\n")));

    task.committer.commit(&parts[0]).unwrap();
    assert_eq!(files(directory.path()), [".staging-job", "part-job.out-0-1-0.txt"]);
    assert_eq!(published(&directory), ["a", "b"]);
    assert!(task.prepare(&[]).is_empty(), "nothing written, nothing to publish");
    drop(task);
    assert_eq!(files(directory.path()), ["part-job.out-0-1-0.txt"], "the empty staging directory goes");
}

#[test]
fn output_is_exactly_once_wherever_it_crashes() {
    let lines: Vec<String> = (0..12).map(|n| format!("{n:02}")).collect();
    // A run: two lines, barrier, checkpoint complete, commit; again and again. It crashes once after each `step`.
    for crash in 0..30 {
        let directory = tempfile::tempdir().unwrap();
        let (mut step, mut attempt) = (0, 1);
        // The completed checkpoint: how far the source was, and the parts to publish.
        let (mut position, mut pending) = (0, Vec::<Part>::new());
        'attempts: loop {
            let mut crashes = || {
                step += 1;
                step == crash + 1
            };
            let mut task = Task::start(directory.path(), &context("job", attempt, 0), &pending).unwrap();
            attempt += 1;
            let mut at = position;
            while at < lines.len() {
                for line in &lines[at..at + 2] {
                    task.write(line);
                    if crashes() {
                        task.crash();
                        continue 'attempts;
                    }
                }
                at += 2;
                let parts = task.writer.prepare_commit().unwrap();
                if crashes() {
                    task.crash();
                    continue 'attempts;
                }
                (position, pending) = (at, parts);
                if crashes() {
                    task.crash();
                    continue 'attempts;
                }
                pending.iter().try_for_each(|part| task.committer.commit(part)).unwrap();
                if crashes() {
                    task.crash();
                    continue 'attempts;
                }
            }
            break;
        }
        assert_eq!(attempt, 3, "it must have crashed once");
        assert_eq!(published(&directory), lines, "crash after step {crash}");
        assert_eq!(files(&directory.path().join(".staging-job")), [""; 0], "crash after step {crash}");
    }
}

#[test]
fn committing_again_is_success_in_any_attempt() {
    let directory = tempfile::tempdir().unwrap();
    let mut task = Task::start(directory.path(), &context("job", 1, 0), &[]).unwrap();
    let parts = task.prepare(&["a"]);
    task.committer.commit(&parts[0]).unwrap();
    task.committer.commit(&parts[0]).unwrap();
    task.crash();
    Task::start(directory.path(), &context("job", 2, 1), &parts).unwrap();
    assert_eq!(published(&directory), ["a"]);
}

#[test]
fn only_orphans_of_earlier_attempts_of_this_operator_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let mut old =
        [0, 1].map(|subtask| Task::start(directory.path(), &context("job", 1, subtask), &[]).unwrap());
    let kept: Vec<Part> = old.iter_mut().flat_map(|task| task.prepare(&["kept"])).collect();
    old.iter_mut().for_each(|task| drop(task.prepare(&["orphan"])));
    old.into_iter().for_each(Task::crash);
    let staging = directory.path().join(".staging-job");
    for foreign in ["other-1-0-0.part", "notes.txt"] {
        fs::write(staging.join(foreign), "x").unwrap();
    }

    // The other subtask is up first, and writing.
    let mut other = Task::start(directory.path(), &context("job", 2, 1), &kept[1..]).unwrap();
    assert_eq!(files(&staging).len(), 5, "only the first subtask cleans up");
    let fresh = other.prepare(&["fresh"]);
    let sink = FileSink::lines(directory.path());
    let mut committer = sink.committer(&context("job", 2, 0)).unwrap();
    committer.clean_up(&kept).unwrap();
    assert_eq!(files(&staging), ["notes.txt", "other-1-0-0.part", "out-1-0-0.part", "out-2-1-0.part"]);
    committer.commit(&kept[0]).unwrap();
    other.committer.commit(&fresh[0]).unwrap();
    assert_eq!(published(&directory), ["fresh", "kept", "kept"]);
}

#[test]
fn lost_and_changed_files_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let mut task = Task::start(directory.path(), &context("job", 1, 0), &[]).unwrap();
    let parts: Vec<Part> = ["a", "b", "c", "d"].iter().flat_map(|line| task.prepare(&[line])).collect();
    let mut fails = |part: &Part, words: &[&str]| {
        let e = task.committer.commit(part).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Data, "{e}");
        words.iter().for_each(|word| assert!(e.to_string().contains(word), "{e}"));
    };
    fs::remove_file(parts[0].staged_path()).unwrap();
    fails(&parts[0], &["DATA LOSS", &parts[0].staged, &parts[0].published]);
    fs::write(parts[1].published_path(), "x\n").unwrap();
    fails(&parts[1], &["checksum", &parts[1].published]);
    assert_eq!(fs::read(parts[1].published_path()).unwrap(), b"x\n", "never overwritten");
    fs::write(parts[2].staged_path(), "").unwrap();
    fails(&parts[2], &["0 bytes", &parts[2].staged]);
    assert!(!parts[2].published_path().exists());
    task.crash();

    // After a restart the content counts too.
    fs::write(parts[3].staged_path(), "y\n").unwrap();
    let e = Task::start(directory.path(), &context("job", 2, 0), &parts[3..]).err().unwrap();
    assert!(e.kind() == ErrorKind::Data && e.to_string().contains("checksum"), "{e}");
}

#[test]
fn a_job_restored_under_another_id_leaves_the_old_one_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut old = Task::start(directory.path(), &context("old", 1, 0), &[]).unwrap();
    let savepoint = old.prepare(&["both"]);
    old.committer.commit(&savepoint[0]).unwrap();
    let later = old.prepare(&["old"]);
    // The new job starts from the savepoint while the old one goes on.
    let mut new = Task::start(directory.path(), &context("new", 1, 0), &savepoint).unwrap();
    let parts = new.prepare(&["new"]);
    new.committer.commit(&parts[0]).unwrap();
    old.committer.commit(&later[0]).unwrap();
    assert_eq!(published(&directory), ["both", "new", "old"]);
}

#[test]
fn an_attempt_number_used_twice_overwrites_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = Task::start(directory.path(), &context("job", 1, 0), &[]).unwrap();
    let parts = first.prepare(&["a"]);
    first.committer.commit(&parts[0]).unwrap();
    let staged = first.prepare(&["b"]);
    let mut second = Task::start(directory.path(), &context("job", 1, 0), &[]).unwrap();
    let others = second.prepare(&["c"]);
    second.committer.commit(&others[0]).unwrap();
    first.committer.commit(&staged[0]).unwrap();
    assert_eq!(published(&directory), ["a", "b", "c"]);
}

#[test]
fn a_staging_directory_taken_away_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut task = Task::start(directory.path(), &context("job", 1, 0), &[]).unwrap();
    fs::remove_dir(directory.path().join(".staging-job")).unwrap();
    let parts = task.prepare(&["a"]);
    task.committer.commit(&parts[0]).unwrap();
    assert_eq!(published(&directory), ["a"]);
}

#[test]
fn directories_are_made_and_files_refused() {
    let directory = tempfile::tempdir().unwrap();
    Task::start(&directory.path().join("a/b/c"), &context("job", 1, 0), &[]).unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let e = Task::start(&path, &context("job", 1, 0), &[]).err().unwrap();
        assert_eq!(e.kind(), ErrorKind::Config, "{e}");
        assert!(e.to_string().contains("file"), "{e}");
    }
}

#[test]
fn csv_rows_roll_over_into_new_parts_of_one_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let sink = FileSink::<(String, u64)>::csv(directory.path()).with_max_part_bytes(10);
    let context = context("job", 1, 0);
    let mut writer = sink.writer(&context).unwrap();
    for n in 0..5 {
        writer.write(("a,b".into(), n), 0).unwrap();
    }
    let parts = writer.prepare_commit().unwrap();
    assert_eq!(parts.iter().map(|part| part.length).collect::<Vec<_>>(), [16, 16, 8]);
    let mut committer = sink.committer(&context).unwrap();
    parts.iter().try_for_each(|part| committer.commit(part)).unwrap();
    assert!(parts.iter().all(|part| part.published.ends_with(".csv")));
    assert_eq!(published(&directory), (0..5).map(|n| format!("\"a,b\",{n}")).collect::<Vec<_>>());
}

#[test]
fn an_unfinished_part_goes_with_its_writer() {
    let directory = tempfile::tempdir().unwrap();
    let sink = FileSink::<String>::lines(directory.path()).with_max_part_bytes(2);
    let mut writer = sink.writer(&context("job", 1, 0)).unwrap();
    writer.write("a".into(), 0).unwrap();
    let staging = directory.path().join(".staging-job");
    assert_eq!(files(&staging).len(), 1);
    drop(writer);
    assert_eq!(files(&staging), [""; 0]);
}

//! Every line exactly once, whatever the borders, the chunks and the restarts; and what goes wrong goes wrong aloud.

use super::*;
use crate::error::ErrorKind;
use crate::function::{Collector, NextSplit, ReaderStatus, SubtaskInfo};
use crate::id::Attempt;
use proptest::prelude::*;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering;
use tempfile::TempDir;

type Reader<R> = Box<dyn SourceReader<Record = R, Split = FileSplit>>;

fn new_reader<R: Data>(source: &FileSource<R>) -> Reader<R> {
    let subtask = SubtaskInfo {
        operator: "in".into(),
        index: 0,
        parallelism: 1,
        max_parallelism: 128,
        attempt: Attempt(1),
    };
    source.reader(&ReaderContext { subtask }).unwrap()
}

fn splits<R: Data>(source: &FileSource<R>, parallelism: u32) -> Result<Vec<FileSplit>> {
    let mut queue = source.enumerator(&EnumeratorContext { parallelism }, None)?;
    // What is left survives a restart of the enumerator, whatever has happened to the files.
    let mut all = Vec::new();
    while let NextSplit::Split(split) = queue.next_split(0)? {
        all.push(split);
        queue = source.enumerator(&EnumeratorContext { parallelism }, Some(&queue.snapshot()?))?;
    }
    Ok(all)
}

/// Reads `splits` to the end; `restart` says after which polls the reader is replaced by one with its snapshot.
fn read<R: Data>(
    source: &FileSource<R>,
    splits: Vec<FileSplit>,
    mut restart: impl FnMut(u64) -> bool,
) -> Result<Vec<R>> {
    let mut records = Vec::new();
    let mut reader = new_reader(source);
    for split in splits {
        reader.add_split(split)?;
    }
    for polls in 0u64.. {
        assert!(polls < 1_000_000, "the reader does not come to an end");
        let mut out = Collector::new(&mut records, 0);
        let status = reader.poll(0, &mut out)?;
        out.finish()?;
        if status == ReaderStatus::NeedSplit {
            assert_eq!(reader.snapshot()?, []);
            return Ok(records);
        }
        if restart(polls) {
            let snapshot = reader.snapshot()?;
            reader = new_reader(source);
            for split in snapshot {
                reader.add_split(split)?;
            }
        }
    }
    unreachable!()
}

fn write(directory: &TempDir, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = directory.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn lines_of(input: &str) -> Result<Vec<String>> {
    let source = FileSource::lines(input);
    read(&source, splits(&source, 1)?, |_| false)
}

fn compress(kind: &str, members: &[&[u8]]) -> Vec<u8> {
    let mut compressed = Vec::new();
    for member in members {
        match kind {
            "gz" => {
                let mut gzip = flate2::write::GzEncoder::new(&mut compressed, flate2::Compression::fast());
                gzip.write_all(member).unwrap();
                gzip.finish().unwrap();
            }
            _ => compressed.extend(zstd::encode_all(*member, 1).unwrap()),
        }
    }
    compressed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_line_once_at_its_place(
        text in "([a-c\u{e9}]{0,6}(\n|\r\n|\r|)){0,12}",
        split in 1u64..40,
        chunk in 1u64..30,
        restart_every in 1u64..8,
        kind in 0usize..3,
    ) {
        let directory = tempfile::tempdir().unwrap();
        let middle = text.len() / 2;
        let members = [&text.as_bytes()[..middle], &text.as_bytes()[middle..]];
        let path = match kind {
            0 => write(&directory, "in.txt", &text),
            1 => write(&directory, "in.txt.gz", compress("gz", &members)),
            _ => write(&directory, "in.zst", compress("zst", &members)),
        };
        let source = FileSource::records(path).with_split_size(split).with_chunk_bytes(chunk);
        let splits = splits(&source, 3).unwrap();
        prop_assert!(kind == 0 || splits.len() <= 1);
        let expected: Vec<&str> = text.lines().collect();
        for restart_every in [u64::MAX, restart_every] {
            // A restart may fall on any poll, but a poll in between must get somewhere: seeking again and again on
            // one-byte chunks never ends.
            let mut next = restart_every;
            let restart = |polls| polls >= next && { next = polls * 2 + restart_every; true };
            let found = read(&source, splits.clone(), restart).unwrap();
            let found_lines: Vec<&str> = found.iter().map(|record| record.line.as_str()).collect();
            prop_assert_eq!(&found_lines, &expected);
            for record in &found {
                let at = record.offset as usize;
                prop_assert!(at == 0 || text.as_bytes()[at - 1] == b'\n');
                prop_assert!(text[at..].starts_with(&record.line));
            }
        }
    }
}

#[test]
fn several_readers_share_a_file_large_enough() {
    let directory = tempfile::tempdir().unwrap();
    let text: String = (0..400_000).map(|n| format!("line {n}\n")).collect();
    let path = write(&directory, "large.txt", &text);
    let source = FileSource::lines(path);
    let splits = splits(&source, 2).unwrap();
    assert_eq!(splits.len(), text.len().div_ceil(1 << 20));
    let mut polls_seen = 0;
    let found = read(&source, splits, |polls| {
        polls_seen = polls;
        polls % 7 == 0
    })
    .unwrap();
    assert_eq!(found.len(), 400_000);
    assert!(found.iter().map(String::as_str).eq(text.lines()));
    assert!(polls_seen > 80, "a poll must stay small: {polls_seen}");
}

#[test]
fn directories_and_patterns_leave_hidden_names_out() {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("b", "2\n"),
        ("a.log", "1\n"),
        ("sub/c.log", "3\n"),
        (".h", "x\n"),
        ("_tmp", "x\n"),
        (".staging-j/p", "x\n"),
    ] {
        write(&directory, name, content);
    }
    let at = |pattern: &str| directory.path().join(pattern).to_str().unwrap().to_owned();
    assert_eq!(lines_of(&at("")).unwrap(), ["1", "2", "3"]);
    assert_eq!(lines_of(&at("*.log")).unwrap(), ["1"]);
    assert_eq!(lines_of(&at("**/*.log")).unwrap(), ["1", "3"]);
    assert_eq!(lines_of(&at("*")).unwrap(), ["1", "2", "3"]);
    assert_eq!(lines_of(&format!("file://{}", at("b"))).unwrap(), ["2"]);
    assert_eq!(lines_of(&at("_tmp")).unwrap(), ["x"]);
}

#[test]
fn missing_input_is_named_together_with_the_working_directory() {
    let here = std::env::current_dir().unwrap().display().to_string();
    for input in ["no/such/file", "no/such/*.txt"] {
        let e = lines_of(input).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Config);
        assert!(e.to_string().contains(input) && e.to_string().contains(&here), "{e}");
    }
    assert_eq!(lines_of("s3://books/").unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(lines_of("a[").unwrap_err().kind(), ErrorKind::Config);
    let zero = FileSource::lines(".").with_split_size(0);
    assert_eq!(splits(&zero, 1).unwrap_err().kind(), ErrorKind::Config);
    let zero = FileSource::lines(".").with_rate(0.0);
    assert_eq!(splits(&zero, 1).unwrap_err().kind(), ErrorKind::Config);
}

#[test]
fn a_file_that_changed_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(&directory, "in", "one\ntwo\n");
    let source = FileSource::lines(&path);
    let listed = splits(&source, 1).unwrap();

    std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
    let e = read(&source, listed.clone(), |_| false).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Data);
    assert!(e.to_string().contains(&path), "{e}");

    std::fs::write(&path, "ONE\nTWO\n").unwrap();
    let later = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
    assert_eq!(read(&source, listed.clone(), |_| false).unwrap_err().kind(), ErrorKind::Data);

    // Same length, and even the same modification time: the position is found not to follow a line end.
    std::fs::write(&path, "onetwo\n\n").unwrap();
    let mut restored = listed[0].clone();
    restored.position = 4;
    restored.records = 1;
    restored.modified_ms = input::modified_ms(&Path::new(&path).metadata().unwrap());
    let e = read(&source, vec![restored], |_| false).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Data);
    assert!(e.to_string().contains("no line ends at byte 3"), "{e}");

    std::fs::remove_file(&path).unwrap();
    assert_eq!(read(&source, listed, |_| false).unwrap_err().kind(), ErrorKind::Data);
}

#[test]
fn what_is_not_utf8_fails_or_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(&directory, "in", b"good\nba\xffd\ngood too\n\xc3");
    let source = FileSource::lines(&path);
    let e = read(&source, splits(&source, 1).unwrap(), |_| false).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Data);
    assert!(e.to_string().contains(&format!("'{path}' is not UTF-8 at byte 7 ")), "{e}");

    let source = source.with_invalid_utf8(InvalidUtf8::SkipAndCount);
    let skipped = source.skipped();
    assert_eq!(read(&source, splits(&source, 1).unwrap(), |_| false).unwrap(), ["good", "good too"]);
    assert_eq!(skipped.load(Ordering::Relaxed), 2);
}

#[test]
fn too_long_a_line_is_refused_whatever_the_chunk() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(&directory, "in", "short\n0123456789\nshort\n");
    for chunk in [3, 1000] {
        let source = FileSource::lines(&path).with_chunk_bytes(chunk).with_max_line_bytes(9);
        let e = read(&source, splits(&source, 1).unwrap(), |_| false).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Data);
        assert!(e.to_string().contains("the line at byte 6 of"), "{e}");
        let source = source.with_max_line_bytes(10);
        assert_eq!(read(&source, splits(&source, 1).unwrap(), |_| false).unwrap().len(), 3);
    }
}

#[test]
fn damaged_compressed_files_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let text: String =
        (0..5_000u64).map(|n| format!("{}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    for kind in ["gz", "zst"] {
        let whole = compress(kind, &[text.as_bytes()]);
        assert_eq!(lines_of(&write(&directory, &format!("whole.{kind}"), &whole)).unwrap().len(), 5_000);
        let path = write(&directory, &format!("cut.{kind}"), &whole[..whole.len() / 2]);
        let e = lines_of(&path).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Data, "{e}");
        assert!(e.to_string().contains(&path), "{e}");
    }
}

#[test]
fn a_position_behind_the_content_of_a_compressed_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for kind in ["gz", "zst"] {
        let path = write(&directory, &format!("in.{kind}"), compress(kind, &[b"one\ntwo\n"]));
        let source = FileSource::lines(&path);
        let mut listed = splits(&source, 1).unwrap();
        for position in [8, 9, 100] {
            listed[0].position = position;
            match read(&source, listed.clone(), |_| false) {
                Ok(lines) => assert!(position == 8 && lines.is_empty()),
                Err(e) => assert!(position > 8 && e.kind() == ErrorKind::Data, "{position}: {e}"),
            }
        }
    }
}

#[test]
fn the_rate_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let source = FileSource::lines(write(&directory, "in", "a\nb\nc\n")).with_rate(10.0);
    let mut reader = new_reader(&source);
    for split in splits(&source, 1).unwrap() {
        reader.add_split(split).unwrap();
    }
    let mut records = Vec::new();
    let mut poll = |now| {
        let mut out = Collector::new(&mut records, 0);
        let status = reader.poll(now, &mut out).unwrap();
        out.finish().unwrap();
        (status, records.len())
    };
    assert_eq!(poll(1_000), (ReaderStatus::More, 1));
    assert_eq!(poll(1_000), (ReaderStatus::WaitUntil(1_100), 1));
    assert_eq!(poll(1_100), (ReaderStatus::More, 2));
    assert_eq!(poll(1_200), (ReaderStatus::NeedSplit, 3));
}

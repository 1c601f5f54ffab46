//! A local database that fails takes its task down, never the job's state: the checkpoint has it all.

#![cfg(feature = "rocksdb")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tidegate_state::{
    BackendOptions, BackendScope, Error, ErrorKind, InMemoryFiles, Key, KeyGroupRange, KeyedBackend,
    KeyedSnapshot, Result, RocksDbOptions, SnapshotMode, ValueState,
};

fn open(
    local: &Path,
    files: &InMemoryFiles,
    snapshot: Option<&KeyedSnapshot>,
) -> Result<(KeyedBackend<u64>, ValueState<Vec<u8>>)> {
    let scope = BackendScope {
        operator: "errors".into(),
        subtask: 0,
        max_parallelism: 4,
        range: KeyGroupRange::all(4),
        local_dir: Some(local.into()),
    };
    let options =
        RocksDbOptions { cache_bytes: 1, write_buffer_bytes: 256 << 10, ..RocksDbOptions::default() };
    let sources: Vec<_> = snapshot.into_iter().map(|snapshot| files.source(snapshot, None)).collect();
    let mut backend = KeyedBackend::open(&BackendOptions::RocksDb(options), scope, &sources)?;
    let state = backend.value_state("value")?;
    Ok((backend, state))
}

/// A value that does not compress.
fn value(key: u64) -> Vec<u8> {
    (0..128).flat_map(|n| (key * 128 + n).hash64().to_le_bytes()).collect()
}

fn fill(
    backend: &KeyedBackend<u64>,
    state: &mut ValueState<Vec<u8>>,
    keys: std::ops::Range<u64>,
) -> Result<()> {
    for key in keys {
        backend.set_current_key(key, key.hash64())?;
        state.set(value(key))?;
    }
    Ok(())
}

fn check(backend: &KeyedBackend<u64>, state: &ValueState<Vec<u8>>, keys: std::ops::Range<u64>) -> Result<()> {
    for key in keys {
        backend.set_current_key(key, key.hash64())?;
        if state.get()? != Some(value(key)) {
            return Err(Error::bug(format!("key {key} has another value")));
        }
    }
    Ok(())
}

fn snapshot(backend: &mut KeyedBackend<u64>, files: &InMemoryFiles) -> Result<KeyedSnapshot> {
    files.store(1, backend.freeze(1, SnapshotMode::Native { base: None })?)
}

/// After a failure: the old database goes without trace, and a new one goes on from the checkpoint.
fn goes_on(old: KeyedBackend<u64>, local: &Path, files: &InMemoryFiles, snapshot: &KeyedSnapshot) {
    drop(old);
    assert_eq!(fs::read_dir(local).unwrap().count(), 0, "the failed database is still there");
    let elsewhere = tempfile::tempdir().unwrap();
    let (backend, state) = open(elsewhere.path(), files, Some(snapshot)).unwrap();
    check(&backend, &state, 0..500).unwrap();
    backend.set_current_key(500, 500u64.hash64()).unwrap();
    assert_eq!(state.get().unwrap(), None, "what came after the checkpoint");
}

/// A file system in memory that holds this much. Needs root.
struct SmallDisk {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(size: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(mounted.success(), "this test mounts a file system, so it needs root");
        Self { path, _directory: directory }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

#[test]
fn a_full_disk_restarts_the_task() {
    let disk = SmallDisk::mount("6m");
    let files = InMemoryFiles::new();
    let (mut backend, mut state) = open(&disk.path, &files, None).unwrap();
    fill(&backend, &mut state, 0..500).unwrap();
    let stored = snapshot(&mut backend, &files).unwrap();
    let e = fill(&backend, &mut state, 500..200_000).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::RestartTask, "{e}");
    assert!(e.to_string().to_lowercase().contains("no space"), "{e}");
    // It stays like that: nothing is written any more as if all were well.
    assert_eq!(fill(&backend, &mut state, 0..10_000).unwrap_err().kind(), ErrorKind::RestartTask);
    let failed = snapshot(&mut backend, &files).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::RestartTask, "{failed}");
    drop(state);
    goes_on(backend, &disk.path, &files, &stored);
}

#[test]
fn a_read_only_disk_restarts_the_task() {
    let disk = SmallDisk::mount("6m");
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&disk.path).status().unwrap();
    assert!(remounted.success());
    let e = open(&disk.path, &InMemoryFiles::new(), None).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::RestartTask, "{e}");
    assert!(e.to_string().to_lowercase().contains("read-only"), "{e}");
}

fn databases(local: &Path) -> PathBuf {
    let directory = fs::read_dir(local).unwrap().next().unwrap().unwrap();
    directory.path().join("db")
}

#[test]
fn a_disk_that_goes_away_restarts_the_task() {
    let local = tempfile::tempdir().unwrap();
    let files = InMemoryFiles::new();
    let (mut backend, mut state) = open(local.path(), &files, None).unwrap();
    fill(&backend, &mut state, 0..500).unwrap();
    let stored = snapshot(&mut backend, &files).unwrap();
    let away = tempfile::tempdir().unwrap();
    fs::rename(databases(local.path()), away.path().join("db")).unwrap();
    let e = fill(&backend, &mut state, 500..200_000).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::RestartTask, "{e}");
    drop(state);
    goes_on(backend, local.path(), &files, &stored);
}

#[test]
fn a_table_file_that_is_damaged_on_disk_restarts_the_task() {
    let local = tempfile::tempdir().unwrap();
    let files = InMemoryFiles::new();
    let (mut backend, mut state) = open(local.path(), &files, None).unwrap();
    fill(&backend, &mut state, 0..500).unwrap();
    let stored = snapshot(&mut backend, &files).unwrap();
    let mut damaged = 0;
    for file in fs::read_dir(databases(local.path())).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            let mut bytes = fs::read(&path).unwrap();
            let data = bytes.len() * 3 / 4;
            bytes[..data].iter_mut().step_by(97).for_each(|byte| *byte ^= 0xff);
            fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 0);
    let e = check(&backend, &state, 0..500).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::RestartTask, "{e}");
    assert!(e.to_string().contains("Corruption"), "{e}");
    drop(state);
    goes_on(backend, local.path(), &files, &stored);
}

#[test]
fn an_image_that_is_dropped_unstored_leaves_nothing() {
    let local = tempfile::tempdir().unwrap();
    let files = InMemoryFiles::new();
    let (mut backend, mut state) = open(local.path(), &files, None).unwrap();
    fill(&backend, &mut state, 0..500).unwrap();
    let image = backend.freeze(1, SnapshotMode::Native { base: None }).unwrap();
    drop((backend, state));
    assert_eq!(fs::read_dir(local.path()).unwrap().count(), 1);
    drop(image);
    assert_eq!(fs::read_dir(local.path()).unwrap().count(), 0);
}

//! What incremental snapshots of the memory backend cost, in bytes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use tidegate_state::{
    BackendOptions, BackendScope, InMemoryFiles, Key, KeyGroupRange, KeyedBackend, KeyedSnapshot,
    SnapshotMode, ValueState,
};

const KEYS: u64 = 200_000;

struct Run {
    backend: KeyedBackend<u64>,
    state: ValueState<u64>,
    files: InMemoryFiles,
    checkpoint: u64,
    last: Option<KeyedSnapshot>,
}

impl Run {
    fn new() -> Self {
        let scope = BackendScope {
            operator: "count".into(),
            subtask: 0,
            max_parallelism: 128,
            range: KeyGroupRange::all(128),
            local_dir: None,
        };
        let mut backend = KeyedBackend::open(&BackendOptions::Memory, scope, &[]).unwrap();
        let state = backend.value_state("total").unwrap();
        Self { backend, state, files: InMemoryFiles::new(), checkpoint: 0, last: None }
    }

    fn set(&mut self, keys: impl Iterator<Item = u64>, value: u64) {
        for key in keys {
            self.backend.set_current_key(key, Key::hash64(&key)).unwrap();
            self.state.set(value).unwrap();
        }
    }

    fn clear(&mut self, keys: impl Iterator<Item = u64>) {
        for key in keys {
            self.backend.set_current_key(key, Key::hash64(&key)).unwrap();
            self.state.clear().unwrap();
        }
    }

    /// Takes a checkpoint that builds on the last one: bytes written, and bytes of all files that it refers to.
    fn checkpoint(&mut self) -> (u64, u64) {
        let base = (self.checkpoint > 0).then_some(self.checkpoint);
        self.checkpoint += 1;
        let frozen = self.backend.freeze(self.checkpoint, SnapshotMode::Native { base }).unwrap();
        let snapshot = self.files.store(self.checkpoint, frozen).unwrap();
        let new = snapshot.files.iter().filter(|file| file.checkpoint == self.checkpoint);
        let bytes = (new.map(|f| f.length).sum(), snapshot.files.iter().map(|f| f.length).sum());
        self.last = Some(snapshot);
        bytes
    }

    /// Bytes of everything in the canonical form.
    fn canonical(&mut self) -> u64 {
        self.checkpoint += 1;
        let frozen = self.backend.freeze(self.checkpoint, SnapshotMode::Canonical).unwrap();
        let length = self.files.store(self.checkpoint, frozen).unwrap().files[0].length;
        // It is no base: the next one writes everything.
        length
    }
}

/// The keys of round `round` that are changed: `part` of a thousand, anywhere.
fn some(round: u64, part: u64) -> impl Iterator<Item = u64> {
    (0..KEYS * part / 1000).map(move |n| (n * 7919 + round * 104_729) % KEYS)
}

#[test]
fn few_changes_are_few_bytes_and_all_files_stay_below_twice_the_state() {
    let mut run = Run::new();
    run.set(0..KEYS, 1000);
    let (full, _) = run.checkpoint();
    let (mut written, mut most) = (0, 0);
    for round in 0..100 {
        run.set(some(round, 10), 2000 + round);
        let (new, all) = run.checkpoint();
        written += new;
        most = most.max(all);
    }
    assert!(written < 100 * full / 8, "{written} bytes in 100 checkpoints of 1 %, {full} for everything");
    assert!(most <= 2 * full, "{most} bytes of files for {full} bytes of state");
    // The same keys again and again.
    let mut written = 0;
    for round in 0..100 {
        run.set(some(0, 10), round);
        let (new, all) = run.checkpoint();
        written += new;
        assert!(all <= 2 * full, "{all} bytes of files for {full} bytes of state");
    }
    assert!(
        written < 100 * full / 10,
        "{written} bytes in 100 checkpoints of the same 1 %, {full} for everything"
    );
    let (nothing, _) = run.checkpoint();
    assert!(nothing < full / 30, "{nothing} bytes for no change at all, {full} for everything");
}

#[test]
fn many_changes_are_hardly_more_than_everything() {
    let mut run = Run::new();
    run.set(0..KEYS, 1000);
    let (full, _) = run.checkpoint();
    for round in 0..5 {
        run.set(0..KEYS, 2000 + round);
        let (new, all) = run.checkpoint();
        assert!(new <= full * 101 / 100 && all == new, "{new} and {all} bytes, {full} at first");
        run.set(some(round, 500), 3000);
        let (new, all) = run.checkpoint();
        assert!(new <= full * 105 / 100 && all <= 2 * full, "{new} and {all} bytes, {full} at first");
    }
    let canonical = run.canonical();
    assert!(
        full <= canonical * 110 / 100,
        "{full} bytes in the backend's own form, {canonical} in the canonical one"
    );
}

#[test]
fn files_shrink_with_the_state() {
    let mut run = Run::new();
    run.set(0..KEYS, 1000);
    let (full, _) = run.checkpoint();
    for tenth in 0..9 {
        run.clear((0..KEYS).filter(|key| key % 10 == tenth));
        let (_, all) = run.checkpoint();
        let live = full * (9 - tenth) / 10;
        assert!(all <= 2 * live + full / 50, "{all} bytes of files for about {live} bytes of state");
    }
}

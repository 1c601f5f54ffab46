//! The memory backend from the outside.

use tidegate_state::{
    BackendOptions, BackendScope, BorrowedKey, ErrorKind, InMemoryFiles, Key, KeyGroupRange, KeyedBackend,
    SnapshotMode,
};

fn scope() -> BackendScope {
    BackendScope {
        operator: "count".into(),
        subtask: 0,
        max_parallelism: 128,
        range: KeyGroupRange::all(128),
        local_dir: None,
    }
}

#[test]
fn counts_survive_a_snapshot() {
    let mut backend = KeyedBackend::<String>::open(&BackendOptions::Memory, scope(), &[]).unwrap();
    let mut total = backend.value_state::<u64>("total").unwrap();
    assert_eq!(total.get().unwrap_err().kind(), ErrorKind::Config, "no key yet");
    for word in ["a", "b", "a"] {
        backend.set_current_key_ref(word, BorrowedKey::hash64(word)).unwrap();
        total.update(|| 0, |n| *n += 1).unwrap();
    }
    let frozen = backend.freeze(1, SnapshotMode::Canonical).unwrap();
    total.set(99).unwrap();
    let writer = std::thread::Builder::new().spawn(move || {
        let files = InMemoryFiles::new();
        let snapshot = files.store(1, frozen).unwrap();
        assert_eq!(snapshot.rows, 2);
        files.source(&snapshot, None)
    });
    let files = [writer.unwrap().join().unwrap()];
    let mut backend = KeyedBackend::<String>::open(&BackendOptions::Memory, scope(), &files).unwrap();
    assert_eq!(backend.unclaimed_states().collect::<Vec<_>>(), ["total"]);
    assert_eq!(backend.value_state::<u32>("total").unwrap_err().kind(), ErrorKind::Config);
    let total = backend.value_state::<u64>("total").unwrap();
    let key = "a".to_string();
    let hash = Key::hash64(&key);
    backend.set_current_key(key, hash).unwrap();
    assert_eq!(total.get().unwrap(), Some(2));
}

#[test]
fn touching_keys_changes_nothing() {
    let half = BackendScope { range: KeyGroupRange { start: 0, end: 64 }, ..scope() };
    let mut backend = KeyedBackend::<u64>::open(&BackendOptions::Memory, half, &[]).unwrap();
    let hashes: Vec<u64> = (0..200_000u64).map(|key| Key::hash64(&key)).collect();
    backend.prefetch(&hashes, |_| unreachable!()).unwrap();
    // Large enough for touching to do anything at all.
    let mut state = backend.value_state::<[u64; 32]>("large").unwrap();
    let mut mine = Vec::new();
    for (key, hash) in (0..).zip(&hashes) {
        if backend.set_current_key(key, *hash).is_ok() {
            state.set([key; 32]).unwrap();
            mine.push(key);
        }
    }
    assert!((90_000..110_000).contains(&mine.len()), "half of the keys are another subtask's");
    let frozen = backend.freeze(1, SnapshotMode::Canonical).unwrap();
    backend.prefetch(&hashes, |_| unreachable!()).unwrap();
    state.update(|| [0; 32], |_| backend.prefetch(&hashes, |_| unreachable!()).unwrap()).unwrap();
    drop(frozen);
    for key in mine.into_iter().step_by(1001) {
        backend.set_current_key(key, Key::hash64(&key)).unwrap();
        assert_eq!(state.get().unwrap(), Some([key; 32]));
    }
}

#[cfg(not(feature = "rocksdb"))]
#[test]
fn rocksdb_without_its_feature_says_what_to_do() {
    let options = BackendOptions::RocksDb(Default::default());
    let e = KeyedBackend::<u64>::open(&options, scope(), &[]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Config);
    assert!(e.to_string().contains("feature `rocksdb`"), "{e}");
}

/// The bytes of a body that a released version will have written; they must stay readable for ever.
#[test]
fn golden_body() {
    let mut backend = KeyedBackend::<String>::open(&BackendOptions::Memory, scope(), &[]).unwrap();
    backend.set_current_key_ref("key-1", BorrowedKey::hash64("key-1")).unwrap();
    backend.value_state::<u64>("v").unwrap().set(300).unwrap();
    backend.list_state::<String>("l").unwrap().extend(["a".into(), "bc".into()]).unwrap();
    backend.map_state::<u16, ()>("m").unwrap().insert(7, ()).unwrap();
    backend.timers("t").unwrap().register(-1).unwrap();
    let files = InMemoryFiles::new();
    let snapshot = files.store(1, backend.freeze(1, SnapshotMode::Canonical).unwrap()).unwrap();
    let body = files.bytes(&snapshot.files[0]).unwrap();
    let hex: String = body.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, GOLDEN_BODY);
}

const GOLDEN_BODY: &str = concat!(
    "076b65792d3100010702016103026263096b65792d3100010007000f6b65792d3100017fffffffffffffff00076b6579",
    "2d31000103fb2c0180000000800006537472696e6700000000000000800000000000000080000004016c020100000006",
    "537472696e6706737472696e67f174e7484619add801780001010010b34a83a00000016d030100000375313602282902",
    "2829b4c4475b38f61b470178000101100b4843970a000001740401000000036936340369363494907c480947be7f0178",
    "0001011b111d0a158b0000017601010000000375363403753634f32f36b9931448a201780001012c0c101c63a3000038",
    "00000000000000b700000065ab2c2e0100000054474b53",
);

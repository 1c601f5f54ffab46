//! The memory backend from the outside.

use tidegate_state::{
    BackendOptions, BackendScope, BorrowedKey, ErrorKind, Key, KeyGroupRange, KeyedBackend,
    RestoredKeyedState,
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
    let frozen = backend.freeze().unwrap();
    total.set(99).unwrap();
    let body = std::thread::spawn(move || {
        let mut body = Vec::new();
        let stats = frozen.write(&mut body).unwrap();
        assert_eq!((stats.keys, stats.bytes), (2, body.len() as u64));
        body
    });
    let files = [RestoredKeyedState::from(body.join().unwrap())];
    let mut backend = KeyedBackend::<String>::open(&BackendOptions::Memory, scope(), &files).unwrap();
    assert_eq!(backend.unclaimed_states().collect::<Vec<_>>(), ["total"]);
    assert_eq!(backend.value_state::<u32>("total").unwrap_err().kind(), ErrorKind::Config);
    let total = backend.value_state::<u64>("total").unwrap();
    let key = "a".to_string();
    let hash = Key::hash64(&key);
    backend.set_current_key(key, hash).unwrap();
    assert_eq!(total.get().unwrap(), Some(2));
}

#[cfg(not(feature = "rocksdb"))]
#[test]
fn rocksdb_without_its_feature_says_what_to_do() {
    let options = BackendOptions::RocksDb(Default::default());
    let e = KeyedBackend::<u64>::open(&options, scope(), &[]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Config);
    assert!(e.to_string().contains("feature `rocksdb`"), "{e}");
}

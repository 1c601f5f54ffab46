//! Keyed snapshots of both backends are read without types: every kind of state, exactly.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_state::schema::Value;
use tidegate_state::{
    AggregateFunction, BackendOptions, BackendScope, Codec, InMemoryFiles, Key, KeyGroupRange, KeyType,
    KeyedBackend, Part, Result, SnapshotMode, SnapshotReader, SnapshotSource, StateEntry, StateOptions, Ttl,
    key_group_of,
};

const GROUPS: u16 = 8;

/// The one type of keys of these tests, but for one: types are expensive to compile.
type Word = (String, u64);

fn word(n: u64) -> Word {
    (format!("key-{n}"), n)
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u32,
    paid: Option<f32>,
    by: By,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum By {
    Cash,
    Card { number: u64 },
}

struct Mean;

impl AggregateFunction for Mean {
    type Input = u64;
    type Accumulator = (u64, u64);
    type Output = u64;

    fn create(&self) -> (u64, u64) {
        (0, 0)
    }

    fn add(&self, (sum, count): &mut (u64, u64), value: u64) {
        *sum += value;
        *count += 1;
    }

    fn result(&self, (sum, count): &(u64, u64)) -> u64 {
        sum / count
    }

    fn merge(&self, a: &mut (u64, u64), b: (u64, u64)) {
        *a = (a.0 + b.0, a.1 + b.1);
    }
}

fn backend<K: Key>(options: &BackendOptions) -> KeyedBackend<K> {
    let range = KeyGroupRange::all(GROUPS);
    let scope =
        BackendScope { operator: "op".into(), subtask: 0, max_parallelism: GROUPS, range, local_dir: None };
    KeyedBackend::open(options, scope, &[]).unwrap()
}

fn set<K: Key>(backend: &KeyedBackend<K>, key: K) {
    let hash = Key::hash64(&key);
    backend.set_current_key(key, hash).unwrap();
}

fn stored<K: Key>(backend: KeyedBackend<K>) -> Arc<dyn SnapshotSource> {
    stored_as(backend, SnapshotMode::Canonical)
}

fn stored_as<K: Key>(mut backend: KeyedBackend<K>, mode: SnapshotMode) -> Arc<dyn SnapshotSource> {
    let files = InMemoryFiles::new();
    let frozen = backend.freeze(1, mode).unwrap();
    let snapshot = files.store(1, frozen).unwrap();
    files.source(&snapshot, None)
}

fn read(snapshot: Arc<dyn SnapshotSource>, range: KeyGroupRange) -> SnapshotReader {
    SnapshotReader::open(&snapshot, range, GROUPS).unwrap()
}

/// The rows of a state as JSON: key, namespace, map key, time, value.
fn lines(reader: &SnapshotReader, state: &str, prefix: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    reader
        .visit(state, prefix, &mut |StateEntry { key, namespace, map_key, time, value, .. }| {
            let line = (key, namespace, map_key, time, value);
            lines.push(serde_json::to_string(&line).unwrap());
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    lines.sort();
    lines
}

/// Every kind of state, for two keys.
fn every_kind(options: &BackendOptions, mode: SnapshotMode) -> SnapshotReader {
    let mut backend = backend::<Word>(options);
    let mut value = backend.value_state::<Order>("value").unwrap();
    let coded = StateOptions::new().codec(Codec::Postcard);
    let mut list = backend.list_state_with::<i64>("list", coded).unwrap();
    let mut map = backend.map_state::<Option<char>, String>("map").unwrap();
    let mut reducing = backend.reducing_state::<u64>("reducing", |sum, n| *sum += n).unwrap();
    let mut aggregating = backend.aggregating_state("aggregating", Mean).unwrap();
    let timers = backend.timers("timers").unwrap();
    let windows = backend.namespaces::<i32>();
    let mut counts = backend.within(&windows).map_state::<u8, bool>("windows", StateOptions::new()).unwrap();
    for (word, n) in [("a\0", 1), ("b", 2)] {
        set(&backend, (word.to_owned(), n));
        let by = if n == 1 { By::Cash } else { By::Card { number: 77 } };
        value.set(Order { id: n as u32, paid: Some(0.5), by }).unwrap();
        list.push(-300).unwrap();
        list.push(n as i64).unwrap();
        map.insert(None, format!("none of {n}")).unwrap();
        map.insert(Some('x'), word.to_owned()).unwrap();
        reducing.add(5).unwrap();
        reducing.add(n).unwrap();
        aggregating.add(10).unwrap();
        aggregating.add(n).unwrap();
        timers.register(-7).unwrap();
        timers.register(1_000 * n as i64).unwrap();
        windows.set_current(-1).unwrap();
        counts.insert(3, n == 1).unwrap();
    }
    read(stored_as(backend, mode), KeyGroupRange::all(GROUPS))
}

fn every_kind_is_read(options: &BackendOptions, mode: SnapshotMode) {
    let reader = every_kind(options, mode);
    assert_eq!(reader.key_type(), "(String, u64)");
    let names: Vec<_> = reader.states().map(|state| state.describe()).collect();
    assert_eq!(names.len(), 7, "{names:?}");
    let expected: [(&str, &[&str]); 7] = [
        (
            "value",
            &[
                r#"[["a\u0000",1],null,null,null,{"id":1,"paid":0.5,"by":"Cash"}]"#,
                r#"[["b",2],null,null,null,{"id":2,"paid":0.5,"by":{"Card":{"number":77}}}]"#,
            ],
        ),
        ("list", &[r#"[["a\u0000",1],null,null,null,[-300,1]]"#, r#"[["b",2],null,null,null,[-300,2]]"#]),
        (
            "map",
            &[
                r#"[["a\u0000",1],null,"x",null,"a\u0000"]"#,
                r#"[["a\u0000",1],null,null,null,"none of 1"]"#,
                r#"[["b",2],null,"x",null,"b"]"#,
                r#"[["b",2],null,null,null,"none of 2"]"#,
            ],
        ),
        ("reducing", &[r#"[["a\u0000",1],null,null,null,6]"#, r#"[["b",2],null,null,null,7]"#]),
        ("aggregating", &[r#"[["a\u0000",1],null,null,null,[11,2]]"#, r#"[["b",2],null,null,null,[12,2]]"#]),
        (
            "timers",
            &[
                r#"[["a\u0000",1],null,null,-7,null]"#,
                r#"[["a\u0000",1],null,null,1000,null]"#,
                r#"[["b",2],null,null,-7,null]"#,
                r#"[["b",2],null,null,2000,null]"#,
            ],
        ),
        ("windows", &[r#"[["a\u0000",1],-1,3,null,true]"#, r#"[["b",2],-1,3,null,false]"#]),
    ];
    for (state, rows) in expected {
        assert_eq!(lines(&reader, state, &[]), rows, "{state}");
        assert_eq!(reader.size(state).unwrap().0, rows.len() as u64, "{state}");
    }
}

const NATIVE: SnapshotMode = SnapshotMode::Native { base: None };

#[test]
fn every_kind_is_read_from_memory() {
    every_kind_is_read(&BackendOptions::Memory, SnapshotMode::Canonical);
    every_kind_is_read(&BackendOptions::Memory, NATIVE);
}

#[cfg(feature = "rocksdb")]
#[test]
fn every_kind_is_read_from_rocksdb() {
    let options = BackendOptions::RocksDb(tidegate_state::RocksDbOptions::small());
    every_kind_is_read(&options, SnapshotMode::Canonical);
    every_kind_is_read(&options, NATIVE);
}

fn stamps_are_shown(options: &BackendOptions, mode: SnapshotMode) {
    let mut backend = backend::<Word>(options);
    let ttl = || Ttl::new(Duration::from_secs(60));
    let mut value = backend.value_state_with("value", StateOptions::<u64>::new().ttl(ttl())).unwrap();
    let mut list = backend.list_state_with("list", StateOptions::<u64>::new().ttl(ttl())).unwrap();
    let in_event_time = StateOptions::<u64>::new().ttl(ttl().event_time());
    let mut map = backend.map_state_with::<u64, u64>("map", in_event_time).unwrap();
    set(&backend, word(7));
    backend.set_processing_time(1_000);
    value.set(1).unwrap();
    list.push(1).unwrap();
    map.insert(1, 1).unwrap();
    backend.set_processing_time(2_000);
    backend.set_watermark(-5);
    list.push(2).unwrap();
    map.insert(2, 2).unwrap();
    let reader = read(stored_as(backend, mode), KeyGroupRange::all(GROUPS));
    let rows = |state| {
        let mut rows = Vec::new();
        let mut take = |StateEntry { value, updated_at, .. }: StateEntry| {
            rows.push(serde_json::to_string(&(value, updated_at)).unwrap());
            Ok(ControlFlow::Continue(()))
        };
        reader.visit(state, &[], &mut take).unwrap();
        rows
    };
    assert_eq!(rows("value"), ["[1,1000]"]);
    assert_eq!(rows("list"), ["[[1,2],[1000,2000]]"]);
    assert_eq!(rows("map"), ["[1,null]", "[2,-5]"], "before the first watermark event time is not known");
}

#[test]
fn stamps_are_shown_beside_the_values_and_are_no_part_of_them() {
    stamps_are_shown(&BackendOptions::Memory, SnapshotMode::Canonical);
    stamps_are_shown(&BackendOptions::Memory, NATIVE);
    #[cfg(feature = "rocksdb")]
    for mode in [SnapshotMode::Canonical, NATIVE] {
        stamps_are_shown(&BackendOptions::RocksDb(tidegate_state::RocksDbOptions::small()), mode);
    }
}

#[test]
fn an_increment_is_read_with_what_it_builds_on() {
    let mut backend = backend::<Word>(&BackendOptions::Memory);
    let mut value = backend.value_state::<u64>("value").unwrap();
    for n in 0..300u64 {
        set(&backend, word(n));
        value.set(0).unwrap();
    }
    let files = InMemoryFiles::new();
    let first = backend.freeze(1, NATIVE).unwrap();
    files.store(1, first).unwrap();
    set(&backend, word(17));
    value.set(1).unwrap();
    set(&backend, word(18));
    value.clear().unwrap();
    let second = backend.freeze(2, SnapshotMode::Native { base: Some(1) }).unwrap();
    let second = files.store(2, second).unwrap();
    assert!(second.files.len() > 1, "it is an increment");
    let reader = read(files.source(&second, None), KeyGroupRange::all(GROUPS));
    let line = |n: u64| format!("[[\"key-{n}\",{n}],null,null,null,{}]", u64::from(n == 17));
    let mut expected: Vec<_> = (0..300).filter(|n| *n != 18).map(line).collect();
    expected.sort();
    assert_eq!(lines(&reader, "value", &[]), expected);
    assert_eq!(reader.size("value").unwrap().0, 299);
}

#[test]
fn one_key_is_found_in_its_key_group_alone() {
    let mut backend = backend::<Word>(&BackendOptions::Memory);
    let mut value = backend.value_state::<u64>("value").unwrap();
    for n in 0..100u64 {
        set(&backend, word(n));
        value.set(n).unwrap();
    }
    let snapshot = stored(backend);
    let key_type = KeyType::parse("(String, u64)").unwrap();
    for n in [0u64, 1, 10, 99] {
        let key = Value::Tuple(vec![Value::String(format!("key-{n}")), Value::U64(n)]);
        let group = key_group_of(key_type.hash64(&key).unwrap(), GROUPS).0;
        let reader = read(Arc::clone(&snapshot), KeyGroupRange { start: group, end: group + 1 });
        let (rows, _) = reader.size("value").unwrap();
        assert!((1..100).contains(&rows), "{rows}");
        let mut prefix = Vec::new();
        key_type.encode_ordered(&key, &mut prefix).unwrap();
        assert_eq!(lines(&reader, "value", &prefix), [format!("[[\"key-{n}\",{n}],null,null,null,{n}]")]);
    }
}

#[test]
fn rows_come_in_the_order_of_their_keys() {
    let mut backend = backend::<Word>(&BackendOptions::Memory);
    let mut value = backend.value_state::<u64>("value").unwrap();
    for n in 0..51u64 {
        set(&backend, word(n));
        value.set(n).unwrap();
    }
    let reader = read(stored(backend), KeyGroupRange::all(GROUPS));
    let mut found = Vec::new();
    let mut take = |entry: StateEntry| {
        let value = entry.value.unwrap();
        let Part::Value(Value::U64(n)) = value else { panic!("{value:?}") };
        found.push((key_group_of(Key::hash64(&word(n)), GROUPS), word(n)));
        Ok(if found.len() == 50 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    reader.visit("value", &[], &mut take).unwrap();
    assert_eq!(found.len(), 50);
    assert!(found.is_sorted());
}

/// A key of a program's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Own(u16);

impl Key for Own {
    fn encode_ordered(&self, out: &mut Vec<u8>) {
        self.0.encode_ordered(out);
    }

    fn decode_ordered(bytes: &mut &[u8]) -> Result<Self> {
        u16::decode_ordered(bytes).map(Self)
    }

    fn least() -> Self {
        Self(0)
    }
}

#[test]
fn keys_of_an_unknown_type_are_shown_as_bytes_with_what_follows_them() {
    let mut backend = backend::<Own>(&BackendOptions::Memory);
    let mut value = backend.value_state::<u64>("value").unwrap();
    let mut map = backend.map_state::<u8, u8>("map").unwrap();
    let timers = backend.timers("timers").unwrap();
    set(&backend, Own(0x0102));
    value.set(1).unwrap();
    map.insert(3, 4).unwrap();
    timers.register(5).unwrap();
    let reader = read(stored(backend), KeyGroupRange::all(GROUPS));
    assert_eq!(lines(&reader, "value", &[1, 2]), [r#"[{"type":"Own","hex":"0102"},null,null,null,1]"#]);
    assert_eq!(lines(&reader, "map", &[1, 2]), [r#"[{"type":"Own","hex":"010203"},null,null,null,4]"#]);
    assert_eq!(lines(&reader, "timers", &[]), [r#"[{"type":"Own","hex":"0102"},null,null,5,null]"#]);
    assert!(lines(&reader, "value", &[1, 3]).is_empty());
}

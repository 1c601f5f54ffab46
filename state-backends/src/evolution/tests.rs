//! Every change there is: what it makes of the old values, or how it is refused, with both codecs. Some run inside of
//! other types, in every kind of state and by way of a snapshot, on the memory backend and on a cold store: all of these
//! convert in the same place, and every type in every kind of state would be minutes of compiling.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use crate::codec::State;
use crate::conformance::ordered_store;
use crate::{
    BackendOptions, BackendScope, Codec, Error, ErrorKind, InMemoryFiles, Key, KeyGroupRange, KeyedBackend,
    Migrations, Result, SnapshotMode, SnapshotSource, StateDescriptor, StateKind, StateOptions,
};

type Snapshot = Arc<dyn SnapshotSource>;

fn backends() -> [BackendOptions; 2] {
    [BackendOptions::Memory, BackendOptions::Custom(ordered_store(1))]
}

fn open(backend: &BackendOptions, files: &[Snapshot]) -> KeyedBackend<u64> {
    let scope = BackendScope {
        operator: "evolving".into(),
        subtask: 0,
        max_parallelism: 4,
        range: KeyGroupRange::all(4),
        local_dir: None,
    };
    KeyedBackend::open(backend, scope, files).unwrap()
}

fn snapshot(backend: &mut KeyedBackend<u64>) -> [Snapshot; 1] {
    let files = InMemoryFiles::new();
    let stored = files.store(1, backend.freeze(1, SnapshotMode::Canonical).unwrap()).unwrap();
    [files.source(&stored, None)]
}

fn at(backend: &KeyedBackend<u64>, key: u64) {
    backend.set_current_key(key, Key::hash64(&key)).unwrap();
}

/// A snapshot with `old` as the value of several keys.
fn written<O: State>(old: &O, codec: Codec) -> [Snapshot; 1] {
    let mut backend = open(&BackendOptions::Memory, &[]);
    let mut value = backend.value_state_with::<O>("value", StateOptions::new().codec(codec)).unwrap();
    for key in 0..20 {
        at(&backend, key);
        value.set(old.clone()).unwrap();
    }
    snapshot(&mut backend)
}

/// The description of a state of values of type `T`.
fn described<T: State>(options: &StateOptions<T>) -> StateDescriptor {
    options.descriptor("value", StateKind::Value).unwrap()
}

/// What `old` has become for a program that reads an `N`, whichever codec wrote it. No backend takes part: all of them
/// read with the layout that is made here.
fn evolve<O: State, N: State + PartialEq + Debug>(old: &O, options: &StateOptions<N>) -> Result<N> {
    let [first, second] = [Codec::Bincode, Codec::Postcard].map(|codec| {
        let layout =
            options.reading(&described(&StateOptions::<O>::new().codec(codec)), &described(options))?;
        let mut bytes = Vec::new();
        codec.encode(old, &mut bytes)?;
        layout.decode::<N>(&bytes)
    });
    match (&first, &second) {
        (Ok(a), Ok(b)) => assert_eq!(a, b),
        (Err(a), Err(b)) => assert_eq!(a.kind(), b.kind(), "{a} {b}"),
        _ => panic!("the codecs differ: {first:?} {second:?}"),
    }
    first
}

/// The same by way of a snapshot, on every backend.
fn evolve_stored<O: State, N: State + PartialEq + Debug>(old: &O, options: &StateOptions<N>) -> Result<N> {
    let [memory, cold] =
        backends().map(|backend| evolve_on(&backend, &written(old, Codec::Bincode), options));
    match (&memory, &cold) {
        (Ok(a), Ok(b)) => assert_eq!(a, b),
        (Err(a), Err(b)) => assert_eq!(a.kind(), b.kind(), "{a} {b}"),
        _ => panic!("the backends differ: {memory:?} {cold:?}"),
    }
    memory
}

fn evolve_on<N: State + PartialEq + Debug>(
    backend: &BackendOptions,
    files: &[Snapshot],
    options: &StateOptions<N>,
) -> Result<N> {
    let mut restored = open(backend, files);
    let value = restored.value_state_with::<N>("value", options.clone())?;
    let mut first = None;
    for key in 0..20 {
        at(&restored, key);
        let found = value.get()?.unwrap();
        assert_eq!(first.get_or_insert(found.clone()), &found);
    }
    // What was converted is written in its new shape: nothing is left to do the next time.
    let again = snapshot(&mut restored);
    let mut direct = open(backend, &again);
    let codec = options.descriptor("value", StateKind::Value)?.codec;
    let value = direct.value_state_with::<N>("value", StateOptions::new().codec(codec))?;
    at(&direct, 7);
    assert_eq!(value.get()?, first);
    Ok(first.unwrap())
}

#[track_caller]
fn becomes<O: State, N: State + PartialEq + Debug>(old: O, new: N) {
    assert_eq!(evolve::<O, N>(&old, &StateOptions::new()).unwrap(), new);
}

/// The same, and inside of other types.
#[track_caller]
fn becomes_inside<O: State, N: State + PartialEq + Debug>(old: O, new: N) {
    becomes(old.clone(), new.clone());
    let tree = (1u8, vec![Some(old.clone())], BTreeMap::from([("k".to_owned(), old)]));
    let expected = (1u8, vec![Some(new.clone())], BTreeMap::from([("k".to_owned(), new)]));
    assert_eq!(
        evolve(&tree, &StateOptions::<(u8, Vec<Option<N>>, BTreeMap<String, N>)>::new()).unwrap(),
        expected
    );
}

/// `O` is refused as `N`, with a message that has these words.
#[track_caller]
fn refused<O: State, N: State + PartialEq + Debug>(old: O, words: &[&str]) {
    let e = evolve::<O, N>(&old, &StateOptions::new()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Config, "{e}");
    let text = e.to_string();
    for word in words.iter().chain(&["state `value`", "migrations"]) {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

/// Two versions of one type, each in a module of its own, as they are in two versions of a program.
macro_rules! versions {
    ($($version:ident { $($item:item)* })*) => {$(
        #[allow(dead_code, unreachable_pub)]
        mod $version {
            use serde::{Deserialize, Serialize};
            $(
                #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
                $item
            )*
        }
    )*};
}

mod edges;

fn three() -> u8 {
    3
}

#[test]
fn a_refusal_leaves_what_was_there_as_it_was() {
    for backend in backends() {
        let mut restored = open(&backend, &written(&7u64, Codec::Bincode));
        let e = restored.value_state::<u32>("value").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Config);
        assert_eq!(restored.unclaimed_states().count(), 1);
        let value = restored.value_state::<u64>("value").unwrap();
        at(&restored, 3);
        assert_eq!(value.get().unwrap(), Some(7));
    }
}

#[test]
fn elements_of_lists_and_entries_of_maps_evolve() {
    versions! {
        old { pub struct Count { pub total: u64 } }
        new { pub struct Count { #[serde(alias = "total")] pub sum: u128, #[serde(default)] pub tags: Vec<String> } }
    }
    let (old, new) = (|total| old::Count { total }, |sum| new::Count { sum, tags: vec![] });
    for backend in backends() {
        let mut writer = open(&backend, &[]);
        let mut list = writer.list_state("list").unwrap();
        let mut map = writer.map_state::<u8, _>("map").unwrap();
        for key in 0..20 {
            at(&writer, key);
            list.extend([old(key), old(300)]).unwrap();
            map.insert(1, old(key)).unwrap();
            map.insert(2, old(7)).unwrap();
        }
        let mut restored = open(&backend, &snapshot(&mut writer));
        let list = restored.list_state::<new::Count>("list").unwrap();
        let map = restored.map_state::<u8, new::Count>("map").unwrap();
        for key in 0..20 {
            at(&restored, key);
            assert_eq!(list.iter().unwrap().collect::<Vec<_>>(), [new(key.into()), new(300)]);
            assert_eq!(map.iter().unwrap().collect::<Vec<_>>(), [(1, new(key.into())), (2, new(7))]);
        }
    }
}

#[test]
fn a_field_is_added() {
    versions! {
        old { pub struct Count { pub total: u64 } }
        new { pub struct Count {
            pub mean: Option<f32>,
            pub total: u64,
            #[serde(default)]
            pub tags: Vec<String>,
            #[serde(default = "super::three")]
            pub three: u8,
        } }
        strict { pub struct Count { pub total: u64, pub added: u8 } }
    }
    let (old, new) =
        (old::Count { total: 300 }, new::Count { mean: None, total: 300, tags: vec![], three: 3 });
    becomes_inside(old.clone(), new.clone());
    assert_eq!(evolve_stored::<_, new::Count>(&old, &StateOptions::new()).unwrap(), new);
    refused::<_, strict::Count>(
        old::Count { total: 300 },
        &["field `added` is new", "struct Count { total: u64 }", "struct Count { total: u64, added: u8 }"],
    );
}

#[test]
fn a_field_is_dropped_or_moved() {
    versions! {
        old { pub struct Count { pub a: u8, pub b: String, pub c: i64 } }
        new { pub struct Count { pub c: i64, pub a: u8 } }
        strict { #[serde(deny_unknown_fields)] pub struct Count { pub a: u8, pub c: i64 } }
    }
    let count = old::Count { a: 1, b: "b".into(), c: -3 };
    becomes(count.clone(), new::Count { c: -3, a: 1 });
    refused::<_, strict::Count>(count, &["no field `b` any more"]);
}

#[test]
fn a_field_is_renamed() {
    versions! {
        old { pub struct Count { pub sum: u8, pub other: u8 } }
        aliased { pub struct Count { #[serde(alias = "sum")] pub total: u8, pub other: u8 } }
        renamed { pub struct Count { #[serde(rename = "sum")] pub total: u8, pub other: u8 } }
        strict { pub struct Count { pub total: u8, pub other: u8 } }
    }
    let count = old::Count { sum: 1, other: 2 };
    becomes(count.clone(), aliased::Count { total: 1, other: 2 });
    becomes(count.clone(), renamed::Count { total: 1, other: 2 });
    refused::<_, strict::Count>(count, &["field `total` is new"]);
}

#[test]
fn a_type_is_renamed() {
    versions! {
        old { pub struct Count(pub u8, pub u8); }
        new { pub struct Total(pub u8, pub u8); }
    }
    becomes(old::Count(1, 2), new::Total(1, 2));
}

macro_rules! widened {
    ($($value:literal $old:ty => $($new:ty),*;)*) => {$($(
        becomes::<$old, $new>(<$old>::MAX, <$old>::MAX as $new);
        becomes::<$old, $new>(<$old>::MIN, <$old>::MIN as $new);
        becomes::<$old, $new>($value, $value as $new);
    )*)*};
}

macro_rules! narrowed {
    ($($old:ty => $($new:ty),*;)*) => {$($(
        // That this value would fit does not matter.
        refused::<$old, $new>(1 as $old, &[stringify!($old), stringify!($new), "cannot be read as"]);
    )*)*};
}

#[test]
fn unsigned_numbers_are_widened() {
    widened! {
        7 u8 => u16, u32, u64, u128, i16, i32, i64, i128, f32, f64;
        7 u16 => u32, u64, u128, i32, i64, i128, f32, f64;
        7 u32 => u64, u128, i64, i128, f64;
        7 u64 => u128, i128;
    }
}

#[test]
fn signed_numbers_and_floats_are_widened() {
    widened! {
        -7 i8 => i16, i32, i64, i128, f32, f64;
        -7 i16 => i32, i64, i128, f32, f64;
        -7 i32 => i64, i128, f64;
        -7 i64 => i128;
        1.25 f32 => f64;
    }
}

#[test]
fn unsigned_numbers_are_not_narrowed() {
    narrowed! {
        u16 => u8, i8, i16;
        u32 => u8, u16, i8, i16, i32, f32;
        u64 => u8, u16, u32, i8, i16, i32, i64, f32, f64;
        u128 => u64, i128, f64;
        u8 => i8;
    }
}

#[test]
fn signed_numbers_and_floats_are_not_narrowed() {
    narrowed! {
        i8 => u8, u16, u32, u64, u128;
        i16 => i8, u64;
        i32 => i8, i16, u64, f32;
        i64 => i8, i16, i32, u64, f32, f64;
        i128 => i64, u128, f64;
        f32 => i32, u8, i128;
        f64 => f32, i64, u8;
    }
}

#[test]
fn a_field_that_differs_is_named_with_its_path() {
    versions! {
        old {
            pub struct Outer { pub list: Vec<Inner>, pub map: std::collections::BTreeMap<u8, (u8, Inner)> }
            pub struct Inner { pub code: u64, pub kind: Kind }
            pub enum Kind { A, B { weight: u32 }, C(u32) }
        }
        narrow {
            pub struct Outer { pub list: Vec<Inner>, pub map: std::collections::BTreeMap<u8, (u8, Inner)> }
            pub struct Inner { pub code: u32, pub kind: Kind }
            pub enum Kind { A, B { weight: u32 }, C(u32) }
        }
        variant {
            pub struct Outer { pub list: Vec<Same>, pub map: std::collections::BTreeMap<u8, (u8, Inner)> }
            pub struct Same { pub code: u64, pub kind: SameKind }
            pub enum SameKind { A, B { weight: u32 }, C(u32) }
            pub struct Inner { pub code: u64, pub kind: Kind }
            pub enum Kind { A, B { weight: String }, C(u32) }
        }
    }
    let outer = old::Outer { list: vec![], map: BTreeMap::new() };
    let e = evolve::<_, narrow::Outer>(&outer, &StateOptions::new()).unwrap_err().to_string();
    assert!(e.contains("`list[0].code`: a u64 cannot be read as u32"), "{e}");
    let e = evolve::<_, variant::Outer>(&outer, &StateOptions::new()).unwrap_err().to_string();
    assert!(e.contains("`map[value][1].kind.B.weight`: a u32 cannot be read as a string"), "{e}");
}

#[test]
fn options_and_newtypes() {
    versions! {
        new { pub struct Meters(pub u32); }
    }
    becomes_inside::<u32, Option<u32>>(5, Some(5));
    becomes::<u32, Option<u64>>(5, Some(5));
    becomes::<Option<u8>, Option<u16>>(Some(5), Some(5));
    becomes::<Option<u8>, Option<Option<u8>>>(Some(5), Some(Some(5)));
    becomes(5u32, new::Meters(5));
    becomes(new::Meters(5), 5u64);
    refused::<Option<u32>, u32>(Some(5), &["an option cannot be read as u32"]);
}

#[test]
fn texts_bytes_and_lists() {
    becomes::<char, String>('é', "é".into());
    becomes::<[u8; 2], Vec<u16>>([1, 2], vec![1, 2]);
    becomes::<Vec<u8>, std::collections::BTreeSet<u16>>(vec![2, 1], [1, 2].into());
    refused::<String, char>("é".into(), &["a string cannot be read as a character"]);
    refused::<Vec<u8>, (u8, u8)>(vec![1, 2], &["a list cannot be read as a tuple of size 2"]);
    refused::<(u8, u8), (u8, u8, u8)>((1, 2), &["a tuple of 2 cannot be read as a tuple of size 3"]);
    refused::<(u8, u8, u8), (u8, u8)>((1, 2, 3), &["a tuple of 3 cannot be read as a tuple of size 2"]);
}

#[test]
fn a_kind_is_not_changed() {
    versions! {
        old { pub struct Pair { pub a: u8, pub b: u8 } }
        new {
            pub enum Pair { A, B }
            pub struct Tuple(pub u8, pub u8);
            pub struct Unit;
            pub struct Defaulted { #[serde(default)] pub a: u8 }
        }
    }
    let pair = || old::Pair { a: 1, b: 2 };
    refused::<_, (u8, u8)>(pair(), &["a struct cannot be read as a tuple of size 2"]);
    refused::<_, new::Tuple>(pair(), &["a struct cannot be read as tuple struct Tuple"]);
    refused::<_, new::Pair>(pair(), &["a struct cannot be read as enum Pair"]);
    refused::<_, new::Unit>(pair(), &["a struct cannot be read as unit struct Unit"]);
    refused::<_, BTreeMap<String, u8>>(pair(), &["a struct cannot be read as a map"]);
    refused::<_, u64>(pair(), &["a struct cannot be read as u64"]);
    refused::<_, old::Pair>((1u8, 2u8), &["a tuple of 2 cannot be read as struct Pair"]);
    refused::<_, new::Defaulted>(
        BTreeMap::from([("a".to_owned(), 1u8)]),
        &["a map cannot be read as struct Defaulted"],
    );
    refused::<_, old::Pair>(new::Pair::B, &["an enum cannot be read as struct Pair"]);
    refused::<_, String>(new::Pair::B, &["an enum cannot be read as a string"]);
    refused::<_, u64>(true, &["a bool cannot be read as u64"]);
    refused::<_, String>(7u64, &["a u64 cannot be read as a string"]);
    refused::<_, u64>("7".to_owned(), &["a string cannot be read as u64"]);
    refused::<_, Vec<u64>>(7u64, &["a u64 cannot be read as a sequence"]);
    refused::<_, u64>((), &["() cannot be read as u64"]);
}

#[test]
fn variants_are_added_moved_and_renamed() {
    versions! {
        old { pub enum Event { Click, Scroll(f32), Key { code: u16 }, Drag(u8, u8) } }
        new { pub enum Event {
            Hover,
            Drag(u16, u8),
            Key { #[serde(default)] shift: bool, code: u32 },
            #[serde(alias = "Click")]
            Press,
            Scroll(f64),
        } }
    }
    use {new::Event as New, old::Event as Old};
    becomes_inside(Old::Click, New::Press);
    becomes(Old::Scroll(1.5), New::Scroll(1.5));
    becomes(Old::Key { code: 300 }, New::Key { shift: false, code: 300 });
    becomes(Old::Drag(1, 2), New::Drag(1, 2));
}

#[test]
fn variants_are_not_removed_or_changed() {
    versions! {
        old { pub enum Event { Click, Scroll(f32), Key { code: u16 } } }
        fewer { pub enum Event { Click, Key { code: u16 } } }
        narrow { pub enum Event { Click, Scroll(f32), Key { code: u8 } } }
        other { pub enum Event { Click(u8), Scroll(f32), Key { code: u16 } } }
        caught { pub enum Event { Click, Scroll(f32), Key { code: u16 }, #[serde(other)] Unknown } }
        catching { pub enum Event { Scroll(f32), Key { code: u16 }, #[serde(other)] Unknown } }
    }
    // The value is one that would fit: it is the type that counts.
    let click = || old::Event::Click;
    refused::<_, fewer::Event>(click(), &["no variant `Scroll` any more", "`Click`, `Key`"]);
    refused::<_, narrow::Event>(click(), &["Key.code`: a u16 cannot be read as u8"]);
    refused::<_, other::Event>(click(), &["() cannot be read as u8"]);
    becomes(click(), caught::Event::Click);
    becomes(click(), catching::Event::Unknown);
}

#[test]
fn recursive_types_evolve() {
    versions! {
        old { pub struct Node { pub id: u8, pub next: Option<Box<Node>> } }
        new { pub struct Node { pub next: Option<Box<Node>>, pub id: u16, #[serde(default)] pub children: Vec<Node> } }
    }
    let tail = old::Node { id: 2, next: None };
    let new_tail = new::Node { id: 2, next: None, children: vec![] };
    becomes_inside(
        old::Node { id: 1, next: Some(Box::new(tail)) },
        new::Node { id: 1, next: Some(Box::new(new_tail)), children: vec![] },
    );
}

#[test]
fn a_codec_is_changed() {
    let value = (300u64, "x".to_owned());
    for backend in backends() {
        for (from, to) in [(Codec::Bincode, Codec::Postcard), (Codec::Postcard, Codec::Bincode)] {
            let files = written(&value, from);
            let options = StateOptions::new().codec(to);
            assert_eq!(evolve_on::<(u64, String)>(&backend, &files, &options).unwrap(), value);
            let wider =
                evolve_on::<(u128, String)>(&backend, &files, &StateOptions::new().codec(to)).unwrap();
            assert_eq!(wider, (300, "x".to_owned()));
        }
    }
}

#[test]
fn keys_and_kinds_of_state_are_not_changed() {
    for backend in backends() {
        let mut writer = open(&backend, &written(&1u8, Codec::Bincode));
        at(&writer, 1);
        writer.map_state::<u8, u8>("map").unwrap().insert(1, 1).unwrap();
        let mut restored = open(&backend, &snapshot(&mut writer));
        let e = restored.map_state::<u16, u8>("map").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Config);
        assert!(
            e.to_string().contains("MapState<u8, u8>") && e.to_string().contains("MapState<u16, u8>"),
            "{e}"
        );
        let e = restored.list_state::<u8>("value").unwrap_err().to_string();
        assert!(e.contains("ValueState<u8>") && e.contains("ListState<u8>"), "{e}");
    }
}

mod v1 {
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    pub(super) struct Count(pub(super) u32);
}

#[derive(Clone, Serialize, Deserialize)]
struct CountV2 {
    total: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Count {
    label: String,
    steps: u8,
}

fn migrations() -> Migrations<Count> {
    Migrations::<v1::Count>::new().then(|v1| Ok(CountV2 { total: u64::from(v1.0) + 1 })).then(|v2| {
        if v2.total == 99 {
            return Err(Error::restart_job("99 is too much"));
        }
        Ok(Count { label: v2.total.to_string(), steps: 1 })
    })
}

#[test]
fn migrations_start_at_the_version_that_was_written() {
    let options = StateOptions::new().migrations(migrations());
    let new = |label: &str| Count { label: label.into(), steps: 1 };
    assert_eq!(evolve(&v1::Count(7), &options).unwrap(), new("8"));
    assert_eq!(evolve_stored(&v1::Count(7), &options).unwrap(), new("8"));
    assert_eq!(evolve(&CountV2 { total: 7 }, &options).unwrap(), new("7"));
    assert_eq!(evolve(&new("x"), &options).unwrap(), new("x"), "what is new is not migrated");
    // Older than the oldest version, but of a shape that serde reads as one of them: `u16` as `Count(u32)`.
    assert_eq!(evolve(&5u16, &options).unwrap(), new("6"));
    let e = evolve(&"text".to_owned(), &options).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Config);
}

#[test]
fn a_migration_goes_before_what_serde_would_do() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Old {
        total: u32,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct New {
        total: u64,
    }
    assert_eq!(evolve::<_, New>(&Old { total: 7 }, &StateOptions::new()).unwrap(), New { total: 7 });
    let migrations = Migrations::<Old>::new().then(|old| Ok(New { total: u64::from(old.total) * 10 }));
    assert_eq!(
        evolve(&Old { total: 7 }, &StateOptions::new().migrations(migrations)).unwrap(),
        New { total: 70 }
    );
}

#[test]
fn a_migration_that_fails_is_a_data_error_and_the_state_is_of_no_use_any_more() {
    let options = StateOptions::new().migrations(migrations());
    for backend in backends() {
        let files = written(&CountV2 { total: 99 }, Codec::Bincode);
        let mut restored = open(&backend, &files);
        let e = restored.value_state_with::<Count>("value", options.clone()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Data);
        assert!(e.to_string().contains("state `value`") && e.to_string().contains("99 is too much"), "{e}");
        if let BackendOptions::Custom(_) = backend {
            let e = restored.value_state::<CountV2>("value").unwrap_err().to_string();
            assert!(e.contains("could not be converted"), "{e}");
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Address(String);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.contains('@') { Ok(Self(text)) } else { Err(serde::de::Error::custom("no address")) }
    }
}

#[test]
fn an_opaque_type_stays_readable_and_migrates_only_by_a_function() {
    let old = (Address("a@b".into()), 1u8);
    assert_eq!(evolve::<_, (Address, u8)>(&old, &StateOptions::new()).unwrap(), old);
    let e = evolve::<_, (Address, u16)>(&old, &StateOptions::new()).unwrap_err().to_string();
    assert!(e.contains("`(Address, u8)` had is not known"), "{e}");
    let migrations = Migrations::<(Address, u8)>::new().then(|old| Ok((old.0, u16::from(old.1))));
    let options = StateOptions::<(Address, u16)>::new().migrations(migrations);
    assert_eq!(evolve(&old, &options).unwrap(), (old.0, 1u16));
}

#[test]
fn an_unregistered_state_keeps_the_schema_of_its_writer() {
    for backend in backends() {
        let mut without = open(&backend, &written(&300u16, Codec::Postcard));
        let files = snapshot(&mut without);
        assert_eq!(evolve_on::<u64>(&backend, &files, &StateOptions::new()).unwrap(), 300);
    }
}

#[test]
fn an_equal_shape_is_read_as_it_is() {
    static DECODED: AtomicUsize = AtomicUsize::new(0);
    #[derive(Clone, Serialize)]
    struct Counted(u32);
    impl<'de> Deserialize<'de> for Counted {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            DECODED.fetch_add(1, Ordering::Relaxed);
            #[derive(Deserialize)]
            struct Counted(u32);
            Counted::deserialize(deserializer).map(|counted| Self(counted.0))
        }
    }
    let files = written(&Counted(1), Codec::Bincode);
    let mut backend = open(&BackendOptions::Custom(ordered_store(1)), &files);
    let state = backend.value_state::<Counted>("value").unwrap();
    let before = DECODED.load(Ordering::Relaxed);
    at(&backend, 1);
    state.with(|counted| assert_eq!(counted.unwrap().0, 1)).unwrap();
    assert_eq!(DECODED.load(Ordering::Relaxed), before + 1, "only what is asked for is decoded");
    let e = backend.value_state::<u32>("value").unwrap_err().to_string();
    assert!(e.contains("ValueState<Counted>"), "{e}");
}

#[test]
fn a_type_that_cannot_be_read_back_is_refused_at_once() {
    #[derive(Clone, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Any {
        A(u8),
        B(String),
    }
    let mut backend = open(&BackendOptions::Memory, &[]);
    let e = backend.value_state::<Vec<Any>>("any").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Config);
    assert!(e.to_string().contains("state `any`") && e.to_string().contains("untagged"), "{e}");
    let _ = (Any::A(1), Any::B(String::new()));
}

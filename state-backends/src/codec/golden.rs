//! The bytes of both codecs for every shape. A released version will have written them: they may never change.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Codec;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Named {
    id: u32,
    tag: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Pair(i16, bool);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Meters(f64);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nothing;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Event {
    Click,
    Scroll(f32),
    Drag(u8, u8),
    Key { code: u16, shift: bool },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct List {
    head: u8,
    tail: Option<Box<List>>,
}

/// `bincode` and `postcard` are the bytes in hex.
#[track_caller]
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T, bincode: &str, postcard: &str) {
    for (codec, expected) in [(Codec::Bincode, bincode), (Codec::Postcard, postcard)] {
        let mut bytes = Vec::new();
        codec.encode(&value, &mut bytes).unwrap();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, expected, "{codec} of {value:?}");
        assert_eq!(codec.decode::<T>(&bytes).unwrap(), value, "{codec}");
    }
}

#[test]
fn integers() {
    golden(5u8, "05", "05");
    golden(255u8, "ff", "ff");
    golden(250u16, "fa", "fa01");
    golden(251u16, "fbfb00", "fb01");
    golden(300u64, "fb2c01", "ac02");
    golden(70_000u32, "fc70110100", "f0a204");
    golden(u64::MAX, "fdffffffffffffffff", "ffffffffffffffffff01");
    golden(u128::MAX, "feffffffffffffffffffffffffffffffff", "ffffffffffffffffffffffffffffffffffff03");
    golden(-1i8, "ff", "ff");
    golden(-1i64, "01", "01");
    golden(-200i16, "fb8f01", "8f03");
    golden(i32::MIN, "fcffffffff", "ffffffff0f");
}

#[test]
fn other_primitives() {
    golden(true, "01", "01");
    golden(1.5f32, "0000c03f", "0000c03f");
    golden(1.5f64, "000000000000f83f", "000000000000f83f");
    golden('é', "c3a9", "02c3a9");
    golden("ab".to_owned(), "026162", "026162");
    golden((), "", "");
}

#[test]
fn containers() {
    golden(None::<u8>, "00", "00");
    golden(Some(7u8), "0107", "0107");
    golden(Some(Some(7u8)), "010107", "010107");
    golden(vec![1u32, 2], "020102", "020102");
    golden(Vec::<u64>::new(), "00", "00");
    golden([7u8; 3], "070707", "070707");
    golden((1u8, "a".to_owned(), false), "01016100", "01016100");
    let map = BTreeMap::from([("a".to_owned(), 1u64), ("b".to_owned(), 300)]);
    golden(map, "020161010162fb2c01", "020161010162ac02");
    golden(Duration::new(300, 5), "fb2c0105", "ac0205");
}

#[test]
fn structs_and_enums() {
    golden(Named { id: 300, tag: Some("x".into()) }, "fb2c01010178", "ac02010178");
    golden(Pair(-1, true), "0101", "0101");
    golden(Meters(1.5), "000000000000f83f", "000000000000f83f");
    golden(Nothing, "", "");
    golden(Event::Click, "00", "00");
    golden(Event::Scroll(1.5), "010000c03f", "010000c03f");
    golden(Event::Drag(1, 2), "020102", "020102");
    golden(Event::Key { code: 300, shift: true }, "03fb2c0101", "03ac0201");
    let list = List { head: 1, tail: Some(Box::new(List { head: 2, tail: None })) };
    golden(list, "01010200", "01010200");
}

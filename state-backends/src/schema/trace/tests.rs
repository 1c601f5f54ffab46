use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::codec::State;
use crate::schema::Schema;

fn text<T: State>() -> String {
    let schema = Schema::of::<T>().unwrap();
    let text = schema.to_string();
    assert_eq!(Schema::parse(&text).unwrap(), schema, "{text}");
    text
}

fn refusal<T: State>() -> String {
    let e = Schema::of::<T>().unwrap_err();
    assert_eq!(e.kind(), crate::ErrorKind::Config);
    e.to_string()
}

#[derive(Clone, Serialize, Deserialize)]
struct Count {
    total: u64,
    mean: Option<f32>,
    tags: Vec<String>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Meters(f64);

#[derive(Clone, Serialize, Deserialize)]
struct Pair(i8, char);

#[derive(Clone, Serialize, Deserialize)]
struct Nothing;

#[derive(Clone, Serialize, Deserialize)]
enum Event {
    Click,
    Scroll(f32),
    Drag(u8, i64),
    Key { code: u16, shift: bool },
    Nested(Option<Button>),
}

#[derive(Clone, Serialize, Deserialize)]
enum Button {
    Left,
    Right(Meters),
}

#[test]
fn primitives_and_containers() {
    assert_eq!(text::<u64>(), "u64");
    assert_eq!(text::<()>(), "()");
    assert_eq!(text::<(u8, i128, bool)>(), "(u8, i128, bool)");
    assert_eq!(text::<[u16; 3]>(), "[u16; 3]");
    assert_eq!(text::<Option<Option<String>>>(), "option<option<string>>");
    assert_eq!(text::<BTreeMap<String, Vec<f64>>>(), "map<string, list<f64>>");
    assert_eq!(text::<BTreeSet<char>>(), "list<char>");
    assert_eq!(text::<Box<u8>>(), "u8");
    assert_eq!(text::<Duration>(), "struct Duration { secs: u64, nanos: u32 }");
    assert_eq!(text::<IpAddr>(), "enum IpAddr { V4([u8; 4]), V6([u8; 16]) }");
    assert_eq!(text::<Result<u8, String>>(), "enum Result { Ok(u8), Err(string) }");
}

#[test]
fn structs_and_enums() {
    assert_eq!(text::<Count>(), "struct Count { total: u64, mean: option<f32>, tags: list<string> }");
    assert_eq!(
        text::<(Meters, Pair, Nothing)>(),
        "(struct Meters(f64), struct Pair(i8, char), struct Nothing)"
    );
    let event = "enum Event { Click, Scroll(f32), Drag(u8, i64), Key { code: u16, shift: bool }, \
                 Nested(option<enum Button { Left, Right(struct Meters(f64)) }>) }";
    assert_eq!(text::<Event>(), event);
    assert_eq!(text::<Vec<Event>>(), format!("list<{event}>"));
    assert_eq!(text::<(Event, Event)>(), format!("[{event}; 2]"));
    assert_eq!(text::<(u8, Event, Button)>(), format!("(u8, {event}, &Button)"));
}

#[derive(Clone, Serialize, Deserialize)]
struct Wrapper<T> {
    inner: T,
}

#[test]
fn two_types_of_one_name_are_two() {
    let expected = "(struct Wrapper { inner: u8 }, struct Wrapper#2 { inner: string }, &Wrapper)";
    assert_eq!(text::<(Wrapper<u8>, Wrapper<String>, Wrapper<u8>)>(), expected);
}

#[derive(Clone, Serialize, Deserialize)]
struct Node {
    next: Option<Box<Node>>,
    children: Vec<Node>,
    named: BTreeMap<u8, Node>,
    kind: Kind,
}

#[derive(Clone, Serialize, Deserialize)]
enum Kind {
    Sum(Box<Expression>, Box<Expression>),
    Of(Box<Node>),
    Leaf(u8),
}

#[derive(Clone, Serialize, Deserialize)]
enum Expression {
    Not(Box<Expression>),
    Kind(Box<Kind>),
    Value(i32),
}

#[test]
fn recursive_types() {
    let expression = "enum Expression { Not(&Expression), Kind(&Kind), Value(i32) }";
    let kind = format!("enum Kind {{ Sum({expression}, &Expression), Of(&Node), Leaf(u8) }}");
    assert_eq!(
        text::<Node>(),
        format!(
            "struct Node {{ next: option<&Node>, children: list<&Node>, named: map<u8, &Node>, kind: {kind} }}"
        )
    );
    assert!(text::<Expression>().starts_with("enum Expression { Not(&Expression), Kind(enum Kind {"));
}

#[allow(dead_code)]
#[derive(Clone, Serialize, Deserialize)]
struct Renamed {
    #[serde(rename = "the total")]
    total: u64,
    #[serde(alias = "a", alias = "z")]
    mean: f32,
    #[serde(rename(serialize = "out", deserialize = "in"))]
    both: u8,
    #[serde(skip)]
    skipped: u8,
    #[serde(default)]
    event: Renamings,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Renamings {
    #[default]
    #[serde(alias = "Zero", alias = "NoneAtAll")]
    FirstOne,
    #[serde(alias = "AA")]
    SecondOne(u8),
}

#[test]
fn names_are_those_that_are_written() {
    assert_eq!(
        text::<Renamed>(),
        "struct Renamed { \"the total\": u64, mean: f32, out: u8, event: enum Renamings { first_one, second_one(u8) } }"
    );
}

#[derive(Clone, Serialize, Deserialize)]
struct Even(#[serde(deserialize_with = "even")] u32);

fn even<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let n = u32::deserialize(deserializer)?;
    if n == 100 { Ok(n) } else { Err(D::Error::custom("no")) }
}

#[derive(Clone, Serialize)]
struct Picky(String);

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.contains('@') { Ok(Self(text)) } else { Err(D::Error::custom("no address")) }
    }
}

#[derive(Clone, Serialize, Deserialize)]
enum Contact {
    None,
    Mail(Picky),
    Both { mail: Picky, phone: u64 },
    Phone(u64),
}

#[test]
fn types_that_reject_values_are_tried_with_others_and_else_left_as_names() {
    assert_eq!(text::<NonZeroU32>(), "u32");
    assert_eq!(text::<(u8, Even)>(), "(u8, struct Even(u32))");
    assert_eq!(text::<Picky>(), "opaque Picky");
    assert_eq!(text::<Vec<Picky>>(), "list<opaque Picky>");
    assert_eq!(text::<Option<Picky>>(), "option<opaque Picky>");
    assert_eq!(text::<(u8, Option<(u8, Picky)>)>(), "(u8, option<opaque \"(u8, Picky)\">)");
    assert_eq!(text::<(u8, Picky)>(), "opaque \"(u8, Picky)\"");
    assert_eq!(text::<Contact>(), "enum Contact { None, Mail(opaque Picky), Both(opaque _), Phone(u64) }");
}

/// Writes bytes and reads a list: to the codecs it is the same.
#[derive(Clone, Deserialize)]
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

#[test]
fn what_no_schema_describes_but_the_codecs_read_is_left_as_a_name() {
    assert_eq!(text::<Blob>(), "opaque Blob");
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "t", content = "c")]
enum Adjacent {
    A(u8),
    B(String),
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    A(u8),
    B(String),
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    A { x: u8 },
    B { y: u8 },
}

#[derive(Clone, Serialize, Deserialize)]
struct Flat {
    id: u8,
    #[serde(flatten)]
    rest: Wrapper<u8>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Sparse {
    id: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<u8>,
}

#[derive(Clone, Serialize, Deserialize)]
struct SparseList {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    notes: Vec<u8>,
    id: u8,
}

#[allow(dead_code)]
#[derive(Clone, Serialize, Deserialize)]
enum Gap {
    A,
    #[serde(skip)]
    B,
    C,
}

#[test]
fn what_cannot_be_read_back_is_refused_with_type_and_reason() {
    for (e, names) in [
        (refusal::<Vec<Untagged>>(), ["Untagged", "untagged"]),
        (refusal::<(u8, Tagged)>(), ["Tagged", "tag"]),
        (refusal::<Option<Adjacent>>(), ["Adjacent", "tag"]),
        (refusal::<Option<Wrapper<Flat>>>(), ["Flat", "flatten"]),
        (refusal::<Sparse>(), ["`note`", "skip_serializing_if"]),
        (refusal::<Vec<SparseList>>(), ["`notes`", "skip_serializing_if"]),
        (refusal::<Wrapper<serde_json::Value>>(), ["Value", "any type"]),
        (refusal::<Gap>(), ["`C`", "number 2"]),
    ] {
        assert!(names.iter().all(|name| e.contains(name)), "{names:?}: {e}");
    }
}

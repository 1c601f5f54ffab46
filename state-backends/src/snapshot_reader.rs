//! Reads keyed snapshots without the program that wrote them: keys by the name of their type, values by their schema.
//!
//! Invariant: what is shown as a value is what the program would have read. A part whose type is not known is shown as
//! its bytes; since nobody knows where such a key ends, what follows it in the row key is part of it.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::backend::Unclaimed;
use crate::codec::{Codec, take_bytes};
use crate::descriptor::{StateDescriptor, StateKind};
use crate::key::{Key, KeyType};
use crate::key_group::KeyGroupRange;
use crate::schema::{Schema, Value};
use crate::snapshot::SnapshotSource;
use crate::ttl::{UNSTAMPED, take_stamp};
use crate::{Error, Result};

/// Bytes of the time at the end of a timer's row key.
const TIME_BYTES: usize = 8;

/// A key, a namespace or a value, as far as it can be read.
///
/// It serialises as the [`Value`], as a map of `type` and `hex`, or as a list.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Read.
    Value(Value),
    /// Not readable without its type.
    Raw {
        /// What Rust calls the type.
        type_name: String,
        /// Keys: their ordered form and what follows it. Values: in the codec of the state.
        bytes: Vec<u8>,
    },
    /// The elements of a list state.
    List(Vec<Part>),
}

impl Part {
    /// Reads a value that takes up all of `bytes`; one whose schema has an unknown part is left as it is.
    ///
    /// # Errors
    /// [`ErrorKind::Data`](crate::ErrorKind::Data) if the bytes do not fit the schema.
    pub fn read(schema: &Schema, codec: Codec, type_name: &str, bytes: &[u8]) -> Result<Self> {
        match schema.decode(codec, bytes) {
            Ok(value) => Ok(Self::Value(value)),
            Err(_) if schema.unknown_part().is_some() => Ok(Self::raw(type_name, bytes)),
            Err(e) => Err(e),
        }
    }

    fn raw(type_name: &str, bytes: &[u8]) -> Self {
        Self::Raw { type_name: type_name.to_owned(), bytes: bytes.to_vec() }
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::List(parts) => serializer.collect_seq(parts),
            Self::Raw { type_name, bytes } => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("type", type_name)?;
                map.serialize_entry("hex", &hex(bytes))?;
                map.end()
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// One row of a state: a value, an entry of a map, a timer.
#[derive(Clone, Debug, PartialEq)]
pub struct StateEntry {
    /// The key.
    pub key: Part,
    /// The namespace, if the state has namespaces and the key could be read.
    pub namespace: Option<Part>,
    /// The map's own key, if it is a map and what precedes it could be read.
    pub map_key: Option<Part>,
    /// When the timer fires, in milliseconds; only timers have one.
    pub time: Option<i64>,
    /// The value, the list, or the value of the map's entry; timers have none.
    pub value: Option<Part>,
    /// When the value was last updated; only states with a time to live know.
    pub updated_at: Option<Stamps>,
}

/// The stamps of a value in a state with a time to live: times of the last update, in milliseconds of the time that the
/// state goes by; none where no time was known yet.
///
/// It serialises as a number or nothing, or as a list of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Stamps {
    /// That of a value.
    One(Option<i64>),
    /// Those of the elements of a list.
    Each(Vec<Option<i64>>),
}

/// The keyed state of one old subtask.
pub struct SnapshotReader {
    range: KeyGroupRange,
    state: Unclaimed,
}

impl SnapshotReader {
    /// Reads and verifies what lies in `range`, which the snapshot covers. May block. Holds it in memory, or, if the
    /// snapshot is one of RocksDB's own files, in a temporary database of the system's temporary directory.
    ///
    /// # Errors
    /// [`ErrorKind::Data`](crate::ErrorKind::Data) for damaged or missing files;
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for another maximum parallelism, and for files of RocksDB in a
    /// build without it.
    pub fn open(
        snapshot: &Arc<dyn SnapshotSource>,
        range: KeyGroupRange,
        max_parallelism: u16,
    ) -> Result<Self> {
        Ok(Self { range, state: Unclaimed::read(snapshot, range, max_parallelism)? })
    }

    /// What Rust calls the type of the keys in a snapshot. Reads no rows. Errors as for [`open`](Self::open).
    pub fn key_type_of(snapshot: &dyn SnapshotSource, max_parallelism: u16) -> Result<String> {
        Unclaimed::key_type_of(snapshot, max_parallelism)
    }

    /// What Rust calls the type of the keys.
    pub fn key_type(&self) -> &str {
        self.state.key_type()
    }

    /// All states, by name.
    pub fn states(&self) -> impl Iterator<Item = &StateDescriptor> {
        self.state.states.values().map(|state| &state.descriptor)
    }

    /// Rows of a state, and the bytes of their keys and values together.
    ///
    /// # Errors
    /// [`ErrorKind::Data`](crate::ErrorKind::Data) if a row cannot be found in its block.
    pub fn size(&self, state: &str) -> Result<(u64, u64)> {
        let (mut count, mut bytes) = (0, 0);
        for group in self.range.groups() {
            self.state.rows(state, group, &mut |key, value| {
                count += 1;
                bytes += (key.len() + value.len()) as u64;
                Ok(())
            })?;
        }
        Ok((count, bytes))
    }

    /// Visits the rows of a state whose row keys begin with `prefix`, which is empty or the ordered form of a key:
    /// by key group, and within one by the ordered form of their keys, until `visit` has had enough. There are none if
    /// there is no such state.
    ///
    /// # Errors
    /// Those of `visit`; [`ErrorKind::Data`](crate::ErrorKind::Data) if a row is not what the descriptor of its state
    /// says.
    pub fn visit(
        &self,
        state: &str,
        prefix: &[u8],
        visit: &mut dyn FnMut(StateEntry) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let Some(restored) = self.state.states.get(state) else { return Ok(()) };
        let types = RowTypes::new(self.key_type(), &restored.descriptor);
        for group in self.range.groups() {
            let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            self.state.rows(state, group, &mut |key, value| {
                if key.starts_with(prefix) {
                    found.push((key.to_vec(), value.to_vec()));
                }
                Ok(())
            })?;
            found.sort();
            for (key, value) in &found {
                let entry = types.entry(key, value).map_err(|e| e.at(format!("state `{state}`")))?;
                if visit(entry)?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for SnapshotReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotReader")
            .field("range", &self.range)
            .field("states", &self.state.states.keys())
            .finish_non_exhaustive()
    }
}

/// What the rows of one state are made of.
struct RowTypes<'a> {
    descriptor: &'a StateDescriptor,
    /// Key, namespace and the map's own key, as far as the state has them: names and types.
    keys: Vec<(&'a str, Option<KeyType>)>,
}

impl<'a> RowTypes<'a> {
    fn new(key_type: &'a str, descriptor: &'a StateDescriptor) -> Self {
        let names = [key_type, &descriptor.namespace_type, &descriptor.user_key_type];
        let present = names.into_iter().enumerate().filter(|(n, name)| *n == 0 || !name.is_empty());
        Self { descriptor, keys: present.map(|(_, name)| (name, KeyType::parse(name))).collect() }
    }

    fn entry(&self, row_key: &[u8], value: &[u8]) -> Result<StateEntry> {
        let (mut rest, time) = match self.descriptor.kind {
            StateKind::Timer => {
                let cut = row_key.len().checked_sub(TIME_BYTES).and_then(|at| row_key.split_at_checked(at));
                let (row_key, mut time) = cut.ok_or_else(|| Error::data("a timer without a time"))?;
                (row_key, Some(i64::decode_ordered(&mut time)?))
            }
            _ => (row_key, None),
        };
        let mut parts = Vec::with_capacity(self.keys.len());
        for (name, key_type) in &self.keys {
            match key_type {
                Some(key_type) => parts.push(Part::Value(key_type.decode_ordered(&mut rest)?)),
                None => {
                    parts.push(Part::raw(name, std::mem::take(&mut rest)));
                    break;
                }
            }
        }
        if !rest.is_empty() {
            return Err(Error::data(format!("{} bytes are left over behind a key", rest.len())));
        }
        let mut parts = parts.into_iter();
        let key = parts.next().ok_or_else(|| Error::bug("a row without a key"))?;
        let namespace = if self.descriptor.namespace_type.is_empty() { None } else { parts.next() };
        let map_key = parts.next();
        let (value, updated_at) = self.value(value)?;
        Ok(StateEntry { key, namespace, map_key, time, value, updated_at })
    }

    fn value(&self, mut bytes: &[u8]) -> Result<(Option<Part>, Option<Stamps>)> {
        let has_stamps = self.descriptor.ttl.is_some();
        Ok(match self.descriptor.kind {
            StateKind::Timer if bytes.is_empty() => (None, None),
            StateKind::Timer => return Err(Error::data("a timer has a value")),
            StateKind::List => {
                let (mut parts, mut stamps) = (Vec::new(), Vec::new());
                while !bytes.is_empty() {
                    let (part, stamp) = self.single(take_bytes(&mut bytes)?)?;
                    parts.push(part);
                    stamps.push(stamp);
                }
                (Some(Part::List(parts)), has_stamps.then_some(Stamps::Each(stamps)))
            }
            _ => {
                let (part, stamp) = self.single(bytes)?;
                (Some(part), has_stamps.then_some(Stamps::One(stamp)))
            }
        })
    }

    /// A value and its stamp.
    fn single(&self, mut bytes: &[u8]) -> Result<(Part, Option<i64>)> {
        let StateDescriptor { schema, codec, value_type, ttl, .. } = self.descriptor;
        let stamp = ttl.map(|_| take_stamp(&mut bytes)).transpose()?;
        let part = Part::read(schema, *codec, value_type, bytes)?;
        Ok((part, stamp.filter(|stamp| *stamp != UNSTAMPED)))
    }
}

#[cfg(test)]
mod tests;

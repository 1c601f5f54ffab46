//! What is known about a state besides its content: name, kind, codec and types. Kept in every snapshot, compared
//! when user code registers the state again.

use std::any::type_name;

use crate::codec::{Codec, State};
use crate::schema::Schema;
use crate::ttl::TtlTime;
use crate::{Error, Result};

/// The kinds of keyed state. The number is part of the snapshot format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateKind {
    /// One value per key.
    Value = 1,
    /// A list per key.
    List = 2,
    /// An ordered map per key.
    Map = 3,
    /// A set of timers per key.
    Timer = 4,
    /// One value per key, into which others are folded.
    Reducing = 5,
    /// One accumulator per key.
    Aggregating = 6,
}

impl StateKind {
    pub(crate) fn from_number(number: u8) -> Result<Self> {
        [Self::Value, Self::List, Self::Map, Self::Timer, Self::Reducing, Self::Aggregating]
            .into_iter()
            .find(|kind| *kind as u8 == number)
            .ok_or_else(|| Error::data(format!("there is no state kind {number}")))
    }

    fn word(self) -> &'static str {
        match self {
            Self::Value => "ValueState",
            Self::List => "ListState",
            Self::Map => "MapState",
            Self::Timer => "TimerQueue",
            Self::Reducing => "ReducingState",
            Self::Aggregating => "AggregatingState",
        }
    }
}

/// Name, kind, codec and types of one keyed state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDescriptor {
    /// The name that user code registers the state under.
    pub name: String,
    /// The kind of the state.
    pub kind: StateKind,
    /// The codec of its values.
    pub codec: Codec,
    /// The type of the namespaces within which the state is kept; empty if it is kept under the keys themselves.
    pub namespace_type: String,
    /// The type of a map's keys; empty for the other kinds.
    pub user_key_type: String,
    /// The type of the values, as Rust calls it. Two types of the same name are told apart by their schemas.
    pub value_type: String,
    /// The schema of the values: of the elements of a list, of the values of a map.
    pub schema: Schema,
    /// Which time the stamps in front of the values are of; none if there are no stamps.
    pub ttl: Option<TtlTime>,
}

impl StateDescriptor {
    /// # Errors
    /// Those of [`Schema::of`], naming the state.
    pub(crate) fn new<T: State>(name: &str, kind: StateKind, codec: Codec) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            kind,
            codec,
            namespace_type: String::new(),
            user_key_type: String::new(),
            value_type: short_type_name::<T>(),
            schema: Schema::of::<T>().map_err(|e| e.at(format!("state `{name}`")))?,
            ttl: None,
        })
    }

    pub(crate) fn with_user_key<UK>(mut self) -> Self {
        self.user_key_type = short_type_name::<UK>();
        self
    }

    pub(crate) fn within<N>(mut self) -> Self {
        self.namespace_type = short_type_name::<N>();
        self
    }

    /// The state as a Rust type, for messages: `MapState<String, u64>`.
    pub fn describe(&self) -> String {
        let (word, value) = (self.kind.word(), &self.value_type);
        let mut described = match self.kind {
            StateKind::Map => format!("{word}<{}, {value}>", self.user_key_type),
            StateKind::Timer => word.to_owned(),
            _ => format!("{word}<{value}>"),
        };
        if !self.namespace_type.is_empty() {
            described += &format!(" within namespaces {}", self.namespace_type);
        }
        described
    }

    /// Checks that `requested`, which user code asks for, is the state that exists as `self`.
    pub(crate) fn expect(&self, requested: &Self) -> Result<()> {
        // With or without stamps, it is the same state.
        if *self == (Self { ttl: self.ttl, ..requested.clone() }) {
            return Ok(());
        }
        if self.codec != requested.codec {
            return Err(Error::config(format!(
                "state `{}` has codec {} and is asked for with codec {}",
                self.name, self.codec, requested.codec
            )));
        }
        Err(self.mismatch(requested))
    }

    /// Checks that `requested` is of the kind that was restored as `self`, with the same keys. The values may differ.
    pub(crate) fn expect_kind(&self, requested: &Self) -> Result<()> {
        let keys = |state: &Self| [state.namespace_type.clone(), state.user_key_type.clone()];
        if self.kind == requested.kind && keys(self) == keys(requested) {
            return Ok(());
        }
        Err(self.mismatch(requested))
    }

    fn mismatch(&self, requested: &Self) -> Error {
        Error::config(format!(
            "state `{}` is a {} and is asked for as a {}",
            self.name,
            self.describe(),
            requested.describe()
        ))
        .hint("use the same type, or another name for the new state")
    }
}

/// The name of a type without module paths: `Vec<(String, u64)>`.
pub fn short_type_name<T: ?Sized>() -> String {
    strip_paths(type_name::<T>())
}

pub(crate) fn strip_paths(full: &str) -> String {
    let mut short = String::with_capacity(full.len());
    let mut segment = 0;
    let mut rest = full;
    while let Some(c) = rest.chars().next() {
        if let Some(behind) = rest.strip_prefix("::") {
            short.truncate(segment);
            rest = behind;
            continue;
        }
        short.push(c);
        if !(c.is_alphanumeric() || c == '_') {
            segment = short.len();
        }
        rest = &rest[c.len_utf8()..];
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_names_lose_their_paths() {
        assert_eq!(short_type_name::<Vec<(String, Option<u64>)>>(), "Vec<(String, Option<u64>)>");
        assert_eq!(
            short_type_name::<std::collections::BTreeMap<u8, [StateKind; 2]>>(),
            "BTreeMap<u8, [StateKind; 2]>"
        );
        assert_eq!(short_type_name::<&'static str>(), "&str");
        assert_eq!(strip_paths("a::b_c::D<e::f::G, &h::I>"), "D<G, &I>");
    }

    #[test]
    fn another_type_or_kind_is_refused_naming_both() {
        let value = |name| StateDescriptor::new::<u64>(name, StateKind::Value, Codec::Bincode).unwrap();
        let old = value("total");
        old.expect(&value("total")).unwrap();
        let new = StateDescriptor::new::<i64>("total", StateKind::Value, Codec::Bincode).unwrap();
        let e = old.expect(&new).unwrap_err().to_string();
        assert!(e.contains("ValueState<u64>") && e.contains("ValueState<i64>"), "{e}");
        old.expect_kind(&new).unwrap();
        let map = StateDescriptor::new::<u64>("total", StateKind::Map, Codec::Bincode).unwrap();
        let map = map.with_user_key::<String>();
        let e = old.expect_kind(&map).unwrap_err().to_string();
        assert!(e.contains("MapState<String, u64>"), "{e}");
        let e = map.expect_kind(&map.clone().with_user_key::<u8>()).unwrap_err().to_string();
        assert!(e.contains("MapState<String, u64>") && e.contains("MapState<u8, u64>"), "{e}");
        let other = StateDescriptor::new::<u64>("total", StateKind::Value, Codec::Postcard).unwrap();
        let e = old.expect(&other).unwrap_err().to_string();
        assert!(e.contains("bincode") && e.contains("postcard"), "{e}");
    }
}

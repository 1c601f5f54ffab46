//! The schema of a state's values: what their bytes mean, kept with the state so that it can be read without the
//! program that wrote it, and by a later version of it.
//!
//! A codec's bytes carry neither names nor types; the schema has both. It is [traced](Schema::of) through the type's
//! own serde implementations, without a derive of Tidegate's, and travels as [text](Schema::parse):
//!
//! ```text
//! struct Count { total: u64, last: option<enum Event { Click, Scroll(f32), Key { code: u16 } }> }
//! ```
//!
//! With it bytes become a tree of [`Value`]s and back, and a tree becomes a value of another version of the type,
//! read by field names as a self-describing format would be.

mod observe;
pub(crate) mod project;
mod read;
pub(crate) mod samples;
mod shape;
mod text;
mod trace;
mod value;
mod write;

pub(crate) use shape::{Content, NamedType, Shape, Variant};
pub use value::{Name, Value};

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::Codec;
use crate::descriptor::short_type_name;
use crate::{Error, Result};

/// What the bytes of a value mean.
///
/// ```
/// use tidegate_state::schema::Schema;
///
/// let schema = Schema::of::<(u64, Option<String>)>()?;
/// assert_eq!(schema.to_string(), "(u64, option<string>)");
/// assert_eq!(Schema::parse("(u64, option<string>)")?, schema);
/// # Ok::<(), tidegate_state::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    pub(crate) root: Shape,
    /// In the order in which the text names them first; no two have the same name.
    pub(crate) types: Vec<NamedType>,
}

impl Schema {
    /// Finds out what `T` writes and reads by running its serde implementations. A part that rejects every value it
    /// is tried with is left as a name, without a shape.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if `T` cannot be read back from a format that does not
    /// describe itself, because of `#[serde(untagged)]`, `tag`, `flatten` or `skip_serializing_if`.
    pub fn of<T: Serialize + DeserializeOwned>() -> Result<Self> {
        trace::trace::<T>().map_err(|reason| {
            Error::config(format!("values of type {} cannot be read back: {reason}", short_type_name::<T>()))
                .hint(
                    "state is written without field names: remove the attributes that leave something out or need \
                     names (flatten, untagged, tag, skip_serializing_if), or keep the value as a string of a format \
                     of your own",
                )
        })
    }

    /// Reads the text form, see [`Display`](fmt::Display).
    ///
    /// # Errors
    /// [`ErrorKind::Data`](crate::ErrorKind::Data) if the text is not that of a schema.
    pub fn parse(text: &str) -> Result<Self> {
        text::parse(text)
    }

    /// A type about which only the name is known.
    pub(crate) fn opaque<T: ?Sized>() -> Self {
        Self { root: Shape::Opaque(short_type_name::<T>()), types: Vec::new() }
    }

    /// XXH3-64 of the text without the names of types. Equal fingerprints: same bytes, same field names.
    pub fn fingerprint(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(text::render(self, false).as_bytes())
    }

    /// Whether values written in this schema are read, as they are, by a type of the other.
    pub(crate) fn is_read_as(&self, other: &Self) -> bool {
        text::render(self, false) == text::render(other, false)
    }

    /// The name of a part without a known shape, if there is one.
    pub(crate) fn unknown_part(&self) -> Option<&str> {
        self.root
            .unknown_part()
            .or_else(|| self.types.iter().flat_map(|t| t.content.shapes()).find_map(Shape::unknown_part))
    }

    /// Reads a value that takes up all of `bytes`.
    ///
    /// # Errors
    /// [`ErrorKind::Data`](crate::ErrorKind::Data) if the bytes do not fit the schema, if values are nested deeper than
    /// 128 levels, or if the schema has a part without a shape.
    pub fn decode(&self, codec: Codec, bytes: &[u8]) -> Result<Value> {
        read::decode(self, codec, bytes)
    }

    /// Appends the bytes of a value. What [`decode`](Self::decode) has read gives the bytes that it read.
    ///
    /// # Errors
    /// [`ErrorKind::Data`](crate::ErrorKind::Data) if the value does not fit the schema.
    pub fn encode(&self, codec: Codec, value: &Value, out: &mut Vec<u8>) -> Result<()> {
        write::encode(self, codec, value, out)
    }
}

/// The text form: what [`Schema::parse`] reads.
impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::render(self, true))
    }
}

#[cfg(test)]
mod tests;

//! Byte vectors in one piece. serde knows a `Vec<u8>` as a sequence of numbers and hands them over one by one, at some 600 MB
//! a second; as bytes it has the same form in both codecs and is copied.

use std::any::Any;
use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The bytes that `value` is, if it is a vector of bytes.
#[inline]
pub(super) fn of<T: 'static>(value: &T) -> Option<Borrowed<'_>> {
    (value as &dyn Any).downcast_ref::<Vec<u8>>().map(|bytes| Borrowed(bytes))
}

/// Whether a `T` is a vector of bytes.
#[inline]
pub(super) fn are<T: 'static>() -> bool {
    std::any::TypeId::of::<T>() == std::any::TypeId::of::<Vec<u8>>()
}

pub(super) struct Borrowed<'a>(&'a [u8]);

impl Serialize for Borrowed<'_> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// `None` once it is taken.
pub(super) struct Owned(Option<Vec<u8>>);

impl Owned {
    /// The bytes as what [`are`] says they are.
    #[inline]
    pub(super) fn into<T: 'static>(mut self) -> Option<T> {
        (&mut self.0 as &mut dyn Any).downcast_mut::<Option<T>>().and_then(Option::take)
    }
}

impl<'de> Deserialize<'de> for Owned {
    #[inline]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(Bytes).map(|bytes| Self(Some(bytes)))
    }
}

struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }
}

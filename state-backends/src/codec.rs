//! The value codecs: how a user's value becomes bytes and comes back.
//!
//! The number of a codec is kept with every state of a snapshot. What belongs to Tidegate itself and not to a state
//! (operator state, splits) is always written by codec 1, by [`encode`] and [`decode`].
//!
//! No codec describes its own bytes: they are read with the help of a type or of a [schema](crate::schema). serde
//! attributes that need a self-describing format (`untagged`, `tag`, `flatten`, `skip_serializing_if`) do not survive
//! them; a state whose type has one is refused when it is registered.

mod bincode;
mod bytes;
#[cfg(test)]
mod golden;
mod postcard;
mod wire;

pub(crate) use wire::{put_bytes, put_varint, put_with_length, take_bytes, take_varint};

use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed};

use crate::{Error, Result};

/// A value that can be kept in state: any serde type that owns its data and can be copied for a snapshot.
pub trait State: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> State for T {}

/// Largest encoded value in bytes. Larger ones are refused when written, never discovered when read.
pub const MAX_VALUE_BYTES: usize = 256 << 20;

/// How the values of a state become bytes. The number is part of the snapshot format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// [bincode](https://docs.rs/bincode/2.0.1) 2.0.1, little endian, integers of variable length.
    #[default]
    Bincode = 1,
    /// [postcard](https://postcard.jamesmunns.com/wire-format) 1. Integers above 250 take fewer bytes than with
    /// bincode, and the bytes have a specification that other languages implement.
    Postcard = 2,
}

impl Codec {
    pub(crate) fn from_number(number: u8) -> Result<Self> {
        [Self::Bincode, Self::Postcard].into_iter().find(|codec| *codec as u8 == number).ok_or_else(|| {
            Error::data(format!("there is no codec {number}"))
                .hint("read the state with the release that wrote it")
        })
    }

    /// Appends the encoded form of `value` to `out`.
    ///
    /// # Errors
    /// [`ErrorKind::Data`](crate::ErrorKind::Data) if the type refuses to be serialised or the value exceeds
    /// [`MAX_VALUE_BYTES`]; `out` is then as before.
    #[inline]
    pub fn encode<T: Serialize + ?Sized>(self, value: &T, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        let written = match self {
            Self::Bincode => bincode::encode(value, out).map_err(|e| not_serialised::<T>(e)),
            Self::Postcard => postcard::encode(value, out).map_err(|e| not_serialised::<T>(e)),
        };
        let checked = written.and_then(|()| within_limit(out.len() - start));
        if checked.is_err() {
            out.truncate(start);
        }
        checked
    }

    /// Like [`encode`](Self::encode); vectors of bytes are copied as a whole.
    #[inline]
    pub(crate) fn encode_state<T: State>(self, value: &T, out: &mut Vec<u8>) -> Result<()> {
        match bytes::of(value) {
            Some(bytes) => self.encode_bytes(&bytes, out),
            None => self.encode(value, out),
        }
    }

    /// Once for all types, not in the middle of each.
    #[inline(never)]
    fn encode_bytes(self, bytes: &bytes::Borrowed<'_>, out: &mut Vec<u8>) -> Result<()> {
        self.encode(bytes, out)
    }

    #[inline(never)]
    fn decode_bytes(self, bytes: &[u8]) -> Result<bytes::Owned> {
        self.decode(bytes)
    }

    /// Like [`decode`](Self::decode); vectors of bytes are copied as a whole.
    #[inline]
    pub(crate) fn decode_state<T: State>(self, bytes: &[u8]) -> Result<T> {
        if bytes::are::<T>()
            && let Some(value) = self.decode_bytes(bytes)?.into()
        {
            return Ok(value);
        }
        self.decode(bytes)
    }

    /// Reads a value that takes up all of `bytes`.
    ///
    /// # Errors
    /// [`ErrorKind::Data`](crate::ErrorKind::Data) if the bytes are not the form of a `T` or if some are left over.
    #[inline]
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T> {
        self.decode_with(PhantomData::<T>, bytes)
    }

    /// Reads a value from the front of `bytes`; what is behind it stays.
    ///
    /// # Errors
    /// [`ErrorKind::Data`](crate::ErrorKind::Data) if `bytes` does not begin with the form of a `T`; `bytes` is then as
    /// before.
    #[inline]
    pub fn decode_front<T: DeserializeOwned>(self, bytes: &mut &[u8]) -> Result<T> {
        let seed = PhantomData::<T>;
        let (value, used) = match self {
            Self::Bincode => bincode::decode(seed, bytes).map_err(unreadable::<T>)?,
            Self::Postcard => postcard::decode(seed, bytes).map_err(unreadable::<T>)?,
        };
        *bytes = bytes.get(used..).unwrap_or_default();
        Ok(value)
    }

    /// Like [`decode`](Self::decode), with a seed that knows what to read.
    #[inline]
    pub(crate) fn decode_with<'de, S: DeserializeSeed<'de>>(
        self,
        seed: S,
        bytes: &'de [u8],
    ) -> Result<S::Value> {
        let (value, used) = match self {
            Self::Bincode => bincode::decode(seed, bytes).map_err(unreadable::<S::Value>)?,
            Self::Postcard => postcard::decode(seed, bytes).map_err(unreadable::<S::Value>)?,
        };
        if used == bytes.len() { Ok(value) } else { Err(left_over::<S::Value>(bytes.len() - used)) }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bincode => "bincode",
            Self::Postcard => "postcard",
        })
    }
}

/// Appends the form of `value` in codec 1 to `out`. Errors as for [`Codec::encode`].
pub fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<()> {
    Codec::Bincode.encode(value, out)
}

/// Reads a value that takes up all of `bytes` in codec 1. Errors as for [`Codec::decode`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    Codec::Bincode.decode(bytes)
}

#[inline]
fn within_limit(length: usize) -> Result<()> {
    if length <= MAX_VALUE_BYTES {
        return Ok(());
    }
    Err(Error::data(format!("a value of {length} bytes exceeds the limit of {MAX_VALUE_BYTES} bytes"))
        .hint("split it, for example into the entries of a map state"))
}

#[cold]
fn not_serialised<T: ?Sized>(e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::data(format!("cannot serialise {}", type_name::<T>())).with_source(e)
}

#[cold]
fn unreadable<T>(e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::data(format!("cannot read {}", type_name::<T>())).with_source(e)
}

#[cold]
fn left_over<T>(bytes: usize) -> Error {
    Error::data(format!("{bytes} bytes are left over behind {}", type_name::<T>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    const CODECS: [Codec; 2] = [Codec::Bincode, Codec::Postcard];

    fn encoded<T: Serialize>(codec: Codec, value: &T) -> Vec<u8> {
        let mut out = vec![7];
        codec.encode(value, &mut out).unwrap();
        assert_eq!(out.remove(0), 7, "what was there stays");
        out
    }

    #[test]
    fn the_whole_value_must_be_there_and_nothing_else() {
        for codec in CODECS {
            let bytes = encoded(codec, &(9u64, "x"));
            assert_eq!(codec.decode::<(u64, String)>(&bytes).unwrap(), (9, "x".into()));
            assert_eq!(codec.decode::<u64>(&[1, 2]).unwrap_err().kind(), ErrorKind::Data);
            assert_eq!(codec.decode::<String>(&[4, b'a']).unwrap_err().kind(), ErrorKind::Data);
        }
    }

    #[test]
    fn a_huge_announced_length_is_refused_without_allocating() {
        for announced in [&[253, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0][..], &[0xff, 0xff, 0xff, 0xff, 0x0f]] {
            for codec in CODECS {
                assert_eq!(codec.decode::<String>(announced).unwrap_err().kind(), ErrorKind::Data);
                assert_eq!(codec.decode::<Vec<u8>>(announced).unwrap_err().kind(), ErrorKind::Data);
                assert_eq!(codec.decode::<Vec<u128>>(announced).unwrap_err().kind(), ErrorKind::Data);
            }
        }
    }

    #[test]
    fn bytes_that_are_copied_as_a_whole_have_the_form_that_they_have_one_by_one() {
        for codec in CODECS {
            for length in [0usize, 1, 200, 300, 70_000, 3_000_000] {
                let value: Vec<u8> = (0..length).map(|n| (n * 7) as u8).collect();
                let one_by_one = encoded(codec, &value);
                let mut whole = Vec::new();
                codec.encode_state(&value, &mut whole).unwrap();
                assert_eq!(whole, one_by_one);
                assert_eq!(codec.decode_state::<Vec<u8>>(&whole).unwrap(), value);
                whole.push(0);
                assert_eq!(codec.decode_state::<Vec<u8>>(&whole).unwrap_err().kind(), ErrorKind::Data);
                whole.truncate(length);
                assert_eq!(codec.decode_state::<Vec<u8>>(&whole).unwrap_err().kind(), ErrorKind::Data);
            }
            let announced = &[253, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0][..];
            assert_eq!(codec.decode_state::<Vec<u8>>(announced).unwrap_err().kind(), ErrorKind::Data);
        }
    }

    #[test]
    fn values_that_are_dense_in_bytes_fit_the_limits() {
        for length in [10usize, bincode::SMALL_BYTES - 3, bincode::SMALL_BYTES, bincode::SMALL_BYTES * 4] {
            for codec in CODECS {
                let dense = vec![0u128; length];
                assert_eq!(codec.decode::<Vec<u128>>(&encoded(codec, &dense)).unwrap(), dense);
                let options = vec![Some(Some(0u64)); length / 3];
                let read: Vec<Option<Option<u64>>> = codec.decode(&encoded(codec, &options)).unwrap();
                assert_eq!(read, options);
            }
        }
    }

    #[test]
    fn a_failed_encode_leaves_nothing_behind() {
        struct Half;
        impl Serialize for Half {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::{Error, SerializeTuple};
                let mut tuple = serializer.serialize_tuple(2)?;
                tuple.serialize_element(&7u64)?;
                Err(S::Error::custom("enough"))
            }
        }
        for codec in CODECS {
            let mut out = vec![1];
            assert_eq!(codec.encode(&Half, &mut out).unwrap_err().kind(), ErrorKind::Data);
            assert_eq!(out, [1]);
        }
    }

    #[test]
    fn one_file_names_each_crate() {
        let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        let mut users = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                for name in ["bincode", "postcard"] {
                    if text.contains(&format!("use {name}::")) || text.contains(&format!("{name}::ser")) {
                        users.push((name, path.file_name().unwrap().to_str().unwrap().to_owned()));
                    }
                }
            }
        }
        users.sort();
        assert_eq!(users, [("bincode", "bincode.rs".to_owned()), ("postcard", "postcard.rs".to_owned())]);
    }
}

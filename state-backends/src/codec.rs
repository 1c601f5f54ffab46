//! The value codec: how a user's value becomes bytes and comes back. The only file that names bincode.
//!
//! Codec number 1 is bincode 2.0.1 over serde with little-endian, variable-length integers and a limit. The number
//! is kept with every state of a snapshot, so that a second codec can be told apart.
//!
//! serde attributes that need a self-describing format (`untagged`, `flatten`, `skip_serializing_if`) do not
//! survive this codec.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// A value that can be kept in state: any serde type that owns its data and can be copied for a snapshot.
pub trait State: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> State for T {}

/// How the values of a state become bytes. The number is part of the snapshot format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// [`encode`] and [`decode`]: bincode.
    #[default]
    Bincode = 1,
}

impl Codec {
    pub(crate) fn from_number(number: u8) -> Result<Self> {
        match number {
            1 => Ok(Self::Bincode),
            _ => Err(Error::data(format!("there is no codec {number}"))
                .hint("read the state with the release that wrote it")),
        }
    }

    /// Appends the encoded form of `value` to `out`. Errors as for [`encode`].
    #[inline]
    pub fn encode<T: Serialize + ?Sized>(self, value: &T, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Bincode => encode(value, out),
        }
    }

    /// Reads a value that takes up all of `bytes`. Errors as for [`decode`].
    #[inline]
    pub fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T> {
        match self {
            Self::Bincode => decode(bytes),
        }
    }
}

/// Largest encoded value in bytes. Larger ones are refused when written, never discovered when read.
pub const MAX_VALUE_BYTES: usize = 256 << 20;

/// Values up to this many encoded bytes are read under the small limit.
const SMALL_BYTES: usize = 64 << 10;

/// How much more than its encoded size a value may claim in memory: a varint byte may stand for 16 bytes.
const GROWTH: usize = 32;

type Limited<const N: usize> = Configuration<LittleEndian, Varint, Limit<N>>;
type Small = Limited<{ SMALL_BYTES * GROWTH }>;
type Large = Limited<{ MAX_VALUE_BYTES * GROWTH }>;

const SMALL: Small = bincode::config::standard().with_limit();
const LARGE: Large = bincode::config::standard().with_limit();

struct Sink<'a>(&'a mut Vec<u8>);

impl Writer for Sink<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Appends the encoded form of `value` to `out`.
///
/// # Errors
/// [`ErrorKind::Data`](crate::ErrorKind::Data) if the type refuses to be serialised or the value exceeds
/// [`MAX_VALUE_BYTES`]; `out` is then as before.
pub fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    let written = bincode::serde::encode_into_writer(value, Sink(out), LARGE);
    let length = out.len() - start;
    match written {
        Ok(()) if length <= MAX_VALUE_BYTES => Ok(()),
        Ok(()) => {
            out.truncate(start);
            Err(Error::data(format!(
                "a value of {length} bytes exceeds the limit of {MAX_VALUE_BYTES} bytes"
            ))
            .hint("split it, for example into the entries of a map state"))
        }
        Err(e) => {
            out.truncate(start);
            Err(Error::data(format!("cannot serialise {}", std::any::type_name::<T>())).with_source(e))
        }
    }
}

/// Reads a value that takes up all of `bytes`.
///
/// # Errors
/// [`ErrorKind::Data`](crate::ErrorKind::Data) if the bytes are not the form of a `T` or if some are left over.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let decoded = if bytes.len() <= SMALL_BYTES {
        bincode::serde::decode_from_slice(bytes, SMALL)
    } else {
        bincode::serde::decode_from_slice(bytes, LARGE)
    };
    let (value, used) = decoded
        .map_err(|e| Error::data(format!("cannot read {}", std::any::type_name::<T>())).with_source(e))?;
    if used != bytes.len() {
        return Err(Error::data(format!(
            "{} bytes are left over behind {}",
            bytes.len() - used,
            std::any::type_name::<T>()
        )));
    }
    Ok(value)
}

/// Appends `value` in seven-bit groups, the lowest first, the top bit saying that more follow.
pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads what [`put_varint`] wrote and moves `bytes` behind it.
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or_else(|| Error::data("the bytes end inside a number"))?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Error::data("a number is longer than 64 bits"))
}

/// Appends the length of `bytes` as a varint, then `bytes`.
pub(crate) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Reads what [`put_bytes`] wrote and moves `bytes` behind it.
pub(crate) fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = take_varint(bytes)?;
    let split = usize::try_from(length).ok().and_then(|length| bytes.split_at_checked(length));
    let (head, rest) = split
        .ok_or_else(|| Error::data(format!("{length} bytes are announced, {} are there", bytes.len())))?;
    *bytes = rest;
    Ok(head)
}

/// Appends what `write` writes, preceded by its length as a varint. Short content, the usual case, is not moved.
pub(crate) fn put_with_length(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    let start = out.len();
    out.push(0);
    write(out)?;
    let length = out.len() - start - 1;
    if length < 0x80 {
        out[start] = length as u8;
    } else {
        let mut prefix = Vec::with_capacity(10);
        put_varint(length as u64, &mut prefix);
        out.splice(start..=start, prefix);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
        let mut out = Vec::new();
        encode(value, &mut out).unwrap();
        out
    }

    #[test]
    fn golden_forms() {
        assert_eq!(encoded(&5u64), [5]);
        assert_eq!(encoded(&300u64), [251, 44, 1]);
        assert_eq!(encoded(&-1i64), [1], "zigzag");
        assert_eq!(encoded(&(true, "ab", Some(7u8))), [1, 2, b'a', b'b', 1, 7]);
        assert_eq!(encoded(&vec![1u32, 2]), [2, 1, 2]);
        assert_eq!(encoded(&1.5f64), [0, 0, 0, 0, 0, 0, 0xf8, 0x3f]);
    }

    #[test]
    fn the_whole_value_must_be_there_and_nothing_else() {
        assert_eq!(decode::<(u64, String)>(&encoded(&(9u64, "x"))).unwrap(), (9, "x".into()));
        assert_eq!(decode::<u64>(&[1, 2]).unwrap_err().kind(), ErrorKind::Data);
        assert_eq!(decode::<String>(&[4, b'a']).unwrap_err().kind(), ErrorKind::Data);
    }

    #[test]
    fn a_huge_announced_length_is_refused_without_allocating() {
        let announced = [253, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(decode::<String>(&announced).unwrap_err().kind(), ErrorKind::Data);
        assert_eq!(decode::<Vec<u8>>(&announced).unwrap_err().kind(), ErrorKind::Data);
    }

    #[test]
    fn values_that_are_dense_in_bytes_fit_the_limits() {
        for length in [10usize, SMALL_BYTES - 3, SMALL_BYTES, SMALL_BYTES * 4] {
            let dense = vec![0u128; length];
            assert_eq!(decode::<Vec<u128>>(&encoded(&dense)).unwrap(), dense);
            let options = vec![Some(Some(0u64)); length / 3];
            assert_eq!(decode::<Vec<Option<Option<u64>>>>(&encoded(&options)).unwrap(), options);
        }
    }

    #[test]
    fn no_other_file_uses_bincode() {
        let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        let mut users = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if std::fs::read_to_string(&path).unwrap().contains("bincode::") {
                    users.push(path.file_name().unwrap().to_owned());
                }
            }
        }
        assert_eq!(users, ["codec.rs"]);
    }

    #[test]
    fn varints_and_lengths() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(value, &mut out);
            let mut rest = out.as_slice();
            assert_eq!(take_varint(&mut rest).unwrap(), value);
            assert!(rest.is_empty());
            assert!(take_varint(&mut &out[..out.len() - 1]).is_err());
        }
        assert!(take_varint(&mut [0xff; 11].as_slice()).is_err());
        for length in [0usize, 127, 128, 70_000] {
            let mut out = vec![1];
            put_with_length(&mut out, |o| {
                o.extend(std::iter::repeat_n(7, length));
                Ok(())
            })
            .unwrap();
            assert_eq!(take_bytes(&mut &out[1..]).unwrap(), vec![7; length]);
            assert!(take_bytes(&mut &out[1..out.len() - 1]).is_err());
        }
    }
}

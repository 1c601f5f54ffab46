//! The ordered form of the key types that come with Tidegate.
//!
//! | type | ordered form |
//! |---|---|
//! | unsigned integers | big endian |
//! | signed integers | big endian with the sign bit flipped |
//! | `bool` | one byte, 0 or 1 |
//! | `char` | its scalar value as a `u32` |
//! | `String`, `Vec<u8>` | the bytes, each 00 written as 00 FF, then 00 01 |
//! | `()` | nothing |
//! | `Option<K>` | 00, or 01 and the key |
//! | tuples | their fields, one after the other |

use xxhash_rust::xxh3::xxh3_64;

use super::{BorrowedKey, Key};
use crate::{Error, Result};

const ESCAPE: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xff;
const END: u8 = 0x01;

fn cut_short(what: &str) -> Error {
    Error::data(format!("the bytes of a key end inside {what}"))
}

fn take<const N: usize>(bytes: &mut &[u8], what: &str) -> Result<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or_else(|| cut_short(what))?;
    *bytes = rest;
    Ok(*head)
}

macro_rules! unsigned_keys {
    ($($int:ty),*) => {$(
        impl Key for $int {
            fn encode_ordered(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn decode_ordered(bytes: &mut &[u8]) -> Result<Self> {
                Ok(<$int>::from_be_bytes(take(bytes, stringify!($int))?))
            }

            fn least() -> Self {
                <$int>::MIN
            }

            #[inline]
            fn hash64(&self) -> u64 {
                xxh3_64(&self.to_be_bytes())
            }
        }
    )*};
}

macro_rules! signed_keys {
    ($($int:ty),*) => {$(
        impl Key for $int {
            fn encode_ordered(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&(self ^ <$int>::MIN).to_be_bytes());
            }

            fn decode_ordered(bytes: &mut &[u8]) -> Result<Self> {
                Ok(<$int>::from_be_bytes(take(bytes, stringify!($int))?) ^ <$int>::MIN)
            }

            fn least() -> Self {
                <$int>::MIN
            }

            #[inline]
            fn hash64(&self) -> u64 {
                xxh3_64(&(self ^ <$int>::MIN).to_be_bytes())
            }
        }
    )*};
}

unsigned_keys!(u8, u16, u32, u64, u128);
signed_keys!(i8, i16, i32, i64, i128);

impl Key for bool {
    fn encode_ordered(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode_ordered(bytes: &mut &[u8]) -> Result<Self> {
        match take(bytes, "bool")? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(Error::data(format!("{other} is not the key form of a bool"))),
        }
    }

    fn least() -> Self {
        false
    }
}

impl Key for char {
    fn encode_ordered(&self, out: &mut Vec<u8>) {
        u32::from(*self).encode_ordered(out);
    }

    fn decode_ordered(bytes: &mut &[u8]) -> Result<Self> {
        let scalar = u32::decode_ordered(bytes)?;
        char::from_u32(scalar).ok_or_else(|| Error::data(format!("{scalar:#x} is not a character")))
    }

    fn least() -> Self {
        char::MIN
    }
}

fn encode_bytes(mut bytes: &[u8], out: &mut Vec<u8>) {
    while let Some(zero) = bytes.iter().position(|b| *b == ESCAPE) {
        out.extend_from_slice(&bytes[..zero]);
        out.extend_from_slice(&[ESCAPE, ESCAPED_ZERO]);
        bytes = &bytes[zero + 1..];
    }
    out.extend_from_slice(bytes);
    out.extend_from_slice(&[ESCAPE, END]);
}

fn decode_bytes(bytes: &mut &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    loop {
        let zero = bytes.iter().position(|b| *b == ESCAPE).ok_or_else(|| cut_short("a byte string"))?;
        out.extend_from_slice(&bytes[..zero]);
        *bytes = &bytes[zero + 1..];
        match take(bytes, "a byte string")? {
            [ESCAPED_ZERO] => out.push(0),
            [END] => return Ok(out),
            [other] => return Err(Error::data(format!("{other:#x} follows an escape in a byte string key"))),
        }
    }
}

impl Key for Vec<u8> {
    fn encode_ordered(&self, out: &mut Vec<u8>) {
        encode_bytes(self, out);
    }

    fn decode_ordered(bytes: &mut &[u8]) -> Result<Self> {
        decode_bytes(bytes)
    }

    fn least() -> Self {
        Self::new()
    }

    #[inline]
    fn hash64(&self) -> u64 {
        BorrowedKey::hash64(self.as_slice())
    }
}

impl Key for String {
    fn encode_ordered(&self, out: &mut Vec<u8>) {
        encode_bytes(self.as_bytes(), out);
    }

    fn decode_ordered(bytes: &mut &[u8]) -> Result<Self> {
        String::from_utf8(decode_bytes(bytes)?)
            .map_err(|e| Error::data("a string key is not UTF-8").with_source(e))
    }

    fn least() -> Self {
        Self::new()
    }

    #[inline]
    fn hash64(&self) -> u64 {
        BorrowedKey::hash64(self.as_str())
    }
}

impl Key for () {
    fn encode_ordered(&self, _out: &mut Vec<u8>) {}

    fn decode_ordered(_bytes: &mut &[u8]) -> Result<Self> {
        Ok(())
    }

    fn least() -> Self {}
}

impl<K: Key> Key for Option<K> {
    fn encode_ordered(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(key) = self {
            key.encode_ordered(out);
        }
    }

    fn decode_ordered(bytes: &mut &[u8]) -> Result<Self> {
        Ok(if bool::decode_ordered(bytes)? { Some(K::decode_ordered(bytes)?) } else { None })
    }

    fn least() -> Self {
        None
    }
}

macro_rules! tuple_keys {
    ($(($($name:ident $index:tt),*))*) => {$(
        impl<$($name: Key),*> Key for ($($name,)*) {
            fn encode_ordered(&self, out: &mut Vec<u8>) {
                $(self.$index.encode_ordered(out);)*
            }

            fn decode_ordered(bytes: &mut &[u8]) -> Result<Self> {
                Ok(($($name::decode_ordered(bytes)?,)*))
            }

            fn least() -> Self {
                ($($name::least(),)*)
            }
        }
    )*};
}

tuple_keys! {
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded<K: Key>(key: &K) -> Vec<u8> {
        let mut out = Vec::new();
        key.encode_ordered(&mut out);
        out
    }

    fn agrees<K: Key>(a: K, b: K) -> Result<(), TestCaseError> {
        let (x, y) = (encoded(&a), encoded(&b));
        prop_assert_eq!(x.cmp(&y), a.cmp(&b), "{:?} {:?}", a, b);
        if a != b {
            prop_assert!(
                !y.starts_with(&x) || x.is_empty() && y.is_empty(),
                "{:?} is a prefix of {:?}",
                a,
                b
            );
        }
        prop_assert!(K::least() <= a);
        let mut both = x.clone();
        both.extend_from_slice(&y);
        let mut rest = both.as_slice();
        prop_assert_eq!(K::decode_ordered(&mut rest).unwrap(), a);
        prop_assert_eq!(K::decode_ordered(&mut rest).unwrap(), b);
        prop_assert!(rest.is_empty());
        for cut in 0..x.len() {
            prop_assert!(K::decode_ordered(&mut &x[..cut]).is_err(), "accepts {} of {} bytes", cut, x.len());
        }
        Ok(())
    }

    fn small_bytes() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()], 0..6)
    }

    proptest! {
        #[test]
        fn integers(a: i64, b: i64, c: u128, d: u128, e: i8, f: i8) {
            agrees(a, b)?;
            agrees(c, d)?;
            agrees(e, f)?;
        }

        #[test]
        fn strings(a in small_bytes(), b in small_bytes(), c: String, d: String) {
            agrees(a, b)?;
            agrees(c, d)?;
        }

        #[test]
        fn composites(
            a in (small_bytes(), any::<Option<i16>>(), any::<char>(), any::<bool>()),
            b in (small_bytes(), any::<Option<i16>>(), any::<char>(), any::<bool>()),
        ) {
            agrees(a.clone(), b.clone())?;
            agrees((a.0.clone(), a.1), (b.0.clone(), b.1))?;
            agrees((a.1, a.0, a.3), (b.1, b.0, b.3))?;
        }

        #[test]
        fn any_bytes_are_refused_or_read(bytes: Vec<u8>) {
            let _ = <(String, Option<Vec<u8>>, char)>::decode_ordered(&mut bytes.as_slice());
        }
    }

    #[test]
    fn golden_forms() {
        assert_eq!(
            encoded(&(-2i32, String::from("a\0b"))),
            [0x7f, 0xff, 0xff, 0xfe, b'a', 0, 0xff, b'b', 0, 1]
        );
        assert_eq!(encoded(&Some(1u16)), [1, 0, 1]);
        assert_eq!(encoded(&None::<u16>), [0]);
        assert_eq!(encoded(&'é'), [0, 0, 0, 0xe9]);
    }
}

//! Codec 1: bincode 2.0.1 over serde, little endian, integers of variable length, with a limit on what a decoder
//! may allocate. The only file that names bincode.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use serde::Serialize;
use serde::de::DeserializeSeed;

use super::MAX_VALUE_BYTES;

/// Values up to this many encoded bytes are read under the small limit.
pub(super) const SMALL_BYTES: usize = 64 << 10;

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

/// Appends the form of `value`; on an error `out` may have grown.
pub(super) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    bincode::serde::encode_into_writer(value, Sink(out), LARGE)
}

/// Reads a value from the front of `bytes` and says how many it took.
pub(super) fn decode<'de, S: DeserializeSeed<'de>>(
    seed: S,
    bytes: &'de [u8],
) -> Result<(S::Value, usize), DecodeError> {
    if bytes.len() <= SMALL_BYTES {
        bincode::serde::seed_decode_from_slice(seed, bytes, SMALL)
    } else {
        bincode::serde::seed_decode_from_slice(seed, bytes, LARGE)
    }
}

//! Codec 2: postcard 1.1.3, whose bytes have a written specification. The only file that names postcard.

use postcard::ser_flavors::Flavor;
use postcard::{Deserializer, Result};
use serde::Serialize;
use serde::de::DeserializeSeed;

struct Sink<'a>(&'a mut Vec<u8>);

impl Flavor for Sink<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> Result<()> {
        Ok(())
    }
}

/// Appends the form of `value`; on an error `out` may have grown.
pub(super) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<()> {
    postcard::serialize_with_flavor(value, Sink(out))
}

/// Reads a value from the front of `bytes` and says how many it took.
pub(super) fn decode<'de, S: DeserializeSeed<'de>>(seed: S, bytes: &'de [u8]) -> Result<(S::Value, usize)> {
    let mut deserializer = Deserializer::from_bytes(bytes);
    let value = seed.deserialize(&mut deserializer)?;
    Ok((value, bytes.len() - deserializer.finalize()?.len()))
}

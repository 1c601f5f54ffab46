//! How the values of one state become bytes: decided once, when the state is registered, and handed to every encode
//! and decode of that state.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Result;
use crate::codec::Codec;

/// What encoding and decoding a value of one state takes. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    codec: Codec,
}

impl Layout {
    pub(crate) fn new(codec: Codec) -> Self {
        Self { codec }
    }

    pub(crate) fn codec(&self) -> Codec {
        self.codec
    }

    /// Appends the form of one value.
    #[inline]
    pub(crate) fn encode<T: Serialize>(&self, value: &T, out: &mut Vec<u8>) -> Result<()> {
        self.codec.encode(value, out)
    }

    /// Reads a value that takes up all of `bytes`.
    #[inline]
    pub(crate) fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        self.codec.decode(bytes)
    }
}

//! How the values of one state become bytes: decided once, when the state is registered, and handed to every encode
//! and decode of that state.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Result;
use crate::codec::Codec;
use crate::evolution::Converter;

/// What encoding and decoding a value of one state takes. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    codec: Codec,
    /// For reading alone: makes the present form of the bytes of an older version.
    converter: Option<Converter>,
}

impl Layout {
    pub(crate) fn new(codec: Codec) -> Self {
        Self { codec, converter: None }
    }

    /// The layout in which restored values are read.
    pub(crate) fn reading(mut self, converter: Option<Converter>) -> Self {
        self.converter = converter;
        self
    }

    /// Whether restored values have to be written again to be of this layout.
    pub(crate) fn converts(&self) -> bool {
        self.converter.is_some()
    }

    /// Appends the form of one value.
    #[inline]
    pub(crate) fn encode<T: Serialize>(&self, value: &T, out: &mut Vec<u8>) -> Result<()> {
        self.codec.encode(value, out)
    }

    /// Reads a value that takes up all of `bytes`.
    #[inline]
    pub(crate) fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        match &self.converter {
            None => self.codec.decode(bytes),
            Some(converter) => self.decode_older(converter, bytes),
        }
    }

    #[cold]
    fn decode_older<T: DeserializeOwned>(&self, converter: &Converter, bytes: &[u8]) -> Result<T> {
        let mut present = Vec::new();
        converter.convert(bytes, &mut present)?;
        self.codec.decode(&present)
    }
}

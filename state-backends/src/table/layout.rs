//! How the values of one state become bytes: decided once, when the state is registered, and handed to every encode
//! and decode of that state.

use crate::Result;
use crate::codec::{Codec, State};
use crate::evolution::Converter;
use crate::ttl::{Horizon, UNSTAMPED, take_stamp};

/// What encoding and decoding a value of one state takes. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    codec: Codec,
    /// For reading alone: makes the present form of the bytes of an older version.
    converter: Option<Converter>,
    /// For reading alone: what becomes of stamps.
    stamps: Restamp,
    /// For writing an image alone: what has expired is left out.
    horizon: Option<Horizon>,
}

/// What becomes of the stamps of restored values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Restamp {
    /// They stay as they are, or there are none and never were.
    #[default]
    Keep,
    /// There were none; all get this one.
    Give(i64),
    /// All get this one instead.
    Replace(i64),
    /// They are dropped.
    Drop,
    /// All move by so much.
    Shift(i64),
}

impl Layout {
    pub(crate) fn new(codec: Codec) -> Self {
        Self { codec, converter: None, stamps: Restamp::Keep, horizon: None }
    }

    /// The layout for reading values whose stamps are to change.
    pub(crate) fn restamping(mut self, stamps: Restamp) -> Self {
        self.stamps = stamps;
        self
    }

    pub(crate) fn set_horizon(&mut self, horizon: Horizon) {
        self.horizon = Some(horizon);
    }

    #[inline]
    pub(crate) fn horizon(&self) -> Horizon {
        self.horizon.unwrap_or(Horizon::NOTHING)
    }

    /// Reads the stamp of a value that has to have one and moves `bytes` behind it.
    pub(crate) fn take_stamp(&self, bytes: &mut &[u8]) -> Result<i64> {
        match self.stamps {
            Restamp::Keep | Restamp::Drop => take_stamp(bytes),
            Restamp::Give(stamp) => Ok(stamp),
            Restamp::Replace(stamp) => take_stamp(bytes).map(|_| stamp),
            Restamp::Shift(by) => {
                let stamp = take_stamp(bytes)?;
                Ok(if stamp == UNSTAMPED { stamp } else { stamp.saturating_add(by) })
            }
        }
    }

    /// The layout in which restored values are read.
    pub(crate) fn reading(mut self, converter: Option<Converter>) -> Self {
        self.converter = converter;
        self
    }

    /// Whether restored values have to be written again to be of this layout.
    pub(crate) fn converts(&self) -> bool {
        self.converter.is_some() || self.stamps != Restamp::Keep
    }

    /// Appends the form of one value.
    #[inline]
    pub(crate) fn encode<T: State>(&self, value: &T, out: &mut Vec<u8>) -> Result<()> {
        self.codec.encode_state(value, out)
    }

    /// Reads a value that takes up all of `bytes`.
    #[inline]
    pub(crate) fn decode<T: State>(&self, bytes: &[u8]) -> Result<T> {
        let mut bytes = bytes;
        if self.stamps == Restamp::Drop {
            take_stamp(&mut bytes)?;
        }
        match &self.converter {
            None => self.codec.decode_state(bytes),
            Some(converter) => self.decode_older(converter, bytes),
        }
    }

    #[cold]
    fn decode_older<T: State>(&self, converter: &Converter, bytes: &[u8]) -> Result<T> {
        let mut present = Vec::new();
        converter.convert(bytes, &mut present)?;
        self.codec.decode_state(&present)
    }
}

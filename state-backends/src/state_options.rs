//! What a program may say about a state beside its name and type.

use std::fmt;
use std::marker::PhantomData;

use crate::codec::Codec;
use crate::table::layout::Layout;

/// Options of one keyed state whose values (elements of a list, values of a map) are `T`.
///
/// ```
/// use tidegate_state::{Codec, StateOptions};
///
/// let options = StateOptions::<u64>::new().codec(Codec::Bincode);
/// # let _ = options;
/// ```
pub struct StateOptions<T> {
    codec: Codec,
    value: PhantomData<fn() -> T>,
}

impl<T> StateOptions<T> {
    /// The options that a state has if none are given.
    pub fn new() -> Self {
        Self::default()
    }

    /// The codec of the values; [`Codec::Bincode`] if none is given.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::new(self.codec)
    }
}

impl<T> Default for StateOptions<T> {
    fn default() -> Self {
        Self { codec: Codec::default(), value: PhantomData }
    }
}

impl<T> Clone for StateOptions<T> {
    fn clone(&self) -> Self {
        Self { codec: self.codec, value: PhantomData }
    }
}

impl<T> fmt::Debug for StateOptions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateOptions").field("codec", &self.codec).finish()
    }
}

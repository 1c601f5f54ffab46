//! What a program may say about a state beside its name and type.

use std::fmt;

use crate::Result;
use crate::codec::{Codec, State};
use crate::descriptor::{StateDescriptor, StateKind};
use crate::evolution::resolve;
use crate::migrations::Migrations;
use crate::table::layout::Layout;
use crate::ttl::Ttl;

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
    ttl: Option<Ttl>,
    migrations: Migrations<T>,
}

impl<T: State> StateOptions<T> {
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

    /// How long values live after their last update; for ever if this is not given.
    #[must_use]
    pub fn ttl(mut self, ttl: Ttl) -> Self {
        self.ttl = Some(ttl);
        self
    }

    pub(crate) fn time_to_live(&self) -> Option<Ttl> {
        self.ttl
    }

    /// How to read values of older types that `T` cannot read by itself.
    #[must_use]
    pub fn migrations(mut self, migrations: Migrations<T>) -> Self {
        self.migrations = migrations;
        self
    }

    /// The description of a state with these options.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if values of type `T` cannot be read back.
    pub(crate) fn descriptor(&self, name: &str, kind: StateKind) -> Result<StateDescriptor> {
        StateDescriptor::new::<T>(name, kind, self.codec)
    }

    /// How to read what was written as `written`, now that it is `wanted`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the values of the one cannot become those of the other.
    pub(crate) fn reading(&self, written: &StateDescriptor, wanted: &StateDescriptor) -> Result<Layout> {
        Ok(self.layout().reading(resolve(written, wanted, &self.migrations)?))
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::new(self.codec)
    }
}

impl<T: State> Default for StateOptions<T> {
    fn default() -> Self {
        Self { codec: Codec::default(), ttl: None, migrations: Migrations::new() }
    }
}

impl<T> Clone for StateOptions<T> {
    fn clone(&self) -> Self {
        Self { codec: self.codec, ttl: self.ttl, migrations: self.migrations.clone() }
    }
}

impl<T> fmt::Debug for StateOptions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateOptions")
            .field("codec", &self.codec)
            .field("ttl", &self.ttl)
            .field("migrations", &self.migrations)
            .finish()
    }
}

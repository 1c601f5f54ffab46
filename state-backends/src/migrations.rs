//! [`Migrations`]: functions that turn what older versions of a program have written into what this one reads.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::codec::{Codec, State};
use crate::schema::project::{Mismatch, project};
use crate::schema::{Schema, Value};
use crate::{Error, Result};

/// A value as it was written.
pub(crate) enum Written<'a> {
    /// In the very shape of the type that reads it.
    Same(Codec, &'a [u8]),
    /// As another type.
    Tree(Value),
}

impl Written<'_> {
    pub(crate) fn read<T: DeserializeOwned>(self) -> Result<T> {
        match self {
            Self::Same(codec, bytes) => codec.decode(bytes),
            Self::Tree(value) => project(value)
                .map_err(|e| Error::data("a value cannot be read as its new type").with_source(e)),
        }
    }
}

type ReadOld<T> = Arc<dyn Fn(Written<'_>) -> Result<T> + Send + Sync>;

/// A version that has been, and the way from there to `T`.
pub(crate) struct Version<T> {
    pub(crate) schema: fn() -> Result<Schema>,
    /// Whether the version's type reads a tree.
    pub(crate) accepts: fn(Value) -> Result<(), Mismatch>,
    pub(crate) read: ReadOld<T>,
}

/// The way from each older version of a state's type to `T`, the present one.
///
/// The versions are lined up from the oldest, each with the function that makes the next one of it. A restore finds
/// the version that has written the state by its shape and goes on from there.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidegate_state::{Migrations, StateOptions};
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct CountV1(u32);
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct CountV2 {
///     total: u64,
/// }
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Count {
///     total: u64,
///     mean: f64,
/// }
///
/// let migrations = Migrations::<CountV1>::new()
///     .then(|v1| Ok(CountV2 { total: v1.0.into() }))
///     .then(|v2| Ok(Count { total: v2.total, mean: f64::NAN }));
/// let options = StateOptions::<Count>::new().migrations(migrations);
/// # let _ = options;
/// ```
pub struct Migrations<T> {
    /// The oldest first.
    pub(crate) versions: Vec<Version<T>>,
}

impl<T: State> Migrations<T> {
    /// Begins with the oldest version that is to be read.
    pub fn new() -> Self {
        Self { versions: Vec::new() }
    }

    /// Makes the next version, `U`, of the last one. An error of `step` ends the restore as one of kind
    /// [`Data`](crate::ErrorKind::Data) that names the state.
    #[must_use]
    pub fn then<U: State>(self, step: impl Fn(T) -> Result<U> + Send + Sync + 'static) -> Migrations<U> {
        let step =
            Arc::new(move |old: T| step(old).map_err(|e| Error::data("a migration failed").with_source(e)));
        let mut versions = Vec::with_capacity(self.versions.len() + 1);
        for Version { schema, accepts, read } in self.versions {
            let step = Arc::clone(&step);
            versions.push(Version { schema, accepts, read: Arc::new(move |written| step(read(written)?)) });
        }
        versions.push(Version {
            schema: Schema::of::<T>,
            accepts: |value| project::<T>(value).map(drop),
            read: Arc::new(move |written| step(written.read()?)),
        });
        Migrations { versions }
    }
}

impl<T: State> Default for Migrations<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Migrations<T> {
    fn clone(&self) -> Self {
        let copy = |Version { schema, accepts, read }: &Version<T>| Version {
            schema: *schema,
            accepts: *accepts,
            read: Arc::clone(read),
        };
        Self { versions: self.versions.iter().map(copy).collect() }
    }
}

impl<T> fmt::Debug for Migrations<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Migrations").field("versions", &self.versions.len()).finish()
    }
}

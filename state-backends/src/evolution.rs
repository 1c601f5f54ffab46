//! State evolution: decides, when a state is registered, what becomes of values that another version of the program
//! has written.
//!
//! | the schema stored with the state | what happens |
//! |---|---|
//! | equal to that of the type | nothing; the bytes are read as they are |
//! | equal to that of an older version given as [`Migrations`] | its functions convert every value |
//! | one that the type can read by names | every value is read into a tree and from there by the type |
//! | one that an older version can read by names | the same, then its functions |
//! | any other | the state is refused, with both shapes and the field that differs |
//!
//! Whether a type can read a schema is found out with [samples](crate::schema::samples), not with the data, so the
//! answer is the same for a state of any size and is there before a value is touched.

use std::fmt;
use std::sync::Arc;

use crate::codec::{Codec, State};
use crate::descriptor::StateDescriptor;
use crate::migrations::{Migrations, Version, Written};
use crate::schema::project::{Mismatch, project};
use crate::schema::samples::{CANDIDATES, samples};
use crate::schema::{Schema, Value};
use crate::{Error, Result};

/// Appends the present form of some bytes.
type Convert = dyn Fn(&[u8], &mut Vec<u8>) -> Result<()> + Send + Sync;

/// Turns the bytes of an older value into those of a present one.
#[derive(Clone)]
pub(crate) struct Converter(Arc<Convert>);

impl Converter {
    fn new(convert: impl Fn(&[u8], &mut Vec<u8>) -> Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(convert))
    }

    /// Appends the present form of a value to `out`.
    pub(crate) fn convert(&self, bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
        (self.0)(bytes, out)
    }
}

impl fmt::Debug for Converter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Converter")
    }
}

/// How to read the values of `written` as those of `wanted`, whose type is `T`; `None` if they are read as they are.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) if the one cannot become the other.
pub(crate) fn resolve<T: State>(
    written: &StateDescriptor,
    wanted: &StateDescriptor,
    migrations: &Migrations<T>,
) -> Result<Option<Converter>> {
    written.expect_kind(wanted)?;
    let (from, to) = (written.codec, wanted.codec);
    if written.schema.is_read_as(&wanted.schema) {
        let recode = move |bytes: &[u8], out: &mut Vec<u8>| to.encode(&from.decode::<T>(bytes)?, out);
        return Ok((from != to).then(|| Converter::new(recode)));
    }
    for version in migrations.versions.iter().rev() {
        if (version.schema)()?.is_read_as(&written.schema) {
            let read = Arc::clone(&version.read);
            return Ok(Some(Converter::new(move |bytes, out| {
                to.encode(&read(Written::Same(from, bytes))?, out)
            })));
        }
    }
    let refused = match probe(&written.schema, |value| project::<T>(value).map(drop)) {
        Ok(()) => return Ok(Some(by_tree(&written.schema, from, to, |written| written.read::<T>()))),
        Err(reason) => reason,
    };
    for Version { accepts, read, .. } in migrations.versions.iter().rev() {
        if probe(&written.schema, accepts).is_ok() {
            let read = Arc::clone(read);
            return Ok(Some(by_tree(&written.schema, from, to, move |written| read(written))));
        }
    }
    Err(incompatible(written, wanted, &refused))
}

/// Reads bytes into a tree with the schema that they were written in, and goes on with that.
fn by_tree<T: State>(
    schema: &Schema,
    from: Codec,
    to: Codec,
    read: impl Fn(Written<'_>) -> Result<T> + Send + Sync + 'static,
) -> Converter {
    let schema = schema.clone();
    Converter::new(move |bytes, out| {
        let tree = schema.decode(from, bytes)?;
        to.encode(&read(Written::Tree(tree))?, out)
    })
}

/// Whether a type, as `accepts` tells, reads whatever is written in a schema; if not, why.
fn probe(schema: &Schema, accepts: impl Fn(Value) -> Result<(), Mismatch>) -> Result<(), String> {
    if let Some(part) = schema.unknown_part() {
        return Err(format!("the shape that `{part}` had is not known"));
    }
    let mut reason = "no value of the old shape can be made up to try it with".to_owned();
    for candidate in 0..CANDIDATES {
        let samples = samples(schema, candidate);
        if samples.is_empty() {
            break;
        }
        let mut rejected = None;
        for sample in samples {
            match accepts(sample) {
                Ok(()) => {}
                // A type may reject some values of a shape; then others are tried.
                Err(e) if e.value_only() => rejected = Some(e),
                Err(e) => return Err(e.to_string()),
            }
        }
        match rejected {
            Some(e) => reason = e.to_string(),
            None => return Ok(()),
        }
    }
    Err(reason)
}

fn incompatible(written: &StateDescriptor, wanted: &StateDescriptor, reason: &str) -> Error {
    Error::config(format!(
        "state `{}` was written as {} with values {}; the program has {} with values {}, which cannot read them: \
         {reason}",
        written.name,
        written.describe(),
        written.schema,
        wanted.describe(),
        wanted.schema
    ))
    .hint(
        "give a new field #[serde(default)] and a renamed one #[serde(alias = \"the old name\")], give the state \
         StateOptions::migrations(..), or use another name for a new state",
    )
}

#[cfg(test)]
mod tests;

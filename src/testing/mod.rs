//! Helpers for trying out operators and testing one's own functions.

#[cfg(feature = "testing")]
pub mod simulation;
mod verify;

pub use verify::verify_keyed;

use crate::connector::{CollectSink, Generator};
use crate::environment::Environment;
use crate::error::Result;
use crate::function::Data;
use crate::stream::DataStream;

/// Runs a small program over `input` with parallelism 1 and returns what comes out, in order.
///
/// ```
/// let out = tidegate::testing::example(vec![3, 4], |numbers| numbers.map(|n| n * n))?;
/// assert_eq!(out, [9, 16]);
/// # Ok::<(), tidegate::error::Error>(())
/// ```
///
/// # Errors
/// What the program got wrong, or why it failed.
pub fn example<T: Data + Sync, U: Data>(
    input: Vec<T>,
    program: impl FnOnce(DataStream<T>) -> DataStream<U>,
) -> Result<Vec<U>> {
    let env = Environment::new();
    let (sink, collected) = CollectSink::new();
    program(env.source(Generator::of(input))).sink(sink);
    env.execute("example")?;
    Ok(collected.values())
}

//! Helpers for trying out operators and testing one's own functions.

#[cfg(feature = "testing")]
pub mod hostile;
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

/// Runs a small program over two inputs with parallelism 1 and returns what comes out. The two inputs are read at the
/// same time: in which order their records meet is not said.
///
/// ```
/// let mut out = tidegate::testing::example_of_two(vec![1, 2], vec![3], |one, other| one.union(other))?;
/// out.sort();
/// assert_eq!(out, [1, 2, 3]);
/// # Ok::<(), tidegate::error::Error>(())
/// ```
///
/// # Errors
/// What the program got wrong, or why it failed.
pub fn example_of_two<A: Data + Sync, B: Data + Sync, U: Data>(
    first: Vec<A>,
    second: Vec<B>,
    program: impl FnOnce(DataStream<A>, DataStream<B>) -> DataStream<U>,
) -> Result<Vec<U>> {
    let env = Environment::new();
    let (sink, collected) = CollectSink::new();
    program(env.source(Generator::of(first)), env.source(Generator::of(second))).sink(sink);
    env.execute("example of two")?;
    Ok(collected.values())
}

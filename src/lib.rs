//! Fault-tolerant stateful stream processing.
//!
//! A program is a graph of operators over streams: an [`Environment`], sources, transformations, sinks, and
//! [`Environment::execute`]. Operators keep state per key; *barriers* that flow with the records cut consistent
//! checkpoints of that state and of the source positions; after a failure the job goes on from the last completed
//! checkpoint, and what it publishes is as if nothing had happened.
//!
//! ```
//! use tidegate::prelude::*;
//!
//! struct Count {
//!     total: ValueState<u64>,
//! }
//!
//! impl KeyedProcessFunction<String, String, (String, u64)> for Count {
//!     fn process(
//!         &mut self,
//!         word: String,
//!         _: &mut KeyedContext<'_, String>,
//!         out: &mut Collector<'_, (String, u64)>,
//!     ) -> Result<()> {
//!         let n = self.total.get()?.unwrap_or(0) + 1;
//!         self.total.set(n)?;
//!         out.collect((word, n));
//!         Ok(())
//!     }
//! }
//!
//! let env = Environment::new();
//! let (sink, counts) = CollectSink::new();
//! env.source(Generator::of(vec!["to be or not to be".to_string()]))
//!     .flat_map(|line: String, out| line.split(' ').for_each(|w| out.collect(w.to_string())))
//!     .key_by_ref(|word: &String| word.as_str())
//!     .process(|open| Ok(Count { total: open.value_state("total")? }))
//!     .uid("count")
//!     .sink(sink);
//! env.execute("word-count")?;
//! assert!(counts.values().contains(&("be".to_string(), 2)));
//! # Ok::<(), tidegate::error::Error>(())
//! ```
//!
//! # Where things are
//!
//! - [`stream`]: what a job author calls. [`function`]: what a job author implements. [`connector`]: sources and sinks.
//! - [`graph`]: from a program to what is deployed. [`operator`], [`task`]: what runs.
//! - [`checkpoint`]: the protocol, its files, its store. [`cluster`]: jobmanager, taskmanagers, restart strategies.
//! - [`config`]: every option. [`testing`]: a harness for operators, and a simulator of whole clusters.
//! - The crate `tidegate-state`: keys, state handles, backends, snapshot files.

pub mod checkpoint;
pub mod cluster;
pub mod config;
pub mod connector;
mod environment;
pub mod function;
pub mod graph;
pub mod id;
pub mod operator;
pub mod prelude;
mod say;
pub mod stream;
pub mod task;
pub mod testing;

pub use environment::{CrashSite, Environment, JobSummary};

pub mod error {
    //! The error type shared by every part of Tidegate.
    pub use tidegate_state::error::{Error, ErrorKind, Result};
}

/// The programs in the book compile and do what it says.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../docs/start.md")]
    struct Start;

    #[doc = include_str!("../docs/state-evolution.md")]
    struct StateEvolution;

    #[doc = include_str!("../docs/state-ttl.md")]
    struct StateTtl;

    #[doc = include_str!("../docs/state-from-outside.md")]
    struct StateFromOutside;
}

//! Store calls from threads that may block: state backends know nothing of asynchronous code.

use crate::error::{Error, Result};
use std::future::Future;
use tokio::runtime::{Builder, Handle, Runtime};

/// How a call is waited for.
#[derive(Clone, Debug)]
pub(crate) enum Blocking {
    /// On the runtime: never from one of its own threads, except those for blocking calls.
    Runtime(Handle),
    /// On the spot, with nothing else going on: the simulator.
    #[cfg(any(test, feature = "testing"))]
    Inline,
}

impl Blocking {
    /// A runtime for the store calls of a tool that runs without a cluster and whose own calls block: `what` it does.
    ///
    /// # Errors
    /// A config error on a thread of an asynchronous runtime, which must not be blocked.
    pub(crate) fn own_runtime(what: &str) -> Result<Runtime> {
        if Handle::try_current().is_ok() {
            return Err(Error::config(format!("{what} on a thread of an asynchronous runtime"))
                .hint("call it on a thread of its own, for example by spawn_blocking"));
        }
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|e| Error::config("no threads for input and output").with_source(e))
    }

    pub(crate) fn wait<F: Future>(&self, call: F) -> F::Output {
        match self {
            Self::Runtime(runtime) => runtime.block_on(call),
            #[cfg(any(test, feature = "testing"))]
            Self::Inline => futures::executor::block_on(call),
        }
    }
}

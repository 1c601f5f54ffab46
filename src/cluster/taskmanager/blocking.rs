//! Store calls from threads that may block: state backends know nothing of asynchronous code.

use std::future::Future;
use tokio::runtime::Handle;

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
    pub(crate) fn wait<F: Future>(&self, call: F) -> F::Output {
        match self {
            Self::Runtime(runtime) => runtime.block_on(call),
            #[cfg(any(test, feature = "testing"))]
            Self::Inline => futures::executor::block_on(call),
        }
    }
}

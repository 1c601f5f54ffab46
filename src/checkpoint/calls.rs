//! How long a call of the store may take, and which calls are repeated.
//!
//! Only calls that change nothing, or that write the same bytes under a name of their own, are repeated here, and only
//! after errors that may pass. What creates an object if it is absent never is: whether it has taken effect is found out
//! by reading back, where the nonce is known.

use crate::checkpoint::open::is_transient;
use crate::error::Result;
use futures::future::{Either, select};
use object_store::Error as StoreError;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};

/// How often a call is made, the first time included.
const TRIES: u32 = 3;
/// Pause before the first repetition; four times as long before the next.
const BACKOFF: Duration = Duration::from_millis(200);
/// So many bytes that are made durable at once are granted the time of one more call.
const BYTES_PER_LIMIT: u64 = 256 << 20;

/// How calls are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// Once, however long it takes: where no timer runs, as in the simulator.
    Plain,
    /// Within this time each, and again if that may help. Needs the timer of a runtime.
    Limited(Duration),
}

impl Calls {
    /// Makes one call. An error says that it has failed, or that nobody knows.
    pub(crate) async fn once<T>(
        self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.once_for(0, call).await
    }

    /// Makes one call that may have to make so many bytes durable.
    pub(crate) async fn once_for<T>(
        self,
        bytes: u64,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let Self::Limited(limit) = self else { return call.await };
        let more = u32::try_from(bytes / BYTES_PER_LIMIT).unwrap_or(u32::MAX);
        let limit = limit.saturating_mul(more.saturating_add(1));
        match select(pin!(call), Timer::start(limit)).await {
            Either::Left((result, _)) => result,
            Either::Right((late, _)) => {
                let source: Box<dyn std::error::Error + Send + Sync> = match late {
                    Ok(()) => Box::new(NoAnswer(limit)),
                    Err(ending) => Box::new(ending),
                };
                Err(StoreError::Generic { store: "checkpoint", source })
            }
        }
    }

    /// Makes a call, and again after errors that may pass.
    pub(crate) async fn repeated<T, F: Future<Output = Result<T>>>(
        self,
        mut call: impl FnMut() -> F,
    ) -> Result<T> {
        let mut pause = BACKOFF;
        for _ in 1..TRIES {
            match call().await {
                Err(e) if self != Self::Plain && is_transient(&e) => {
                    if Timer::start(pause).await.is_err() {
                        return Err(e);
                    }
                }
                result => return result,
            }
            pause *= 4;
        }
        call().await
    }
}

/// Ends when its time is up, or with an error when the runtime is ending. It is a task because calls are made from
/// threads that may outlive the runtime's timer, which panics if it is asked then.
struct Timer(JoinHandle<()>);

impl Timer {
    fn start(time: Duration) -> Self {
        Self(Handle::current().spawn(async move { tokio::time::sleep(time).await }))
    }
}

impl Future for Timer {
    type Output = Result<(), JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The store did not answer in time.
#[derive(Debug)]
struct NoAnswer(Duration);

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer within {} ms", self.0.as_millis())
    }
}

impl std::error::Error for NoAnswer {}

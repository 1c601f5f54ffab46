//! Where the two ends of a channel find each other, whichever subtask is built first and in whichever process it runs.

use crate::error::{Error, Result};
use crate::function::Data;
use crate::id::{Attempt, SubtaskId};
use crate::task::channel::{Receiver, Sender, channel};
use crate::task::ends::{ReceiveEnd, SendEnd};
use crate::task::remote::{Inbound, Outbound};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Bytes of records buffered in one channel before its sender has to wait. Small on purpose: a barrier waits behind
/// what is buffered, and what goes through a channel goes through the cache that the state is in.
pub(crate) const CHANNEL_BYTES: usize = 128 * 1024;

/// Which channel of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ChannelId {
    /// Number of the edge in the job graph.
    pub(crate) edge: usize,
    pub(crate) from: SubtaskId,
    pub(crate) to: SubtaskId,
}

/// Opens channels to other processes.
pub(crate) trait Network: Send + Sync {
    /// The sending end of a channel to a subtask of the process at `address`. Returns at once; a connection that fails
    /// breaks the end off.
    fn open(&self, address: &str, attempt: Attempt, channel: ChannelId) -> Outbound;
}

/// Which subtasks of an attempt run in other processes, and how they are reached.
pub(crate) struct Routes {
    pub(crate) attempt: Attempt,
    /// Addresses of the processes of those that are not in this one.
    pub(crate) elsewhere: BTreeMap<SubtaskId, Arc<str>>,
    pub(crate) network: Arc<dyn Network>,
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes")
            .field("attempt", &self.attempt)
            .field("elsewhere", &self.elsewhere)
            .finish_non_exhaustive()
    }
}

type AnyBox = Box<dyn Any + Send>;

/// Lets subtasks find the other end of their channels. One per attempt and process.
#[derive(Debug)]
pub(crate) struct ExchangeHub {
    /// Ends of channels within this process whose other end is taken.
    waiting: Mutex<BTreeMap<ChannelId, AnyBox>>,
    /// Receiving ends of channels from other processes.
    inbound: Mutex<BTreeMap<ChannelId, Arc<Inbound>>>,
    /// Without routes everything is in this process.
    routes: OnceLock<Routes>,
    /// Bytes of records that a channel within this process holds.
    channel_bytes: usize,
}

impl Default for ExchangeHub {
    fn default() -> Self {
        Self::with_channels_of(CHANNEL_BYTES)
    }
}

impl ExchangeHub {
    /// With channels that hold so many bytes of records.
    pub(crate) fn with_channels_of(channel_bytes: usize) -> Self {
        Self { waiting: Mutex::default(), inbound: Mutex::default(), routes: OnceLock::new(), channel_bytes }
    }

    /// Says where subtasks are that are not in this process. To be called before subtasks are built.
    pub(crate) fn set_routes(&self, routes: Routes) {
        _ = self.routes.set(routes);
    }

    pub(crate) fn sender<T: Data>(&self, id: ChannelId) -> Result<SendEnd<T>> {
        if let Some(routes) = self.routes.get()
            && let Some(address) = routes.elsewhere.get(&id.to)
        {
            return Ok(SendEnd::Remote(routes.network.open(address, routes.attempt, id)));
        }
        self.meet::<T, Sender<T>, Receiver<T>>(id, |(tx, rx)| (tx, rx)).map(SendEnd::Local)
    }

    pub(crate) fn receiver<T: Data>(&self, id: ChannelId) -> Result<ReceiveEnd<T>> {
        if self.routes.get().is_some_and(|routes| routes.elsewhere.contains_key(&id.from)) {
            return Ok(ReceiveEnd::remote(self.inbound(id)));
        }
        self.meet::<T, Receiver<T>, Sender<T>>(id, |(tx, rx)| (rx, tx)).map(ReceiveEnd::Local)
    }

    /// The receiving end of a channel from another process, for its subtask and for the connection it comes through.
    pub(crate) fn inbound(&self, id: ChannelId) -> Arc<Inbound> {
        self.inbound.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default().clone()
    }

    /// Takes the end the other side has left, or makes a channel and leaves the other end.
    fn meet<T: Data, Mine: Send + 'static, Theirs: Send + 'static>(
        &self,
        id: ChannelId,
        part: impl FnOnce((Sender<T>, Receiver<T>)) -> (Mine, Theirs),
    ) -> Result<Mine> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.remove(&id) {
            Some(end) => match end.downcast::<Mine>() {
                Ok(mine) => Ok(*mine),
                Err(_) => {
                    Err(Error::bug(format!("channel {id:?} was claimed twice or with two record types")))
                }
            },
            None => {
                let (mine, theirs) = part(channel(self.channel_bytes));
                waiting.insert(id, Box::new(theirs));
                Ok(mine)
            }
        }
    }
}

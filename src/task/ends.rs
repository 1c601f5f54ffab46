//! The ends of a channel as exchanges and gates know them: whether the other end is in this process does not matter to
//! them.

use crate::checkpoint::Barrier;
use crate::error::Result;
use crate::function::Data;
use crate::id::CheckpointId;
use crate::operator::Batch;
use crate::task::channel::{Element, Receiver, Sender};
use crate::task::remote::{Inbound, Outbound, Sent};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Waker;

/// Where elements are sent.
pub(crate) enum SendEnd<T> {
    Local(Sender<T>),
    Remote(Outbound),
}

impl<T: Data> SendEnd<T> {
    /// Who is to be woken when there is room again.
    pub(crate) fn set_waker(&self, waker: Waker) {
        match self {
            Self::Local(sender) => sender.set_waker(waker),
            Self::Remote(outbound) => outbound.set_waker(waker),
        }
    }

    /// Sends an element, if there is room.
    ///
    /// # Errors
    /// Those of a connection; between subtasks of one process there are none.
    #[inline]
    pub(crate) fn try_send(&self, element: Element<T>) -> Result<Sent<T>> {
        match self {
            Self::Local(sender) => Ok(match sender.try_send(element) {
                Ok(reuse) => Sent::Taken(reuse),
                Err(element) => Sent::Full(element),
            }),
            Self::Remote(outbound) => outbound.try_send(element),
        }
    }

    /// Takes whatever the sender has held back, room or not, and the barrier behind it, which is announced.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    pub(crate) fn overtake(
        &self,
        held_back: impl Iterator<Item = Element<T>>,
        barrier: Barrier,
    ) -> Result<()> {
        match self {
            Self::Local(sender) => {
                sender.overtake(held_back, barrier);
                Ok(())
            }
            Self::Remote(outbound) => outbound.overtake(held_back, barrier),
        }
    }

    /// Whether a batch would be taken; if not, the sender is woken later.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    pub(crate) fn has_room(&self) -> Result<bool> {
        match self {
            Self::Local(sender) => Ok(sender.has_room()),
            Self::Remote(outbound) => outbound.has_credit(),
        }
    }
}

/// Where elements are received.
pub(crate) enum ReceiveEnd<T> {
    Local(Receiver<T>),
    Remote { inbound: Arc<Inbound>, free: RefCell<Option<Batch<T>>> },
}

impl<T: Data> ReceiveEnd<T> {
    pub(crate) fn remote(inbound: Arc<Inbound>) -> Self {
        Self::Remote { inbound, free: RefCell::default() }
    }

    /// Who is to be woken when something arrives.
    pub(crate) fn set_waker(&self, waker: Waker) {
        match self {
            Self::Local(receiver) => receiver.set_waker(waker),
            Self::Remote { inbound, .. } => inbound.set_waker(waker),
        }
    }

    /// What is set when a barrier is announced on this channel, from now on.
    pub(crate) fn set_announcement(&self, announcement: Arc<AtomicBool>) {
        match self {
            Self::Local(receiver) => receiver.set_announcement(announcement),
            Self::Remote { inbound, .. } => inbound.set_announcement(announcement),
        }
    }

    /// The barriers announced since the last call, oldest first.
    pub(crate) fn take_announced(&self) -> Vec<Barrier> {
        match self {
            Self::Local(receiver) => receiver.take_announced(),
            Self::Remote { inbound, .. } => inbound.take_announced(),
        }
    }

    /// Shows the elements in front of the barrier of a checkpoint, in order; none if the barrier is not in the queue.
    ///
    /// # Errors
    /// A data error if what arrived is not of the record type.
    pub(crate) fn overtaken(&self, checkpoint: CheckpointId, show: impl FnMut(&Element<T>)) -> Result<()> {
        match self {
            Self::Local(receiver) => {
                receiver.overtaken(checkpoint, show);
                Ok(())
            }
            Self::Remote { inbound, .. } => inbound.overtaken(checkpoint, show),
        }
    }

    /// The next element, if any.
    ///
    /// # Errors
    /// Those of a connection; between subtasks of one process there are none.
    #[inline]
    pub(crate) fn try_receive(&self) -> Result<Option<Element<T>>> {
        match self {
            Self::Local(receiver) => Ok(receiver.try_receive()),
            Self::Remote { inbound, free } => {
                inbound.try_receive(|| free.borrow_mut().take().unwrap_or_default())
            }
        }
    }

    /// Gives an emptied batch back for reuse.
    pub(crate) fn recycle(&self, batch: Batch<T>) {
        match self {
            Self::Local(receiver) => receiver.recycle(batch),
            Self::Remote { free, .. } => *free.borrow_mut() = Some(batch),
        }
    }
}

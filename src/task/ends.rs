//! The ends of a channel as exchanges and gates know them: whether the other end is in this process does not matter to
//! them.

use crate::error::Result;
use crate::function::Data;
use crate::operator::Batch;
use crate::task::channel::{Element, Receiver, Sender};
use crate::task::remote::{Inbound, Outbound, Sent};
use std::cell::RefCell;
use std::sync::Arc;
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

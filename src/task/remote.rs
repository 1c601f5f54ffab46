//! The two ends of a channel whose sender and receiver are in different processes, and the queue of a connection that
//! carries many of them. Nothing here reads or writes a socket.
//!
//! Flow control is per channel, in bytes of records: the sender begins with a window of credit, and gets back what the
//! receiver has taken out of its queue. So there is always room for what is under way, and a channel that nobody reads
//! holds up no other channel of its connection. Control elements need no credit.

use crate::checkpoint::Barrier;
use crate::error::{Error, Result};
use crate::function::Data;
use crate::id::{Attempt, CheckpointId};
use crate::operator::Batch;
use crate::task::channel::Element;
use crate::task::hub::ChannelId;
use crate::task::wire::{self, ElementKind};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use tokio::sync::Notify;

/// Bytes of records that may be under way or wait in one channel.
pub(crate) const WINDOW_BYTES: u32 = 256 << 10;

/// What a connection carries.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A channel begins; everything else names it by its number.
    Open { channel: u32, attempt: Attempt, id: ChannelId },
    /// A part of a channel's stream.
    Element { channel: u32, kind: ElementKind, body: Vec<u8> },
    /// Back to the sender: so many more bytes may come.
    Credit { channel: u32, bytes: u32 },
    /// The sender has ended and sends no more.
    Close { channel: u32 },
}

/// Frames that wait for the connection's writer, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<OutboxState>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct OutboxState {
    frames: VecDeque<Frame>,
    broken: Option<Arc<str>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section here is panic-free.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outbox {
    /// What is put into a broken one is lost.
    pub(crate) fn put(&self, frame: Frame) {
        let mut state = locked(&self.state);
        if state.broken.is_none() {
            let wake = state.frames.is_empty();
            state.frames.push_back(frame);
            drop(state);
            if wake {
                self.filled.notify_one();
            }
        }
    }

    /// Moves all frames to `to`, waiting until there are some; `false` if the connection is broken.
    ///
    /// Cancel safe: frames stay until they are moved.
    pub(crate) async fn take_all(&self, to: &mut VecDeque<Frame>) -> bool {
        loop {
            {
                let mut state = locked(&self.state);
                if state.broken.is_some() {
                    return false;
                }
                if !state.frames.is_empty() {
                    std::mem::swap(&mut state.frames, to);
                    return true;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Drops what waits, and takes nothing more.
    pub(crate) fn break_off(&self, why: &Arc<str>) {
        let mut state = locked(&self.state);
        state.broken.get_or_insert_with(|| why.clone());
        state.frames.clear();
        drop(state);
        self.filled.notify_one();
    }
}

fn broken_off(why: &str) -> Error {
    Error::restart_job(why.to_owned())
}

/// What the sender of a channel may still send; shared with the connection, which tells it of what was taken.
#[derive(Debug)]
pub(crate) struct Credit {
    state: Mutex<CreditState>,
}

#[derive(Debug)]
struct CreditState {
    /// May be below zero: the batch that crosses the line is taken.
    bytes: i64,
    waker: Option<Waker>,
    /// Why nothing arrives any more.
    broken: Option<Arc<str>>,
}

impl Credit {
    fn new() -> Self {
        let state = CreditState { bytes: i64::from(WINDOW_BYTES), waker: None, broken: None };
        Self { state: Mutex::new(state) }
    }

    /// The receiver has taken so many bytes.
    pub(crate) fn grant(&self, bytes: u32) {
        let mut state = locked(&self.state);
        let waited = state.bytes <= 0;
        state.bytes += i64::from(bytes);
        let wake = if waited && state.bytes > 0 { state.waker.clone() } else { None };
        drop(state);
        if let Some(waker) = wake {
            waker.wake();
        }
    }

    /// Makes every further call of the sender fail.
    pub(crate) fn break_off(&self, why: &Arc<str>) {
        let mut state = locked(&self.state);
        state.broken.get_or_insert_with(|| why.clone());
        let wake = state.waker.clone();
        drop(state);
        if let Some(waker) = wake {
            waker.wake();
        }
    }

    fn is_there(&self) -> Result<bool> {
        let state = locked(&self.state);
        match &state.broken {
            Some(why) => Err(broken_off(why)),
            None => Ok(state.bytes > 0),
        }
    }
}

/// The sending end. Dropping it closes the channel.
#[derive(Debug)]
pub(crate) struct Outbound {
    channel: u32,
    outbox: Arc<Outbox>,
    credit: Arc<Credit>,
}

impl Outbound {
    /// Opens `id` as number `channel` of a connection.
    pub(crate) fn open(channel: u32, attempt: Attempt, id: ChannelId, outbox: Arc<Outbox>) -> Self {
        outbox.put(Frame::Open { channel, attempt, id });
        Self { channel, outbox, credit: Arc::new(Credit::new()) }
    }

    pub(crate) fn credit(&self) -> Arc<Credit> {
        self.credit.clone()
    }

    pub(crate) fn set_waker(&self, waker: Waker) {
        locked(&self.credit.state).waker = Some(waker);
    }

    /// Whether a batch may be sent.
    ///
    /// # Errors
    /// A restart-job error that says what became of the connection.
    pub(crate) fn has_credit(&self) -> Result<bool> {
        self.credit.is_there()
    }

    fn put(&self, kind: ElementKind, body: Vec<u8>) {
        if kind == ElementKind::Batch {
            locked(&self.credit.state).bytes -= body.len() as i64;
        }
        self.outbox.put(Frame::Element { channel: self.channel, kind, body });
    }

    /// Serialises an element and hands it to the connection; a batch comes back emptied, or as it is if there is no
    /// credit.
    ///
    /// # Errors
    /// A data error if a record cannot be serialised; a restart-job error if the connection is broken.
    pub(crate) fn try_send<T: Data>(&self, element: Element<T>) -> Result<Sent<T>> {
        let Element::Batch(mut batch) = element else {
            self.credit.is_there()?;
            let mut body = Vec::new();
            let kind = wire::encode_control(&element, &mut body)?;
            self.put(kind, body);
            return Ok(Sent::Taken(None));
        };
        if !self.credit.is_there()? {
            return Ok(Sent::Full(Element::Batch(batch)));
        }
        self.put_batch(&batch)?;
        batch.clear();
        Ok(Sent::Taken(Some(batch)))
    }

    /// Hands to the connection what the sender has held back, credit or not, and the barrier behind it.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    pub(crate) fn overtake<T: Data>(
        &self,
        held_back: impl Iterator<Item = Element<T>>,
        barrier: Barrier,
    ) -> Result<()> {
        for element in held_back.chain([Element::Barrier(barrier)]) {
            match &element {
                Element::Batch(batch) => self.put_batch(batch)?,
                control => {
                    let mut body = Vec::new();
                    let kind = wire::encode_control(control, &mut body)?;
                    self.put(kind, body);
                }
            }
        }
        self.credit.is_there().map(|_| ())
    }

    fn put_batch<T: Data>(&self, batch: &Batch<T>) -> Result<()> {
        let mut next = 0;
        while next < batch.len() {
            let mut body = Vec::with_capacity(batch.bytes.min(WINDOW_BYTES as usize));
            next = wire::encode_batch(batch, next, &mut body)?;
            self.put(ElementKind::Batch, body);
        }
        Ok(())
    }
}

/// What became of an element.
#[derive(Debug)]
pub(crate) enum Sent<T> {
    /// It is on its way. There may be an empty batch for reuse.
    Taken(Option<Batch<T>>),
    /// There is no room; the sender will be woken when there is.
    Full(Element<T>),
}

impl Drop for Outbound {
    fn drop(&mut self) {
        self.outbox.put(Frame::Close { channel: self.channel });
    }
}

/// The receiving end.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    state: Mutex<InboundState>,
}

#[derive(Debug, Default)]
struct InboundState {
    queue: VecDeque<(ElementKind, Vec<u8>)>,
    waker: Option<Waker>,
    /// The way back to the sender, once it has opened the channel.
    back: Option<(u32, Arc<Outbox>)>,
    /// Bytes of records taken out since the last credit.
    taken: u32,
    /// Barriers that overtake records and that the gate has not been told of.
    announced: Vec<Barrier>,
    /// Set with every announcement.
    announcement: Option<Arc<AtomicBool>>,
    broken: Option<Arc<str>>,
}

impl Inbound {
    pub(crate) fn set_waker(&self, waker: Waker) {
        locked(&self.state).waker = Some(waker);
    }

    /// The sender has opened the channel, under this number of its connection.
    pub(crate) fn open(&self, channel: u32, back: Arc<Outbox>) {
        locked(&self.state).back = Some((channel, back));
    }

    /// An element has arrived.
    pub(crate) fn deliver(&self, kind: ElementKind, body: Vec<u8>) {
        let barrier: Option<Barrier> = match kind {
            // A damaged one is found when it is read in its place.
            ElementKind::Barrier => {
                wire::decode_barrier(&body).ok().filter(|b| b.unaligned_after_ms.is_some())
            }
            _ => None,
        };
        let mut state = locked(&self.state);
        state.queue.push_back((kind, body));
        let is_announced = barrier.is_some();
        state.announced.extend(barrier);
        if let Some(announcement) = state.announcement.as_ref().filter(|_| is_announced) {
            announcement.store(true, Ordering::Release);
        }
        let wake = if is_announced || state.queue.len() == 1 { state.waker.clone() } else { None };
        drop(state);
        if let Some(waker) = wake {
            waker.wake();
        }
    }

    /// What is set when a barrier is announced, from now on.
    pub(crate) fn set_announcement(&self, announcement: Arc<AtomicBool>) {
        let mut state = locked(&self.state);
        if !state.announced.is_empty() {
            announcement.store(true, Ordering::Release);
        }
        state.announcement = Some(announcement);
    }

    /// The barriers announced since the last call, oldest first.
    pub(crate) fn take_announced(&self) -> Vec<Barrier> {
        std::mem::take(&mut locked(&self.state).announced)
    }

    /// Shows the elements in front of the barrier of a checkpoint, in order; none if the barrier is not in the queue.
    ///
    /// # Errors
    /// A data error if what arrived is not of the record type.
    pub(crate) fn overtaken<T: Data>(
        &self,
        checkpoint: CheckpointId,
        mut show: impl FnMut(&Element<T>),
    ) -> Result<()> {
        let state = locked(&self.state);
        let is_it = |(kind, body): &(ElementKind, Vec<u8>)| {
            *kind == ElementKind::Barrier
                && wire::decode_barrier(body).is_ok_and(|barrier| barrier.checkpoint == checkpoint)
        };
        let ahead = state.queue.iter().position(is_it).unwrap_or(0);
        for (kind, body) in state.queue.iter().take(ahead) {
            show(&wire::decode(*kind, body, Batch::default())?);
        }
        Ok(())
    }

    /// Nothing arrives any more.
    pub(crate) fn break_off(&self, why: &Arc<str>) {
        let mut state = locked(&self.state);
        state.broken.get_or_insert_with(|| why.clone());
        let wake = state.waker.clone();
        drop(state);
        if let Some(waker) = wake {
            waker.wake();
        }
    }

    /// The next element, if any. `empty` makes a batch to put records into.
    ///
    /// # Errors
    /// A restart-job error if the connection is broken; a data error if what arrived is not of the record type.
    pub(crate) fn try_receive<T: Data>(
        &self,
        empty: impl FnOnce() -> Batch<T>,
    ) -> Result<Option<Element<T>>> {
        let mut state = locked(&self.state);
        if let Some(why) = &state.broken {
            return Err(broken_off(why));
        }
        let Some((kind, body)) = state.queue.pop_front() else { return Ok(None) };
        let mut credit = None;
        if kind == ElementKind::Batch {
            state.taken = state.taken.saturating_add(body.len() as u32);
            if state.taken >= WINDOW_BYTES / 2
                && let Some((channel, back)) = &state.back
            {
                credit = Some((*channel, back.clone(), state.taken));
                state.taken = 0;
            }
        }
        drop(state);
        if let Some((channel, back, bytes)) = credit {
            back.put(Frame::Credit { channel, bytes });
        }
        let empty = if kind == ElementKind::Batch { empty() } else { Batch::default() };
        wire::decode(kind, &body, empty).map(Some)
    }
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;

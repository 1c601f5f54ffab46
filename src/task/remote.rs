//! The two ends of a channel whose sender and receiver are in different processes, and the queue of a connection that
//! carries many of them. Nothing here reads or writes a socket.
//!
//! Flow control is per channel, in bytes of records: the sender begins with a window of credit, and gets back what the
//! receiver has taken out of its queue, or more, or less (`window.rs`). So there is always room for what is under way, and a
//! channel that nobody reads holds up no other channel of its connection. Control elements need no credit. What goes beyond
//! the credit, pieces of a large batch and records that a barrier overtakes, is announced by its size; anything else beyond
//! it breaks the connection.

use crate::checkpoint::Barrier;
use crate::error::{Error, Result};
use crate::function::Data;
use crate::id::{Attempt, CheckpointId};
use crate::operator::Batch;
use crate::task::channel::Element;
use crate::task::hub::ChannelId;
use crate::task::quiet;
pub(crate) use crate::task::window::WINDOW_BYTES;
use crate::task::window::Window;
use crate::task::wire::{self, ElementKind};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use tokio::sync::Notify;

/// Most elements that are no records and wait in one channel. Far more than there are when all is well: watermarks replace
/// each other.
const MOST_CONTROLS: usize = 1 << 14;

/// What a connection carries.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A channel begins; everything else names it by its number.
    Open { channel: u32, attempt: Attempt, id: ChannelId },
    /// A part of a channel's stream.
    Element { channel: u32, kind: ElementKind, body: Vec<u8> },
    /// Back to the sender: so many more bytes may come.
    Credit { channel: u32, bytes: u32 },
    /// The next so many bytes of batches come whether there is credit or not.
    Overrun { channel: u32, bytes: u64 },
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
    /// Channels whose last frame is a watermark, and where that stands.
    watermarks: BTreeMap<u32, usize>,
    broken: Option<Arc<str>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section here is panic-free.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OutboxState {
    /// A watermark takes the place of one that nothing of its channel stands behind.
    fn push(&mut self, frame: Frame) {
        let at = self.frames.len();
        match &frame {
            Frame::Element { channel, kind: ElementKind::Watermark, .. } => {
                let at = *self.watermarks.entry(*channel).or_insert(at);
                if let Some(waiting) = self.frames.get_mut(at) {
                    *waiting = frame;
                    return;
                }
            }
            Frame::Element { channel, .. } | Frame::Close { channel } => _ = self.watermarks.remove(channel),
            Frame::Open { .. } | Frame::Credit { .. } | Frame::Overrun { .. } => {}
        }
        self.frames.push_back(frame);
    }
}

impl Outbox {
    /// What is put into a broken one is lost.
    pub(crate) fn put(&self, frame: Frame) {
        let mut state = locked(&self.state);
        if state.broken.is_none() {
            let wake = state.frames.is_empty();
            state.push(frame);
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
                    state.watermarks.clear();
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
        let mut pieces = Vec::new();
        for element in held_back.chain([Element::Barrier(barrier)]) {
            match &element {
                Element::Batch(batch) => encode_pieces(batch, &mut pieces)?,
                control => {
                    let mut body = Vec::new();
                    let kind = wire::encode_control(control, &mut body)?;
                    pieces.push((kind, body));
                }
            }
        }
        self.put_all(pieces);
        self.credit.is_there().map(|_| ())
    }

    /// Of a batch that there is credit for only the first piece is covered by it.
    fn put_batch<T: Data>(&self, batch: &Batch<T>) -> Result<()> {
        let mut pieces = Vec::new();
        encode_pieces(batch, &mut pieces)?;
        if pieces.len() > 1 {
            self.put_all(pieces);
        } else {
            pieces.into_iter().for_each(|(kind, body)| self.put(kind, body));
        }
        Ok(())
    }

    /// Puts elements whether there is credit or not.
    fn put_all(&self, elements: Vec<(ElementKind, Vec<u8>)>) {
        let of_records = |(kind, _): &&(ElementKind, Vec<u8>)| *kind == ElementKind::Batch;
        let bytes = elements.iter().filter(of_records).map(|(_, body)| body.len() as u64).sum();
        if bytes > 0 {
            self.outbox.put(Frame::Overrun { channel: self.channel, bytes });
        }
        elements.into_iter().for_each(|(kind, body)| self.put(kind, body));
    }
}

/// Appends the pieces of a batch.
fn encode_pieces<T: Data>(batch: &Batch<T>, to: &mut Vec<(ElementKind, Vec<u8>)>) -> Result<()> {
    let mut next = 0;
    while next < batch.len() {
        let mut body = Vec::with_capacity(batch.bytes.min(WINDOW_BYTES as usize));
        next = wire::encode_batch(batch, next, &mut body)?;
        to.push((ElementKind::Batch, body));
    }
    Ok(())
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
    /// What the sender may send.
    window: Window,
    /// Bytes of records that may come beyond the credit.
    overrun: u64,
    /// Elements in the queue that are no records.
    controls: usize,
    /// Barriers that overtake records and that the gate has not been told of.
    announced: Vec<Barrier>,
    /// Set with every announcement.
    announcement: Option<Arc<AtomicBool>>,
    broken: Option<Arc<str>>,
}

impl InboundState {
    /// Puts an element into the queue.
    fn take_in(&mut self, kind: ElementKind, body: Vec<u8>) -> Result<()> {
        if kind == ElementKind::Batch {
            let bytes = body.len() as u64;
            let covered = self.window.arrive(bytes);
            if self.overrun > 0 {
                self.overrun = self.overrun.saturating_sub(bytes);
            } else if !covered {
                return Err(Error::data(format!(
                    "records came for which there was no credit: {} bytes have not been taken, the window is {}",
                    self.window.waiting(),
                    self.window.bytes()
                )));
            }
            self.queue.push_back((kind, body));
            return Ok(());
        }
        let before = self.queue.len();
        quiet::push(&mut self.queue, kind, body);
        self.controls = (self.controls + self.queue.len()).saturating_sub(before);
        if self.controls > MOST_CONTROLS {
            return Err(Error::data(format!(
                "more than {MOST_CONTROLS} watermarks, barriers and the like have not been taken"
            )));
        }
        Ok(())
    }
}

impl Inbound {
    pub(crate) fn set_waker(&self, waker: Waker) {
        locked(&self.state).waker = Some(waker);
    }

    /// The sender has opened the channel, under this number of its connection.
    ///
    /// # Errors
    /// A data error if it is open: a channel has one sender, which opens it once.
    pub(crate) fn open(&self, channel: u32, back: Arc<Outbox>) -> Result<()> {
        let mut state = locked(&self.state);
        if state.back.is_some() {
            return Err(Error::data("it is opened for a second time"));
        }
        state.back = Some((channel, back));
        Ok(())
    }

    /// So many bytes of records will come beyond the credit.
    pub(crate) fn expect_overrun(&self, bytes: u64) {
        let mut state = locked(&self.state);
        state.overrun = state.overrun.saturating_add(bytes);
    }

    /// An element has arrived.
    ///
    /// # Errors
    /// A data error if the sender had no credit for it, or sends without end what needs none.
    pub(crate) fn deliver(&self, kind: ElementKind, body: Vec<u8>) -> Result<()> {
        let barrier: Option<Barrier> = match kind {
            // A damaged one is found when it is read in its place.
            ElementKind::Barrier => {
                wire::decode_barrier(&body).ok().filter(|b| b.unaligned_after_ms.is_some())
            }
            _ => None,
        };
        let mut state = locked(&self.state);
        let was_empty = state.queue.is_empty();
        state.take_in(kind, body)?;
        let is_announced = barrier.is_some();
        state.announced.extend(barrier);
        if let Some(announcement) = state.announcement.as_ref().filter(|_| is_announced) {
            announcement.store(true, Ordering::Release);
        }
        let wake = if is_announced || was_empty { state.waker.clone() } else { None };
        drop(state);
        if let Some(waker) = wake {
            waker.wake();
        }
        Ok(())
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
            if let Some(bytes) = state.window.take(body.len() as u64)
                && let Some((channel, back)) = &state.back
            {
                credit = Some((*channel, back.clone(), bytes));
            }
        } else {
            state.controls = state.controls.saturating_sub(1);
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

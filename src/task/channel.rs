//! A queue between one upstream and one downstream subtask: in order, bounded in bytes for data, never full for
//! control elements.
//!
//! A barrier that may overtake records stands in its place in the queue like any other, so what is in front of it is
//! what it overtakes. It is announced beside the queue, and what its sender still holds back is taken with it.

use crate::checkpoint::Barrier;
use crate::function::Timestamp;
use crate::id::CheckpointId;
use crate::operator::Batch;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// What travels in a channel.
#[derive(Debug)]
pub(crate) enum Element<T> {
    Batch(Batch<T>),
    Watermark(Timestamp),
    Idle(bool),
    Barrier(Barrier),
    /// No record follows; barriers still may.
    End,
}

/// Emptied batches kept for reuse, at most.
const FREE_BATCHES: usize = 4;

struct State<T> {
    queue: VecDeque<Element<T>>,
    bytes: usize,
    free: Vec<Batch<T>>,
    /// Barriers that have overtaken records and that the receiver has not been told of.
    announced: Vec<Barrier>,
    /// Set with every announcement.
    announcement: Option<Arc<AtomicBool>>,
    receiver: Option<Waker>,
    sender: Option<Waker>,
    sender_waits: bool,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    capacity_bytes: usize,
}

impl<T> Shared<T> {
    /// A panicking task leaves a whole queue behind: every critical section here is panic-free.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a channel that holds batches until `capacity_bytes` are reached; the batch that crosses the line is taken. A
/// sender that found it full is woken when it is half empty, so that it can send more than one.
pub(crate) fn channel<T>(capacity_bytes: usize) -> (Sender<T>, Receiver<T>) {
    let state = State {
        queue: VecDeque::new(),
        bytes: 0,
        free: Vec::new(),
        announced: Vec::new(),
        announcement: None,
        receiver: None,
        sender: None,
        sender_waits: false,
    };
    let shared = Arc::new(Shared { state: Mutex::new(state), capacity_bytes });
    (Sender(shared.clone()), Receiver(shared))
}

/// The upstream end.
pub(crate) struct Sender<T>(Arc<Shared<T>>);

impl<T> Sender<T> {
    /// Who is to be woken when there is room again.
    pub(crate) fn set_waker(&self, waker: Waker) {
        self.0.lock().sender = Some(waker);
    }

    /// Sends an element and returns an empty batch for reuse if one was sent; gives a batch back if there is no
    /// room, and wakes the sender later.
    pub(crate) fn try_send(&self, element: Element<T>) -> Result<Option<Batch<T>>, Element<T>> {
        let mut state = self.0.lock();
        let mut reuse = None;
        if let Element::Batch(batch) = &element {
            if state.bytes >= self.0.capacity_bytes {
                state.sender_waits = true;
                return Err(element);
            }
            state.bytes += batch.bytes;
            reuse = state.free.pop();
        }
        state.queue.push_back(element);
        let wake = if state.queue.len() == 1 { state.receiver.clone() } else { None };
        drop(state);
        if let Some(waker) = wake {
            waker.wake();
        }
        Ok(reuse)
    }

    /// Takes whatever the sender has held back, room or not, and the barrier behind it, which is announced. Few of these
    /// come, and a sender may not fill the channel further before there is room again: see [`Self::has_room`].
    pub(crate) fn overtake(&self, held_back: impl Iterator<Item = Element<T>>, barrier: Barrier) {
        let mut state = self.0.lock();
        for element in held_back {
            if let Element::Batch(batch) = &element {
                state.bytes += batch.bytes;
            }
            state.queue.push_back(element);
        }
        state.announced.push(barrier.clone());
        state.queue.push_back(Element::Barrier(barrier));
        if let Some(announcement) = &state.announcement {
            announcement.store(true, Ordering::Release);
        }
        let wake = state.receiver.clone();
        drop(state);
        if let Some(waker) = wake {
            waker.wake();
        }
    }

    /// Whether the channel would take a batch; if not, the sender is woken later.
    pub(crate) fn has_room(&self) -> bool {
        let mut state = self.0.lock();
        let has_room = state.bytes < self.0.capacity_bytes;
        state.sender_waits |= !has_room;
        has_room
    }
}

/// The downstream end.
pub(crate) struct Receiver<T>(Arc<Shared<T>>);

impl<T> Receiver<T> {
    /// Who is to be woken when something arrives.
    pub(crate) fn set_waker(&self, waker: Waker) {
        self.0.lock().receiver = Some(waker);
    }

    /// The next element, if any.
    pub(crate) fn try_receive(&self) -> Option<Element<T>> {
        let mut state = self.0.lock();
        let element = state.queue.pop_front()?;
        let mut wake = None;
        if let Element::Batch(batch) = &element {
            state.bytes -= batch.bytes;
            if state.sender_waits && state.bytes <= self.0.capacity_bytes / 2 {
                state.sender_waits = false;
                wake = state.sender.clone();
            }
        }
        drop(state);
        if let Some(waker) = wake {
            waker.wake();
        }
        Some(element)
    }

    /// What is set when a barrier is announced on this channel, from now on.
    pub(crate) fn set_announcement(&self, announcement: Arc<AtomicBool>) {
        let mut state = self.0.lock();
        if !state.announced.is_empty() {
            announcement.store(true, Ordering::Release);
        }
        state.announcement = Some(announcement);
    }

    /// The barriers announced since the last call, oldest first.
    pub(crate) fn take_announced(&self) -> Vec<Barrier> {
        std::mem::take(&mut self.0.lock().announced)
    }

    /// Shows the elements in front of the barrier of a checkpoint, in order; none if the barrier is not in the queue.
    pub(crate) fn overtaken(&self, checkpoint: CheckpointId, show: impl FnMut(&Element<T>)) {
        let state = self.0.lock();
        let is_it =
            |element: &Element<T>| matches!(element, Element::Barrier(b) if b.checkpoint == checkpoint);
        let ahead = state.queue.iter().position(is_it).unwrap_or(0);
        state.queue.iter().take(ahead).for_each(show);
    }

    /// Gives an emptied batch back for reuse.
    pub(crate) fn recycle(&self, batch: Batch<T>) {
        debug_assert!(batch.is_empty());
        let mut state = self.0.lock();
        if state.free.len() < FREE_BATCHES {
            state.free.push(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    fn batch(bytes: usize) -> Element<u8> {
        let mut b = Batch::default();
        b.push(1, 0);
        b.bytes = bytes;
        Element::Batch(b)
    }

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Wakes(AtomicU32);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_receiver_is_woken_when_there_is_something_again_and_no_more_often() {
        let (tx, rx) = channel::<u8>(100);
        let wakes = Arc::new(Wakes::default());
        rx.set_waker(wakes.clone().into());
        let mut woken = Vec::new();
        for element in [batch(1), Element::Watermark(5), Element::End] {
            assert!(tx.try_send(element).is_ok());
            woken.push(wakes.0.load(Ordering::Relaxed));
        }
        while rx.try_receive().is_some() {}
        assert!(tx.try_send(Element::Idle(true)).is_ok());
        woken.push(wakes.0.load(Ordering::Relaxed));
        assert_eq!(woken, [1, 1, 1, 2]);
    }

    #[test]
    fn the_sender_is_woken_when_half_is_free_and_no_more_often() {
        let (tx, rx) = channel::<u8>(100);
        let wakes = Arc::new(Wakes::default());
        tx.set_waker(wakes.clone().into());
        while tx.try_send(batch(20)).is_ok() {}
        let mut woken = Vec::new();
        while rx.try_receive().is_some() {
            woken.push(wakes.0.load(Ordering::Relaxed));
        }
        assert_eq!(woken, [0, 0, 1, 1, 1]);
        // A batch larger than the channel holds the sender up until it is taken.
        assert!(tx.try_send(batch(500)).is_ok() && tx.try_send(batch(1)).is_err());
        assert!(rx.try_receive().is_some());
        assert_eq!(wakes.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn data_waits_for_room_and_control_does_not() {
        let (tx, rx) = channel::<u8>(100);
        assert!(tx.try_send(batch(150)).is_ok(), "an empty queue takes any batch");
        let Err(back) = tx.try_send(batch(1)) else { panic!("a full queue took a batch") };
        assert!(tx.try_send(Element::Watermark(5)).is_ok());
        assert!(matches!(rx.try_receive(), Some(Element::Batch(_))));
        assert!(tx.try_send(back).is_ok());
        assert!(matches!(rx.try_receive(), Some(Element::Watermark(5))));
        assert!(matches!(rx.try_receive(), Some(Element::Batch(_))));
        assert!(rx.try_receive().is_none());
    }
}

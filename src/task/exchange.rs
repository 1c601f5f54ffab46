//! The sending side between vertices: spreads records over channels in batches and keeps what does not fit.

use crate::checkpoint::Barrier;
use crate::error::{Error, Result};
use crate::function::{Data, Emit, Timestamp};
use crate::graph::Partitioning;
use crate::id::SubtaskId;
use crate::operator::Batch;
use crate::operator::{Control, InputSide, Operator};
use crate::task::channel::Element;
use crate::task::ends::SendEnd;
use crate::task::hub::{ChannelId, ExchangeHub};
use crate::task::remote::Sent;
use crate::task::{ChannelName, GateChannel, GateHead, GateStart, Head};
use std::any::Any;
use std::collections::VecDeque;
use std::marker::PhantomData;
use std::task::Waker;
use tidegate_state::{KeyGroup, codec, key_group_of, subtask_of};

/// Records per batch, at most.
const BATCH_RECORDS: usize = 1024;
/// A typed edge with its type erased: builds both sides of it.
pub(crate) trait Exchange: Send + Sync {
    /// The operator at the end of the producing chain, as a `Box<dyn Operator<T>>` in a box.
    fn writer(
        &self,
        hub: &ExchangeHub,
        edge: usize,
        from: SubtaskId,
        to: &[SubtaskId],
        max_parallelism: u16,
        waker: &Waker,
    ) -> Result<Box<dyn Any>>;

    /// The gate over all channels of the consuming subtask, in front of its chain. All edges into one vertex carry
    /// the same type, those of two inputs both [wrapped](SideExchange), so any of them can build the gate.
    fn gate(
        &self,
        hub: &ExchangeHub,
        inlets: &[Inlet],
        to: SubtaskId,
        waker: &Waker,
        chain: Box<dyn Any>,
        start: GateStart,
    ) -> Result<Box<dyn Head>>;
}

/// A channel into a gate.
#[derive(Clone, Debug)]
pub(crate) struct Inlet {
    pub(crate) edge: usize,
    pub(crate) from: SubtaskId,
    /// Which input it belongs to, if the consumer has two.
    pub(crate) side: Option<InputSide>,
    pub(crate) name: ChannelName,
}

/// An edge of records `T`. `hash` gives a record's key hash; only hash partitioning calls it.
pub(crate) struct TypedExchange<T, H> {
    pub(crate) partitioning: Partitioning,
    pub(crate) hash: H,
    pub(crate) record: PhantomData<fn(T)>,
}

impl<T: Data, H: Fn(&T) -> u64 + Clone + Send + Sync + 'static> Exchange for TypedExchange<T, H> {
    fn writer(
        &self,
        hub: &ExchangeHub,
        edge: usize,
        from: SubtaskId,
        to: &[SubtaskId],
        max_parallelism: u16,
        waker: &Waker,
    ) -> Result<Box<dyn Any>> {
        let mut outlets = Vec::new();
        for to in to {
            let sender = hub.sender::<T>(ChannelId { edge, from, to: *to })?;
            sender.set_waker(waker.clone());
            outlets.push(Outlet {
                sender,
                open: Batch::default(),
                pending: VecDeque::new(),
                is_overfull: false,
            });
        }
        let parallelism = to.len() as u32;
        let overtakable = self.partitioning.can_be_overtaken();
        let operator: Box<dyn Operator<T>> = match self.partitioning {
            Partitioning::Hash => {
                let targets = (0..max_parallelism)
                    .map(|g| subtask_of(KeyGroup(g), parallelism, max_parallelism) as u16)
                    .collect();
                Box::new(Writer {
                    outlets,
                    route: ByKeyGroup { hash: self.hash.clone(), max_parallelism, targets },
                    overtakable,
                })
            }
            Partitioning::Broadcast => Box::new(Writer { outlets, route: ToAll, overtakable }),
            Partitioning::Forward | Partitioning::Rebalance => {
                Box::new(Writer { outlets, route: InTurn { next: 0 }, overtakable })
            }
        };
        Ok(Box::new(operator))
    }

    fn gate(
        &self,
        hub: &ExchangeHub,
        inlets: &[Inlet],
        to: SubtaskId,
        waker: &Waker,
        chain: Box<dyn Any>,
        start: GateStart,
    ) -> Result<Box<dyn Head>> {
        let chain = *chain.downcast::<Box<dyn Operator<T>>>().map_err(|_| {
            Error::bug(format!("the chain of subtask {to} takes another record type than its input"))
        })?;
        let mut channels = Vec::new();
        for inlet in inlets {
            let receiver = hub.receiver::<T>(ChannelId { edge: inlet.edge, from: inlet.from, to })?;
            receiver.set_waker(waker.clone());
            channels.push(GateChannel { receiver, side: inlet.side, name: inlet.name.clone() });
        }
        Ok(Box::new(GateHead::new(channels, chain, start)?))
    }
}

/// An edge into one of two inputs: records `T` travel as `M`, which records of the other input are wrapped in, too.
pub(crate) struct SideExchange<T, M, W, H> {
    pub(crate) wrap: W,
    pub(crate) wrapped: TypedExchange<M, H>,
    pub(crate) record: PhantomData<fn(T)>,
}

impl<T, M, W, H> Exchange for SideExchange<T, M, W, H>
where
    T: Data,
    M: Data,
    W: Fn(T) -> M + Clone + Send + Sync + 'static,
    H: Fn(&M) -> u64 + Clone + Send + Sync + 'static,
{
    fn writer(
        &self,
        hub: &ExchangeHub,
        edge: usize,
        from: SubtaskId,
        to: &[SubtaskId],
        max_parallelism: u16,
        waker: &Waker,
    ) -> Result<Box<dyn Any>> {
        let writer = self.wrapped.writer(hub, edge, from, to, max_parallelism, waker)?;
        let next = *writer
            .downcast::<Box<dyn Operator<M>>>()
            .map_err(|_| Error::bug("an exchange writes another type than its own"))?;
        let operator: Box<dyn Operator<T>> = Box::new(Wrapper { wrap: self.wrap.clone(), next });
        Ok(Box::new(operator))
    }

    fn gate(
        &self,
        hub: &ExchangeHub,
        inlets: &[Inlet],
        to: SubtaskId,
        waker: &Waker,
        chain: Box<dyn Any>,
        start: GateStart,
    ) -> Result<Box<dyn Head>> {
        self.wrapped.gate(hub, inlets, to, waker, chain, start)
    }
}

/// Wraps records in front of a [`Writer`].
struct Wrapper<M, W> {
    wrap: W,
    next: Box<dyn Operator<M>>,
}

impl<T, M, W: Fn(T) -> M> Emit<T> for Wrapper<M, W> {
    #[inline]
    fn emit(&mut self, value: T, timestamp: Timestamp) -> Result<()> {
        self.next.emit((self.wrap)(value), timestamp)
    }
}

impl<T, M, W: Fn(T) -> M> Operator<T> for Wrapper<M, W> {
    fn watermark(&mut self, watermark: Timestamp) -> Result<()> {
        self.next.watermark(watermark)
    }

    fn control(&mut self, control: &mut Control<'_>) -> Result<()> {
        self.next.control(control)
    }
}

/// One channel with its open batch and what did not fit.
struct Outlet<T> {
    sender: SendEnd<T>,
    open: Batch<T>,
    pending: VecDeque<Element<T>>,
    /// A barrier has overtaken more than there was room for: nothing more is sent before there is.
    is_overfull: bool,
}

impl<T: Data> Outlet<T> {
    #[inline]
    fn after_push(&mut self) -> Result<()> {
        if self.open.len() >= BATCH_RECORDS { self.seal() } else { Ok(()) }
    }

    /// Closes the open batch and sends it on. Every record is taken to be as large as the first, with what that holds
    /// on the heap estimated by its encoded size: exact sizes would cost per record.
    #[cold]
    fn seal(&mut self) -> Result<()> {
        let Some(first) = self.open.values.first() else { return Ok(()) };
        let mut encoded = Vec::new();
        codec::encode(first, &mut encoded)?;
        let mut batch = std::mem::take(&mut self.open);
        batch.bytes = batch.bytes_of(encoded.len().max(size_of::<T>()));
        self.send(Element::Batch(batch))
    }

    fn send(&mut self, element: Element<T>) -> Result<()> {
        if !self.pending.is_empty() {
            self.pending.push_back(element);
            return Ok(());
        }
        match self.sender.try_send(element)? {
            Sent::Taken(Some(reuse)) => self.open = reuse,
            Sent::Taken(None) => {}
            Sent::Full(element) => self.pending.push_back(element),
        }
        Ok(())
    }

    /// Sends a barrier ahead of everything that was not received yet.
    fn overtake(&mut self, barrier: Barrier) -> Result<()> {
        self.seal()?;
        self.is_overfull = true;
        self.sender.overtake(self.pending.drain(..), barrier)
    }

    /// Whether everything has been sent.
    fn drain(&mut self) -> Result<bool> {
        if self.is_overfull {
            self.is_overfull = !self.sender.has_room()?;
            if self.is_overfull {
                return Ok(false);
            }
        }
        while let Some(element) = self.pending.pop_front() {
            match self.sender.try_send(element)? {
                Sent::Taken(Some(reuse)) if self.open.is_empty() => self.open = reuse,
                Sent::Taken(_) => {}
                Sent::Full(element) => {
                    self.pending.push_front(element);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// Decides which channel a record takes.
trait Route<T> {
    fn route(&mut self, outlets: &mut [Outlet<T>], value: T, timestamp: Timestamp) -> Result<()>;
}

/// By key group.
struct ByKeyGroup<H> {
    hash: H,
    max_parallelism: u16,
    /// Key group to channel.
    targets: Vec<u16>,
}

impl<T: Data, H: Fn(&T) -> u64> Route<T> for ByKeyGroup<H> {
    #[inline]
    fn route(&mut self, outlets: &mut [Outlet<T>], value: T, timestamp: Timestamp) -> Result<()> {
        let hash = (self.hash)(&value);
        let group = key_group_of(hash, self.max_parallelism);
        let target = self.targets.get(group.0 as usize).map_or(0, |t| *t as usize);
        let Some(outlet) = outlets.get_mut(target) else {
            return Err(Error::bug(format!("{group:?} has no channel")));
        };
        outlet.open.push_hashed(value, timestamp, hash);
        outlet.after_push()
    }
}

/// In turn; with one channel, simply forward.
struct InTurn {
    next: usize,
}

impl<T: Data> Route<T> for InTurn {
    #[inline]
    fn route(&mut self, outlets: &mut [Outlet<T>], value: T, timestamp: Timestamp) -> Result<()> {
        let channels = outlets.len();
        let Some(outlet) = outlets.get_mut(self.next) else {
            return Err(Error::bug("an exchange without a channel"));
        };
        self.next = if self.next + 1 >= channels { 0 } else { self.next + 1 };
        outlet.open.push(value, timestamp);
        outlet.after_push()
    }
}

/// Every record to every channel.
struct ToAll;

impl<T: Data> Route<T> for ToAll {
    fn route(&mut self, outlets: &mut [Outlet<T>], value: T, timestamp: Timestamp) -> Result<()> {
        if let Some((last, others)) = outlets.split_last_mut() {
            for outlet in others {
                outlet.open.push(value.clone(), timestamp);
                outlet.after_push()?;
            }
            last.open.push(value, timestamp);
            last.after_push()?;
        }
        Ok(())
    }
}

/// The end of a producing chain: all its channels and the way records take.
struct Writer<T, R> {
    outlets: Vec<Outlet<T>>,
    route: R,
    /// Whether a barrier may overtake records.
    overtakable: bool,
}

impl<T: Data, R> Writer<T, R> {
    fn broadcast(&mut self, element: impl Fn() -> Element<T>) -> Result<()> {
        for outlet in &mut self.outlets {
            outlet.seal()?;
            outlet.send(element())?;
        }
        Ok(())
    }
}

impl<T: Data, R: Route<T>> Emit<T> for Writer<T, R> {
    #[inline]
    fn emit(&mut self, value: T, timestamp: Timestamp) -> Result<()> {
        self.route.route(&mut self.outlets, value, timestamp)
    }
}

impl<T: Data, R: Route<T>> Operator<T> for Writer<T, R> {
    fn watermark(&mut self, watermark: Timestamp) -> Result<()> {
        self.broadcast(|| Element::Watermark(watermark))
    }

    fn control(&mut self, control: &mut Control<'_>) -> Result<()> {
        match control {
            Control::Idle(idle) => self.broadcast(|| Element::Idle(*idle)),
            Control::Barrier { barrier, .. } if self.overtakable && barrier.unaligned_after_ms.is_some() => {
                self.outlets.iter_mut().try_for_each(|outlet| outlet.overtake(barrier.clone()))
            }
            Control::Barrier { barrier, .. } => self.broadcast(|| Element::Barrier(barrier.clone())),
            Control::EndOfInput => self.broadcast(|| Element::End),
            Control::Flush => self.outlets.iter_mut().try_for_each(Outlet::seal),
            Control::Drain(blocked) => {
                for outlet in &mut self.outlets {
                    **blocked |= !outlet.drain()?;
                }
                Ok(())
            }
            Control::Completed(_) | Control::Time { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;

//! The head of a chain that is fed by other subtasks: reads its channels in turn, aligns barriers, combines
//! watermarks.

use crate::checkpoint::Barrier;
use crate::error::{Error, Result};
use crate::function::{Data, Timestamp};
use crate::id::{CheckpointId, OperatorUid};
use crate::operator::{ChainSnapshot, Control, InputSide, Operator, OperatorSnapshot, OperatorState};
use crate::task::alignment::{Aligner, Alignment};
use crate::task::channel::Element;
use crate::task::ends::ReceiveEnd;
use crate::task::in_flight::{InFlightCollector, Replay, replay};
use crate::task::valve::{Valve, ValveOutput};
use crate::task::{ChannelName, Head, HeadEvent, InFlight, InFlightChannel, Progress};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a gate starts from.
#[derive(Debug)]
pub(crate) struct GateStart {
    /// The first operator of the chain, under which records in flight are kept.
    pub(crate) uid: OperatorUid,
    /// The watermark that it had reached.
    pub(crate) watermark: Timestamp,
    /// What was in flight to it.
    pub(crate) in_flight: Vec<InFlight>,
}

/// A channel of a gate.
pub(crate) struct GateChannel<T> {
    pub(crate) receiver: ReceiveEnd<T>,
    /// Which input it belongs to, if the chain takes two.
    pub(crate) side: Option<InputSide>,
    pub(crate) name: ChannelName,
}

/// A gate with the chain behind it.
pub(crate) struct GateHead<T> {
    uid: OperatorUid,
    channels: Vec<ReceiveEnd<T>>,
    /// Which input each channel belongs to, if the chain takes two.
    sides: Vec<Option<InputSide>>,
    names: Vec<ChannelName>,
    chain: Box<dyn Operator<T>>,
    /// What was in flight at the checkpoint that was restored: it comes before anything new.
    replay: Replay<T>,
    /// A barrier was announced on one of the channels.
    announcement: Arc<AtomicBool>,
    /// Barriers announced and not looked at, with their channels.
    announced: VecDeque<(usize, Barrier)>,
    aligner: Aligner,
    /// What is in flight for the checkpoint of which the snapshot was taken last.
    in_flight: InFlightCollector,
    schema: Option<String>,
    valve: Valve,
    /// Channel to look at first: the turn goes round.
    next: usize,
    ended: bool,
}

impl<T: Data> GateHead<T> {
    /// # Errors
    /// If what was in flight does not fit the channels.
    pub(crate) fn new(
        channels: Vec<GateChannel<T>>,
        chain: Box<dyn Operator<T>>,
        start: GateStart,
    ) -> Result<Self> {
        let announcement = Arc::new(AtomicBool::new(false));
        let (mut receivers, mut sides, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for GateChannel { receiver, side, name } in channels {
            receiver.set_announcement(announcement.clone());
            receivers.push(receiver);
            sides.push(side);
            names.push(name);
        }
        let overtakable = names.iter().map(|name| name.partitioning.can_be_overtaken()).collect();
        Ok(Self {
            uid: start.uid,
            replay: replay(&start.in_flight, |channel| channel_of(&names, channel))?,
            announcement,
            announced: VecDeque::new(),
            aligner: Aligner::new(overtakable),
            in_flight: InFlightCollector::default(),
            schema: None,
            valve: Valve::new(names.len(), start.watermark),
            channels: receivers,
            sides,
            names,
            chain,
            next: 0,
            ended: false,
        })
    }

    /// The next element of a channel that may be read.
    fn receive(&mut self) -> Result<Option<(usize, Element<T>)>> {
        if let Some(replayed) = self.replay.pop_front() {
            return Ok(Some(replayed));
        }
        let count = self.channels.len();
        for offset in 0..count {
            let index = (self.next + offset) % count;
            if self.aligner.is_blocked(index) {
                continue;
            }
            let Some(channel) = self.channels.get(index) else { continue };
            if let Some(element) = channel.try_receive()? {
                self.next = (index + 1) % count;
                if self.aligner.is_collecting(index) {
                    self.in_flight.add(index, &element);
                }
                return Ok(Some((index, element)));
            }
        }
        Ok(None)
    }

    /// The input of a channel that has just ended, if all other channels of it had ended before.
    fn ended_side(&self, channel: usize) -> Option<InputSide> {
        let side = self.sides.get(channel).copied().flatten()?;
        let of_side = |(_, of): &(usize, &Option<InputSide>)| **of == Some(side);
        let all = self.sides.iter().enumerate().filter(of_side).all(|(other, _)| self.valve.has_ended(other));
        all.then_some(side)
    }

    fn advance(&mut self, output: ValveOutput) -> Result<()> {
        if output.idle == Some(false) {
            self.chain.control(&mut Control::Idle(false))?;
        }
        if let Some(watermark) = output.watermark {
            self.chain.watermark(watermark)?;
        }
        if output.idle == Some(true) {
            self.chain.control(&mut Control::Idle(true))?;
        }
        Ok(())
    }
}

/// The channel that stands for one of a checkpoint.
fn channel_of(names: &[ChannelName], channel: &InFlightChannel) -> Result<usize> {
    let same_edge = names.iter().enumerate().filter(|(_, name)| name.edge == channel.edge);
    let same_edge: Vec<_> = same_edge.collect();
    let hint = "take a savepoint with the program that wrote the checkpoint: it has no records in flight";
    let Some((_, first)) = same_edge.first() else {
        return Err(Error::config("the program has no such exchange").hint(hint));
    };
    if first.partitioning != channel.partitioning {
        return Err(Error::config(format!(
            "the exchange is {:?} in the checkpoint and {:?} in the program",
            channel.partitioning, first.partitioning
        ))
        .hint(hint));
    }
    let of = same_edge.get(channel.sender as usize % same_edge.len());
    of.map(|(index, _)| *index).ok_or_else(|| Error::bug("an exchange without channels"))
}

impl<T: Data> GateHead<T> {
    /// Starts to collect what is in flight, behind the snapshot.
    fn collect(&mut self, checkpoint: CheckpointId) -> Result<()> {
        self.in_flight = InFlightCollector::new(self.channels.len());
        for (channel, element) in &self.replay {
            self.in_flight.add(*channel, element);
        }
        for channel in 0..self.channels.len() {
            if !self.aligner.is_collecting(channel) {
                self.collect_last(channel, checkpoint)?;
            }
        }
        Ok(())
    }

    /// Collects what is in front of a barrier that stands in the queue of its channel.
    fn collect_last(&mut self, channel: usize, checkpoint: CheckpointId) -> Result<()> {
        let Self { channels, in_flight, .. } = self;
        match channels.get(channel) {
            Some(receiver) => receiver.overtaken(checkpoint, |element| in_flight.add(channel, element)),
            None => Ok(()),
        }
    }

    fn progress(&mut self, alignment: Alignment, was_aligning: bool) -> Result<Option<Progress>> {
        Ok(match alignment {
            Alignment::Complete(barrier) => Some(Progress::Aligned(barrier)),
            Alignment::Overtake(barrier) => Some(Progress::Overtaken(barrier)),
            Alignment::Last(channel, checkpoint) => {
                self.collect_last(channel, checkpoint)?;
                None
            }
            Alignment::Waiting => (!was_aligning && self.aligner.is_aligning()).then_some(Progress::Aligning),
        })
    }
}

impl<T: Data> Head for GateHead<T> {
    fn look_ahead(&mut self, now_ms: i64) -> Result<Progress> {
        let now_ms = now_ms.max(0).unsigned_abs();
        if self.announcement.swap(false, Ordering::Acquire) {
            for (channel, receiver) in self.channels.iter().enumerate() {
                self.announced
                    .extend(receiver.take_announced().into_iter().map(|barrier| (channel, barrier)));
            }
        }
        while let Some((channel, barrier)) = self.announced.pop_front() {
            let was_aligning = self.aligner.is_aligning();
            let alignment = self.aligner.on_announced(channel, &barrier, now_ms);
            if let Some(progress) = self.progress(alignment, was_aligning)? {
                return Ok(progress);
            }
        }
        if let Some(checkpoint) = self.aligner.take_collected() {
            return Ok(Progress::Collected(checkpoint));
        }
        match self.aligner.on_time(now_ms) {
            Alignment::Overtake(barrier) => Ok(Progress::Overtaken(barrier)),
            _ => Ok(Progress::Idle(
                self.aligner.overtakes_at_ms().map(|at_ms| at_ms.min(i64::MAX as u64) as i64),
            )),
        }
    }

    fn step(&mut self, now_ms: i64) -> Result<Progress> {
        let Some((channel, element)) = self.receive()? else {
            return Ok(Progress::Idle(None));
        };
        match element {
            Element::Batch(mut batch) => {
                self.chain.batch(&mut batch)?;
                batch.clear();
                if let Some(receiver) = self.channels.get(channel) {
                    receiver.recycle(batch);
                }
            }
            Element::Watermark(watermark) => {
                let output = self.valve.on_watermark(channel, watermark);
                self.advance(output)?;
            }
            Element::Idle(idle) => {
                let output = self.valve.on_idle(channel, idle);
                self.advance(output)?;
            }
            Element::Barrier(barrier) => {
                let was_aligning = self.aligner.is_aligning();
                let alignment = self.aligner.on_barrier(channel, barrier, now_ms.max(0).unsigned_abs());
                if let Some(progress) = self.progress(alignment, was_aligning)? {
                    return Ok(progress);
                }
            }
            Element::End => {
                let output = self.valve.on_end(channel);
                self.advance(output)?;
                if let Some(side) = self.ended_side(channel) {
                    self.chain.end_of_side(side)?;
                }
                if self.valve.all_ended() && !self.ended {
                    self.ended = true;
                    self.chain.control(&mut Control::EndOfInput)?;
                    return Ok(Progress::Ended);
                }
            }
        }
        Ok(Progress::Worked)
    }

    fn control(&mut self, control: &mut Control<'_>) -> Result<()> {
        self.chain.control(control)
    }

    fn barrier(&mut self, barrier: Barrier, snapshot: &mut ChainSnapshot) -> Result<()> {
        let checkpoint = barrier.checkpoint;
        self.chain.control(&mut Control::Barrier { barrier, snapshot })?;
        if self.aligner.collects() == Some(checkpoint) {
            self.collect(checkpoint)?;
        }
        Ok(())
    }

    fn put_in_flight(&mut self, snapshot: &mut ChainSnapshot) {
        let collected = std::mem::take(&mut self.in_flight).finish::<T>(&self.names, &mut self.schema);
        let own = snapshot.operators.iter_mut().find(|operator| operator.uid == self.uid);
        match own {
            Some(own) => own.in_flight = Some(collected),
            None => {
                let mut own = OperatorSnapshot::new(self.uid.clone(), OperatorState::default());
                own.in_flight = Some(collected);
                snapshot.operators.push(own);
            }
        }
    }

    fn event(&mut self, event: HeadEvent) -> Result<()> {
        if let HeadEvent::Aborted(checkpoint) = event {
            self.aligner.on_aborted(checkpoint);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;

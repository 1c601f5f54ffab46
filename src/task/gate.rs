//! The head of a chain that is fed by other subtasks: reads its channels in turn, aligns barriers, combines
//! watermarks.

use crate::checkpoint::Barrier;
use crate::error::Result;
use crate::function::{Data, Timestamp};
use crate::operator::{ChainSnapshot, Control, InputSide, Operator};
use crate::task::alignment::{Aligner, Alignment};
use crate::task::channel::Element;
use crate::task::ends::ReceiveEnd;
use crate::task::valve::{Valve, ValveOutput};
use crate::task::{Head, HeadEvent, Progress};

/// A gate with the chain behind it.
pub(crate) struct GateHead<T> {
    channels: Vec<ReceiveEnd<T>>,
    /// Which input each channel belongs to, if the chain takes two.
    sides: Vec<Option<InputSide>>,
    chain: Box<dyn Operator<T>>,
    aligner: Aligner,
    valve: Valve,
    /// Channel to look at first: the turn goes round.
    next: usize,
    ended: bool,
}

impl<T: Data> GateHead<T> {
    pub(crate) fn new(
        channels: Vec<(ReceiveEnd<T>, Option<InputSide>)>,
        chain: Box<dyn Operator<T>>,
        watermark: Timestamp,
    ) -> Self {
        let (channels, sides): (Vec<_>, Vec<_>) = channels.into_iter().unzip();
        let aligner = Aligner::new(channels.len());
        let valve = Valve::new(channels.len(), watermark);
        Self { channels, sides, chain, aligner, valve, next: 0, ended: false }
    }

    /// The next element of a channel that may be read.
    fn receive(&mut self) -> Result<Option<(usize, Element<T>)>> {
        let count = self.channels.len();
        for offset in 0..count {
            let index = (self.next + offset) % count;
            if self.aligner.is_blocked(index) {
                continue;
            }
            let Some(channel) = self.channels.get(index) else { continue };
            if let Some(element) = channel.try_receive()? {
                self.next = (index + 1) % count;
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

impl<T: Data> Head for GateHead<T> {
    fn step(&mut self, _now_ms: i64) -> Result<Progress> {
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
                match self.aligner.on_barrier(channel, barrier) {
                    Alignment::Complete(barrier) => return Ok(Progress::Aligned(barrier)),
                    Alignment::Waiting if !was_aligning && self.aligner.is_aligning() => {
                        return Ok(Progress::Aligning);
                    }
                    Alignment::Waiting => {}
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
        self.chain.control(&mut Control::Barrier { barrier, snapshot })
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

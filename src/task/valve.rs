//! Event time over many channels: the lowest watermark of those that are not idle. Pure.

use crate::function::{MAX_WATERMARK, NO_WATERMARK, Timestamp};

#[derive(Clone, Copy, Debug)]
struct Channel {
    watermark: Timestamp,
    idle: bool,
    ended: bool,
}

/// Combines the watermarks of a gate's channels.
#[derive(Debug)]
pub(crate) struct Valve {
    channels: Vec<Channel>,
    emitted: Timestamp,
    idle: bool,
}

/// What has changed downstream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ValveOutput {
    /// The combined watermark has risen to this.
    pub(crate) watermark: Option<Timestamp>,
    /// The gate as a whole has become idle or active.
    pub(crate) idle: Option<bool>,
}

impl Valve {
    /// A valve that goes on from a restored watermark: event time never runs backwards.
    pub(crate) fn new(channels: usize, restored: Timestamp) -> Self {
        let channel = Channel { watermark: NO_WATERMARK, idle: false, ended: false };
        Self { channels: vec![channel; channels], emitted: restored, idle: false }
    }

    pub(crate) fn on_watermark(&mut self, channel: usize, watermark: Timestamp) -> ValveOutput {
        if let Some(c) = self.channels.get_mut(channel) {
            c.watermark = c.watermark.max(watermark);
        }
        self.combine()
    }

    pub(crate) fn on_idle(&mut self, channel: usize, idle: bool) -> ValveOutput {
        if let Some(c) = self.channels.get_mut(channel) {
            c.idle = idle;
        }
        self.combine()
    }

    pub(crate) fn on_end(&mut self, channel: usize) -> ValveOutput {
        if let Some(c) = self.channels.get_mut(channel) {
            c.ended = true;
        }
        self.combine()
    }

    /// Whether a channel has ended.
    pub(crate) fn has_ended(&self, channel: usize) -> bool {
        self.channels.get(channel).is_some_and(|c| c.ended)
    }

    /// Whether every channel has ended.
    pub(crate) fn all_ended(&self) -> bool {
        self.channels.iter().all(|c| c.ended)
    }

    fn combine(&mut self) -> ValveOutput {
        let mut output = ValveOutput::default();
        let active = self.channels.iter().filter(|c| !c.ended && !c.idle);
        let lowest = match active.map(|c| c.watermark).min() {
            Some(lowest) => Some(lowest),
            None if self.all_ended() => Some(MAX_WATERMARK),
            // Ended and idle channels only: what the idle ones had reached stands, nothing more is known.
            None => None,
        };
        let idle = lowest.is_none();
        if idle != self.idle {
            self.idle = idle;
            output.idle = Some(idle);
        }
        if let Some(lowest) = lowest
            && lowest > self.emitted
        {
            self.emitted = lowest;
            output.watermark = Some(lowest);
        }
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rises(w: Timestamp) -> ValveOutput {
        ValveOutput { watermark: Some(w), idle: None }
    }

    #[test]
    fn the_slowest_active_channel_decides() {
        let mut v = Valve::new(2, NO_WATERMARK);
        assert_eq!(v.on_watermark(0, 10), ValveOutput::default());
        assert_eq!(v.on_watermark(1, 4), rises(4));
        assert_eq!(v.on_watermark(1, 20), rises(10));
    }

    #[test]
    fn an_idle_channel_does_not_hold_back_and_never_takes_time_back() {
        let mut v = Valve::new(2, NO_WATERMARK);
        v.on_watermark(0, 10);
        assert_eq!(v.on_idle(1, true), rises(10));
        assert_eq!(v.on_idle(1, false), ValveOutput::default(), "a channel behind must not lower event time");
        assert_eq!(v.on_watermark(1, 5), ValveOutput::default());
        assert_eq!(v.on_watermark(1, 11), ValveOutput::default());
        assert_eq!(v.on_watermark(0, 12), rises(11));
    }

    #[test]
    fn all_idle_is_passed_on_and_an_ended_channel_is_out_of_the_way() {
        let mut v = Valve::new(2, NO_WATERMARK);
        assert_eq!(v.on_end(0), ValveOutput::default());
        assert_eq!(v.on_watermark(1, 3), rises(3));
        assert_eq!(v.on_idle(1, true), ValveOutput { watermark: None, idle: Some(true) });
        assert_eq!(v.on_idle(1, false), ValveOutput { watermark: None, idle: Some(false) });
        assert_eq!(v.on_end(1), rises(MAX_WATERMARK));
    }

    #[test]
    fn a_restored_watermark_is_not_undercut() {
        let mut v = Valve::new(1, 100);
        assert_eq!(v.on_watermark(0, 50), ValveOutput::default());
        assert_eq!(v.on_watermark(0, 101), rises(101));
    }
}

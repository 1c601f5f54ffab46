//! The record of a simulated run.

use std::fmt::Write;

/// What happened, in order. Two runs of one seed have equal logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventLog {
    text: String,
    events: u64,
}

impl EventLog {
    pub(super) fn add(&mut self, now_us: u64, event: std::fmt::Arguments<'_>) {
        self.events += 1;
        // Writing to a String cannot fail.
        _ = writeln!(self.text, "{now_us:>12} {event}");
    }

    /// The log as text, one line per event: virtual microseconds, then the event.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Number of events.
    pub fn len(&self) -> u64 {
        self.events
    }

    /// Whether nothing happened.
    pub fn is_empty(&self) -> bool {
        self.events == 0
    }
}

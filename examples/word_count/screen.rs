//! Prints what happens, with the time it happened at; on a terminal with a line below that changes in place.

use std::io::{IsTerminal, Write, stdout};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the changing line is printed where it cannot change in place.
const PLAIN_EVERY: Duration = Duration::from_secs(1);

/// Where the demonstration is shown.
#[derive(Debug)]
pub(crate) struct Screen {
    start: Instant,
    terminal: bool,
    /// When the changing line was printed last, from the start.
    plain_at: Mutex<Duration>,
}

impl Screen {
    #[expect(clippy::disallowed_methods, reason = "what people see is timed by the wall")]
    pub(crate) fn new() -> Self {
        let plain_at = Mutex::new(Duration::ZERO);
        Self { start: Instant::now(), terminal: stdout().is_terminal(), plain_at }
    }

    /// Something happened.
    pub(crate) fn event(&self, text: &str) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        self.print(&format!("{clear}{} {text}\n", self.time()));
    }

    /// The changing line.
    pub(crate) fn status(&self, text: &str) {
        if self.terminal {
            return self.print(&format!("\r\x1b[K{} {text}", self.time()));
        }
        let now = self.start.elapsed();
        let mut plain_at = self.plain_at.lock().unwrap_or_else(PoisonError::into_inner);
        if now - *plain_at >= PLAIN_EVERY {
            *plain_at = now;
            self.print(&format!("{} {text}\n", self.time()));
        }
    }

    fn time(&self) -> String {
        format!("{:6.2} s ", self.start.elapsed().as_secs_f64())
    }

    /// A reader that has gone away, as `head` does, is no reason to stop the job.
    fn print(&self, text: &str) {
        let mut out = stdout().lock();
        _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// A number with its thousands set apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

//! Messages to the person who runs the program: lines on standard error, each written at once. Processes that share a log
//! would otherwise write into each other's lines.

use std::fmt;
use std::io::Write;

/// Says something, with `tidegate: ` before it. A standard error that is closed is nobody's loss.
pub(crate) fn say(text: fmt::Arguments<'_>) {
    _ = std::io::stderr().write_all(format!("tidegate: {text}\n").as_bytes());
}

//! Messages to the person who runs the program: lines on standard error, each written at once. Processes that share a log
//! would otherwise write into each other's lines.

use std::fmt;
use std::io::Write;

/// Says something, with `tidegate: ` before it.
pub(crate) fn say(text: fmt::Arguments<'_>) {
    line(format_args!("tidegate: {text}"));
}

/// Writes a line. A standard error that nobody reads any more is no reason to die.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

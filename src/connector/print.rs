//! Records to standard output, for looking at them.

use super::single_phase::NothingToCommit;
use crate::error::{Error, Result};
use crate::function::{Committer, Data, Sink, SinkContext, SinkWriter, SubtaskInfo, Timestamp};
use std::fmt::{self, Write as _};
use std::io::{self, Write};

/// A sink that prints every record as a line, at once: at least once, as records are printed again after a
/// restart. With more than one subtask a line starts with the number of its subtask, from 1: `2> line`.
pub struct PrintSink<T> {
    format: fn(&T, &mut String) -> fmt::Result,
}

impl<T: fmt::Display> PrintSink<T> {
    /// Prints records as `{}` does.
    pub fn new() -> Self {
        Self { format: |value, out| write!(out, "{value}") }
    }
}

impl<T: fmt::Debug> PrintSink<T> {
    /// Prints records as `{:?}` does.
    pub fn debug() -> Self {
        Self { format: |value, out| write!(out, "{value:?}") }
    }
}

impl<T: fmt::Display> Default for PrintSink<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for PrintSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrintSink").finish_non_exhaustive()
    }
}

impl<T: Data> Sink for PrintSink<T> {
    type Record = T;
    type Committable = ();

    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter<Record = T, Committable = ()>>> {
        Ok(Box::new(PrintWriter::new(self.format, &context.subtask, io::stdout())))
    }

    fn committer(&self, _context: &SinkContext) -> Result<Box<dyn Committer<()>>> {
        Ok(Box::new(NothingToCommit))
    }
}

struct PrintWriter<T, W> {
    format: fn(&T, &mut String) -> fmt::Result,
    /// The prefix, and behind it the record being printed.
    line: String,
    prefix_length: usize,
    out: W,
}

impl<T, W: Write> PrintWriter<T, W> {
    fn new(format: fn(&T, &mut String) -> fmt::Result, subtask: &SubtaskInfo, out: W) -> Self {
        let line = if subtask.parallelism > 1 { format!("{}> ", subtask.index + 1) } else { String::new() };
        Self { format, prefix_length: line.len(), line, out }
    }
}

impl<T, W: Write> SinkWriter for PrintWriter<T, W> {
    type Record = T;
    type Committable = ();

    fn write(&mut self, value: T, _timestamp: Timestamp) -> Result<()> {
        self.line.truncate(self.prefix_length);
        (self.format)(&value, &mut self.line).map_err(|e| {
            Error::data(format!("a record of type {} cannot be formatted", std::any::type_name::<T>()))
                .with_source(e)
        })?;
        self.line.push('\n');
        // In one call: lines of several subtasks do not mix.
        self.out.write_all(self.line.as_bytes()).map_err(|e| {
            Error::config("cannot print to standard output")
                .with_source(e)
                .hint("whatever reads the output has closed it; let it read on, or use another sink")
        })
    }

    fn prepare_commit(&mut self) -> Result<Vec<()>> {
        self.out.flush()?;
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::id::Attempt;

    fn subtask(index: u32, parallelism: u32) -> SubtaskInfo {
        SubtaskInfo { operator: "out".into(), index, parallelism, max_parallelism: 128, attempt: Attempt(1) }
    }

    #[test]
    fn lines_carry_their_subtask_if_there_are_several() {
        let mut printed = Vec::new();
        let format = PrintSink::new().format;
        for (index, parallelism) in [(0, 1), (1, 2)] {
            let mut writer = PrintWriter::new(format, &subtask(index, parallelism), &mut printed);
            writer.write("long", 0).unwrap();
            writer.write("a", 0).unwrap();
        }
        let mut writer = PrintWriter::new(PrintSink::debug().format, &subtask(0, 1), &mut printed);
        writer.write(("a", 1), 0).unwrap();
        assert_eq!(String::from_utf8(printed).unwrap(), "long\na\n2> long\n2> a\n(\"a\", 1)\n");
    }

    #[test]
    fn a_closed_output_is_an_error() {
        let mut room = [0; 2];
        let mut writer = PrintWriter::new(PrintSink::new().format, &subtask(0, 1), &mut room[..]);
        writer.write("a", 0).unwrap();
        assert_eq!(writer.write("b", 0).unwrap_err().kind(), ErrorKind::Config);
    }
}

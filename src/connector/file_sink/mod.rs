//! Files written exactly once: parts are staged where readers do not look and appear when a checkpoint completes.
//!
//! ```text
//! out/.staging-<job>/<operator>-<attempt>-<subtask>-<number>.part       written, then flushed to the disk at a barrier
//! out/part-<job>.<operator>-<subtask>-<attempt>-<number>.<ending>       renamed to when the checkpoint is complete
//! ```
//!
//! Job, operator, attempt, subtask and number together name a part for ever: no attempt writes where another did,
//! and a job restored under a new id leaves the parts of the old one alone.

mod committer;
mod encoder;
mod layout;
mod part;
#[cfg(test)]
mod tests;
mod writer;

pub use part::Part;

use crate::error::{Error, Result};
use crate::function::{Committer, Data, Sink, SinkContext, SinkWriter};
use committer::FileCommitter;
use encoder::{Csv, Encoder, Format};
use layout::Layout;
use std::path::PathBuf;
use std::sync::Arc;
use writer::FileWriter;

type MakeEncoder<T> = Arc<dyn Fn() -> Box<dyn Encoder<T>> + Send + Sync>;

/// A sink that writes every record to a file exactly once.
///
/// Readers of the directory see whole parts only. A part appears when the checkpoint that covers it has completed,
/// so the checkpoint interval is what output lags behind. The directory must be one file system, seen under the
/// same path by all taskmanagers.
pub struct FileSink<T> {
    directory: PathBuf,
    ending: &'static str,
    max_part_bytes: u64,
    encoder: MakeEncoder<T>,
}

impl FileSink<String> {
    /// Writes every string as a line into files in `directory`, which is made if it is missing.
    pub fn lines(directory: impl Into<PathBuf>) -> Self {
        Self::with_format(directory, |line: &String, out| {
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        })
        .with_ending("txt")
    }
}

impl<T: Data> FileSink<T> {
    /// Writes every record as a row of comma-separated values, without a header: tuples, structs and enums without
    /// fields of their own, numbers, strings. Records that do not fit a row fail the job.
    pub fn csv(directory: impl Into<PathBuf>) -> Self {
        Self::new(directory.into(), "csv", Arc::new(|| Box::new(Csv::default())))
    }

    /// Writes whatever `format` appends for a record, its separator included.
    pub fn with_format(
        directory: impl Into<PathBuf>,
        format: impl Fn(&T, &mut Vec<u8>) + Send + Sync + 'static,
    ) -> Self {
        let format = Arc::new(format);
        Self::new(directory.into(), "dat", Arc::new(move || Box::new(Format(Arc::clone(&format)))))
    }

    fn new(directory: PathBuf, ending: &'static str, encoder: MakeEncoder<T>) -> Self {
        Self { directory, ending, max_part_bytes: u64::MAX, encoder }
    }

    /// Ends the names of the parts in `.ending` instead of `.txt`, `.csv` or `.dat`.
    #[must_use]
    pub fn with_ending(mut self, ending: &'static str) -> Self {
        self.ending = ending;
        self
    }

    /// Begins a new part once one has so many bytes; by default there is one per subtask and checkpoint.
    #[must_use]
    pub fn with_max_part_bytes(mut self, bytes: u64) -> Self {
        self.max_part_bytes = bytes;
        self
    }

    fn layout(&self, context: &SinkContext) -> Result<Layout> {
        let ending_fits =
            !self.ending.is_empty() && self.ending.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
        if !ending_fits {
            return Err(Error::config(format!("'{}' cannot end the name of a file", self.ending))
                .hint("give with_ending letters, digits and dots"));
        }
        Layout::new(&self.directory, self.ending, context).map_err(|e| e.at("file sink"))
    }
}

impl<T> std::fmt::Debug for FileSink<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileSink").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl<T: Data> Sink for FileSink<T> {
    type Record = T;
    type Committable = Part;

    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter<Record = T, Committable = Part>>> {
        let layout = self.layout(context)?;
        layout.create_directories().map_err(|e| e.at("file sink"))?;
        Ok(Box::new(FileWriter::new(layout, self.max_part_bytes, (self.encoder)())))
    }

    fn committer(&self, context: &SinkContext) -> Result<Box<dyn Committer<Part>>> {
        Ok(Box::new(FileCommitter::new(self.layout(context)?)))
    }
}

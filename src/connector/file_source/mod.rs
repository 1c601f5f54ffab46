//! Text files, read line by line: one file, a directory, or whatever a glob pattern matches.
//!
//! Large files are read by several readers at once, divided by byte ranges. A line belongs to the range that its
//! first byte lies in, so every line is read exactly once wherever the borders fall. Compressed files (`.gz`,
//! `.zst`) are read whole by one reader.

mod input;
mod listing;
mod reader;
mod split;
#[cfg(test)]
mod tests;

pub use split::FileSplit;

use super::rate::RateLimit;
use crate::error::{Error, Result};
use crate::function::{
    Data, EnumeratorContext, ReaderContext, Source, SourceReader, SplitEnumerator, SplitQueue,
};
use reader::FileReader;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Bytes read at once.
const CHUNK_BYTES: u64 = 256 << 10;
const DEFAULT_MAX_LINE_BYTES: usize = 16 << 20;

/// What to do about a line that is not UTF-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InvalidUtf8 {
    /// Fail the job with the name of the file and the position of the byte.
    #[default]
    Fail,
    /// Leave the line out and count it; see [`FileSource::skipped`].
    SkipAndCount,
}

/// A line together with where it came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct FileRecord {
    /// Index of the file among those found at the start of the job, which are sorted by path.
    pub file: u32,
    /// Position of the first byte of the line in the file (in what it decompresses to, if it is compressed).
    pub offset: u64,
    /// The line without its end.
    pub line: String,
}

/// A bounded source of the lines of text files.
///
/// What there is to read is listed once, when the job starts; a job restored from a checkpoint goes on with that
/// list. Files must not change meanwhile: one whose length or modification time differs is an error, as its
/// positions mean nothing any more.
#[derive(Clone, Debug)]
pub struct FileSource<R = String> {
    input: String,
    settings: Settings,
    make: fn(u32, u64, &str) -> R,
}

/// What readers and listing need to know.
#[derive(Clone, Debug)]
struct Settings {
    split_bytes: Option<u64>,
    invalid_utf8: InvalidUtf8,
    lines_per_second: Option<f64>,
    max_line_bytes: usize,
    chunk_bytes: u64,
    skipped: Arc<AtomicU64>,
}

impl FileSource<String> {
    /// The lines of `input`: the path of a file, of a directory (read with all directories below it), or a glob
    /// pattern such as `logs/*.gz`. Names that start with `.` or `_` are left out, as are the ends of lines
    /// (`\n` or `\r\n`).
    pub fn lines(input: impl Into<String>) -> Self {
        Self::with_records(input.into(), |_, _, line| line.to_owned())
    }
}

impl FileSource<FileRecord> {
    /// As [`FileSource::lines`], with the origin of every line.
    pub fn records(input: impl Into<String>) -> Self {
        Self::with_records(input.into(), |file, offset, line| FileRecord {
            file,
            offset,
            line: line.to_owned(),
        })
    }
}

impl<R> FileSource<R> {
    fn with_records(input: String, make: fn(u32, u64, &str) -> R) -> Self {
        let settings = Settings {
            split_bytes: None,
            invalid_utf8: InvalidUtf8::Fail,
            lines_per_second: None,
            max_line_bytes: DEFAULT_MAX_LINE_BYTES,
            chunk_bytes: CHUNK_BYTES,
            skipped: Arc::default(),
        };
        Self { input, settings, make }
    }

    /// Bytes of a file that one reader reads before it asks for more; at least 1. By default 64 MiB, or less if
    /// there is too little input to keep all readers busy with that.
    #[must_use]
    pub fn with_split_size(mut self, bytes: u64) -> Self {
        self.settings.split_bytes = Some(bytes);
        self
    }

    /// What to do about a line that is not UTF-8; by default the job fails.
    #[must_use]
    pub fn with_invalid_utf8(mut self, policy: InvalidUtf8) -> Self {
        self.settings.invalid_utf8 = policy;
        self
    }

    /// Reads at most so many lines per second in every reader, evenly spread.
    #[must_use]
    pub fn with_rate(mut self, lines_per_second: f64) -> Self {
        self.settings.lines_per_second = Some(lines_per_second);
        self
    }

    /// Longest line in bytes, by default 16 MiB: a longer one fails the job rather than filling the memory.
    #[must_use]
    pub fn with_max_line_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_line_bytes = bytes;
        self
    }

    /// How many lines the readers of this process have left out under [`InvalidUtf8::SkipAndCount`]; lines read again
    /// after a restart count again.
    pub fn skipped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.settings.skipped)
    }

    /// For tests: where chunks end must not matter.
    #[cfg(test)]
    fn with_chunk_bytes(mut self, bytes: u64) -> Self {
        self.settings.chunk_bytes = bytes;
        self
    }
}

impl Settings {
    fn rate_limit(&self) -> Result<Option<RateLimit>> {
        self.lines_per_second.map(RateLimit::new).transpose()
    }

    fn check(&self) -> Result<()> {
        if self.split_bytes == Some(0) {
            return Err(
                Error::config("splits of 0 bytes are not possible").hint("give with_split_size at least 1")
            );
        }
        self.rate_limit().map(drop)
    }
}

impl<R: Data> Source for FileSource<R> {
    type Record = R;
    type Split = FileSplit;

    fn is_bounded(&self) -> bool {
        true
    }

    fn enumerator(
        &self,
        context: &EnumeratorContext,
        restored: Option<&[u8]>,
    ) -> Result<Box<dyn SplitEnumerator<FileSplit>>> {
        let place = || format!("file source '{}'", self.input);
        self.settings.check().map_err(|e| e.at(place()))?;
        let list = || {
            let files = listing::list(&self.input)?;
            Ok(split::divide(files, self.settings.split_bytes, context.parallelism))
        };
        Ok(Box::new(SplitQueue::new(restored, list).map_err(|e| e.at(place()))?))
    }

    fn reader(
        &self,
        _context: &ReaderContext,
    ) -> Result<Box<dyn SourceReader<Record = R, Split = FileSplit>>> {
        Ok(Box::new(FileReader::new(self.settings.clone(), self.make)?))
    }
}

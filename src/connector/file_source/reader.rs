//! Reads the splits of a file source, one after the other.

use super::input::{Input, read_failed};
use super::{FileSplit, InvalidUtf8, Settings};
use crate::connector::line_buffer::{Line, LineBuffer};
use crate::connector::rate::{Allowance, RateLimit};
use crate::error::{Error, Result};
use crate::function::{Collector, ReaderStatus, SourceReader};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;

/// What one call of `poll` hands out at most.
const POLL_LINES: u64 = 1024;
const POLL_BYTES: u64 = 64 << 10;
/// Reads are not made smaller than this at the end of a range, where the last line may reach far beyond.
const MIN_READ_BYTES: u64 = 4 << 10;

pub(super) struct FileReader<R> {
    settings: Settings,
    make: fn(u32, u64, &str) -> R,
    rate: Option<RateLimit>,
    waiting: VecDeque<FileSplit>,
    current: Option<Open>,
    buffer: LineBuffer,
}

/// The split being read.
struct Open {
    split: FileSplit,
    input: Input,
    before: Before,
}

/// What has to happen before the first line of a split.
enum Before {
    /// Decompress and drop everything up to this position.
    Rewind(u64),
    /// Drop the end of the line that the range starts in. It belongs to the range before.
    CutLine,
    /// Drop the one byte before the restored position, which ends the line read last.
    LineEnd,
    Nothing,
}

/// What reading on has led to.
#[derive(PartialEq, Eq)]
enum Progress {
    Lines,
    NoLinesYet,
    Finished,
}

impl<R> FileReader<R> {
    pub(super) fn new(settings: Settings, make: fn(u32, u64, &str) -> R) -> Result<Self> {
        let rate = settings.rate_limit()?;
        let (waiting, buffer) = (VecDeque::new(), LineBuffer::default());
        Ok(Self { settings, make, rate, waiting, current: None, buffer })
    }
}

impl<R> SourceReader for FileReader<R> {
    type Record = R;
    type Split = FileSplit;

    fn add_split(&mut self, split: FileSplit) -> Result<()> {
        self.waiting.push_back(split);
        Ok(())
    }

    fn poll(&mut self, now_ms: i64, out: &mut Collector<'_, R>) -> Result<ReaderStatus> {
        let allowed = match self.rate.as_mut().map(|rate| rate.allowance(now_ms)) {
            Some(Allowance::NotBefore(next)) => return Ok(ReaderStatus::WaitUntil(next)),
            Some(Allowance::Records(allowed)) => allowed.min(POLL_LINES),
            None => POLL_LINES,
        };
        if self.current.is_none() {
            let Some(split) = self.waiting.pop_front() else { return Ok(ReaderStatus::NeedSplit) };
            self.current = Some(
                Open::new(split.clone(), &mut self.buffer).inspect_err(|_| self.waiting.push_front(split))?,
            );
        }
        let Some(open) = &mut self.current else { return Ok(ReaderStatus::NeedSplit) };
        let mut lines = open.hand_out(&mut self.buffer, allowed, &self.settings, self.make, out)?;
        let mut finished = open.is_finished(&self.buffer);
        if lines == 0 && !finished {
            match open.read_on(&mut self.buffer, &self.settings)? {
                Progress::Lines => {
                    lines = open.hand_out(&mut self.buffer, allowed, &self.settings, self.make, out)?;
                    finished = open.is_finished(&self.buffer);
                }
                Progress::NoLinesYet => {}
                Progress::Finished => finished = true,
            }
        }
        if let Some(rate) = &mut self.rate {
            rate.use_up(lines);
        }
        if finished {
            self.current = None;
            if self.waiting.is_empty() {
                return Ok(ReaderStatus::NeedSplit);
            }
        }
        Ok(ReaderStatus::More)
    }

    fn snapshot(&self) -> Result<Vec<FileSplit>> {
        let current = self.current.iter().map(|open| open.as_it_stands(&self.buffer));
        Ok(current.chain(self.waiting.iter().cloned()).collect())
    }
}

impl Open {
    fn new(split: FileSplit, buffer: &mut LineBuffer) -> Result<Self> {
        let mut input = Input::open(&split)?;
        let (before, from) = match split.position {
            0 => (Before::Nothing, 0),
            position if position == split.start => (Before::CutLine, position - 1),
            position if position >= split.length && input.is_plain() => (Before::Nothing, position),
            position => (Before::LineEnd, position - 1),
        };
        let at = input.seek(from).map_err(|e| read_failed(&split.path, from, e))?;
        buffer.reset(at);
        let before = if at == from { before } else { Before::Rewind(from) };
        Ok(Self { split, input, before })
    }

    fn is_finished(&self, buffer: &LineBuffer) -> bool {
        matches!(self.before, Before::Nothing) && buffer.position() >= self.split.end
    }

    fn as_it_stands(&self, buffer: &LineBuffer) -> FileSplit {
        let mut split = self.split.clone();
        if matches!(self.before, Before::Nothing) {
            split.position = buffer.position();
        }
        split
    }

    /// Emits up to `allowed` lines that are in memory; returns how many.
    fn hand_out<R>(
        &mut self,
        buffer: &mut LineBuffer,
        allowed: u64,
        settings: &Settings,
        make: fn(u32, u64, &str) -> R,
        out: &mut Collector<'_, R>,
    ) -> Result<u64> {
        let stop = buffer.position().saturating_add(POLL_BYTES).min(self.split.end);
        let mut lines = 0;
        while lines < allowed && buffer.position() < stop {
            let at = buffer.position();
            let Some(line) = buffer.next_line() else { break };
            lines += 1;
            match line {
                Line::Text(text) if text.len() > settings.max_line_bytes => {
                    return Err(self.too_long(at, settings));
                }
                Line::Text(text) => {
                    out.collect_untimed(make(self.split.file, at, text));
                    self.split.records += 1;
                }
                Line::Invalid(_) if settings.invalid_utf8 == InvalidUtf8::SkipAndCount => {
                    settings.skipped.fetch_add(1, Ordering::Relaxed);
                }
                Line::Invalid(byte) => return Err(self.not_utf8(at, byte)),
            }
        }
        Ok(lines)
    }

    /// Reads one chunk, and makes lines of it if the first line of the split has been found.
    fn read_on(&mut self, buffer: &mut LineBuffer, settings: &Settings) -> Result<Progress> {
        let at_end = self.fill(buffer, settings)?;
        match self.before {
            Before::Rewind(to) => {
                buffer.discard(to - buffer.position());
                if buffer.position() == to {
                    self.before = Before::LineEnd;
                    if buffer.pending() > 0 {
                        self.drop_line_end(buffer)?;
                    }
                }
            }
            Before::CutLine => {
                if buffer.discard_line() {
                    self.before = Before::Nothing;
                } else if buffer.position() >= self.split.end {
                    return Ok(Progress::Finished);
                }
            }
            Before::LineEnd if buffer.pending() > 0 => self.drop_line_end(buffer)?,
            Before::LineEnd | Before::Nothing => {}
        }
        if matches!(self.before, Before::Nothing) {
            if buffer.seal(at_end) {
                return Ok(Progress::Lines);
            }
            if buffer.pending() > settings.max_line_bytes {
                return Err(self.too_long(buffer.position(), settings));
            }
        }
        match (at_end, &self.before) {
            (false, _) => Ok(Progress::NoLinesYet),
            (true, Before::Rewind(to)) => Err(self.shorter_than(*to, buffer.position())),
            (true, Before::LineEnd) => Err(self.shorter_than(self.split.position, buffer.position())),
            (true, _) => Ok(Progress::Finished),
        }
    }

    fn drop_line_end(&mut self, buffer: &mut LineBuffer) -> Result<()> {
        let at = buffer.position();
        if buffer.discard_line() && buffer.position() == at + 1 {
            self.before = Before::Nothing;
            return Ok(());
        }
        Err(Error::data(format!(
            "input file '{}' has changed since the checkpoint: no line ends at byte {at}, where {} records had been read",
            self.split.path, self.split.records
        ))
        .hint("bring the file back as it was, or start the job afresh without its checkpoints"))
    }

    /// Adds a chunk to the buffer; true at the end of the file.
    fn fill(&mut self, buffer: &mut LineBuffer, settings: &Settings) -> Result<bool> {
        let at = buffer.filled_to();
        let mut most = settings.chunk_bytes;
        if self.input.is_plain() {
            // Not far beyond the range; never beyond what was the end of the file when it was listed.
            let in_range = self.split.end.saturating_sub(at).max(MIN_READ_BYTES);
            most = most.min(in_range).min(self.split.length.saturating_sub(at));
        }
        let added =
            buffer.fill(&mut self.input, most).map_err(|e| read_failed(&self.split.path, at, e))? as u64;
        if self.input.is_plain() {
            if added < most {
                return Err(self.shorter_than(self.split.length, at + added));
            }
            return Ok(at + added >= self.split.length);
        }
        if added < most {
            self.split.end = at + added;
        }
        Ok(added < most)
    }

    fn shorter_than(&self, expected: u64, found: u64) -> Error {
        Error::data(format!(
            "input file '{}' has become shorter: it ends at byte {found}, expected were {expected} bytes",
            self.split.path
        ))
        .hint("input must not change while a job reads it; bring the file back or start the job afresh")
    }

    fn too_long(&self, at: u64, settings: &Settings) -> Error {
        Error::data(format!(
            "the line at byte {at} of '{}' is longer than {} bytes",
            self.split.path, settings.max_line_bytes
        ))
        .hint("raise with_max_line_bytes if such lines are right, or repair the file")
    }

    fn not_utf8(&self, line: u64, byte: usize) -> Error {
        Error::data(format!(
            "'{}' is not UTF-8 at byte {} (in the line at byte {line})",
            self.split.path,
            line + byte as u64
        ))
        .hint("repair the file, or leave such lines out with with_invalid_utf8(InvalidUtf8::SkipAndCount)")
    }
}

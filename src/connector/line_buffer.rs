//! Bytes in, lines out: the buffer shared by everything that reads text.
//!
//! Whole lines are validated as UTF-8 a chunk at a time; only a chunk with a flaw is looked at line by line. No
//! byte is copied except those of the line that a chunk cuts in two.

use std::io::{self, Read};

/// Lines of a stream of bytes, with the position of the next one.
#[derive(Debug, Default)]
pub(super) struct LineBuffer {
    chunk: Chunk,
    /// Index into `chunk` of the next line.
    head: usize,
    /// Bytes behind `chunk`, without a line feed in the first `scanned`.
    rest: Vec<u8>,
    scanned: usize,
    /// An emptied chunk, kept for its allocation.
    spare: Vec<u8>,
    position: u64,
}

/// Whole lines.
#[derive(Debug)]
enum Chunk {
    Text(String),
    /// Not UTF-8 everywhere.
    Flawed(Vec<u8>),
}

impl Default for Chunk {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Flawed(bytes) => bytes,
        }
    }
}

/// A line without its line feed, nor the carriage return before that.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Text.
    Text(&'a str),
    /// Not UTF-8; the number is the first byte that is wrong, counted from the start of the line.
    Invalid(usize),
}

impl LineBuffer {
    /// Forgets everything; the next byte added is the one at `position` of its stream.
    pub(super) fn reset(&mut self, position: u64) {
        self.head = self.chunk.bytes().len();
        self.rest.clear();
        self.scanned = 0;
        self.position = position;
    }

    /// Position of the first byte of the next line.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Position behind the last byte added.
    pub(super) fn filled_to(&self) -> u64 {
        self.position + (self.chunk.bytes().len() - self.head) as u64 + self.rest.len() as u64
    }

    /// Bytes of a line whose end has not been seen, once no whole line is left.
    pub(super) fn pending(&self) -> usize {
        self.rest.len()
    }

    /// Adds up to `most` bytes; fewer only at the end of `input`. Returns how many.
    pub(super) fn fill(&mut self, input: &mut impl Read, most: u64) -> io::Result<usize> {
        self.rest.reserve(usize::try_from(most).unwrap_or(0));
        input.by_ref().take(most).read_to_end(&mut self.rest)
    }

    /// Adds `bytes`.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
    }

    /// Drops up to `most` bytes that [`LineBuffer::next_line`] has not come to, wherever lines end. Returns how many.
    pub(super) fn discard(&mut self, most: u64) -> u64 {
        let dropped = self.rest.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        self.rest.drain(..dropped);
        self.scanned = self.scanned.saturating_sub(dropped);
        self.position += dropped as u64;
        dropped as u64
    }

    /// Drops everything up to and including the first line feed; false, with all dropped, if there is none.
    pub(super) fn discard_line(&mut self) -> bool {
        let end = memchr::memchr(b'\n', &self.rest);
        self.discard(end.map_or(u64::MAX, |end| end as u64 + 1));
        end.is_some()
    }

    /// Makes the whole lines added since the last call ready for [`LineBuffer::next_line`], which must have returned
    /// all earlier ones. At the end of the stream the last line needs no line feed. False if there is nothing new.
    pub(super) fn seal(&mut self, at_end: bool) -> bool {
        debug_assert_eq!(self.head, self.chunk.bytes().len());
        let end = match memchr::memrchr(b'\n', &self.rest[self.scanned..]) {
            _ if at_end => self.rest.len(),
            Some(at) => self.scanned + at + 1,
            None => 0,
        };
        if end == 0 {
            self.scanned = self.rest.len();
            return false;
        }
        let old = match std::mem::take(&mut self.chunk) {
            Chunk::Text(text) => text.into_bytes(),
            Chunk::Flawed(bytes) => bytes,
        };
        // Three allocations take turns: the emptied chunk becomes the spare, the spare takes the line cut in two.
        let mut next = std::mem::replace(&mut self.spare, old);
        next.clear();
        next.extend_from_slice(&self.rest[end..]);
        self.rest.truncate(end);
        let whole = std::mem::replace(&mut self.rest, next);
        self.chunk = String::from_utf8(whole).map_or_else(|e| Chunk::Flawed(e.into_bytes()), Chunk::Text);
        self.head = 0;
        self.scanned = self.rest.len();
        true
    }

    /// The next whole line; `None` if more bytes are needed.
    #[inline]
    pub(super) fn next_line(&mut self) -> Option<Line<'_>> {
        let start = self.head;
        let bytes = self.chunk.bytes();
        let left = bytes.get(start..).filter(|left| !left.is_empty())?;
        let (length, used) = match memchr::memchr(b'\n', left) {
            Some(at) => (at - usize::from(at > 0 && left[at - 1] == b'\r'), at + 1),
            None => (left.len(), left.len()),
        };
        self.head += used;
        self.position += used as u64;
        Some(match &self.chunk {
            Chunk::Text(text) => Line::Text(&text[start..start + length]),
            Chunk::Flawed(bytes) => match std::str::from_utf8(&bytes[start..start + length]) {
                Ok(text) => Line::Text(text),
                Err(e) => Line::Invalid(e.valid_up_to()),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All lines with their positions, the bytes arriving `step` at a time.
    fn lines(bytes: &[u8], step: usize) -> Vec<(u64, Result<String, usize>)> {
        let mut buffer = LineBuffer::default();
        buffer.reset(0);
        let (mut input, mut found) = (bytes, Vec::new());
        loop {
            let added = buffer.fill(&mut input, step as u64).unwrap();
            let sealed = buffer.seal(added < step);
            loop {
                let at = buffer.position();
                match buffer.next_line() {
                    Some(Line::Text(text)) => found.push((at, Ok(text.to_owned()))),
                    Some(Line::Invalid(byte)) => found.push((at, Err(byte))),
                    None => break,
                }
            }
            if added < step && !sealed {
                assert_eq!(buffer.position(), bytes.len() as u64);
                return found;
            }
        }
    }

    #[test]
    fn a_flaw_touches_only_its_own_line() {
        let found = lines(b"a\nb\xff\n\xc3\xa9\n", 100);
        assert_eq!(found, [(0, Ok("a".into())), (2, Err(1)), (5, Ok("\u{e9}".into()))]);
    }

    proptest! {
        #[test]
        fn agrees_with_str_lines_however_bytes_arrive(text in "[a\u{e9}\r\n]{0,40}", step in 1usize..50) {
            let expected: Vec<String> = text.lines().map(str::to_owned).collect();
            let found = lines(text.as_bytes(), step);
            for (at, line) in &found {
                let at = *at as usize;
                prop_assert!(at == 0 || text.as_bytes()[at - 1] == b'\n');
                prop_assert!(text[at..].starts_with(line.as_ref().unwrap().as_str()));
            }
            prop_assert_eq!(found.into_iter().map(|(_, line)| line.unwrap()).collect::<Vec<_>>(), expected);
        }
    }
}

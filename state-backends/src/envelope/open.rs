//! Reading and verifying envelopes.

use super::{
    BLOCK_BYTES, BLOCK_HEADER_BYTES, CRC_BYTES, Compression, HEADER_BYTES, MAGIC, TRAILER_BYTES, VERSION,
    checksum,
};
use crate::{Error, Result};
use std::fmt;

/// Verifies a file that comes piece by piece. Holds at most one block of it.
pub struct Opener {
    kind: u8,
    identity: String,
    /// Bytes of a part of the file that is not complete yet.
    held: Vec<u8>,
    next: Part,
    header_crc: u32,
    compression: Compression,
    blocks: u64,
    body_bytes: u64,
    /// The last block was not full: no other may follow.
    short: bool,
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
}

/// What comes next in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The fixed part of the header.
    Header,
    /// The whole header, whose identity has so many bytes.
    Identity(usize),
    /// The length of a block's content, or the 0 of the trailer.
    Length,
    BlockHeader,
    /// A whole block: bytes of content and as stored.
    Block(usize, usize),
    Trailer,
    Nothing,
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { identity, next, blocks, body_bytes, .. } = self;
        f.debug_struct("Opener")
            .field("identity", identity)
            .field("next", next)
            .field("blocks", blocks)
            .field("body_bytes", body_bytes)
            .finish_non_exhaustive()
    }
}

impl Opener {
    /// For a file that must be of `kind` and belong to the place `identity`.
    pub fn new(kind: u8, identity: &str) -> Self {
        Self {
            kind,
            identity: identity.to_owned(),
            held: Vec::new(),
            next: Part::Header,
            header_crc: 0,
            compression: Compression::None,
            blocks: 0,
            body_bytes: 0,
            short: false,
            decompressor: None,
        }
    }

    /// Takes the next bytes of the file and appends the content of the blocks that are complete with them to `body`.
    /// After an error the rest of the file must not be given.
    ///
    /// # Errors
    /// [`ErrorKind::Data`](crate::ErrorKind::Data), naming what differs: not a Tidegate file, a newer version, a wrong
    /// length, a wrong checksum, another kind of file, or the file of another place.
    pub fn write(&mut self, mut bytes: &[u8], body: &mut Vec<u8>) -> Result<()> {
        loop {
            let needed = self.needed();
            if self.next == Part::Nothing {
                return match bytes.len() {
                    0 => Ok(()),
                    more => Err(Error::data(format!("{more} bytes follow the end of the file"))
                        .hint("something was appended")),
                };
            }
            // A part that lies in `bytes` as a whole is looked at where it is.
            if self.held.is_empty() && bytes.len() >= needed {
                bytes = bytes.get(self.take(bytes, needed, body)?..).unwrap_or_default();
                continue;
            }
            let missing = needed.saturating_sub(self.held.len());
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            self.held.extend_from_slice(now);
            bytes = later;
            if self.held.len() < needed {
                return Ok(());
            }
            let held = std::mem::take(&mut self.held);
            let taken = self.take(&held, needed, body)?;
            self.held = held;
            // Either all of it, or nothing: it is the beginning of a larger part.
            if taken > 0 {
                self.held.clear();
            }
        }
    }

    /// Ends the file and returns how many bytes its body has.
    ///
    /// # Errors
    /// [`ErrorKind::Data`](crate::ErrorKind::Data) if the file is not complete.
    pub fn finish(self) -> Result<u64> {
        if self.next != Part::Nothing {
            let what = match self.next {
                Part::Header if self.held.is_empty() => "the file is empty".to_owned(),
                Part::Header | Part::Identity(_) => "the file ends within its header".to_owned(),
                _ => format!("the file ends after {} blocks without its trailer", self.blocks),
            };
            return Err(Error::data(what).hint("it was cut short"));
        }
        Ok(self.body_bytes)
    }

    /// Bytes of the next part, from its beginning.
    fn needed(&self) -> usize {
        match self.next {
            Part::Header => HEADER_BYTES,
            Part::Identity(bytes) => HEADER_BYTES + bytes + CRC_BYTES,
            Part::Length => 4,
            Part::BlockHeader => BLOCK_HEADER_BYTES,
            Part::Block(_, stored) => BLOCK_HEADER_BYTES + stored + CRC_BYTES,
            Part::Trailer => TRAILER_BYTES + CRC_BYTES,
            Part::Nothing => 0,
        }
    }

    /// Looks at the next part, the first `needed` of `bytes`, and says how much of it is done with: all, or nothing if it
    /// is the beginning of a larger part.
    fn take(&mut self, bytes: &[u8], needed: usize, body: &mut Vec<u8>) -> Result<usize> {
        let part = bytes.get(..needed).ok_or_else(|| Error::bug("a part of a file that is not there"))?;
        self.next = match self.next {
            Part::Header => Part::Identity(self.check_header(part)?),
            Part::Identity(_) => {
                self.check_identity(part)?;
                Part::Length
            }
            Part::Length if part == [0; 4] => Part::Trailer,
            Part::Length => Part::BlockHeader,
            Part::BlockHeader => self.check_block_header(part)?,
            Part::Block(content, _) => {
                self.open_block(part, content, body)?;
                Part::Length
            }
            Part::Trailer => {
                self.check_trailer(part)?;
                Part::Nothing
            }
            Part::Nothing => Part::Nothing,
        };
        Ok(match self.next {
            Part::Length | Part::Nothing => needed,
            _ => 0,
        })
    }

    /// Returns the length of the identity.
    fn check_header(&mut self, part: &[u8]) -> Result<usize> {
        let &[m0, m1, m2, m3, v0, v1, _, _, i0, i1] = part else {
            return Err(Error::bug("a header of another length"));
        };
        if [m0, m1, m2, m3] != MAGIC {
            return Err(Error::data("not a file of Tidegate: it does not start with TIDE"));
        }
        let version = u16::from_le_bytes([v0, v1]);
        if version != VERSION {
            return Err(Error::data(format!(
                "the file has envelope version {version}, this build reads {VERSION}"
            ))
            .hint("read it with the release that wrote it"));
        }
        Ok(usize::from(u16::from_le_bytes([i0, i1])))
    }

    fn check_identity(&mut self, part: &[u8]) -> Result<()> {
        let (header, crc) = split_crc(part)?;
        let found = crc32fast::hash(header);
        refuse_other(found, crc, || "the header".to_owned())?;
        self.header_crc = crc;
        let (Some(&kind), Some(&compression)) = (header.get(6), header.get(7)) else {
            return Err(Error::bug("a header of another length"));
        };
        if kind != self.kind {
            return Err(Error::data(format!(
                "a file of kind {kind} where one of kind {} belongs",
                self.kind
            )));
        }
        self.compression = Compression::from_number(compression)
            .ok_or_else(|| Error::data(format!("the file has the unknown compression {compression}")))?;
        let identity = header.get(HEADER_BYTES..).unwrap_or_default();
        if identity != self.identity.as_bytes() {
            let found = String::from_utf8_lossy(identity);
            return Err(Error::data(format!(
                "the file of `{found}` lies where that of `{}` belongs",
                self.identity
            )));
        }
        Ok(())
    }

    /// Lengths are looked at before their bytes are waited for; whether they are right is found out with the block.
    fn check_block_header(&self, part: &[u8]) -> Result<Part> {
        let (content, rest) = split_u32(part)?;
        let (stored, _) = split_u32(rest)?;
        let (content, stored) = (content as usize, stored as usize);
        let compressed = stored < content && self.compression == Compression::Zstd;
        if content > BLOCK_BYTES || stored == 0 || (stored != content && !compressed) {
            return Err(Error::data(format!(
                "block {} announces {content} bytes of content in {stored}",
                self.blocks
            ))
            .hint("its bytes were changed after it was written"));
        }
        Ok(Part::Block(content, stored))
    }

    fn open_block(&mut self, part: &[u8], content: usize, body: &mut Vec<u8>) -> Result<()> {
        let number = self.blocks;
        let (block, crc) = split_crc(part)?;
        let found = checksum(self.header_crc, &[&number.to_le_bytes(), block]);
        refuse_other(found, crc, || format!("block {number}"))?;
        if self.short {
            return Err(Error::data(format!("block {number} follows one that is not full")));
        }
        let stored = block.get(BLOCK_HEADER_BYTES..).unwrap_or_default();
        if stored.len() == content {
            body.extend_from_slice(stored);
        } else {
            let before = body.len();
            if let Err(e) = self.decompress(stored, content, body) {
                body.truncate(before);
                return Err(e.at(format!("block {number}")));
            }
        }
        self.short = content < BLOCK_BYTES;
        self.blocks += 1;
        self.body_bytes += content as u64;
        Ok(())
    }

    /// There is room for what the block announces, at most [`BLOCK_BYTES`], and not for a byte more.
    fn decompress(&mut self, stored: &[u8], content: usize, body: &mut Vec<u8>) -> Result<()> {
        if self.decompressor.is_none() {
            let new = zstd::bulk::Decompressor::new();
            self.decompressor = Some(new.map_err(|e| Error::bug("no zstd").with_source(e))?);
        }
        let Some(zstd) = &mut self.decompressor else { return Err(Error::bug("no zstd")) };
        let at = body.len();
        body.resize(at + content, 0);
        let room = body.get_mut(at..).unwrap_or_default();
        let written = zstd
            .decompress_to_buffer(stored, room)
            .map_err(|e| Error::data("it cannot be decompressed").with_source(e))?;
        if written != content {
            return Err(Error::data(format!("it has {written} bytes of content instead of {content}")));
        }
        Ok(())
    }

    fn check_trailer(&self, part: &[u8]) -> Result<()> {
        let (trailer, crc) = split_crc(part)?;
        let found = checksum(self.header_crc, &[trailer]);
        refuse_other(found, crc, || "the trailer".to_owned())?;
        let sealed =
            |at: usize| trailer.get(at..).and_then(|rest| rest.first_chunk()).map(|n| u64::from_le_bytes(*n));
        if sealed(4) != Some(self.blocks) || sealed(12) != Some(self.body_bytes) {
            return Err(Error::data(format!(
                "the file has {} blocks with {} bytes and was sealed with {} and {}",
                self.blocks,
                self.body_bytes,
                sealed(4).unwrap_or_default(),
                sealed(12).unwrap_or_default()
            ))
            .hint("a part of it is missing"));
        }
        Ok(())
    }
}

fn split_crc(part: &[u8]) -> Result<(&[u8], u32)> {
    let (rest, crc) =
        part.split_last_chunk::<CRC_BYTES>().ok_or_else(|| Error::bug("a part without CRC32"))?;
    Ok((rest, u32::from_le_bytes(*crc)))
}

fn split_u32(bytes: &[u8]) -> Result<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| Error::bug("a part without length"))?;
    Ok((u32::from_le_bytes(*number), rest))
}

fn refuse_other(found: u32, expected: u32, what: impl FnOnce() -> String) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::data(format!("the CRC32 of {} is {found:08x}, the file says {expected:08x}", what()))
        .hint("its bytes were changed after it was written"))
}

/// Checks an envelope and returns its body.
///
/// # Errors
/// Those of [`Opener::write`] and [`Opener::finish`].
pub fn open(file: &[u8], kind: u8, identity: &str) -> Result<Vec<u8>> {
    let mut opener = Opener::new(kind, identity);
    let mut body = Vec::new();
    opener.write(file, &mut body)?;
    opener.finish()?;
    Ok(body)
}

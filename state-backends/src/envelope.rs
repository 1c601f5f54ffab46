//! The envelope around every file of state: it finds damage, truncation, and a right file in the wrong place, while the
//! file streams by and before a byte of its content is handed on.
//!
//! A header says what the file is, blocks of at most 1 MiB of content follow, each with its length and CRC32, and a
//! trailer seals how many blocks and bytes there were. Every CRC32 covers the header's as well, and that of a block its
//! number: a block that belongs to another place in the file, or to another file, is found. The bytes are described one
//! by one in the format documentation of the project (`docs/formats/state-file.md`).
//!
//! Invariants: [`Opener`] hands on verified bytes only, never holds more than one block of the file, and allocates
//! nothing because of what the file announces.

mod open;
mod seal;

pub use open::{Opener, open};
pub use seal::{Sealer, seal};

use serde::{Deserialize, Serialize};

const MAGIC: [u8; 4] = *b"TIDE";
const VERSION: u16 = 1;

/// Bytes of content in every block but the last.
pub const BLOCK_BYTES: usize = 1 << 20;

/// Magic, version, kind, compression, length of the identity.
const HEADER_BYTES: usize = 10;
/// Length of the content, length as stored.
const BLOCK_HEADER_BYTES: usize = 8;
/// A length of 0, number of blocks, length of the body.
const TRAILER_BYTES: usize = 20;
const CRC_BYTES: usize = 4;

/// How the blocks of a file are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// [Zstandard](https://www.rfc-editor.org/rfc/rfc8878), one frame per block; blocks that it does not make smaller are
    /// stored as they are.
    Zstd = 1,
}

impl Compression {
    fn from_number(number: u8) -> Option<Self> {
        [Self::None, Self::Zstd].into_iter().find(|c| *c as u8 == number)
    }
}

/// The CRC32 of a part of a file whose header has the CRC32 `header`.
fn checksum(header: u32, parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header.to_le_bytes());
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

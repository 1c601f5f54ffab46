//! Writing envelopes.

use super::{BLOCK_BYTES, Compression, MAGIC, VERSION, checksum};
use crate::{Error, Result};

/// Level of compression: the one that zstd itself takes for its default.
const ZSTD_LEVEL: i32 = 3;

/// Puts a body that comes piece by piece into an envelope. Holds at most one block of it.
pub struct Sealer {
    header_crc: u32,
    /// The block that is not full yet.
    block: Vec<u8>,
    blocks: u64,
    body_bytes: u64,
    compressor: Option<zstd::bulk::Compressor<'static>>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { blocks, body_bytes, .. } = self;
        f.debug_struct("Sealer")
            .field("blocks", blocks)
            .field("body_bytes", body_bytes)
            .finish_non_exhaustive()
    }
}

impl Sealer {
    /// Begins a file of `kind`, the caller's numbering, that belongs to the place `identity`; appends its header to `out`.
    ///
    /// # Errors
    /// [`ErrorKind::Bug`](crate::ErrorKind::Bug) if the identity is longer than 65 535 bytes.
    pub fn new(kind: u8, identity: &str, compression: Compression, out: &mut Vec<u8>) -> Result<Self> {
        let identity_bytes = u16::try_from(identity.len())
            .map_err(|_| Error::bug(format!("a file identity of {} bytes", identity.len())))?;
        let compressor = match compression {
            Compression::None => None,
            Compression::Zstd => Some(zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(cannot_compress)?),
        };
        let at = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[kind, compression as u8]);
        out.extend_from_slice(&identity_bytes.to_le_bytes());
        out.extend_from_slice(identity.as_bytes());
        let header_crc = crc32fast::hash(&out[at..]);
        out.extend_from_slice(&header_crc.to_le_bytes());
        Ok(Self { header_crc, block: Vec::new(), blocks: 0, body_bytes: 0, compressor })
    }

    /// Takes the next bytes of the body and appends what is ready to `out`: whole blocks.
    ///
    /// # Errors
    /// [`ErrorKind::Bug`](crate::ErrorKind::Bug) if a block cannot be compressed.
    pub fn write(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<()> {
        while !bytes.is_empty() {
            let fits = bytes.len().min(BLOCK_BYTES - self.block.len());
            let (now, later) = bytes.split_at(fits);
            bytes = later;
            if now.len() == BLOCK_BYTES {
                self.put_block(now, out)?;
                continue;
            }
            self.block.extend_from_slice(now);
            if self.block.len() == BLOCK_BYTES {
                self.put_held(out)?;
            }
        }
        Ok(())
    }

    /// Ends the file: appends the last block and the trailer to `out`.
    ///
    /// # Errors
    /// As [`Sealer::write`].
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<()> {
        if !self.block.is_empty() {
            self.put_held(out)?;
        }
        let at = out.len();
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&self.blocks.to_le_bytes());
        out.extend_from_slice(&self.body_bytes.to_le_bytes());
        let crc = checksum(self.header_crc, &[&out[at..]]);
        out.extend_from_slice(&crc.to_le_bytes());
        Ok(())
    }

    fn put_held(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let mut block = std::mem::take(&mut self.block);
        self.put_block(&block, out)?;
        block.clear();
        self.block = block;
        Ok(())
    }

    fn put_block(&mut self, content: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let at = out.len();
        let compressed = match &mut self.compressor {
            Some(zstd) => Some(zstd.compress(content).map_err(cannot_compress)?),
            None => None,
        };
        let stored = compressed.as_deref().filter(|stored| stored.len() < content.len()).unwrap_or(content);
        // Both are at most BLOCK_BYTES.
        out.extend_from_slice(&(content.len() as u32).to_le_bytes());
        out.extend_from_slice(&(stored.len() as u32).to_le_bytes());
        out.extend_from_slice(stored);
        let crc = checksum(self.header_crc, &[&self.blocks.to_le_bytes(), &out[at..]]);
        out.extend_from_slice(&crc.to_le_bytes());
        self.blocks += 1;
        self.body_bytes += content.len() as u64;
        Ok(())
    }
}

fn cannot_compress(e: std::io::Error) -> Error {
    Error::bug("a block cannot be compressed").with_source(e)
}

/// Puts `body` into an envelope.
///
/// # Errors
/// As [`Sealer::new`] and [`Sealer::write`].
pub fn seal(kind: u8, identity: &str, compression: Compression, body: &[u8]) -> Result<Vec<u8>> {
    let mut file = Vec::new();
    let mut sealer = Sealer::new(kind, identity, compression, &mut file)?;
    sealer.write(body, &mut file)?;
    sealer.finish(&mut file)?;
    Ok(file)
}

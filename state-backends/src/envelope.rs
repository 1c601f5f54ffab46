//! The envelope around every file that Tidegate writes: it finds damage, truncation, and a right file in the wrong
//! place, before a single byte of the content is looked at.
//!
//! Layout, all integers little endian:
//!
//! | offset | size | content |
//! |---|---|---|
//! | 0 | 4 | magic `TIDE` |
//! | 4 | 2 | version of the envelope, 1 |
//! | 6 | 1 | kind of the file; the caller's numbering |
//! | 7 | 1 | 0 |
//! | 8 | 4 | CRC32 (IEEE) of every other byte of the file, in order |
//! | 12 | 2 | length i of the identity |
//! | 14 | 8 | length b of the body |
//! | 22 | i | identity, UTF-8: where the file belongs, for example `job/operator/subtask/checkpoint` |
//! | 22+i | b | body |

use crate::{Error, Result};

const MAGIC: [u8; 4] = *b"TIDE";
const VERSION: u16 = 1;
const CRC_AT: usize = 8;
const HEADER_BYTES: usize = 22;

/// Puts `body` into an envelope.
///
/// # Errors
/// [`ErrorKind::Bug`](crate::ErrorKind::Bug) if the identity is longer than 65 535 bytes.
pub fn seal(kind: u8, identity: &str, body: &[u8]) -> Result<Vec<u8>> {
    seal_with(kind, identity, |out| {
        out.extend_from_slice(body);
        Ok(())
    })
}

/// Puts what `write_body` appends to its buffer into an envelope, without copying it once more.
///
/// # Errors
/// Those of `write_body`, and [`ErrorKind::Bug`](crate::ErrorKind::Bug) if the identity is longer than 65 535 bytes.
pub fn seal_with(
    kind: u8,
    identity: &str,
    write_body: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<Vec<u8>> {
    let identity_bytes = u16::try_from(identity.len())
        .map_err(|_| Error::bug(format!("a file identity of {} bytes", identity.len())))?;
    let mut file = Vec::with_capacity(HEADER_BYTES + identity.len());
    file.extend_from_slice(&MAGIC);
    file.extend_from_slice(&VERSION.to_le_bytes());
    file.extend_from_slice(&[kind, 0]);
    file.extend_from_slice(&[0; 4]);
    file.extend_from_slice(&identity_bytes.to_le_bytes());
    file.extend_from_slice(&[0; 8]);
    file.extend_from_slice(identity.as_bytes());
    let body_at = file.len();
    write_body(&mut file)?;
    let body_bytes = (file.len() - body_at) as u64;
    file[14..22].copy_from_slice(&body_bytes.to_le_bytes());
    let crc = checksum(&file);
    file[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    Ok(file)
}

/// Checks an envelope and returns its body.
///
/// # Errors
/// [`ErrorKind::Data`](crate::ErrorKind::Data), naming what differs: not a Tidegate file, a newer version, a wrong
/// length, a wrong checksum, another kind of file, or the file of another place.
pub fn open<'a>(bytes: &'a [u8], kind: u8, identity: &str) -> Result<&'a [u8]> {
    let (header, content) = bytes
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or_else(|| Error::data(format!("{} bytes are too few for a file of Tidegate", bytes.len())))?;
    let [m0, m1, m2, m3, v0, v1, found_kind, zero, c0, c1, c2, c3, i0, i1, body_length @ ..] = *header;
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
    let identity_bytes = usize::from(u16::from_le_bytes([i0, i1]));
    let body_bytes = u64::from_le_bytes(body_length);
    let announced = (identity_bytes as u64).checked_add(body_bytes);
    if announced != Some(content.len() as u64) {
        return Err(Error::data(format!(
            "the file announces {identity_bytes} + {body_bytes} bytes behind its header and has {}",
            content.len()
        ))
        .hint("it was cut short or something was appended"));
    }
    let expected = u32::from_le_bytes([c0, c1, c2, c3]);
    let found = checksum(bytes);
    if found != expected {
        return Err(Error::data(format!("the file's CRC32 is {found:08x}, it says {expected:08x}"))
            .hint("its bytes were changed after it was written"));
    }
    if zero != 0 || found_kind != kind {
        return Err(Error::data(format!("a file of kind {found_kind} where one of kind {kind} belongs")));
    }
    let (found_identity, body) = content.split_at(identity_bytes);
    if found_identity != identity.as_bytes() {
        let found = String::from_utf8_lossy(found_identity);
        return Err(Error::data(format!("the file of `{found}` lies where that of `{identity}` belongs")));
    }
    Ok(body)
}

/// The CRC32 of all bytes but the four that hold it.
fn checksum(file: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&file[..CRC_AT]);
    hasher.update(&file[CRC_AT + 4..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_file() {
        let file = seal(3, "a/b", b"body").unwrap();
        assert_eq!(&file[..8], b"TIDE\x01\x00\x03\x00");
        assert_eq!(&file[12..22], &[3, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&file[22..], b"a/bbody");
        assert_eq!(open(&file, 3, "a/b").unwrap(), b"body");
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_found() {
        let file = seal(1, "job/op/0/7", b"some content").unwrap();
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut bad = file.clone();
                bad[at] ^= 1 << bit;
                assert!(open(&bad, 1, "job/op/0/7").is_err(), "bit {bit} of byte {at}");
            }
            assert!(open(&file[..at], 1, "job/op/0/7").is_err(), "cut at {at}");
        }
        let longer = [file.as_slice(), &[0]].concat();
        assert!(open(&longer, 1, "job/op/0/7").is_err());
    }

    #[test]
    fn a_right_file_in_the_wrong_place_is_named() {
        let file = seal(1, "job/op/0/7", b"x").unwrap();
        let e = open(&file, 1, "job/op/0/8").unwrap_err().to_string();
        assert!(e.contains("job/op/0/7") && e.contains("job/op/0/8"), "{e}");
        let e = open(&file, 2, "job/op/0/7").unwrap_err().to_string();
        assert!(e.contains("kind 1") && e.contains("kind 2"), "{e}");
        assert!(open(b"PK", 1, "").is_err());
    }
}

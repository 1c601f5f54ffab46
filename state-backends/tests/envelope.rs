//! The envelope of state files: every change is found, and nothing is allocated because a file says so.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use proptest::prelude::*;
use tidegate_state::envelope::{BLOCK_BYTES, Compression, Opener, Sealer, open, seal};
use tidegate_state::{ErrorKind, Result};

// As in docs/formats/state-file.md, each with its CRC32.
const HEADER_BYTES: usize = 10 + 4;
const BLOCK_OVERHEAD: usize = 8 + 4;
const TRAILER_BYTES: usize = 20 + 4;

const PLACE: &str = "job/op/0/7/f";

/// Content of which zstd makes something shorter, and that differs from block to block.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| ((at / 64) % 251) as u8 ^ (at >> 20) as u8).collect()
}

/// The parts that a file comes in.
fn open_in(parts: &[&[u8]], identity: &str) -> Result<Vec<u8>> {
    let mut opener = Opener::new(1, identity);
    let mut body = Vec::new();
    for part in parts {
        opener.write(part, &mut body)?;
    }
    assert_eq!(opener.finish()?, body.len() as u64);
    Ok(body)
}

/// What docs/formats/state-file.md says, byte by byte.
#[test]
fn golden_file() {
    let file = seal(3, "a/b", Compression::None, b"body").unwrap();
    #[rustfmt::skip]
    let golden = [
        b'T', b'I', b'D', b'E', 1, 0, 3, 0, 3, 0, b'a', b'/', b'b',
        0x8d, 0xdd, 0x09, 0xec,
        4, 0, 0, 0, 4, 0, 0, 0, b'b', b'o', b'd', b'y',
        0x5d, 0x06, 0xb6, 0xf5,
        0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0,
        0x1d, 0x78, 0x34, 0xa2,
    ];
    assert_eq!(file, golden);
    assert_eq!(open(&file, 3, "a/b").unwrap(), b"body");
}

/// Only read, not written: another release of zstd may write another frame.
#[test]
fn golden_compressed_block() {
    #[rustfmt::skip]
    let file = [
        0x54, 0x49, 0x44, 0x45, 0x01, 0x00, 0x03, 0x01, 0x03, 0x00, 0x61, 0x2f, 0x62, 0x28, 0x0e, 0x55,
        0x27, 0xe8, 0x03, 0x00, 0x00, 0x13, 0x00, 0x00, 0x00, 0x28, 0xb5, 0x2f, 0xfd, 0x60, 0xe8, 0x02,
        0x4d, 0x00, 0x00, 0x10, 0x07, 0x07, 0x01, 0x00, 0xe3, 0x2b, 0x80, 0x05, 0x6f, 0x06, 0xaa, 0x58,
        0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xe8, 0x03, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0xa6, 0xb1, 0xc3, 0x7b,
    ];
    assert_eq!(open(&file, 3, "a/b").unwrap(), [7; 1000]);
}

#[test]
fn comes_back_whatever_its_length_and_however_it_is_cut() {
    for length in [0, 1, 100, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES] {
        for compression in [Compression::None, Compression::Zstd] {
            let body = content(length);
            let file = seal(1, PLACE, compression, &body).unwrap();
            assert!(open(&file, 1, PLACE).unwrap() == body, "{length} {compression:?}");
            let mut file_in_pieces = Vec::new();
            let mut sealer = Sealer::new(1, PLACE, compression, &mut file_in_pieces).unwrap();
            body.chunks(700_001).for_each(|piece| sealer.write(piece, &mut file_in_pieces).unwrap());
            sealer.finish(&mut file_in_pieces).unwrap();
            assert!(file_in_pieces == file, "{length} {compression:?}");
            for size in [1_000, 1 << 20, 3_000_001] {
                let parts: Vec<&[u8]> = file.chunks(size).collect();
                assert!(open_in(&parts, PLACE).unwrap() == body, "{length} {compression:?} in {size}");
            }
        }
    }
}

#[test]
fn compression_makes_smaller_what_can_be_and_never_larger() {
    let plain = seal(1, PLACE, Compression::None, &content(BLOCK_BYTES)).unwrap().len();
    assert!(seal(1, PLACE, Compression::Zstd, &content(BLOCK_BYTES)).unwrap().len() < plain / 10);
    let mut random = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 56) as u8
    })
    .take(BLOCK_BYTES)
    .collect();
    assert_eq!(seal(1, PLACE, Compression::Zstd, &noise).unwrap().len(), plain);
}

#[test]
fn every_changed_bit_and_every_cut_is_found() {
    for compression in [Compression::None, Compression::Zstd] {
        let file = seal(1, PLACE, compression, &content(200)).unwrap();
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut bad = file.clone();
                bad[at] ^= 1 << bit;
                let e = open(&bad, 1, PLACE).expect_err(&format!("bit {bit} of byte {at}"));
                assert_eq!(e.kind(), ErrorKind::Data);
            }
            assert_eq!(open(&file[..at], 1, PLACE).unwrap_err().kind(), ErrorKind::Data, "cut at {at}");
        }
        let longer = [file.as_slice(), &[0]].concat();
        assert!(open(&longer, 1, PLACE).is_err());
    }
}

/// The pieces of a file of three blocks.
fn pieces(identity: &str) -> (Vec<u8>, Vec<Vec<u8>>, Vec<u8>) {
    let file = seal(1, identity, Compression::None, &content(3 * BLOCK_BYTES)).unwrap();
    let header = HEADER_BYTES + identity.len();
    let trailer = file.len() - TRAILER_BYTES;
    let blocks = file[header..trailer].chunks(BLOCK_BYTES + BLOCK_OVERHEAD);
    (file[..header].to_vec(), blocks.map(<[u8]>::to_vec).collect(), file[trailer..].to_vec())
}

#[test]
fn a_block_that_is_missing_or_in_another_place_is_found() {
    let (header, blocks, trailer) = pieces(PLACE);
    let (_, foreign, foreign_trailer) = pieces("job/op/1/7/f");
    let whole: Vec<&[u8]> = vec![&header, &blocks[0], &blocks[1], &blocks[2], &trailer];
    assert!(open_in(&whole, PLACE).is_ok());
    let found = |parts: &[&[u8]], says: &str| {
        let e = open_in(parts, PLACE).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Data);
        assert!(e.to_string().contains(says), "{e}");
    };
    // Cut at the border of a block, with and without a trailer.
    found(&whole[..3], "without its trailer");
    found(&[&header, &blocks[0], &blocks[1], &trailer], "was sealed with 3");
    found(&[&header, &trailer], "was sealed with 3");
    found(&[&header, &blocks[1], &blocks[0], &blocks[2], &trailer], "block 0");
    found(&[&header, &blocks[0], &blocks[0], &blocks[2], &trailer], "block 1");
    found(&[&header, &blocks[0], &foreign[1], &blocks[2], &trailer], "block 1");
    found(&[&header, &blocks[0], &blocks[1], &blocks[2], &foreign_trailer], "the trailer");
    let twice: Vec<&[u8]> = whole.iter().chain(&whole).copied().collect();
    found(&twice, "follow the end");
}

#[test]
fn a_right_file_in_the_wrong_place_is_named() {
    let file = seal(1, "job/op/0/7", Compression::None, b"x").unwrap();
    let e = open(&file, 1, "job/op/0/8").unwrap_err().to_string();
    assert!(e.contains("job/op/0/7") && e.contains("job/op/0/8"), "{e}");
    let e = open(&file, 2, "job/op/0/7").unwrap_err().to_string();
    assert!(e.contains("kind 1") && e.contains("kind 2"), "{e}");
    assert!(open(b"PK", 1, "").is_err());
}

/// A file whose checksums are right and whose first block is `block`, said to have `content` bytes.
fn hostile(content: u32, block: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    Sealer::new(1, PLACE, Compression::Zstd, &mut file).unwrap();
    let header_crc = u32::from_le_bytes(*file.last_chunk().unwrap());
    let at = file.len();
    file.extend_from_slice(&content.to_le_bytes());
    file.extend_from_slice(&(block.len() as u32).to_le_bytes());
    file.extend_from_slice(block);
    let crc = crc32fast::hash(&[header_crc.to_le_bytes().as_slice(), &[0; 8], &file[at..]].concat());
    file.extend_from_slice(&crc.to_le_bytes());
    file
}

#[test]
fn a_block_never_becomes_longer_than_it_says_nor_than_a_block_may_be() {
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
    let refused = |content: u32, says: &str| {
        let mut body = Vec::new();
        let e = Opener::new(1, PLACE).write(&hostile(content, &bomb), &mut body).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Data);
        assert!(e.to_string().contains(says), "{e}");
        assert!(body.is_empty() && body.capacity() <= 2 * BLOCK_BYTES);
    };
    refused(BLOCK_BYTES as u32, "cannot be decompressed");
    refused(BLOCK_BYTES as u32 + 1, "announces");
    refused(u32::MAX, "announces");
    let short = zstd::bulk::compress(&[0; 1000], 3).unwrap();
    let e = open(&hostile(1001, &short), 1, PLACE).unwrap_err();
    assert!(e.to_string().contains("1000 bytes of content instead of 1001"), "{e}");
}

proptest! {
    #[test]
    fn hostile_bytes_are_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        keep in 0usize..200,
        cut in 1usize..64,
    ) {
        // Behind the beginning of a right file, so that every part is reached.
        let file = seal(1, PLACE, Compression::Zstd, &content(100)).unwrap();
        let start = file.get(..keep).unwrap_or(&file);
        prop_assume!(!file.get(start.len()..).unwrap_or_default().starts_with(&bytes) || bytes.is_empty());
        let bad = [start, &bytes].concat();
        prop_assume!(bad != file);
        let parts: Vec<&[u8]> = bad.chunks(cut).collect();
        prop_assert_eq!(open_in(&parts, PLACE).unwrap_err().kind(), ErrorKind::Data);
    }
}

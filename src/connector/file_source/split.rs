//! A piece of a file to read, and how files are cut into pieces.

use super::input::Compression;
use super::listing::ListedFile;
use serde::{Deserialize, Serialize};

const DEFAULT_SPLIT_BYTES: u64 = 64 << 20;
/// Below this it is not worth cutting a file for the sake of more readers.
const MIN_DEFAULT_SPLIT_BYTES: u64 = 1 << 20;
/// Pieces per reader if there is little input: a slow reader then leaves some of its share to others.
const PIECES_PER_READER: u64 = 4;

/// A range of bytes of one file; the lines that start in it are its records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSplit {
    /// Index of the file among all that were listed.
    pub file: u32,
    /// Path of the file.
    pub path: String,
    /// First byte of the range.
    pub start: u64,
    /// First byte not read yet: the start of a line, or `start` if nothing was read.
    pub position: u64,
    /// First byte behind the range; `u64::MAX` for a compressed file, whose positions are those of its content.
    pub end: u64,
    /// Records read so far.
    pub records: u64,
    /// Length of the file in bytes when it was listed.
    pub length: u64,
    /// Its modification time then, in milliseconds since the Unix epoch.
    pub modified_ms: i64,
}

/// Cuts the listed files into pieces of `split_bytes`, or of a size that suits `parallelism` readers.
pub(super) fn divide(files: Vec<ListedFile>, split_bytes: Option<u64>, parallelism: u32) -> Vec<FileSplit> {
    let total: u64 = files.iter().map(|file| file.length).sum();
    let share = total.div_ceil(u64::from(parallelism.max(1)) * PIECES_PER_READER);
    let piece =
        split_bytes.unwrap_or_else(|| share.clamp(MIN_DEFAULT_SPLIT_BYTES, DEFAULT_SPLIT_BYTES)).max(1);
    let mut splits = Vec::new();
    for (file, listed) in (0u32..).zip(files) {
        let mut push = |start, end| {
            splits.push(FileSplit {
                file,
                path: listed.path.clone(),
                start,
                position: start,
                end,
                records: 0,
                length: listed.length,
                modified_ms: listed.modified_ms,
            });
        };
        if Compression::of(&listed.path) != Compression::None {
            push(0, u64::MAX);
            continue;
        }
        let mut start = 0;
        while start < listed.length {
            let end = start.saturating_add(piece).min(listed.length);
            push(start, end);
            start = end;
        }
    }
    splits
}

//! An open input file: plain, gzip or zstd.

use super::FileSplit;
use crate::error::{Error, Result};
use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::time::UNIX_EPOCH;

/// How a file is compressed, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub(super) fn of(path: &str) -> Self {
        match path.rsplit_once('.') {
            Some((_, ending)) if ending.eq_ignore_ascii_case("gz") => Self::Gzip,
            Some((_, ending)) if ending.eq_ignore_ascii_case("zst") => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// The bytes of a file, or what they decompress to.
pub(super) enum Input {
    Plain(File),
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<File>>>),
    Zstd(Box<zstd::Decoder<'static, BufReader<File>>>),
}

impl Input {
    /// Opens the file of a split if it is still as it was listed.
    pub(super) fn open(split: &FileSplit) -> Result<Self> {
        let path = &split.path;
        let file = File::open(path).map_err(|e| cannot_open(path, e))?;
        let metadata = file.metadata().map_err(|e| cannot_open(path, e))?;
        check_unchanged(split, &metadata)?;
        Ok(match Compression::of(path) {
            Compression::None => Self::Plain(file),
            Compression::Gzip => Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(
                BufReader::with_capacity(64 << 10, file),
            ))),
            Compression::Zstd => {
                Self::Zstd(Box::new(zstd::Decoder::new(file).map_err(|e| read_failed(path, 0, e))?))
            }
        })
    }

    /// Goes to `offset` if that can be done at once; returns where it is now, `offset` or 0.
    pub(super) fn seek(&mut self, offset: u64) -> io::Result<u64> {
        match self {
            Self::Plain(file) => file.seek(SeekFrom::Start(offset)),
            Self::Gzip(_) | Self::Zstd(_) => Ok(0),
        }
    }

    /// Whether positions are those of the file itself.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(input) => input.read(buffer),
            Self::Gzip(input) => input.read(buffer),
            Self::Zstd(input) => input.read(buffer),
        }
    }
}

/// Modification time in milliseconds since the Unix epoch; 0 where the file system keeps none.
pub(super) fn modified_ms(metadata: &Metadata) -> i64 {
    let Ok(time) = metadata.modified() else { return 0 };
    let (duration, sign) = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (after, 1),
        Err(e) => (e.duration(), -1),
    };
    i64::try_from(duration.as_millis()).map_or(0, |ms| sign * ms)
}

fn check_unchanged(split: &FileSplit, metadata: &Metadata) -> Result<()> {
    let (length, modified) = (metadata.len(), modified_ms(metadata));
    if length == split.length && modified == split.modified_ms {
        return Ok(());
    }
    Err(Error::data(format!(
        "input file '{}' has changed since the job started: it had {} bytes and was modified at {} ms, now it has \
         {length} bytes and was modified at {modified} ms; positions in it mean nothing any more",
        split.path, split.length, split.modified_ms
    ))
    .hint("bring the file back with its modification time, or start the job afresh without its checkpoints"))
}

fn cannot_open(path: &str, e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::NotFound => Error::data(format!("input file '{path}' is gone")).hint(
            "bring it back with its modification time, where every taskmanager sees it under this path",
        ),
        io::ErrorKind::PermissionDenied => Error::config(format!("input file '{path}' may not be read"))
            .hint("let the user that runs the taskmanager read it"),
        _ => Error::restart_job(format!("cannot open input file '{path}'")),
    }
    .with_source(e)
}

/// What a failure to read means: broken content is not cured by a restart, a broken disk may be.
pub(super) fn read_failed(path: &str, offset: u64, e: io::Error) -> Error {
    if Compression::of(path) != Compression::None && e.raw_os_error().is_none() {
        return Error::data(format!(
            "compressed input file '{path}' is damaged behind byte {offset} of its content"
        ))
        .with_source(e)
        .hint("replace the file and start the job afresh");
    }
    Error::restart_job(format!("cannot read input file '{path}' at byte {offset}")).with_source(e)
}

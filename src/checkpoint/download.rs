//! Reading files of state: verified while they stream by, a bounded part of them in memory.

use crate::checkpoint::{JobStore, ObjectUpload, StateHandle, UploadSlots, open};
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use futures::{StreamExt, stream};
use object_store::Error as StoreError;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use tidegate_state::envelope::Opener;

/// Bytes of one read.
const READ_BYTES: u64 = 8 << 20;
/// Reads of one file under way at once.
const READS: usize = 4;

/// Where the content of a file goes.
#[derive(Debug)]
pub(crate) enum ReadInto<'a> {
    /// Into this buffer, replacing what is in it.
    Memory(&'a mut Vec<u8>),
    /// Into a local file, replacing what is there.
    Local(&'a Path),
    /// Nowhere: the file is only verified.
    Nowhere,
}

/// Takes the content of one file.
enum Target<'a> {
    Memory(&'a mut Vec<u8>),
    Local(File, &'a Path),
    Nowhere,
}

impl ReadInto<'_> {
    fn begin(&mut self) -> Result<Target<'_>> {
        Ok(match self {
            Self::Memory(buffer) => {
                buffer.clear();
                Target::Memory(buffer)
            }
            Self::Local(path) => Target::Local(File::create(*path).map_err(|e| local(e, path))?, path),
            Self::Nowhere => Target::Nowhere,
        })
    }
}

/// What a full or broken local disk means is for the restart strategy to decide.
fn local(e: std::io::Error, path: &Path) -> Error {
    Error::restart_task("cannot write a local copy of a file of state").with_source(e).at(path.display())
}

impl JobStore {
    /// Reads the file of a handle, which must belong to the place `identity`, and verifies every byte; once more if it is
    /// damaged, as that can be in transit.
    ///
    /// # Errors
    /// Of kind `Data`, naming the file, if it is missing or not what the handle and its envelope say; the store's.
    pub(crate) async fn read_file(
        &self,
        handle: &StateHandle,
        identity: &str,
        mut into: ReadInto<'_>,
    ) -> Result<()> {
        match self.read_once(handle, identity, &mut into).await {
            Err(e) if e.kind() == ErrorKind::Data => self.read_once(handle, identity, &mut into).await,
            result => result,
        }
    }

    async fn read_once(&self, handle: &StateHandle, identity: &str, into: &mut ReadInto<'_>) -> Result<()> {
        let target = into.begin()?;
        self.stream(handle, identity, target).await.map_err(|e| self.named(handle, e))
    }

    async fn stream(&self, handle: &StateHandle, identity: &str, mut target: Target<'_>) -> Result<()> {
        let length = handle.length;
        let whole = length <= READ_BYTES;
        let first = if whole { Some(self.read_whole(handle).await?) } else { None };
        if !whole {
            self.check_length(handle).await?;
        }
        let rest = ranges(length).skip(usize::from(whole));
        let rest = stream::iter(rest).map(|range| self.read_range(handle, range)).buffered(READS);
        let mut pieces = stream::iter(first.map(Ok)).chain(rest);
        let mut crc = crc32fast::Hasher::new();
        let mut opener = Opener::new(handle.kind.envelope_kind(), identity);
        let mut content = Vec::new();
        if let Target::Memory(buffer) = &mut target {
            // The object is there and as long as that; what is compressed becomes longer.
            buffer.reserve_exact(usize::try_from(length).unwrap_or_default());
        }
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            crc.update(&piece);
            match &mut target {
                Target::Memory(buffer) => opener.write(&piece, buffer)?,
                Target::Local(..) | Target::Nowhere => opener.write(&piece, &mut content)?,
            }
            if let Target::Local(file, path) = &mut target {
                file.write_all(&content).map_err(|e| local(e, path))?;
            }
            content.clear();
        }
        opener.finish()?;
        compare_crc(handle, crc)
    }

    /// Copies the file of a handle into another directory, under the same path, and checks length and CRC32.
    ///
    /// # Errors
    /// As [`read_file`](Self::read_file). Nothing is left of a copy that failed.
    pub(crate) async fn copy_file(&self, handle: &StateHandle, to: &Self, slots: &UploadSlots) -> Result<()> {
        let mut copy = ObjectUpload::new(to, handle.path.clone(), slots);
        match self.copy_into(handle, &mut copy).await {
            Ok(()) => copy.finish().await.map(|_| ()),
            Err(e) => {
                copy.abort().await;
                Err(self.named(handle, e))
            }
        }
    }

    async fn copy_into(&self, handle: &StateHandle, copy: &mut ObjectUpload) -> Result<()> {
        self.check_length(handle).await?;
        let mut crc = crc32fast::Hasher::new();
        let pieces = ranges(handle.length).map(|range| self.read_range(handle, range));
        let mut pieces = stream::iter(pieces).buffered(READS);
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            crc.update(&piece);
            copy.buffer().extend_from_slice(&piece);
            copy.send_full().await?;
        }
        compare_crc(handle, crc)
    }

    /// The store's errors say which file it is themselves.
    fn named(&self, handle: &StateHandle, e: Error) -> Error {
        match e.kind() {
            ErrorKind::Data => e.at(self.shown(&handle.path)),
            _ => e,
        }
    }

    /// Reads a file of one piece, once its length is known to be right.
    async fn read_whole(&self, handle: &StateHandle) -> Result<Bytes> {
        let read = || async move {
            let calls = self.calls();
            let found = calls.once(self.start_get(&handle.path)).await;
            let found = found.map_err(|e| self.unreadable(handle, e))?;
            compare_length(handle, found.meta.size)?;
            calls.once(found.bytes()).await.map_err(|e| self.unreadable(handle, e))
        };
        let bytes = self.calls().repeated(read).await?;
        compare_length(handle, bytes.len() as u64)?;
        Ok(bytes)
    }

    async fn check_length(&self, handle: &StateHandle) -> Result<()> {
        let look = || async move {
            let found = self.calls().once(self.head(&handle.path)).await;
            compare_length(handle, found.map_err(|e| self.unreadable(handle, e))?.size)
        };
        self.calls().repeated(look).await
    }

    async fn read_range(&self, handle: &StateHandle, range: Range<u64>) -> Result<Bytes> {
        let read = || {
            let range = range.clone();
            async move {
                let expected = range.end - range.start;
                let bytes = self.calls().once(self.get_range(&handle.path, range)).await;
                let bytes = bytes.map_err(|e| self.unreadable(handle, e))?;
                if bytes.len() as u64 != expected {
                    return Err(Error::data(format!(
                        "{} bytes where {expected} were asked for",
                        bytes.len()
                    )));
                }
                Ok(bytes)
            }
        };
        self.calls().repeated(read).await
    }

    fn unreadable(&self, handle: &StateHandle, e: StoreError) -> Error {
        match e {
            StoreError::NotFound { .. } => Error::data("the file is missing"),
            e => open::classify(e, "cannot read").at(self.shown(&handle.path)),
        }
    }
}

/// The reads that a file of this length takes.
fn ranges(length: u64) -> impl Iterator<Item = Range<u64>> {
    (0..length.div_ceil(READ_BYTES)).map(move |n| n * READ_BYTES..((n + 1) * READ_BYTES).min(length))
}

fn compare_crc(handle: &StateHandle, found: crc32fast::Hasher) -> Result<()> {
    let found = found.finalize();
    if found == handle.crc32 {
        return Ok(());
    }
    Err(Error::data(format!("the file's CRC32 is {found:08x}, the manifest says {:08x}", handle.crc32)))
}

fn compare_length(handle: &StateHandle, found: u64) -> Result<()> {
    if found == handle.length {
        return Ok(());
    }
    Err(Error::data(format!("{found} bytes long instead of {}", handle.length)))
}

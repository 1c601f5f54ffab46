//! A new object on its way into the store, in parts.
//!
//! An object of at most one part is put at once. A larger one goes up in parts, several at a time; parts of all objects of
//! a process together are bounded by [`UploadSlots`], and so is the memory they take. Whatever goes wrong, parts that
//! were stored are given back to the store: an upload that is neither finished nor given up costs money for ever.
//!
//! To begin an upload is tried again here. A part is not: it gets its number when it is first sent, and the clients of stores
//! repeat the request themselves. If the reply to the last request is lost, the object is there or not, which is looked up.

use crate::checkpoint::{CrashPoints, JobStore, open};
use crate::error::{Error, Result};
use bytes::Bytes;
use futures::future::{BoxFuture, Either, select};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use object_store::{Error as StoreError, MultipartUpload};
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of every part but the last. Stores want at least 5 MiB, and some want them equal.
pub(crate) const PART_BYTES: usize = 8 << 20;
/// Parts under way at once in a process.
const PARTS: usize = 8;

/// How many parts may be under way, and how large they are. Clones share the number.
#[derive(Clone, Debug)]
pub(crate) struct UploadSlots {
    free: Arc<Semaphore>,
    part_bytes: usize,
    crash_points: CrashPoints,
}

impl Default for UploadSlots {
    fn default() -> Self {
        Self::of_parts(PART_BYTES)
    }
}

impl UploadSlots {
    /// With parts of another size: few stores take smaller ones.
    pub(crate) fn of_parts(part_bytes: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(PARTS)), part_bytes, crash_points: CrashPoints::none() }
    }

    /// The same, at whose parts a test can strike.
    pub(crate) fn with_crash_points(self, crash_points: CrashPoints) -> Self {
        Self { crash_points, ..self }
    }
}

/// See the module's text.
pub(crate) struct ObjectUpload {
    store: JobStore,
    path: String,
    slots: UploadSlots,
    /// What is not under way yet.
    buffer: Vec<u8>,
    length: u64,
    crc: crc32fast::Hasher,
    parts: Option<Parts>,
}

struct Parts {
    upload: Box<dyn MultipartUpload>,
    running: FuturesUnordered<BoxFuture<'static, Result<(), StoreError>>>,
}

/// What went wrong with an upload.
enum UploadError {
    Store(StoreError),
    Named(Error),
}

impl From<StoreError> for UploadError {
    fn from(e: StoreError) -> Self {
        Self::Store(e)
    }
}

impl ObjectUpload {
    /// Nothing is written before a part is full.
    pub(crate) fn new(store: &JobStore, path: String, slots: &UploadSlots) -> Self {
        Self {
            store: store.clone(),
            path,
            slots: slots.clone(),
            buffer: Vec::new(),
            length: 0,
            crc: crc32fast::Hasher::new(),
            parts: None,
        }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Where the next bytes are appended.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Sends the parts that are full. After an error nothing is left in the store.
    pub(crate) async fn send_full(&mut self) -> Result<()> {
        // An object of exactly one part is put at once.
        while self.buffer.len() > self.slots.part_bytes {
            let rest = self.buffer.split_off(self.slots.part_bytes);
            let part = std::mem::replace(&mut self.buffer, rest);
            if let Err(e) = self.send(part).await {
                self.abort().await;
                return Err(self.named(e));
            }
        }
        Ok(())
    }

    /// Ends the object and returns its length and CRC32. After an error it is not there, or nobody knows; parts of it
    /// are not left.
    pub(crate) async fn finish(mut self) -> Result<(u64, u32)> {
        self.send_full().await?;
        let last = std::mem::take(&mut self.buffer);
        if self.parts.is_none() {
            return self.store.put_file(&self.path, Bytes::from(last)).await;
        }
        match self.complete(last).await {
            Ok(()) => Ok((self.length, self.crc.clone().finalize())),
            Err(e) => {
                self.abort().await;
                Err(self.named(e))
            }
        }
    }

    /// Gives the parts back that are stored. That it fails is no harm but to the bill: the store's own rule for
    /// unfinished uploads is left.
    pub(crate) async fn abort(&mut self) {
        if let Some(Parts { mut upload, running }) = self.parts.take() {
            drop(running);
            _ = self.store.calls().once(upload.abort()).await;
        }
    }

    fn named(&self, e: UploadError) -> Error {
        match e {
            UploadError::Store(e) => open::classify(e, "cannot write").at(self.store.shown(&self.path)),
            UploadError::Named(e) => e,
        }
    }

    async fn start(&self) -> Result<Box<dyn MultipartUpload>, UploadError> {
        let calls = self.store.calls();
        let start = || async {
            let started = calls.once(self.store.start_multipart(&self.path)).await;
            started.map_err(|e| self.named(e.into()))
        };
        calls.repeated(start).await.map_err(UploadError::Named)
    }

    async fn complete(&mut self, last: Vec<u8>) -> Result<(), UploadError> {
        self.send(last).await?;
        let Some(parts) = &mut self.parts else { return Ok(()) };
        while let Some(sent) = parts.running.next().await {
            sent?;
        }
        let calls = self.store.calls();
        let Err(e) = calls.once_for(self.length, parts.upload.complete()).await else { return Ok(()) };
        // Nobody else writes under this name, so what is there as a whole is this object.
        match calls.once(self.store.head(&self.path)).await {
            Ok(found) if found.size == self.length => Ok(()),
            _ => Err(e.into()),
        }
    }

    async fn send(&mut self, part: Vec<u8>) -> Result<(), UploadError> {
        let calls = self.store.calls();
        let started = if self.parts.is_none() { Some(self.start().await?) } else { None };
        let parts = match started {
            Some(upload) => self.parts.insert(Parts { upload, running: FuturesUnordered::new() }),
            None => match &mut self.parts {
                Some(parts) => parts,
                None => return Ok(()),
            },
        };
        let permit = parts.slot(&self.slots).await?;
        self.slots.crash_points.reach("upload.part_k").await.map_err(UploadError::Named)?;
        self.crc.update(&part);
        self.length += part.len() as u64;
        let sending = parts.upload.put_part(part.into());
        parts.running.push(Box::pin(async move {
            let sent = calls.once(sending).await;
            drop(permit);
            sent
        }));
        // It begins when it is asked, and is not asked again before the next part is full.
        Ok(parts.running.next().now_or_never().flatten().transpose().map(|_| ())?)
    }
}

impl Parts {
    /// Waits until one more part may be under way. Own parts go on meanwhile: it may be they that are waited for.
    async fn slot(&mut self, slots: &UploadSlots) -> Result<OwnedSemaphorePermit, StoreError> {
        let mut free = pin!(slots.free.clone().acquire_owned());
        loop {
            let permit = if self.running.is_empty() {
                free.as_mut().await
            } else {
                match select(free.as_mut(), self.running.next()).await {
                    Either::Left((permit, _)) => permit,
                    Either::Right((sent, _)) => {
                        sent.transpose()?;
                        continue;
                    }
                }
            };
            // It is never closed.
            return permit.map_err(|e| StoreError::Generic { store: "checkpoint", source: Box::new(e) });
        }
    }
}

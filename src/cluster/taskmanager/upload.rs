//! From frozen state to files in the checkpoint store.

use crate::checkpoint::{
    CrashPoints, JobStore, ObjectUpload, OperatorHandles, StateFileKind, StateHandle, UploadSlots,
    file_identity, is_transient,
};
use crate::cluster::taskmanager::local_copies::LocalContent;
use crate::cluster::taskmanager::{Blocking, LocalCopies};
use crate::error::{Error, Result};
use crate::id::{Attempt, CheckpointId, JobId, OperatorUid, SubtaskId};
use crate::operator::ChainSnapshot;
use futures::{StreamExt, stream};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_state::envelope::{BLOCK_BYTES, Compression, Sealer};
use tidegate_state::{SnapshotFile, SnapshotSink, SnapshotWriter, codec};

/// Local files of one subtask that are copied at once.
const COPIES: usize = 4;
/// How often the copy of a local file is begun.
const TRIES: u32 = 2;

/// What file names are made of.
#[derive(Debug)]
pub(crate) struct UploadScope {
    /// Random per life of the taskmanager: with the counter it makes names that are never used again.
    pub(crate) incarnation: u64,
    pub(crate) counter: AtomicU64,
    pub(crate) crash_points: CrashPoints,
    /// Bounds what is under way.
    pub(crate) slots: UploadSlots,
    /// Where local files are kept for a restart.
    pub(crate) copies: LocalCopies,
    /// Of files that are not RocksDB's own.
    pub(crate) compression: Compression,
}

impl UploadScope {
    pub(crate) fn new(incarnation: u64, crash_points: CrashPoints) -> Self {
        Self {
            incarnation,
            counter: AtomicU64::new(0),
            slots: UploadSlots::default().with_crash_points(crash_points.clone()),
            crash_points,
            copies: LocalCopies::default(),
            compression: Compression::None,
        }
    }

    /// The same, with local files kept.
    pub(crate) fn with_copies(self, copies: LocalCopies) -> Self {
        Self { copies, ..self }
    }

    /// The same, with parts of another size.
    #[cfg(feature = "testing")]
    pub(crate) fn with_parts_of(self, bytes: usize) -> Self {
        let slots = UploadSlots::of_parts(bytes).with_crash_points(self.crash_points.clone());
        Self { slots, ..self }
    }

    /// The same, with compressed files.
    pub(crate) fn with_compression(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }
}

/// Stores the state of one subtask for one checkpoint. Takes time proportional to what is new: keep it off the task's
/// thread.
#[derive(Debug)]
pub(crate) struct Upload<'a> {
    pub(crate) job: &'a JobId,
    pub(crate) store: &'a JobStore,
    pub(crate) scope: &'a UploadScope,
    pub(crate) blocking: &'a Blocking,
    pub(crate) attempt: Attempt,
    pub(crate) subtask: SubtaskId,
    pub(crate) checkpoint: CheckpointId,
    /// The newest completed periodic checkpoint, see [`Barrier`](crate::checkpoint::Barrier).
    pub(crate) base: Option<CheckpointId>,
}

impl Upload<'_> {
    /// Stores the files of a chain, one after the other. What a failed call has stored is named by no manifest, and
    /// never read.
    pub(crate) fn store(&self, chain: ChainSnapshot) -> Result<Vec<OperatorHandles>> {
        let mut operators = Vec::new();
        for mut snapshot in chain.operators {
            let state = snapshot.encode_state()?;
            let mut states: Vec<String> = state.lists.keys().cloned().collect();
            let mut operator = OperatorUpload { upload: self, uid: &snapshot.uid };
            let mut files = Vec::new();
            if !state.is_empty() {
                let mut body = Vec::new();
                codec::encode(&state, &mut body)?;
                files.push(operator.put(StateFileKind::Operator, &body)?);
            }
            if let Some(keyed) = snapshot.keyed {
                states.extend(keyed.names().map(str::to_owned));
                files.extend(keyed.store(&mut operator)?.files.iter().map(StateHandle::of_keyed));
            }
            if let Some(in_flight) = snapshot.in_flight.transpose()?.filter(|all| !all.channels.is_empty()) {
                let mut body = Vec::new();
                codec::encode(&in_flight, &mut body)?;
                files.push(operator.put(StateFileKind::InFlight, &body)?);
            }
            if !files.is_empty() {
                operators.push(OperatorHandles { operator: snapshot.uid, states, files });
            }
        }
        let files = operators.iter().flat_map(|operator| &operator.files).map(|file| file.id.as_str());
        self.scope.copies.keep_on(self.checkpoint, self.base, files);
        self.blocking.wait(self.scope.crash_points.reach("upload.before_complete"))?;
        Ok(operators)
    }
}

/// Stores files of one operator.
struct OperatorUpload<'a> {
    upload: &'a Upload<'a>,
    uid: &'a OperatorUid,
}

impl OperatorUpload<'_> {
    /// Begins a file under a name of its own.
    fn begin(&self, kind: StateFileKind) -> Result<FileUpload<'_>> {
        let Upload { job, store, scope, attempt, subtask, checkpoint, .. } = *self.upload;
        let number = scope.counter.fetch_add(1, Ordering::Relaxed);
        let id = format!("{subtask}-{}-{:016x}-{number}", attempt.0, scope.incarnation);
        let (suffix, compression) = match kind {
            StateFileKind::Keyed => ("keyed", scope.compression),
            StateFileKind::Operator => ("operator", scope.compression),
            StateFileKind::InFlight => ("in-flight", scope.compression),
            // Its blocks are compressed already.
            StateFileKind::Table => ("table", Compression::None),
        };
        let mut object = ObjectUpload::new(store, format!("chk-{checkpoint}/{id}.{suffix}"), &scope.slots);
        let identity = file_identity(job, self.uid, subtask.index, checkpoint, &id);
        let sealer = Sealer::new(kind.envelope_kind(), &identity, compression, object.buffer())?;
        Ok(FileUpload { upload: self.upload, kind, id, sealer, object })
    }

    /// Stores a file that consists of `body`.
    fn put(&self, kind: StateFileKind, body: &[u8]) -> Result<StateHandle> {
        self.upload.blocking.wait(async {
            let mut file = self.begin(kind)?;
            file.write(body).await?;
            file.finish().await
        })
    }

    /// Stores the copy of a local file; begins anew, under another name, after an error that may pass.
    async fn copy_file(&self, path: &Path) -> Result<SnapshotFile> {
        for _ in 1..TRIES {
            match self.try_copy(path).await {
                Err(e) if is_transient(&e) => {}
                result => return result,
            }
        }
        self.try_copy(path).await
    }

    async fn try_copy(&self, path: &Path) -> Result<SnapshotFile> {
        let local = |e| Error::from(e).at(path.display());
        let mut from = File::open(path).map_err(local)?;
        let mut to = self.begin(StateFileKind::Table)?;
        let mut piece = vec![0; BLOCK_BYTES];
        let (mut length, mut crc) = (0, crc32fast::Hasher::new());
        loop {
            let read = match from.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    to.object.abort().await;
                    return Err(local(e));
                }
            };
            let read = piece.get(..read).unwrap_or_default();
            length += read.len() as u64;
            crc.update(read);
            to.write(read).await?;
        }
        let file = keyed(to.finish().await?)?;
        let content = LocalContent { length, crc32: crc.finalize() };
        self.upload.scope.copies.keep(self.upload.checkpoint, &file.id, path, content);
        Ok(file)
    }
}

fn keyed(handle: StateHandle) -> Result<SnapshotFile> {
    handle.keyed_file().ok_or_else(|| Error::bug("a file of keyed state is of another kind"))
}

impl SnapshotSink for OperatorUpload<'_> {
    fn create(&mut self) -> Result<Box<dyn SnapshotWriter + '_>> {
        Ok(Box::new(KeyedUpload { file: Some(self.begin(StateFileKind::Keyed)?) }))
    }

    fn copy(&mut self, files: &[PathBuf]) -> Result<Vec<SnapshotFile>> {
        let copies = stream::iter(files).map(|path| self.copy_file(path)).buffered(COPIES);
        // All of them come to their end, also if one fails: none is dropped half-way.
        let copies: Vec<_> = self.upload.blocking.wait(copies.collect());
        copies.into_iter().collect()
    }
}

/// A file on its way: sealed while it is written, sent while it is sealed.
struct FileUpload<'a> {
    upload: &'a Upload<'a>,
    kind: StateFileKind,
    id: String,
    sealer: Sealer,
    object: ObjectUpload,
}

impl FileUpload<'_> {
    /// After an error nothing of the file is left.
    async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(BLOCK_BYTES) {
            if let Err(e) = self.sealer.write(piece, self.object.buffer()) {
                self.object.abort().await;
                return Err(e);
            }
            self.object.send_full().await?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<StateHandle> {
        let Upload { scope, checkpoint, .. } = *self.upload;
        let reached = scope.crash_points.reach("upload.file_k").await;
        if let Err(e) = reached.and_then(|()| self.sealer.finish(self.object.buffer())) {
            self.object.abort().await;
            return Err(e);
        }
        let path = self.object.path().to_owned();
        let (length, crc32) = self.object.finish().await?;
        scope.crash_points.reach("upload.applied_no_reply").await?;
        Ok(StateHandle { kind: self.kind, id: self.id, path, length, crc32, checkpoint, written_by: None })
    }
}

/// A file that a backend writes.
struct KeyedUpload<'a> {
    /// Until it is finished.
    file: Option<FileUpload<'a>>,
}

impl SnapshotWriter for KeyedUpload<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(file) = &mut self.file else { return Err(Error::bug("the file is finished")) };
        file.upload.blocking.wait(file.write(bytes))
    }

    fn finish(mut self: Box<Self>) -> Result<SnapshotFile> {
        let Some(file) = self.file.take() else { return Err(Error::bug("the file is finished")) };
        keyed(file.upload.blocking.wait(file.finish())?)
    }
}

/// What a backend has begun and not finished must not stay.
impl Drop for KeyedUpload<'_> {
    fn drop(&mut self) {
        if let Some(file) = &mut self.file {
            file.upload.blocking.wait(file.object.abort());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::CheckpointStore;
    use crate::id::VertexId;
    use crate::operator::{OperatorSnapshot, OperatorState};

    /// A taskmanager that was given up may still be writing while its successor runs the same subtask, of the same attempt
    /// under a new leader even.
    #[test]
    fn no_two_lives_of_a_taskmanager_write_under_one_name() {
        let job = JobId::from("job-1".to_owned());
        let store = CheckpointStore::in_memory().job(&job).unwrap();
        let subtask = SubtaskId { vertex: VertexId(1), index: 0 };
        let upload = |incarnation, watermark| {
            let scope = UploadScope::new(incarnation, CrashPoints::none());
            let state = OperatorState { watermark, ..OperatorState::default() };
            let operator = OperatorSnapshot::new(OperatorUid("count".into()), state);
            let upload = Upload {
                job: &job,
                store: &store,
                scope: &scope,
                blocking: &Blocking::Inline,
                attempt: Attempt(1),
                subtask,
                checkpoint: CheckpointId(7),
                base: None,
            };
            let stored = upload.store(ChainSnapshot { operators: vec![operator] }).unwrap();
            stored.into_iter().flat_map(|o| o.files).map(|f| f.path).collect::<Vec<_>>()
        };
        let (one, other) = (upload(1, 10), upload(2, 20));
        assert_eq!((one.len(), other.len()), (1, 1));
        assert_ne!(one, other);
    }
}

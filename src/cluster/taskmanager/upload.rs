//! From frozen state to files in the checkpoint store.

use crate::checkpoint::{CrashPoints, JobStore, OperatorHandles, StateFileKind, StateHandle};
use crate::cluster::taskmanager::Blocking;
use crate::error::{Error, Result};
use crate::id::{Attempt, CheckpointId, JobId, OperatorUid, SubtaskId};
use crate::operator::ChainSnapshot;
use bytes::Bytes;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_state::{SnapshotFile, SnapshotSink, SnapshotWriter, codec, envelope};

/// Byte in the envelope for a kind of state file.
pub(crate) fn envelope_kind(kind: StateFileKind) -> u8 {
    match kind {
        StateFileKind::Keyed | StateFileKind::KeyedPlain => 1,
        StateFileKind::Operator => 2,
    }
}

/// What the envelope of a state file says it is: the right file in the wrong place is found by it.
pub(crate) fn file_identity(
    job: &JobId,
    operator: &OperatorUid,
    subtask: u32,
    checkpoint: CheckpointId,
    id: &str,
) -> String {
    format!("{job}/{operator}/{subtask}/{checkpoint}/{id}")
}

/// What file names are made of.
#[derive(Debug)]
pub(crate) struct UploadScope {
    /// Random per life of the taskmanager: with the counter it makes names that are never used again.
    pub(crate) incarnation: u64,
    pub(crate) counter: AtomicU64,
    pub(crate) crash_points: CrashPoints,
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
}

impl Upload<'_> {
    /// Stores the files of a chain, one after the other. What a failed call has stored is named by no manifest, and
    /// never read.
    pub(crate) fn store(&self, chain: ChainSnapshot) -> Result<Vec<OperatorHandles>> {
        let mut operators = Vec::new();
        for mut snapshot in chain.operators {
            let state = snapshot.encode_state()?;
            let mut operator = OperatorUpload { upload: self, uid: &snapshot.uid };
            let mut files = Vec::new();
            if !state.is_empty() {
                let mut body = Vec::new();
                codec::encode(&state, &mut body)?;
                files.push(operator.put(StateFileKind::Operator, &body)?);
            }
            if let Some(keyed) = snapshot.keyed {
                files.extend(keyed.store(&mut operator)?.files.iter().map(StateHandle::of_keyed));
            }
            if !files.is_empty() {
                operators.push(OperatorHandles { operator: snapshot.uid, files });
            }
        }
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
    /// Stores a file that consists of `body` in an envelope; as it is if it is plain.
    fn put(&self, kind: StateFileKind, body: &[u8]) -> Result<StateHandle> {
        let Upload { job, store, scope, blocking, attempt, subtask, checkpoint } = *self.upload;
        let number = scope.counter.fetch_add(1, Ordering::Relaxed);
        let id = format!("{subtask}-{attempt}-{:016x}-{number}", scope.incarnation);
        let (suffix, bytes) = match kind {
            StateFileKind::KeyedPlain => ("plain", body.to_vec()),
            StateFileKind::Keyed | StateFileKind::Operator => {
                let identity = file_identity(job, self.uid, subtask.index, checkpoint, &id);
                let suffix = if kind == StateFileKind::Keyed { "keyed" } else { "operator" };
                (suffix, envelope::seal(envelope_kind(kind), &identity, body)?)
            }
        };
        let path = format!("chk-{checkpoint}/{id}.{suffix}");
        let (length, crc32) = blocking.wait(async {
            scope.crash_points.reach("upload.file_k").await?;
            let stored = store.put_file(&path, Bytes::from(bytes)).await?;
            scope.crash_points.reach("upload.applied_no_reply").await?;
            Ok::<_, Error>(stored)
        })?;
        Ok(StateHandle { kind, id, path, length, crc32, checkpoint })
    }

    fn put_keyed(&self, kind: StateFileKind, body: &[u8]) -> Result<SnapshotFile> {
        self.put(kind, body)?
            .keyed_file()
            .ok_or_else(|| Error::bug("a file of keyed state is of another kind"))
    }
}

impl SnapshotSink for OperatorUpload<'_> {
    fn create(&mut self) -> Result<Box<dyn SnapshotWriter + '_>> {
        Ok(Box::new(FileUpload { operator: self, body: Vec::new() }))
    }

    fn copy(&mut self, files: &[PathBuf]) -> Result<Vec<SnapshotFile>> {
        let copy = |path: &PathBuf| {
            let bytes = std::fs::read(path).map_err(|e| Error::from(e).at(path.display()))?;
            self.put_keyed(StateFileKind::KeyedPlain, &bytes)
        };
        files.iter().map(copy).collect()
    }
}

/// A file with an envelope on its way.
struct FileUpload<'a> {
    operator: &'a OperatorUpload<'a>,
    body: Vec<u8>,
}

impl SnapshotWriter for FileUpload<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.body.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SnapshotFile> {
        self.operator.put_keyed(StateFileKind::Keyed, &self.body)
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
            let scope =
                UploadScope { incarnation, counter: AtomicU64::new(0), crash_points: CrashPoints::none() };
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
            };
            let stored = upload.store(ChainSnapshot { operators: vec![operator] }).unwrap();
            stored.into_iter().flat_map(|o| o.files).map(|f| f.path).collect::<Vec<_>>()
        };
        let (one, other) = (upload(1, 10), upload(2, 20));
        assert_eq!((one.len(), other.len()), (1, 1));
        assert_ne!(one, other);
    }
}

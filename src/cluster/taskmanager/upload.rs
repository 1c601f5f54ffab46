//! From frozen state to files in the checkpoint store.

use crate::checkpoint::{CrashPoints, JobStore, OperatorHandles, StateFileKind, StateHandle};
use crate::error::Result;
use crate::id::{Attempt, CheckpointId, JobId, OperatorUid, SubtaskId};
use crate::operator::ChainSnapshot;
use bytes::Bytes;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_state::{codec, envelope};

/// One state file, ready to be stored.
#[derive(Debug)]
pub(crate) struct EncodedFile {
    operator: OperatorUid,
    kind: StateFileKind,
    bytes: Vec<u8>,
}

/// Byte in the envelope for a kind of state file.
pub(crate) fn envelope_kind(kind: StateFileKind) -> u8 {
    match kind {
        StateFileKind::Keyed => 1,
        StateFileKind::Operator => 2,
    }
}

/// What the envelope of a state file says it is: the right file in the wrong place is found by it.
pub(crate) fn file_identity(
    job: &JobId,
    operator: &OperatorUid,
    subtask: u32,
    checkpoint: CheckpointId,
) -> String {
    format!("{job}/{operator}/{subtask}/{checkpoint}")
}

/// Serialises frozen state. Takes time proportional to the state: keep it off the task's thread.
pub(crate) fn encode_snapshot(
    job: &JobId,
    subtask: SubtaskId,
    checkpoint: CheckpointId,
    chain: ChainSnapshot,
) -> Result<Vec<EncodedFile>> {
    let mut files = Vec::new();
    for snapshot in chain.operators {
        let identity = file_identity(job, &snapshot.uid, subtask.index, checkpoint);
        let seal = |kind: StateFileKind, body: &[u8]| envelope::seal(envelope_kind(kind), &identity, body);
        if !snapshot.state.is_empty() {
            let mut body = Vec::new();
            codec::encode(&snapshot.state, &mut body)?;
            let bytes = seal(StateFileKind::Operator, &body)?;
            files.push(EncodedFile { operator: snapshot.uid.clone(), kind: StateFileKind::Operator, bytes });
        }
        if let Some(keyed) = snapshot.keyed {
            let mut body = Vec::new();
            keyed.write(&mut body)?;
            let bytes = seal(StateFileKind::Keyed, &body)?;
            files.push(EncodedFile { operator: snapshot.uid, kind: StateFileKind::Keyed, bytes });
        }
    }
    Ok(files)
}

/// What file names are made of.
#[derive(Debug)]
pub(crate) struct UploadScope {
    /// Random per life of the taskmanager: with the counter it makes names that are never used again.
    pub(crate) incarnation: u64,
    pub(crate) counter: AtomicU64,
    pub(crate) crash_points: CrashPoints,
}

/// Stores the files of one subtask's snapshot, one after the other.
///
/// # Cancel safety
/// Dropping the future leaves objects that no manifest names; they are never read.
pub(crate) async fn upload_files(
    store: &JobStore,
    scope: &UploadScope,
    attempt: Attempt,
    subtask: SubtaskId,
    checkpoint: CheckpointId,
    files: Vec<EncodedFile>,
) -> Result<Vec<OperatorHandles>> {
    let mut handles: Vec<OperatorHandles> = Vec::new();
    for file in files {
        scope.crash_points.reach("upload.file_k").await?;
        let number = scope.counter.fetch_add(1, Ordering::Relaxed);
        let suffix = match file.kind {
            StateFileKind::Keyed => "keyed",
            StateFileKind::Operator => "operator",
        };
        let path =
            format!("chk-{checkpoint}/{subtask}-{attempt}-{:016x}-{number}.{suffix}", scope.incarnation);
        let (length, crc32) = store.put_file(&path, Bytes::from(file.bytes)).await?;
        let handle = StateHandle { kind: file.kind, path, length, crc32 };
        scope.crash_points.reach("upload.applied_no_reply").await?;
        match handles.last_mut().filter(|h| h.operator == file.operator) {
            Some(last) => last.files.push(handle),
            None => handles.push(OperatorHandles { operator: file.operator, files: vec![handle] }),
        }
    }
    scope.crash_points.reach("upload.before_complete").await?;
    Ok(handles)
}

//! From files in the checkpoint store to the state one new subtask starts from.

use crate::checkpoint::{CrashPoints, JobStore, OperatorHandles, StateFileKind, StateHandle};
use crate::cluster::message::{OperatorRestore, SubtaskRestore};
use crate::cluster::taskmanager::upload::{envelope_kind, file_identity};
use crate::error::{Error, Result};
use crate::graph::{RestoredOperator, Vertex};
use crate::id::OperatorUid;
use crate::operator::{OperatorState, RestoredState};
use bytes::Bytes;
use std::collections::BTreeMap;
use tidegate_state::{KeyGroupRange, RestoredKeyedState, codec, envelope, range_of};

/// Reads, checks and deals out what subtask `index` of `vertex` starts from. Every byte is verified before any of it
/// is decoded.
pub(crate) async fn load_restored(
    store: &JobStore,
    crash_points: &CrashPoints,
    vertex: &Vertex,
    index: u32,
    restore: &SubtaskRestore,
) -> Result<BTreeMap<OperatorUid, RestoredOperator>> {
    let loader = Loader { store: store.for_base(&restore.base, &[])?, crash_points, restore };
    let mut restored = BTreeMap::new();
    for operator in &restore.operators {
        if !vertex.operators.iter().any(|o| o.uid == operator.operator) {
            continue;
        }
        let place =
            || format!("restoring operator '{}' from checkpoint {}", operator.operator, restore.checkpoint);
        let operator_state = loader.operator_states(operator).await.map_err(|e| e.at(place()))?;
        let state =
            RestoredState::deal(operator_state, index, vertex.parallelism).map_err(|e| e.at(place()))?;
        let range = range_of(index, vertex.parallelism, operator.max_parallelism)?;
        let keyed_files = loader.keyed_files(operator, range).await.map_err(|e| e.at(place()))?;
        restored.insert(operator.operator.clone(), RestoredOperator { state, keyed_files });
    }
    Ok(restored)
}

struct Loader<'a> {
    store: JobStore,
    crash_points: &'a CrashPoints,
    restore: &'a SubtaskRestore,
}

impl Loader<'_> {
    /// One per old subtask, in order; a subtask without a file had nothing to keep.
    async fn operator_states(&self, operator: &OperatorRestore) -> Result<Vec<OperatorState>> {
        let mut states = Vec::new();
        for (old, handles) in operator.subtasks.iter().enumerate() {
            let mut state = OperatorState::default();
            for handle in handles.files.iter().filter(|f| f.kind == StateFileKind::Operator) {
                let bytes = self.read(handle).await?;
                let body = self.open(operator, old, handle, &bytes)?;
                state = codec::decode(body).map_err(|e| e.at(&handle.path))?;
            }
            states.push(state);
        }
        Ok(states)
    }

    async fn keyed_files(
        &self,
        operator: &OperatorRestore,
        range: KeyGroupRange,
    ) -> Result<Vec<RestoredKeyedState>> {
        let mut files = Vec::new();
        let old_parallelism = operator.subtasks.len() as u32;
        for (old, OperatorHandles { files: handles, .. }) in operator.subtasks.iter().enumerate() {
            if !range_of(old as u32, old_parallelism, operator.max_parallelism)?.overlaps(range) {
                continue;
            }
            for handle in handles.iter().filter(|f| f.kind == StateFileKind::Keyed) {
                let bytes = self.read(handle).await?;
                let body = self.open(operator, old, handle, &bytes)?;
                files.push(RestoredKeyedState::from(bytes.slice_ref(body)));
            }
        }
        Ok(files)
    }

    async fn read(&self, handle: &StateHandle) -> Result<Bytes> {
        self.crash_points.reach("restore.file_k").await?;
        self.store.get_file(handle).await
    }

    fn open<'b>(
        &self,
        operator: &OperatorRestore,
        old_subtask: usize,
        handle: &StateHandle,
        bytes: &'b Bytes,
    ) -> Result<&'b [u8]> {
        let SubtaskRestore { written_by, checkpoint, .. } = self.restore;
        let identity = file_identity(written_by, &operator.operator, old_subtask as u32, *checkpoint);
        let opened = envelope::open(bytes, envelope_kind(handle.kind), &identity);
        opened.map_err(|e| {
            Error::data("a state file is not what the manifest says").with_source(e).at(&handle.path)
        })
    }
}

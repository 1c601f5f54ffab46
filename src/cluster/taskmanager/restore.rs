//! From files in the checkpoint store to the state one new subtask starts from.

use crate::checkpoint::{CrashPoints, JobStore, OperatorHandles, ReadInto, StateFileKind};
use crate::cluster::message::{OperatorRestore, SubtaskRestore};
use crate::cluster::taskmanager::stored::{ReadFrom, StoredSnapshot};
use crate::cluster::taskmanager::{Blocking, LocalCopies};
use crate::error::Result;
use crate::graph::{RestoredOperator, Vertex};
use crate::id::{JobId, OperatorUid};
use crate::operator::{OperatorState, RestoredState};
use std::collections::BTreeMap;
use std::sync::Arc;
use tidegate_state::{KeyGroupRange, SnapshotSource, codec, range_of};

/// Reads, checks and deals out what subtask `index` of `vertex` starts from. Keyed state is left for its backend to
/// read. May block.
pub(crate) fn load_restored(
    store: &JobStore,
    blocking: &Blocking,
    crash_points: &CrashPoints,
    copies: &LocalCopies,
    vertex: &Vertex,
    index: u32,
    restore: &SubtaskRestore,
) -> Result<BTreeMap<OperatorUid, RestoredOperator>> {
    let loader =
        Loader { store: store.for_base(&restore.base, &[])?, blocking, crash_points, copies, restore };
    let mut restored = BTreeMap::new();
    for operator in &restore.operators {
        if !vertex.operators.iter().any(|o| o.uid == operator.operator) {
            continue;
        }
        let place =
            || format!("restoring operator '{}' from checkpoint {}", operator.operator, restore.checkpoint);
        let operator_state = blocking.wait(loader.operator_states(operator)).map_err(|e| e.at(place()))?;
        let state = RestoredState::deal(operator_state, index, vertex.parallelism);
        let range = range_of(index, vertex.parallelism, operator.max_parallelism)?;
        let keyed = loader.keyed(operator, range).map_err(|e| e.at(place()))?;
        restored.insert(operator.operator.clone(), RestoredOperator { state, keyed });
    }
    Ok(restored)
}

struct Loader<'a> {
    store: JobStore,
    blocking: &'a Blocking,
    crash_points: &'a CrashPoints,
    copies: &'a LocalCopies,
    restore: &'a SubtaskRestore,
}

impl Loader<'_> {
    /// One per old subtask, in order; a subtask without a file had nothing to keep.
    async fn operator_states(&self, operator: &OperatorRestore) -> Result<Vec<OperatorState>> {
        let mut states = Vec::new();
        for (old, handles) in (0..).zip(&operator.subtasks) {
            let written_by = &self.restore.written_by;
            let read = read_operator_state(&self.store, self.crash_points, written_by, old, handles);
            states.push(read.await?);
        }
        Ok(states)
    }

    /// The snapshots of the old subtasks that have key groups of `range`.
    fn keyed(
        &self,
        operator: &OperatorRestore,
        range: KeyGroupRange,
    ) -> Result<Vec<Arc<dyn SnapshotSource>>> {
        let SubtaskRestore { written_by, checkpoint, base, .. } = self.restore;
        let from = ReadFrom {
            store: &self.store,
            blocking: self.blocking,
            crash_points: self.crash_points,
            written_by,
            base: base.is_empty().then_some(*checkpoint),
            copies: self.copies,
        };
        let mut snapshots: Vec<Arc<dyn SnapshotSource>> = Vec::new();
        let old_parallelism = operator.subtasks.len() as u32;
        for (old, OperatorHandles { files, .. }) in operator.subtasks.iter().enumerate() {
            let old = old as u32;
            if range_of(old, old_parallelism, operator.max_parallelism)?.overlaps(range)
                && let Some(snapshot) = StoredSnapshot::new(&from, &operator.operator, old, files)
            {
                snapshots.push(Arc::new(snapshot));
            }
        }
        Ok(snapshots)
    }
}

/// What an old subtask has written for an operator, besides keyed state. No file means that it had nothing to keep.
pub(crate) async fn read_operator_state(
    store: &JobStore,
    crash_points: &CrashPoints,
    written_by: &JobId,
    old_subtask: u32,
    handles: &OperatorHandles,
) -> Result<OperatorState> {
    let mut state = OperatorState::default();
    for handle in handles.files.iter().filter(|f| f.kind == StateFileKind::Operator) {
        crash_points.reach("restore.file_k").await?;
        let identity = handle.identity(written_by, &handles.operator, old_subtask);
        let mut body = Vec::new();
        store.read_file(handle, &identity, ReadInto::Memory(&mut body)).await?;
        state = codec::decode(&body).map_err(|e| e.at(&handle.path))?;
    }
    Ok(state)
}

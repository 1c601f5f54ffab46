//! From files in the checkpoint store to the state one new subtask starts from.

use crate::checkpoint::{CrashPoints, JobStore, OperatorHandles, ReadInto, StateFileKind};
use crate::cluster::message::{OperatorRestore, SubtaskRestore};
use crate::cluster::taskmanager::stored::{ReadFrom, StoredSnapshot};
use crate::cluster::taskmanager::{Blocking, LocalCopies};
use crate::error::{Error, Result};
use crate::graph::{RestoredOperator, Vertex};
use crate::id::{JobId, OperatorUid};
use crate::operator::{OperatorState, RestoredState};
use crate::task::{InFlight, NewSubtask, deal};
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
        let is_first = vertex.operators.first().is_some_and(|first| first.uid == operator.operator);
        let to = NewSubtask {
            index,
            parallelism: vertex.parallelism,
            key_groups: range,
            max_parallelism: operator.max_parallelism,
        };
        let in_flight = loader.in_flight(operator, is_first, to);
        let in_flight = blocking.wait(in_flight).map_err(|e| e.at(place()))?;
        restored.insert(operator.operator.clone(), RestoredOperator { state, keyed, in_flight });
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

    /// What of the records in flight to the old subtasks goes to a new one.
    async fn in_flight(
        &self,
        operator: &OperatorRestore,
        is_first: bool,
        to: NewSubtask,
    ) -> Result<Vec<InFlight>> {
        let is_rescaled = operator.subtasks.len() as u32 != to.parallelism;
        let mut all = Vec::new();
        for (old, handles) in (0..).zip(&operator.subtasks) {
            if is_rescaled || old == to.index {
                let SubtaskRestore { written_by, .. } = self.restore;
                all.extend(read_in_flight(&self.store, self.crash_points, written_by, old, handles).await?);
            }
        }
        if !all.is_empty() && !is_first {
            return Err(Error::config(
                "records were in flight to it, but now it is chained to what produces them",
            )
            .hint(
                "start a new chain at this operator, or take a savepoint with the program that wrote the \
                     checkpoint: it has no records in flight",
            ));
        }
        if is_rescaled { deal(all, to) } else { Ok(all) }
    }

    /// The snapshots of the old subtasks that have key groups of `range`.
    fn keyed(
        &self,
        operator: &OperatorRestore,
        range: KeyGroupRange,
    ) -> Result<Vec<Arc<dyn SnapshotSource>>> {
        let SubtaskRestore { written_by, shared_as, .. } = self.restore;
        let from = ReadFrom {
            store: &self.store,
            blocking: self.blocking,
            crash_points: self.crash_points,
            written_by,
            base: *shared_as,
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

/// The records that were in flight to an old subtask, if there were any.
pub(crate) async fn read_in_flight(
    store: &JobStore,
    crash_points: &CrashPoints,
    written_by: &JobId,
    old_subtask: u32,
    handles: &OperatorHandles,
) -> Result<Option<InFlight>> {
    let Some(handle) = handles.files.iter().find(|f| f.kind == StateFileKind::InFlight) else {
        return Ok(None);
    };
    crash_points.reach("restore.file_k").await?;
    let identity = handle.identity(written_by, &handles.operator, old_subtask);
    let mut body = Vec::new();
    store.read_file(handle, &identity, ReadInto::Memory(&mut body)).await?;
    codec::decode(&body).map(Some).map_err(|e| e.at(&handle.path))
}

//! A restored checkpoint of another job becomes the job's own, without its files being read or written again.
//!
//! The store copies them by itself: a local directory links them, S3 copies within the service. They keep their path below the
//! job's directory and the identity of their first writer, see [`StateHandle::written_by`]. From then on neither job needs
//! the other's files. What an interrupted copy leaves lies in directories of checkpoints below the job's first own one, where
//! the next sweep finds it.

use crate::checkpoint::{
    CrashPoints, EnumeratorState, JobStore, Manifest, OperatorState, Permit, StateHandle,
};
use crate::error::Result;
use crate::graph::JobGraph;
use crate::id::{CheckpointId, JobId, LeaderEpoch, OperatorUid};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeSet;

/// Files that are copied at once.
const COPIES: usize = 16;

/// Files to copy into the job's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inherit {
    /// The leader that asks.
    pub leader_epoch: LeaderEpoch,
    /// The directory of the job that has them.
    pub from: String,
    /// Their paths, which stay the same.
    pub paths: BTreeSet<String>,
}

/// Copies the files. Repeating it is fine.
///
/// # Errors
/// Fenced if there is a later leader; of kind `Data`, naming the file, if one is missing; the store's.
pub(crate) async fn inherit(store: &JobStore, crash: &CrashPoints, request: &Inherit) -> Result<()> {
    Permit::of_leader(store, request.leader_epoch).await?;
    let source = store.for_base(&request.from, &[])?;
    if source.location() == store.location() {
        return Ok(());
    }
    let copies: Vec<_> = request.paths.iter().map(|path| copy(store, crash, &source, path)).collect();
    stream::iter(copies).buffer_unordered(COPIES).try_collect::<()>().await?;
    crash.reach("inherit.copied").await
}

async fn copy(store: &JobStore, crash: &CrashPoints, source: &JobStore, path: &str) -> Result<()> {
    crash.reach("inherit.k_of_n").await?;
    store.copy_from(source, path).await
}

/// The restored checkpoint as one of `job`: what `graph` has no operator for was left behind.
pub(crate) fn inherited(
    restored: &Manifest,
    graph: &JobGraph,
    job: &JobId,
    checkpoint: CheckpointId,
) -> Manifest {
    let has = |uid: &OperatorUid| graph.operators().any(|(_, operator)| operator.uid == *uid);
    let mut operators: Vec<OperatorState> =
        restored.operators.iter().filter(|o| has(&o.uid)).cloned().collect();
    let handles = operators.iter_mut().flat_map(|o| &mut o.subtasks).flat_map(|s| &mut s.files);
    handles.for_each(|file: &mut StateHandle| {
        file.written_by.get_or_insert_with(|| restored.job.clone());
    });
    let enumerators: Vec<EnumeratorState> =
        restored.enumerators.iter().filter(|e| has(&e.operator)).cloned().collect();
    Manifest {
        job: job.clone(),
        checkpoint,
        operators,
        enumerators,
        subtasks: Vec::new(),
        location: None,
        ..restored.clone()
    }
}

//! Restoring: which state of a checkpoint goes to which subtask of a graph.
//!
//! Pure. State is matched by operator uid; nothing is dropped, adopted or reinterpreted silently.

use crate::checkpoint::comparison::Comparison;
use crate::checkpoint::{CheckpointKind, Manifest, OperatorState};
use crate::cluster::message::{OperatorRestore, SubtaskRestore};
use crate::error::Result;
use crate::graph::{JobGraph, OperatorKind};
use crate::id::{CheckpointId, OperatorUid, SubtaskId};
use std::collections::BTreeMap;

/// A checkpoint to start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreFrom {
    /// What it consists of.
    pub manifest: Manifest,
    /// Where the job directory is to which its handles are relative; empty for this job's own.
    pub base: String,
    /// Whether that is in the store of this job, which can then copy the files by itself.
    pub shares_store: bool,
}

impl RestoreFrom {
    /// Whether the job can make the checkpoint its own. A savepoint is in a form that no checkpoint shares files with.
    pub(crate) fn can_be_inherited(&self) -> bool {
        self.shares_store && self.manifest.kind == CheckpointKind::Periodic
    }
}

/// What every part of a job starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestorePlan {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// Per subtask; every subtask of the graph is listed.
    pub subtasks: BTreeMap<SubtaskId, SubtaskRestore>,
    /// Per source that has stored enumerator state.
    pub enumerators: BTreeMap<OperatorUid, Vec<u8>>,
    /// Operators that take over the stored number of key groups instead of the graph's.
    pub key_groups: BTreeMap<OperatorUid, u16>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

impl RestorePlan {
    /// The graph with the adopted numbers of key groups.
    pub fn adopt(&self, graph: &JobGraph) -> JobGraph {
        graph.with_key_groups(|uid| self.key_groups.get(uid).copied())
    }

    /// The job will have the files as a checkpoint of its own.
    pub(crate) fn share_as(&mut self, checkpoint: CheckpointId) {
        self.subtasks.values_mut().for_each(|restore| restore.shared_as = Some(checkpoint));
    }
}

/// Plans starting `graph` from `manifest`, whose handles are relative to `base` (empty: the job's own directory).
pub fn plan_restore(
    manifest: &Manifest,
    base: &str,
    graph: &JobGraph,
    allow_non_restored: bool,
) -> Result<RestorePlan> {
    plan(manifest, base, graph, allow_non_restored).map_err(|e| {
        e.at(format!("cannot restore checkpoint {} of job {}", manifest.checkpoint, manifest.job))
    })
}

fn plan(manifest: &Manifest, base: &str, graph: &JobGraph, allow_non_restored: bool) -> Result<RestorePlan> {
    let comparison = Comparison::of(manifest, graph, allow_non_restored);
    if let Some(refusal) = comparison.refusal() {
        return Err(refusal);
    }
    let key_groups = comparison.adopted();
    let stored: BTreeMap<&OperatorUid, &OperatorState> =
        manifest.operators.iter().map(|o| (&o.uid, o)).collect();
    let mut subtasks = BTreeMap::new();
    for vertex in &graph.vertices {
        let operators: Vec<_> =
            vertex.operators.iter().filter_map(|o| stored.get(&o.uid)).map(|s| restore_of(s)).collect();
        for index in 0..vertex.parallelism {
            let restore = SubtaskRestore {
                checkpoint: manifest.checkpoint,
                written_by: manifest.job.clone(),
                base: base.to_owned(),
                shared_as: base.is_empty().then_some(manifest.checkpoint),
                operators: operators.clone(),
            };
            subtasks.insert(SubtaskId { vertex: vertex.id, index }, restore);
        }
    }
    let enumerators = manifest
        .enumerators
        .iter()
        .filter(|e| graph.operators().any(|(_, o)| o.uid == e.operator && o.kind == OperatorKind::Source))
        .map(|e| (e.operator.clone(), e.state.clone()))
        .collect();
    let warnings = comparison.warning().into_iter().collect();
    Ok(RestorePlan { checkpoint: manifest.checkpoint, subtasks, enumerators, key_groups, warnings })
}

fn restore_of(state: &OperatorState) -> OperatorRestore {
    OperatorRestore {
        operator: state.uid.clone(),
        max_parallelism: state.max_parallelism,
        subtasks: state.subtasks.clone(),
    }
}

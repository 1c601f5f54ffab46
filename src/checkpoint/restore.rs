//! Restoring: which state of a checkpoint goes to which subtask of a graph.
//!
//! Pure. State is matched by operator uid; nothing is dropped, adopted or reinterpreted silently.

use crate::checkpoint::{Manifest, OperatorState};
use crate::cluster::message::{OperatorRestore, SubtaskRestore};
use crate::error::{Error, Result};
use crate::graph::{JobGraph, OperatorKind};
use crate::id::{CheckpointId, OperatorUid, SubtaskId};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A checkpoint to start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreFrom {
    /// What it consists of.
    pub manifest: Manifest,
    /// Where the job directory is to which its handles are relative; empty for this job's own.
    pub base: String,
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
        let mut graph = graph.clone();
        for operator in graph.vertices.iter_mut().flat_map(|v| v.operators.iter_mut()) {
            if let Some(&groups) = self.key_groups.get(&operator.uid) {
                operator.max_parallelism = groups;
            }
        }
        graph
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
    let stored: BTreeMap<&OperatorUid, &OperatorState> =
        manifest.operators.iter().map(|o| (&o.uid, o)).collect();
    let mut warnings = ownerless(manifest, graph, allow_non_restored)?;
    let mut key_groups = BTreeMap::new();
    for (vertex, operator) in graph.operators() {
        let Some(state) = stored.get(&operator.uid) else {
            warnings.push(format!(
                "operator {} ({}) has no state in the checkpoint and starts empty",
                operator.uid, operator.name
            ));
            continue;
        };
        if state.max_parallelism != operator.max_parallelism {
            if operator.max_parallelism_is_explicit && state.has_state() {
                return Err(Error::config(format!(
                    "operator {} ({}): its state has {} key groups, the program asks for {}",
                    operator.uid, operator.name, state.max_parallelism, operator.max_parallelism
                ))
                .hint(format!("set its max parallelism to {} or leave it unset", state.max_parallelism)));
            }
            if !operator.max_parallelism_is_explicit {
                key_groups.insert(operator.uid.clone(), state.max_parallelism);
            }
        }
        let limit = key_groups.get(&operator.uid).copied().unwrap_or(operator.max_parallelism);
        if vertex.parallelism > u32::from(limit) {
            return Err(Error::config(format!(
                "operator {} ({}): parallelism {} exceeds the {limit} key groups of its state",
                operator.uid, operator.name, vertex.parallelism
            ))
            .hint(format!("run it with at most {limit} subtasks")));
        }
    }
    let mut subtasks = BTreeMap::new();
    for vertex in &graph.vertices {
        let operators: Vec<_> =
            vertex.operators.iter().filter_map(|o| stored.get(&o.uid)).map(|s| restore_of(s)).collect();
        for index in 0..vertex.parallelism {
            let restore = SubtaskRestore {
                checkpoint: manifest.checkpoint,
                written_by: manifest.job.clone(),
                base: base.to_owned(),
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
    Ok(RestorePlan { checkpoint: manifest.checkpoint, subtasks, enumerators, key_groups, warnings })
}

fn restore_of(state: &OperatorState) -> OperatorRestore {
    OperatorRestore {
        operator: state.uid.clone(),
        max_parallelism: state.max_parallelism,
        subtasks: state.subtasks.clone(),
    }
}

/// Refuses, or if allowed warns about, state that no operator of the graph takes.
fn ownerless(manifest: &Manifest, graph: &JobGraph, allowed: bool) -> Result<Vec<String>> {
    let has = |uid: &OperatorUid, source: bool| {
        graph.operators().any(|(_, o)| o.uid == *uid && (!source || o.kind == OperatorKind::Source))
    };
    let mut left: BTreeMap<&OperatorUid, &str> = BTreeMap::new();
    for op in manifest.operators.iter().filter(|o| o.has_state() && !has(&o.uid, false)) {
        left.insert(&op.uid, &op.name);
    }
    for e in manifest.enumerators.iter().filter(|e| !has(&e.operator, true)) {
        let name = manifest.operators.iter().find(|o| o.uid == e.operator).map_or("", |o| o.name.as_str());
        left.insert(&e.operator, name);
    }
    if left.is_empty() {
        return Ok(Vec::new());
    }
    if allowed {
        return Ok(left
            .iter()
            .map(|(uid, name)| format!("state of {uid} ({name}) is left behind"))
            .collect());
    }
    let mut table = String::from("the checkpoint holds state that no operator of the program takes\n");
    // Writing to a string cannot fail.
    let _ = writeln!(table, "  {:<13} {:<32} name", "", "uid");
    for (uid, name) in &left {
        let _ = writeln!(table, "  {:<13} {:<32} {name}", "without owner", uid.as_str());
    }
    for (_, o) in graph.operators() {
        let derived = if o.uid_is_explicit { "" } else { " (uid derived from its position)" };
        let _ = writeln!(table, "  {:<13} {:<32} {}{derived}", "in program", o.uid.as_str(), o.name);
    }
    Err(Error::config(table.trim_end().to_owned()).hint(
        "give the operators the uids of their state, or leave it behind with --allow-non-restored-state",
    ))
}

//! A checkpoint under way: who still has to acknowledge, and the manifest that comes of it.

use crate::checkpoint::history::Brought;
use crate::checkpoint::manifest::is_safe_path;
use crate::checkpoint::{
    Barrier, EnumeratorState, MANIFEST_FORMAT, Manifest, OperatorHandles, OperatorState, SavepointRequest,
    SubtaskSnapshot, SubtaskTimes, SubtaskTimings,
};
use crate::graph::{JobGraph, Vertex};
use crate::id::{Attempt, JobId, LeaderEpoch, SubtaskId};
use std::collections::{BTreeMap, BTreeSet};

/// A triggered checkpoint that is not yet fully acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) barrier: Barrier,
    pub(super) deadline_ms: u64,
    /// The savepoint that was asked for.
    pub(super) request: Option<SavepointRequest>,
    enumerators: Vec<EnumeratorState>,
    outstanding: BTreeSet<SubtaskId>,
    acks: BTreeMap<SubtaskId, SubtaskSnapshot>,
}

/// Whether an acknowledgement counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AckOutcome {
    /// It did, others are outstanding.
    Counted,
    /// It was the last one.
    Last,
    /// The subtask had acknowledged before.
    Duplicate,
    /// The subtask has no part in this checkpoint.
    Foreign,
}

/// Whose checkpoint a manifest is.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) job: JobId,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) attempt: Attempt,
    pub(super) nonce: String,
}

impl Pending {
    pub(super) fn new(
        barrier: Barrier,
        deadline_ms: u64,
        participants: BTreeSet<SubtaskId>,
        enumerators: Vec<EnumeratorState>,
        request: Option<SavepointRequest>,
    ) -> Self {
        Self { barrier, deadline_ms, request, enumerators, outstanding: participants, acks: BTreeMap::new() }
    }

    pub(super) fn ack(&mut self, subtask: SubtaskId, snapshot: SubtaskSnapshot) -> AckOutcome {
        if self.outstanding.remove(&subtask) {
            self.acks.insert(subtask, snapshot);
            if self.outstanding.is_empty() { AckOutcome::Last } else { AckOutcome::Counted }
        } else if self.acks.contains_key(&subtask) {
            AckOutcome::Duplicate
        } else {
            AckOutcome::Foreign
        }
    }

    /// Subtasks that have not acknowledged.
    pub(super) fn outstanding(&self) -> &BTreeSet<SubtaskId> {
        &self.outstanding
    }

    /// The slowest subtask's times, each on its own.
    pub(super) fn timings(&self) -> SubtaskTimings {
        self.acks.values().map(|s| s.timings).fold(SubtaskTimings::default(), |a, b| SubtaskTimings {
            start_delay_us: a.start_delay_us.max(b.start_delay_us),
            alignment_us: a.alignment_us.max(b.alignment_us),
            sync_us: a.sync_us.max(b.sync_us),
            async_us: a.async_us.max(b.async_us),
        })
    }

    fn times(&self, graph: &JobGraph) -> Vec<SubtaskTimes> {
        let times = |(id, snapshot): (&SubtaskId, &SubtaskSnapshot)| SubtaskTimes {
            vertex: graph.vertex(id.vertex).map(|v| v.name.clone()).unwrap_or_default(),
            index: id.index,
            timings: snapshot.timings,
        };
        self.acks.iter().map(times).collect()
    }

    /// What the subtasks that have acknowledged it have brought.
    pub(super) fn brought(&self, graph: &JobGraph) -> Brought {
        let files = self.acks.values().flat_map(|snapshot| &snapshot.operators).flat_map(|o| &o.files);
        let own = files.filter(|file| file.checkpoint == self.barrier.checkpoint);
        let uploaded_bytes = own.fold(0, |sum: u64, file| sum.saturating_add(file.length));
        Brought { uploaded_bytes, subtasks: self.times(graph) }
    }

    /// Writes the acknowledged checkpoint down. An operator a subtask said nothing about had nothing to keep.
    pub(super) fn into_manifest(mut self, graph: &JobGraph, identity: Identity, now_ms: u64) -> Manifest {
        let subtasks = self.times(graph);
        let operators = graph
            .operators()
            .map(|(vertex, operator)| OperatorState {
                uid: operator.uid.clone(),
                name: operator.name.clone(),
                parallelism: vertex.parallelism,
                max_parallelism: operator.max_parallelism,
                subtasks: (0..vertex.parallelism)
                    .map(|index| {
                        let handles =
                            self.acks.get_mut(&SubtaskId { vertex: vertex.id, index }).and_then(|snapshot| {
                                let at =
                                    snapshot.operators.iter().position(|o| o.operator == operator.uid)?;
                                Some(snapshot.operators.swap_remove(at))
                            });
                        handles.unwrap_or_else(|| OperatorHandles {
                            operator: operator.uid.clone(),
                            states: Vec::new(),
                            files: Vec::new(),
                        })
                    })
                    .collect(),
            })
            .collect();
        Manifest {
            format: MANIFEST_FORMAT,
            job: identity.job,
            checkpoint: self.barrier.checkpoint,
            leader_epoch: identity.leader_epoch,
            attempt: identity.attempt,
            nonce: identity.nonce,
            kind: self.barrier.kind,
            triggered_at_ms: self.barrier.triggered_at_ms,
            completed_at_ms: now_ms,
            operators,
            enumerators: self.enumerators,
            subtasks,
            location: self.barrier.location.map(String::from),
        }
    }
}

/// What is wrong with the shape of a snapshot, if anything: it must speak of operators of its chain, once each, and
/// of files below the job's directory.
pub(super) fn misfit(vertex: &Vertex, snapshot: &SubtaskSnapshot) -> Option<String> {
    let mut seen = BTreeSet::new();
    for handles in &snapshot.operators {
        let uid = &handles.operator;
        if !vertex.operators.iter().any(|o| o.uid == *uid) {
            return Some(format!("state of operator {uid}, which is not in vertex {}", vertex.name));
        }
        if !seen.insert(uid) {
            return Some(format!("operator {uid} reported twice"));
        }
        if let Some(file) = handles.files.iter().find(|f| !is_safe_path(&f.path)) {
            return Some(format!("operator {uid}: path {:?} leaves the job's directory", file.path));
        }
    }
    None
}

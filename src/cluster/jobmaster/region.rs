//! Failover by region: what a failure takes with it.
//!
//! A region is a set of vertices that exchange records with each other, directly or not. If one of its subtasks fails, the
//! whole region goes back to the newest checkpoint; other regions go on, with their attempt, their state and their
//! connections. The job is restarted as a whole where that would not be sound or is not worth the trouble:
//! - all regions have failed, or not all of them ran;
//! - the outcome of a commit is unknown: whoever goes on would have to be told of it later;
//! - the parallelism changes, or what is restored is not what those that go on know as the newest checkpoint.
//!
//! No checkpoint is taken while a region restarts. A failure in another region widens the restart.

use super::{JobMaster, Phase};
use crate::checkpoint::Manifest;
use crate::cluster::message::ToWorker;
use crate::graph::JobGraph;
use crate::id::{Attempt, CheckpointId, SubtaskId, VertexId, WorkerId};
use std::collections::{BTreeMap, BTreeSet};

/// Where a subtask runs, and the attempt it was deployed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Placed {
    pub(super) worker: WorkerId,
    pub(super) attempt: Attempt,
}

/// Which part of the job ends and is started again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Scope {
    #[default]
    Whole,
    /// These vertices.
    Regions(BTreeSet<VertexId>),
}

impl Scope {
    pub(super) fn has(&self, subtask: SubtaskId) -> bool {
        match self {
            Self::Whole => true,
            Self::Regions(vertices) => vertices.contains(&subtask.vertex),
        }
    }
}

impl Scope {
    /// The names of the vertices, if they are not all.
    pub(super) fn names(&self, graph: &JobGraph) -> Vec<String> {
        let Self::Regions(vertices) = self else { return Vec::new() };
        vertices.iter().filter_map(|id| graph.vertex(*id)).map(|vertex| vertex.name.clone()).collect()
    }
}

impl JobMaster {
    /// What a failure of these subtasks takes with it, beside what is restarting already; everything, if there are none.
    pub(super) fn scope_of(&self, failed: &[SubtaskId]) -> Scope {
        let mut vertices = match (&self.phase, &self.scope) {
            (Phase::Finishing | Phase::Closing { .. } | Phase::Ended { .. }, _) => return Scope::Whole,
            (Phase::Running, _) if self.coordinator.is_committing() => return Scope::Whole,
            (Phase::Running, _) => BTreeSet::new(),
            (_, Scope::Whole) => return Scope::Whole,
            (_, Scope::Regions(vertices)) => vertices.clone(),
        };
        for subtask in failed {
            if !vertices.contains(&subtask.vertex) {
                vertices.extend(self.graph.region_of(subtask.vertex));
            }
        }
        if failed.is_empty() || vertices.len() == self.graph.vertices.len() {
            return Scope::Whole;
        }
        Scope::Regions(vertices)
    }

    /// Whether a subtask goes on while others restart.
    pub(super) fn goes_on(&self, subtask: SubtaskId) -> bool {
        !self.scope.has(subtask)
    }

    /// Whether a subtask that is to end has not.
    pub(super) fn is_stopping(&self) -> bool {
        self.live.iter().any(|subtask| self.scope.has(*subtask))
    }

    /// Whether those that go on can do so beside what is restored.
    pub(super) fn fits_beside(
        &self,
        known: Option<CheckpointId>,
        latest: Option<&Manifest>,
        graph: &JobGraph,
    ) -> bool {
        latest.map(|latest| latest.checkpoint) == known
            && !latest.is_some_and(|latest| latest.kind.is_stop())
            && *graph == self.graph
    }

    /// Has those in the scope stop.
    pub(super) fn cancel_scope(&mut self) {
        let mut of_deployments: BTreeMap<Placed, Vec<SubtaskId>> = BTreeMap::new();
        for subtask in self.live.iter().filter(|subtask| self.scope.has(**subtask)) {
            if let Some(placed) = self.placement.get(subtask) {
                of_deployments.entry(*placed).or_default().push(*subtask);
            }
        }
        for (Placed { worker, attempt }, subtasks) in of_deployments {
            self.send(worker, ToWorker::Cancel { attempt, subtasks });
        }
    }

    /// Slots for the subtasks in the scope; `None` if there are too few. A slot stays with its taskmanager, which has local
    /// state of it: always if a subtask in it goes on, otherwise as far as slots are then spread evenly.
    pub(super) fn place_scope(&self) -> Option<BTreeMap<SubtaskId, WorkerId>> {
        let mut free = match self.scope {
            Scope::Regions(_) => self.workers.clone(),
            Scope::Whole => {
                // Nobody gets more than the fullest one would if nothing were anywhere yet.
                let spread = slots(&self.workers).into_iter().take(self.graph.slots_needed() as usize);
                let mut counts: BTreeMap<WorkerId, u32> = BTreeMap::new();
                spread.for_each(|worker| *counts.entry(worker).or_default() += 1);
                let most = counts.into_values().max().unwrap_or(0);
                self.workers.iter().map(|(worker, slots)| (*worker, (*slots).min(most))).collect()
            }
        };
        let mut owners: BTreeMap<usize, WorkerId> = BTreeMap::new();
        let mut take = |slot: usize, worker: WorkerId, owners: &mut BTreeMap<usize, WorkerId>| {
            if let Some(count) =
                free.get_mut(&worker).filter(|count| **count > 0 && !owners.contains_key(&slot))
            {
                *count -= 1;
                owners.insert(slot, worker);
            }
        };
        let exists = |subtask: &SubtaskId| {
            self.graph.vertex(subtask.vertex).is_some_and(|vertex| subtask.index < vertex.parallelism)
        };
        let (going_on, others): (Vec<_>, Vec<_>) = self
            .placement
            .iter()
            .filter(|(subtask, _)| exists(subtask))
            .partition(|(subtask, _)| self.goes_on(**subtask));
        for (subtask, placed) in going_on.iter().chain(&others) {
            take(self.graph.slot_of(**subtask)?, placed.worker, &mut owners);
        }
        let mut free = slots(&free).into_iter();
        let mut placed = BTreeMap::new();
        for subtask in self.graph.subtasks().filter(|subtask| self.scope.has(*subtask)) {
            let slot = self.graph.slot_of(subtask)?;
            let worker = match owners.get(&slot) {
                Some(worker) => *worker,
                None => free.next()?,
            };
            owners.insert(slot, worker);
            placed.insert(subtask, worker);
        }
        Some(placed)
    }
}

/// The workers' slots, spread: first one of each worker, then a second one of each, and so on.
pub(super) fn slots(workers: &BTreeMap<WorkerId, u32>) -> Vec<WorkerId> {
    let mut slots: Vec<(u32, WorkerId)> = workers
        .iter()
        .flat_map(|(worker, count)| (0..(*count).min(1 << 16)).map(|nth| (nth, *worker)))
        .collect();
    slots.sort_unstable();
    slots.into_iter().map(|(_, worker)| worker).collect()
}

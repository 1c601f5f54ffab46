//! The job graph: chains of operators as vertices, exchanges as edges. Pure data; what the jobmanager knows of
//! a program.

use crate::id::{OperatorUid, SubtaskId, VertexId};
use crate::operator::InputSide;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A program after chaining: what is deployed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobGraph {
    /// The job's name.
    pub name: String,
    /// Vertices in topological order; a vertex' id is its index.
    pub vertices: Vec<Vertex>,
    /// Exchanges between vertices.
    pub edges: Vec<Edge>,
}

/// One chain of operators, run by `parallelism` subtasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vertex {
    /// Index into [`JobGraph::vertices`].
    pub id: VertexId,
    /// Names of the chained operators, joined by ` -> `.
    pub name: String,
    /// Number of subtasks.
    pub parallelism: u32,
    /// Whether the program set it itself for one of the operators; others follow the job's parallelism.
    pub parallelism_is_explicit: bool,
    /// Only subtasks of the same group share a slot.
    pub slot_sharing_group: String,
    /// The chained operators, upstream first.
    pub operators: Vec<OperatorInfo>,
}

/// One operator inside a vertex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorInfo {
    /// Identity that state is matched by.
    pub uid: OperatorUid,
    /// Whether the program set the uid itself; a derived one changes when the program does.
    pub uid_is_explicit: bool,
    /// Name shown to people.
    pub name: String,
    /// Number of key groups; fixed for the life of the state.
    pub max_parallelism: u16,
    /// Whether the program set the maximum itself (a restore otherwise adopts the stored one).
    pub max_parallelism_is_explicit: bool,
    /// What kind of operator it is.
    pub kind: OperatorKind,
    /// The operator that feeds this one inside the vertex, by its place in [`Vertex::operators`]; none for the first.
    pub chained_after: Option<u32>,
}

/// What an operator is, as far as the control plane cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperatorKind {
    /// Reads splits handed out by an enumerator on the jobmanager.
    Source,
    /// Anything between.
    Transform,
    /// Holds keyed state.
    Keyed,
    /// Publishes output when a checkpoint completes.
    Sink,
}

/// An exchange between two vertices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// Producing vertex.
    pub from: VertexId,
    /// The operator in it that produces the records, by its place in [`Vertex::operators`].
    pub operator: u32,
    /// Which of its side outputs, if not its main output.
    pub side_output: Option<String>,
    /// Consuming vertex.
    pub to: VertexId,
    /// How records are spread.
    pub partitioning: Partitioning,
    /// Which input of the consuming operator it leads to, if that has two.
    pub input: Option<InputSide>,
}

/// How an exchange spreads records over the consumer's subtasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Partitioning {
    /// Subtask i to subtask i; needs equal parallelism.
    Forward,
    /// By key group.
    Hash,
    /// Round robin.
    Rebalance,
    /// Every record to every subtask.
    Broadcast,
}

impl Partitioning {
    /// Whether a barrier may overtake the records on such an exchange. They are dealt out anew if the checkpoint is restored
    /// at another parallelism. That cannot be done where the subtask of the producer decides who gets a record
    /// (`Forward`), nor where every subtask gets all records, as some would then see a record twice or not at all
    /// (`Broadcast`).
    pub fn can_be_overtaken(self) -> bool {
        matches!(self, Self::Hash | Self::Rebalance)
    }
}

impl Vertex {
    /// Its subtasks.
    pub(crate) fn subtasks(&self) -> impl Iterator<Item = SubtaskId> {
        let vertex = self.id;
        (0..self.parallelism).map(move |index| SubtaskId { vertex, index })
    }
}

impl JobGraph {
    /// The vertex named by `id`; `None` for an id of another graph.
    pub fn vertex(&self, id: VertexId) -> Option<&Vertex> {
        self.vertices.get(id.0 as usize)
    }

    /// All operators with the vertex they live in.
    pub fn operators(&self) -> impl Iterator<Item = (&Vertex, &OperatorInfo)> {
        self.vertices.iter().flat_map(|v| v.operators.iter().map(move |o| (v, o)))
    }

    /// All subtasks, vertex by vertex.
    pub(crate) fn subtasks(&self) -> impl Iterator<Item = SubtaskId> {
        self.vertices.iter().flat_map(Vertex::subtasks)
    }

    /// The vertices that `vertex` exchanges records with, directly or not, itself among them.
    pub(crate) fn region_of(&self, vertex: VertexId) -> BTreeSet<VertexId> {
        let mut region = BTreeSet::from([vertex]);
        let mut found = 0;
        while found < region.len() {
            found = region.len();
            for edge in &self.edges {
                if region.contains(&edge.from) || region.contains(&edge.to) {
                    region.extend([edge.from, edge.to]);
                }
            }
        }
        region
    }

    /// How messages to people name a subtask.
    pub(crate) fn place(&self, subtask: SubtaskId) -> String {
        match self.vertex(subtask.vertex) {
            Some(v) => format!("subtask {} of {} of '{}'", subtask.index + 1, v.parallelism, v.name),
            None => format!("subtask {subtask}"),
        }
    }

    /// How messages to people name several subtasks: the first few in words, the others by number.
    pub(crate) fn places<'a>(&self, subtasks: impl IntoIterator<Item = &'a SubtaskId>) -> String {
        const NAMED: usize = 3;
        let mut subtasks = subtasks.into_iter();
        let mut named: Vec<_> = subtasks.by_ref().take(NAMED).map(|s| self.place(*s)).collect();
        match subtasks.count() {
            0 => {}
            more => named.push(format!("{more} more")),
        }
        named.join(", ")
    }

    /// It at another parallelism of the job. A vertex whose parallelism the program set keeps it as far as `parallelism`
    /// allows, and no vertex gets more subtasks than it has key groups. Vertices joined by forward exchanges stay equal.
    pub fn scaled(&self, parallelism: u32) -> Self {
        let mut scaled = self.clone();
        for vertex in &mut scaled.vertices {
            let most = vertex.operators.iter().map(|o| u32::from(o.max_parallelism)).min().unwrap_or(1);
            let own = if vertex.parallelism_is_explicit { vertex.parallelism } else { most };
            vertex.parallelism = parallelism.min(own).min(most).max(1);
        }
        // Each pass settles the least of the vertices not yet settled, so there are at most as many as vertices.
        loop {
            let mut is_settled = true;
            for edge in self.edges.iter().filter(|e| e.partitioning == Partitioning::Forward) {
                let of = |id: VertexId| scaled.vertex(id).map_or(u32::MAX, |v| v.parallelism);
                let least = of(edge.from).min(of(edge.to));
                for id in [edge.from, edge.to] {
                    if let Some(vertex) = scaled.vertices.get_mut(id.0 as usize)
                        && vertex.parallelism != least
                    {
                        vertex.parallelism = least;
                        is_settled = false;
                    }
                }
            }
            if is_settled {
                return scaled;
            }
        }
    }

    /// It with other numbers of key groups, where there are any.
    pub(crate) fn with_key_groups(&self, adopted: impl Fn(&OperatorUid) -> Option<u16>) -> Self {
        let mut graph = self.clone();
        for operator in graph.vertices.iter_mut().flat_map(|v| v.operators.iter_mut()) {
            operator.max_parallelism = adopted(&operator.uid).unwrap_or(operator.max_parallelism);
        }
        graph
    }

    /// It as an attempt runs it: with the subtasks that are listed, and with these numbers of key groups where they are
    /// not those of the program.
    pub(crate) fn of_attempt<'a>(
        &self,
        subtasks: impl IntoIterator<Item = &'a SubtaskId>,
        key_groups: &[(OperatorUid, u16)],
    ) -> Self {
        let adopted =
            |uid: &OperatorUid| key_groups.iter().find(|(of, _)| of == uid).map(|(_, groups)| *groups);
        let mut graph = self.with_key_groups(adopted);
        graph.vertices.iter_mut().for_each(|vertex| vertex.parallelism = 0);
        for subtask in subtasks {
            if let Some(vertex) = graph.vertices.get_mut(subtask.vertex.0 as usize) {
                vertex.parallelism = vertex.parallelism.max(subtask.index.saturating_add(1));
            }
        }
        graph
    }

    /// The highest parallelism of its vertices.
    pub fn parallelism(&self) -> u32 {
        self.vertices.iter().map(|v| v.parallelism).max().unwrap_or(0)
    }

    /// Slots needed: a slot holds one subtask of each vertex of a group.
    pub fn slots_needed(&self) -> u32 {
        self.slot_groups().iter().fold(0, |sum, (_, slots)| sum.saturating_add(*slots))
    }

    /// The slot-sharing groups with the slots each needs, in the order of their first vertices.
    pub(crate) fn slot_groups(&self) -> Vec<(&str, u32)> {
        let mut groups: Vec<(&str, u32)> = Vec::new();
        for vertex in &self.vertices {
            match groups.iter_mut().find(|(name, _)| *name == vertex.slot_sharing_group) {
                Some((_, slots)) => *slots = vertex.parallelism.max(*slots),
                None => groups.push((&vertex.slot_sharing_group, vertex.parallelism)),
            }
        }
        groups
    }

    /// Which of the job's slots a subtask is in: slot i of its group, behind those of the groups before.
    pub(crate) fn slot_of(&self, subtask: SubtaskId) -> Option<usize> {
        let group = &self.vertex(subtask.vertex)?.slot_sharing_group;
        let groups = self.slot_groups();
        let before = groups.iter().take_while(|(name, _)| name != group).map(|(_, slots)| *slots as usize);
        Some(before.sum::<usize>() + subtask.index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vertex(id: u32, parallelism: u32, is_explicit: bool, max_parallelism: u16) -> Vertex {
        let operator = OperatorInfo {
            uid: OperatorUid(format!("{id}")),
            uid_is_explicit: true,
            name: format!("{id}"),
            max_parallelism,
            max_parallelism_is_explicit: false,
            kind: OperatorKind::Transform,
            chained_after: None,
        };
        Vertex {
            id: VertexId(id),
            name: format!("{id}"),
            parallelism,
            parallelism_is_explicit: is_explicit,
            slot_sharing_group: "default".into(),
            operators: vec![operator],
        }
    }

    fn edge(from: u32, to: u32, partitioning: Partitioning) -> Edge {
        let (from, to) = (VertexId(from), VertexId(to));
        Edge { from, operator: 0, side_output: None, to, partitioning, input: None }
    }

    #[test]
    fn a_graph_is_scaled_within_what_the_program_says() {
        let graph = JobGraph {
            name: "job".into(),
            vertices: vec![
                vertex(0, 4, false, 128),
                vertex(1, 2, true, 128),
                vertex(2, 4, false, 6),
                vertex(3, 4, false, 128),
            ],
            edges: vec![
                edge(0, 1, Partitioning::Rebalance),
                edge(1, 2, Partitioning::Hash),
                edge(2, 3, Partitioning::Forward),
            ],
        };
        let at = |parallelism| {
            graph.scaled(parallelism).vertices.iter().map(|v| v.parallelism).collect::<Vec<_>>()
        };
        assert_eq!(at(1), [1, 1, 1, 1]);
        assert_eq!(at(3), [3, 2, 3, 3]);
        assert_eq!(at(4), [4, 2, 4, 4], "the program itself");
        assert_eq!(at(8), [8, 2, 6, 6], "no more than key groups, and both ends of a forward exchange alike");
    }

    #[test]
    fn an_attempt_has_the_subtasks_that_are_placed() {
        let graph = JobGraph { vertices: vec![vertex(0, 4, false, 128)], ..JobGraph::default() };
        let subtasks = [0, 1].map(|index| SubtaskId { vertex: VertexId(0), index });
        let attempt = graph.of_attempt(&subtasks, &[(OperatorUid("0".into()), 64)]);
        assert_eq!(
            (attempt.vertices[0].parallelism, attempt.vertices[0].operators[0].max_parallelism),
            (2, 64)
        );
    }

    #[test]
    fn each_slot_sharing_group_has_slots_of_its_own() {
        let mut vertices: Vec<_> =
            [2, 3, 1, 2].iter().zip(0..).map(|(p, id)| vertex(id, *p, false, 128)).collect();
        for heavy in [1, 2] {
            vertices[heavy].slot_sharing_group = "heavy".into();
        }
        let graph = JobGraph { vertices, ..JobGraph::default() };
        assert_eq!((graph.parallelism(), graph.slots_needed()), (3, 5));
        let slots = |vertex, count| {
            let slot = |index| graph.slot_of(SubtaskId { vertex: VertexId(vertex), index }).unwrap();
            (0..count).map(slot).collect::<Vec<_>>()
        };
        assert_eq!(
            [slots(0, 2), slots(1, 3), slots(2, 1), slots(3, 2)],
            [vec![0, 1], vec![2, 3, 4], vec![2], vec![0, 1]]
        );
    }
}

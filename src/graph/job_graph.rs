//! The job graph: chains of operators as vertices, exchanges as edges. Pure data; what the jobmanager knows of
//! a program.

use crate::id::{OperatorUid, SubtaskId, VertexId};
use crate::operator::InputSide;
use serde::{Deserialize, Serialize};

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

impl JobGraph {
    /// The vertex named by `id`; `None` for an id of another graph.
    pub fn vertex(&self, id: VertexId) -> Option<&Vertex> {
        self.vertices.get(id.0 as usize)
    }

    /// All operators with the vertex they live in.
    pub fn operators(&self) -> impl Iterator<Item = (&Vertex, &OperatorInfo)> {
        self.vertices.iter().flat_map(|v| v.operators.iter().map(move |o| (v, o)))
    }

    /// What a person should know of operators that surely keep state and have no uid of their own; `None` if there are
    /// none.
    pub(crate) fn derived_uids(&self) -> Option<String> {
        let derived =
            |(_, o): &(&Vertex, &OperatorInfo)| !o.uid_is_explicit && o.kind != OperatorKind::Transform;
        let named = self.operators().filter(derived).map(|(_, o)| format!("'{}' ({})", o.name, o.uid));
        let named: Vec<_> = named.collect();
        (!named.is_empty()).then(|| {
            format!(
                "these operators keep state and have no uid of their own: {}. Theirs are made of their place in the \
                 program: when you insert, remove or rename operators, their state in checkpoints and savepoints is no \
                 longer found. Give each one with .uid(\"...\")",
                named.join(", ")
            )
        })
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

    /// Slots needed: with one slot-sharing group, the highest parallelism.
    pub fn slots_needed(&self) -> u32 {
        self.vertices.iter().map(|v| v.parallelism).max().unwrap_or(0)
    }
}

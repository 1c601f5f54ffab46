//! A compiled program: the job graph with the factories behind it. Builds subtasks.

use crate::checkpoint::CrashPoints;
use crate::cluster::EnumeratorDriver;
use crate::error::{Error, Result};
use crate::function::{NO_WATERMARK, SubtaskInfo};
use crate::graph::logical::{ChildOperators, NodeFactory, OperatorBuild, Port};
use crate::graph::{Edge, JobGraph, Vertex};
use crate::id::{Attempt, JobId, OperatorUid, SubtaskId, VertexId};
use crate::operator::{RestoredState, SideOutputs, named_panic};
use crate::task::{ChannelName, EdgeName, Exchange, ExchangeHub, GateStart, InFlight, Inlet, Subtask};
use std::any::Any;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Waker;
use tidegate_state::{BackendOptions, SnapshotSource};

/// What every member of a cluster has of a job.
pub(crate) struct Program {
    pub(crate) job_graph: JobGraph,
    /// One per operator, in the order declared.
    pub(crate) nodes: Vec<NodeRuntime>,
    /// Parallel to the job graph's edges.
    pub(crate) edges: Vec<EdgeRuntime>,
}

pub(crate) struct NodeRuntime {
    pub(crate) uid: OperatorUid,
    pub(crate) name: Arc<str>,
    pub(crate) vertex: VertexId,
    pub(crate) max_parallelism: u16,
    pub(crate) factory: NodeFactory,
    pub(crate) consumers: Vec<Consumer>,
}

pub(crate) struct Consumer {
    pub(crate) port: Port,
    pub(crate) to: usize,
    /// The exchange between them; `None` if chained.
    pub(crate) edge: Option<usize>,
}

pub(crate) struct EdgeRuntime {
    pub(crate) exchange: Arc<dyn Exchange>,
}

/// State of one operator, read and checked, ready to build from.
#[derive(Default)]
pub(crate) struct RestoredOperator {
    pub(crate) state: RestoredState,
    pub(crate) keyed: Vec<Arc<dyn SnapshotSource>>,
    /// What was in flight to it.
    pub(crate) in_flight: Vec<InFlight>,
}

/// What all subtasks of an attempt share while they are built.
pub(crate) struct BuildScope<'a> {
    pub(crate) job: &'a JobId,
    pub(crate) attempt: Attempt,
    pub(crate) hub: &'a ExchangeHub,
    pub(crate) backend: &'a BackendOptions,
    pub(crate) local_dir: Option<PathBuf>,
    pub(crate) crash_points: &'a CrashPoints,
    pub(crate) waker: &'a Waker,
    /// The job graph as the attempt runs it.
    pub(crate) graph: &'a JobGraph,
}

impl BuildScope<'_> {
    fn vertex(&self, id: VertexId) -> Result<&Vertex> {
        self.graph.vertex(id).ok_or_else(|| Error::bug(format!("vertex {id} is not of this job")))
    }

    /// Number of key groups of an operator.
    fn key_groups_of(&self, node: &NodeRuntime) -> u16 {
        let operators = self.graph.vertex(node.vertex).map(|v| v.operators.as_slice()).unwrap_or_default();
        let operator = operators.iter().find(|o| o.uid == node.uid);
        operator.map_or(node.max_parallelism, |o| o.max_parallelism)
    }
}

impl Program {
    /// One enumerator per source.
    pub(crate) fn enumerators(&self) -> BTreeMap<OperatorUid, Box<dyn EnumeratorDriver>> {
        let sources = self.nodes.iter().filter_map(|node| match &node.factory {
            NodeFactory::Source(source) => Some((node.uid.clone(), source.enumerator())),
            NodeFactory::Operator(_) => None,
        });
        sources.collect()
    }

    /// Names of sources that cannot repeat what they have delivered.
    pub(crate) fn non_replayable_sources(&self) -> Vec<&str> {
        let sources =
            self.nodes.iter().filter(|n| matches!(&n.factory, NodeFactory::Source(s) if !s.is_replayable()));
        sources.map(|n| &*n.name).collect()
    }

    /// Names of sinks whose output is seen only in the process that publishes it.
    pub(crate) fn sinks_of_one_process(&self) -> Vec<&str> {
        let is =
            |node: &&NodeRuntime| matches!(&node.factory, NodeFactory::Operator(o) if o.is_of_one_process());
        self.nodes.iter().filter(is).map(|n| &*n.name).collect()
    }

    /// Sixteen hex digits that differ between programs whose plans differ.
    ///
    /// # Errors
    /// A bug error; a plan can always be written.
    pub(crate) fn fingerprint(&self) -> Result<String> {
        let plan = self.job_graph.to_json()?;
        Ok(format!("{:016x}", xxhash_rust::xxh3::xxh3_64(plan.as_bytes())))
    }

    /// Builds a subtask, on the thread that will run it, from the restored state of its operators.
    ///
    /// # Errors
    /// What keeps an operator from starting.
    pub(crate) fn build_subtask(
        &self,
        id: SubtaskId,
        scope: &BuildScope<'_>,
        restored: &mut BTreeMap<OperatorUid, RestoredOperator>,
    ) -> Result<Subtask> {
        let vertex = scope.vertex(id.vertex)?;
        let label = format!("subtask {} of {} of '{}'", id.index + 1, vertex.parallelism, vertex.name);
        let build = || {
            let (head, node) = self
                .nodes
                .iter()
                .enumerate()
                .find(|(_, n)| n.vertex == id.vertex)
                .ok_or_else(|| Error::bug(format!("vertex {} has no operators", id.vertex)))?;
            let mut builder = Builder { program: self, id, vertex, scope, restored };
            match &node.factory {
                NodeFactory::Source(source) => {
                    let children = builder.children(head)?;
                    let build = builder.operator_build(node);
                    let head = named_panic(&node.name, || source.head(build, children))?;
                    Ok(Subtask::new(
                        id,
                        label.clone(),
                        Some(node.uid.clone()),
                        head,
                        scope.crash_points.clone(),
                    ))
                }
                NodeFactory::Operator(_) => {
                    let restored = builder.restored.get_mut(&node.uid);
                    let (watermark, in_flight) = restored.map_or((NO_WATERMARK, Vec::new()), |restored| {
                        (restored.state.watermark(), std::mem::take(&mut restored.in_flight))
                    });
                    let start = GateStart { uid: node.uid.clone(), watermark, in_flight };
                    let chain = builder.operator(head)?;
                    let head = builder.gate(chain, start)?;
                    Ok(Subtask::new(id, label.clone(), None, head, scope.crash_points.clone()))
                }
            }
        };
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(build)) {
            Ok(built) => built.map_err(|e: Error| e.at(&label)),
            Err(payload) => Err(crate::task::panic_error(payload.as_ref()).at(&label)),
        }
    }
}

/// The consumers of one side output, with the port that knows their type.
type SideConsumers<'a> = (&'a Port, Vec<Box<dyn Any>>);

/// Builds the chain of one subtask, the last operators first.
struct Builder<'a> {
    program: &'a Program,
    id: SubtaskId,
    vertex: &'a Vertex,
    scope: &'a BuildScope<'a>,
    restored: &'a mut BTreeMap<OperatorUid, RestoredOperator>,
}

impl Builder<'_> {
    fn node(&self, index: usize) -> Result<&NodeRuntime> {
        self.program.nodes.get(index).ok_or_else(|| Error::bug(format!("no operator {index}")))
    }

    fn operator(&mut self, index: usize) -> Result<Box<dyn Any>> {
        let children = self.children(index)?;
        let program = self.program;
        let node = program.nodes.get(index).ok_or_else(|| Error::bug(format!("no operator {index}")))?;
        let build = self.operator_build(node);
        match &node.factory {
            NodeFactory::Operator(factory) => named_panic(&node.name, || factory.build(build, children)),
            NodeFactory::Source(_) => Err(Error::bug(format!("source '{}' inside a chain", node.name))),
        }
    }

    fn children(&mut self, index: usize) -> Result<ChildOperators> {
        let program = self.program;
        let node = program.nodes.get(index).ok_or_else(|| Error::bug(format!("no operator {index}")))?;
        let mut main = Vec::new();
        let mut sides: BTreeMap<&str, SideConsumers<'_>> = BTreeMap::new();
        for consumer in &node.consumers {
            let built = match consumer.edge {
                None => self.operator(consumer.to)?,
                Some(edge) => self.writer(edge, consumer.to)?,
            };
            match consumer.port.side_name() {
                None => main.push(built),
                Some(name) => sides.entry(name).or_insert((&consumer.port, Vec::new())).1.push(built),
            }
        }
        let mut side_outputs = SideOutputs::default();
        for (name, (port, consumers)) in sides {
            if let Port::Side { attach, .. } = port {
                attach
                    .attach(name, consumers, &mut side_outputs)
                    .map_err(|e| e.at(format_args!("operator '{}'", node.name)))?;
            }
        }
        Ok(ChildOperators { main, side_outputs })
    }

    fn writer(&self, edge: usize, to: usize) -> Result<Box<dyn Any>> {
        let to = self.node(to)?;
        let vertex = self.scope.vertex(to.vertex)?;
        let subtask = |index| SubtaskId { vertex: vertex.id, index };
        let forward = self
            .scope
            .graph
            .edges
            .get(edge)
            .is_some_and(|e| e.partitioning == crate::graph::Partitioning::Forward);
        let targets: Vec<SubtaskId> = if forward {
            vec![subtask(self.id.index)]
        } else {
            (0..vertex.parallelism).map(subtask).collect()
        };
        let exchange =
            &self.program.edges.get(edge).ok_or_else(|| Error::bug(format!("no edge {edge}")))?.exchange;
        exchange.writer(
            self.scope.hub,
            edge,
            self.id,
            &targets,
            self.scope.key_groups_of(to),
            self.scope.waker,
        )
    }

    fn gate(&self, chain: Box<dyn Any>, start: GateStart) -> Result<Box<dyn crate::task::Head>> {
        let mut inlets = Vec::new();
        let mut exchange = None;
        let mut numbers: BTreeMap<EdgeName, u32> = BTreeMap::new();
        for (index, edge) in self.scope.graph.edges.iter().enumerate().filter(|(_, e)| e.to == self.id.vertex)
        {
            let from = self.scope.vertex(edge.from)?;
            let mut name = edge_name(from, edge)?;
            let number = numbers.entry(name.clone()).or_default();
            name.number = *number;
            *number += 1;
            let inlet = |subtask| Inlet {
                edge: index,
                from: SubtaskId { vertex: edge.from, index: subtask },
                side: edge.input,
                name: ChannelName {
                    edge: name.clone(),
                    partitioning: edge.partitioning,
                    sender: subtask,
                    senders: from.parallelism,
                },
            };
            if edge.partitioning == crate::graph::Partitioning::Forward {
                inlets.push(inlet(self.id.index));
            } else {
                inlets.extend((0..from.parallelism).map(inlet));
            }
            exchange = self.program.edges.get(index).map(|e| &e.exchange);
        }
        let exchange =
            exchange.ok_or_else(|| Error::bug(format!("vertex {} has no input", self.id.vertex)))?;
        exchange.gate(self.scope.hub, &inlets, self.id, self.scope.waker, chain, start)
    }

    fn operator_build(&mut self, node: &NodeRuntime) -> OperatorBuild<'_> {
        let restored = self.restored.remove(&node.uid).unwrap_or_default();
        OperatorBuild {
            job: self.scope.job,
            uid: node.uid.clone(),
            subtask: SubtaskInfo {
                operator: node.name.clone(),
                index: self.id.index,
                parallelism: self.vertex.parallelism,
                max_parallelism: self.scope.key_groups_of(node),
                attempt: self.scope.attempt,
            },
            restored: restored.state,
            keyed: restored.keyed,
            backend: self.scope.backend,
            local_dir: self.scope.local_dir.clone(),
            crash_points: self.scope.crash_points,
        }
    }
}

/// How an edge is found again, apart from its number.
fn edge_name(from: &Vertex, edge: &Edge) -> Result<EdgeName> {
    let operator = from.operators.get(edge.operator as usize);
    let operator =
        operator.ok_or_else(|| Error::bug(format!("no operator {} in '{}'", edge.operator, from.name)))?;
    Ok(EdgeName {
        from: operator.uid.clone(),
        side_output: edge.side_output.clone(),
        input: edge.input,
        number: 0,
    })
}

//! Chaining: which operators share a subtask. Checks the program and turns the logical graph into a program.

use crate::error::{Error, Result};
use crate::graph::program::{EdgeRuntime, NodeRuntime, Program};
use crate::graph::{
    Edge, Input, JobGraph, LogicalGraph, Node, NodeFactory, OperatorInfo, Partitioning, Vertex,
};
use crate::id::{OperatorUid, VertexId};
use std::collections::BTreeMap;

/// The slot-sharing group of what names none.
const DEFAULT_GROUP: &str = "default";

/// Key groups unless the program says otherwise, as Flink: at least 128, room to grow by half.
fn default_max_parallelism(parallelism: u32) -> u16 {
    let wanted = (u64::from(parallelism) * 3 / 2).next_power_of_two().clamp(128, 1 << 15);
    wanted as u16
}

/// What is settled about a node before chaining.
struct Settled {
    parallelism: u32,
    max_parallelism: u16,
    slot_sharing_group: String,
    uid: OperatorUid,
}

impl LogicalGraph {
    /// Checks the program and decides what runs where.
    ///
    /// # Errors
    /// Config errors: what the program got wrong.
    pub(crate) fn compile(
        mut self,
        job_name: &str,
        default_parallelism: u32,
        default_max: Option<u16>,
    ) -> Result<Program> {
        if !self.mistakes.is_empty() {
            return Err(self.mistakes.remove(0));
        }
        if self.nodes.is_empty() {
            return Err(Error::config("the program has no operators").hint("start with Environment::source"));
        }
        self.check_wiring()?;
        let settled = self.settle(default_parallelism, default_max)?;
        let partitionings = self.partitionings(&settled)?;
        let vertex_of = self.assign_vertices(&settled, &partitionings);
        Ok(self.into_program(job_name, settled, &partitionings, &vertex_of))
    }

    fn settle(&self, default_parallelism: u32, default_max: Option<u16>) -> Result<Vec<Settled>> {
        let mut uids: BTreeMap<String, &str> = BTreeMap::new();
        let mut settled = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let parallelism = node.parallelism.unwrap_or(default_parallelism);
            let max_parallelism =
                node.max_parallelism.or(default_max).unwrap_or_else(|| default_max_parallelism(parallelism));
            if parallelism == 0 {
                return Err(Error::config(format!("operator '{}' has parallelism 0", node.name))
                    .hint("set a parallelism of at least 1"));
            }
            if max_parallelism == 0 || max_parallelism > 1 << 15 {
                return Err(Error::config(format!(
                    "operator '{}' has max parallelism {max_parallelism}",
                    node.name
                ))
                .hint("set a max parallelism between 1 and 32768"));
            }
            if parallelism > u32::from(max_parallelism) {
                return Err(Error::config(format!(
                    "operator '{}' has parallelism {parallelism}, above its max parallelism {max_parallelism}",
                    node.name
                ))
                .hint("lower the parallelism, or raise max parallelism if there is no state to restore"));
            }
            if node.uid.as_deref() == Some("") {
                return Err(Error::config(format!("operator '{}' has an empty uid", node.name))
                    .hint("give it a name of its own, or leave uid out"));
            }
            let uid = node.uid.clone().unwrap_or_else(|| format!("auto-{index}-{}", node.name));
            if let Some(other) = uids.insert(uid.clone(), &node.name) {
                return Err(Error::config(format!(
                    "operators '{other}' and '{}' have the same uid '{uid}'",
                    node.name
                ))
                .hint("give each operator a uid of its own"));
            }
            let slot_sharing_group = slot_sharing_group(node, &settled);
            settled.push(Settled { parallelism, max_parallelism, slot_sharing_group, uid: OperatorUid(uid) });
        }
        Ok(settled)
    }

    /// Per node and input, how records are spread.
    fn partitionings(&self, settled: &[Settled]) -> Result<Vec<Vec<Partitioning>>> {
        let of = |input: &Input, to: usize| {
            let (from_p, to_p) = (parallelism(settled, input.from), parallelism(settled, to));
            match input.partitioning {
                Some(Partitioning::Forward) if from_p != to_p => Err(Error::config(format!(
                    "forward partitioning from '{}' (parallelism {from_p}) to '{}' (parallelism {to_p})",
                    self.name(input.from),
                    self.name(to)
                ))
                .hint("use the same parallelism on both sides, or rebalance")),
                Some(partitioning) => Ok(partitioning),
                None if from_p == to_p => Ok(Partitioning::Forward),
                None => Ok(Partitioning::Rebalance),
            }
        };
        self.nodes
            .iter()
            .enumerate()
            .map(|(to, node)| node.inputs.iter().map(|i| of(i, to)).collect())
            .collect()
    }

    fn name(&self, node: usize) -> &str {
        self.nodes.get(node).map_or("?", |n| n.name.as_str())
    }

    /// Per node its vertex. Nodes are declared after what they read, so one pass suffices.
    fn assign_vertices(&self, settled: &[Settled], partitionings: &[Vec<Partitioning>]) -> Vec<usize> {
        let mut vertex_of: Vec<usize> = Vec::new();
        let mut vertices = 0;
        for (index, node) in self.nodes.iter().enumerate() {
            let chained_to = match (node.inputs.as_slice(), partitionings.get(index).map(Vec::as_slice)) {
                ([input], Some([Partitioning::Forward])) if self.may_chain(input, node) => Some(input.from),
                _ => None,
            };
            let group = |node: usize| settled.get(node).map(|s| &s.slot_sharing_group);
            let same = |from: usize| {
                parallelism(settled, from) == parallelism(settled, index) && group(from) == group(index)
            };
            match chained_to.filter(|from| same(*from)).and_then(|from| vertex_of.get(from).copied()) {
                Some(vertex) => vertex_of.push(vertex),
                None => {
                    vertex_of.push(vertices);
                    vertices += 1;
                }
            }
        }
        vertex_of
    }

    fn may_chain(&self, input: &Input, node: &Node) -> bool {
        node.chain_to_previous && self.nodes.get(input.from).is_some_and(|from| from.chain_to_next)
    }

    fn into_program(
        self,
        job_name: &str,
        settled: Vec<Settled>,
        partitionings: &[Vec<Partitioning>],
        vertex_of: &[usize],
    ) -> Program {
        let mut job_graph = JobGraph { name: job_name.to_owned(), ..JobGraph::default() };
        let mut runtime_edges = Vec::new();
        let mut nodes: Vec<NodeRuntime> = Vec::new();
        let mut place_in_vertex: Vec<u32> = Vec::new();
        for (((index, node), settled), vertex) in
            self.nodes.into_iter().enumerate().zip(settled).zip(vertex_of)
        {
            let id = VertexId(*vertex as u32);
            let name: std::sync::Arc<str> = node.name.as_str().into();
            let chained_after = node
                .inputs
                .first()
                .filter(|input| vertex_of.get(input.from) == Some(vertex))
                .and_then(|input| place_in_vertex.get(input.from).copied());
            let info = OperatorInfo {
                uid: settled.uid.clone(),
                uid_is_explicit: node.uid.is_some(),
                name: node.name.clone(),
                max_parallelism: settled.max_parallelism,
                max_parallelism_is_explicit: node.max_parallelism.is_some(),
                kind: node.kind,
                chained_after,
            };
            place_in_vertex.push(job_graph.vertices.get(*vertex).map_or(0, |v| v.operators.len()) as u32);
            match job_graph.vertices.get_mut(*vertex) {
                Some(existing) => {
                    existing.parallelism_is_explicit |= node.parallelism.is_some();
                    existing.name = format!("{} -> {}", existing.name, node.name);
                    existing.operators.push(info);
                }
                None => job_graph.vertices.push(Vertex {
                    id,
                    name: node.name.clone(),
                    parallelism: settled.parallelism,
                    parallelism_is_explicit: node.parallelism.is_some(),
                    slot_sharing_group: settled.slot_sharing_group,
                    operators: vec![info],
                }),
            }
            for (input, partitioning) in
                node.inputs.iter().zip(partitionings.get(index).into_iter().flatten())
            {
                let from = vertex_of.get(input.from).copied().unwrap_or_default();
                let chained = from == *vertex;
                let edge = (!chained).then(|| {
                    job_graph.edges.push(Edge {
                        from: VertexId(from as u32),
                        operator: place_in_vertex.get(input.from).copied().unwrap_or_default(),
                        side_output: input.port.side_name().map(str::to_owned),
                        to: id,
                        partitioning: *partitioning,
                        input: input.side,
                    });
                    runtime_edges.push(EdgeRuntime { exchange: (input.exchange)(*partitioning, &name) });
                    runtime_edges.len() - 1
                });
                if let Some(producer) = nodes.get_mut(input.from) {
                    producer.consumers.push(crate::graph::program::Consumer {
                        port: input.port.clone(),
                        to: index,
                        edge,
                    });
                }
            }
            let source = match &node.factory {
                NodeFactory::Source(source) => Some(source.clone()),
                NodeFactory::Operator(_) => None,
            };
            debug_assert_eq!(source.is_some(), node.inputs.is_empty());
            nodes.push(NodeRuntime {
                uid: settled.uid,
                name,
                vertex: id,
                max_parallelism: settled.max_parallelism,
                factory: node.factory,
                consumers: Vec::new(),
            });
        }
        Program { job_graph, nodes, edges: runtime_edges }
    }
}

/// That which a node names, else that of its inputs if they agree. Inputs are settled before.
fn slot_sharing_group(node: &Node, settled: &[Settled]) -> String {
    let of_inputs = node.inputs.iter().filter_map(|i| settled.get(i.from)).map(|s| &s.slot_sharing_group);
    let mut groups: Vec<&String> = of_inputs.collect();
    groups.dedup();
    match (&node.slot_sharing_group, groups.as_slice()) {
        (Some(own), _) => own.clone(),
        (None, [group]) => (*group).clone(),
        _ => DEFAULT_GROUP.to_owned(),
    }
}

fn parallelism(settled: &[Settled], node: usize) -> u32 {
    settled.get(node).map_or(0, |s| s.parallelism)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_key_groups_leaves_room_to_grow_by_half() {
        let cases = [
            (1, 128),
            (85, 128),
            (86, 256),
            (128, 256),
            (171, 256),
            (172, 512),
            (20_000, 1 << 15),
            (1 << 15, 1 << 15),
        ];
        for (parallelism, groups) in cases {
            assert_eq!(default_max_parallelism(parallelism), groups, "{parallelism}");
        }
    }
}

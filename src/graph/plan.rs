//! The execution plan for people and tools: text, JSON and DOT.

use crate::error::{Error, Result};
use crate::graph::{Edge, JobGraph, OperatorKind, Partitioning};
use crate::operator::InputSide;
use std::fmt::Write;

impl JobGraph {
    /// The plan as JSON: vertices with their operators, and the edges between them.
    ///
    /// # Errors
    /// A bug error; a job graph can always be written.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self)
            .map_err(|e| Error::bug("the plan cannot be written as JSON").with_source(e))
    }

    /// The plan for people to read: each chain of operators with its parallelism and its exchanges, then its operators with
    /// their uids.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for vertex in &self.vertices {
            // Writing to a String cannot fail.
            _ = writeln!(text, "{}: {}, parallelism {}", vertex.id, vertex.name, vertex.parallelism);
            for operator in &vertex.operators {
                let derived = if operator.uid_is_explicit { "" } else { " (derived)" };
                let kind = match operator.kind {
                    OperatorKind::Source => "source",
                    OperatorKind::Transform => "transform",
                    OperatorKind::Keyed => "keyed",
                    OperatorKind::Sink => "sink",
                };
                let (name, uid, groups) = (&operator.name, operator.uid.as_str(), operator.max_parallelism);
                _ = writeln!(text, "    {kind} '{name}', uid {uid}{derived}, {groups} key groups");
            }
            for edge in self.edges.iter().filter(|edge| edge.from == vertex.id) {
                _ = writeln!(text, "    -> {}: {}", edge.to, edge.label());
            }
        }
        text
    }

    /// The plan in the DOT language of Graphviz: a box per subtask chain, operators as nodes.
    pub fn to_dot(&self) -> String {
        let mut dot = format!(
            "digraph \"{}\" {{\n  rankdir=LR;\n  node [shape=box, style=rounded];\n",
            escape(&self.name)
        );
        for vertex in &self.vertices {
            // Writing to a String cannot fail.
            _ = writeln!(dot, "  subgraph cluster_{} {{", vertex.id);
            _ = writeln!(dot, "    label=\"{} x{}\";", escape(&vertex.name), vertex.parallelism);
            for (index, operator) in vertex.operators.iter().enumerate() {
                let shape = match operator.kind {
                    OperatorKind::Source | OperatorKind::Sink => ", shape=ellipse",
                    OperatorKind::Keyed => ", peripheries=2",
                    OperatorKind::Transform => "",
                };
                let (name, uid) = (escape(&operator.name), escape(operator.uid.as_str()));
                _ = writeln!(dot, "    v{}_{index} [label=\"{name}\\n{uid}\"{shape}];", vertex.id);
            }
            for (index, operator) in vertex.operators.iter().enumerate() {
                if let Some(before) = operator.chained_after {
                    _ = writeln!(dot, "    v{0}_{before} -> v{0}_{index} [style=dashed];", vertex.id);
                }
            }
            dot.push_str("  }\n");
        }
        for edge in &self.edges {
            let label = escape(&edge.label());
            _ = writeln!(dot, "  v{}_{} -> v{}_0 [label=\"{label}\"];", edge.from, edge.operator, edge.to);
        }
        dot.push_str("}\n");
        dot
    }
}

impl Edge {
    /// How records travel on it.
    fn label(&self) -> String {
        let how = match self.partitioning {
            Partitioning::Forward => "forward",
            Partitioning::Hash => "hash",
            Partitioning::Rebalance => "rebalance",
            Partitioning::Broadcast => "broadcast",
        };
        let tag = self.side_output.as_deref().map(|tag| format!(" ({tag})")).unwrap_or_default();
        let input = match self.input {
            None => "",
            Some(InputSide::First) => ", first input",
            Some(InputSide::Second) => ", second input",
        };
        format!("{how}{tag}{input}")
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

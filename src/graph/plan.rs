//! The execution plan for people and tools: JSON and DOT.

use crate::error::{Error, Result};
use crate::graph::{JobGraph, OperatorKind, Partitioning};
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
            let how = match edge.partitioning {
                Partitioning::Forward => "forward",
                Partitioning::Hash => "hash",
                Partitioning::Rebalance => "rebalance",
                Partitioning::Broadcast => "broadcast",
            };
            let tag =
                edge.side_output.as_deref().map(|tag| format!(" ({})", escape(tag))).unwrap_or_default();
            let input = match edge.input {
                None => "",
                Some(InputSide::First) => ", first input",
                Some(InputSide::Second) => ", second input",
            };
            let label = format!("{how}{tag}{input}");
            _ = writeln!(dot, "  v{}_{} -> v{}_0 [label=\"{label}\"];", edge.from, edge.operator, edge.to);
        }
        dot.push_str("}\n");
        dot
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

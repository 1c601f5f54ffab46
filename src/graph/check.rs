//! Mistakes in how a program is wired, found before anything runs.

use crate::error::{Error, Result};
use crate::graph::{LogicalGraph, Node, NodeFactory, OperatorKind, Port};
use std::collections::BTreeMap;

impl LogicalGraph {
    /// Refuses inputs from outputs that do not exist.
    ///
    /// # Errors
    /// Config errors that name both operators.
    pub(super) fn check_wiring(&self) -> Result<()> {
        let mut tags: BTreeMap<(usize, &str), &str> = BTreeMap::new();
        for (reader, input) in
            self.nodes.iter().flat_map(|node| node.inputs.iter().map(move |input| (node, input)))
        {
            let Some(from) = self.nodes.get(input.from) else {
                return Err(Error::bug(format!("operator '{}' reads operator {}", reader.name, input.from)));
            };
            if from.kind == OperatorKind::Sink {
                return Err(Error::config(format!(
                    "operator '{}' reads from sink '{}', which puts nothing out",
                    reader.name, from.name
                ))
                .hint("attach both to the stream before the sink: its handle can be cloned"));
            }
            let Port::Side { name, attach } = &input.port else { continue };
            if !has_side_outputs(from) {
                return Err(Error::config(format!(
                    "operator '{}' reads side output '{name}' of operator '{}', which has no side outputs",
                    reader.name, from.name
                ))
                .hint("only process functions emit to side outputs; call side_output right behind one"));
            }
            let record = attach.record_type();
            let first = *tags.entry((input.from, name)).or_insert(record);
            if first != record {
                return Err(Error::config(format!(
                    "side output '{name}' of operator '{}' is read as {first} and, by operator '{}', as {record}",
                    from.name, reader.name
                ))
                .hint("use one OutputTag value everywhere, or give the two outputs different names"));
            }
        }
        Ok(())
    }
}

fn has_side_outputs(node: &Node) -> bool {
    match &node.factory {
        NodeFactory::Source(_) => false,
        NodeFactory::Operator(factory) => factory.has_side_outputs(),
    }
}

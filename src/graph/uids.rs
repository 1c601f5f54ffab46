//! What a person should know of operators whose state is matched by a uid that they did not choose.

use crate::graph::Program;
use crate::graph::logical::NodeFactory;
use crate::graph::program::NodeRuntime;

impl Program {
    /// The warning of operators that can keep state and have no uid of their own; `None` if there are none.
    pub(crate) fn derived_uids(&self) -> Option<String> {
        let named: Vec<_> = self
            .nodes
            .iter()
            .filter(|node| node.keeps_state() && !self.has_own_uid(node))
            .map(|node| format!("'{}' ({})", node.name, node.uid))
            .collect();
        (!named.is_empty()).then(|| {
            format!(
                "these operators keep state and have no uid of their own: {}. Theirs are made of their place in the \
                 program: when you insert, remove or rename operators, their state in checkpoints and savepoints is no \
                 longer found. Give each one with .uid(\"...\")",
                named.join(", ")
            )
        })
    }

    fn has_own_uid(&self, node: &NodeRuntime) -> bool {
        self.job_graph.operators().any(|(_, operator)| operator.uid == node.uid && operator.uid_is_explicit)
    }
}

impl NodeRuntime {
    fn keeps_state(&self) -> bool {
        match &self.factory {
            // The positions of its splits.
            NodeFactory::Source(_) => true,
            NodeFactory::Operator(operator) => operator.keeps_state(),
        }
    }
}

#[cfg(test)]
#[path = "uids_tests.rs"]
mod tests;

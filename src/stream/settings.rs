//! Settings of the operator a stream comes out of: name, uid, parallelism, chaining.

use crate::error::Error;
use crate::function::Data;
use crate::graph::{Node, Port};
use crate::stream::DataStream;

impl<T: Data> DataStream<T> {
    /// Names the operator for people.
    pub fn name(self, name: &str) -> Self {
        self.set("name", |node| node.name = name.to_owned())
    }

    /// Gives the operator an identity that outlives changes of the program; state is matched by it on restore.
    pub fn uid(self, uid: &str) -> Self {
        self.set("uid", |node| node.uid = Some(uid.to_owned()))
    }

    /// Number of subtasks of this operator.
    pub fn parallelism(self, parallelism: u32) -> Self {
        self.set("parallelism", |node| node.parallelism = Some(parallelism))
    }

    /// Number of key groups of this operator: the most its parallelism can ever be. Fixed for the life of its state.
    pub fn max_parallelism(self, max_parallelism: u16) -> Self {
        self.set("max_parallelism", |node| node.max_parallelism = Some(max_parallelism))
    }

    /// Does not chain this operator to the one before it.
    pub fn start_new_chain(self) -> Self {
        self.set("start_new_chain", |node| node.chain_to_previous = false)
    }

    /// Runs this operator in subtasks of its own.
    pub fn disable_chaining(self) -> Self {
        self.set("disable_chaining", |node| {
            node.chain_to_previous = false;
            node.chain_to_next = false;
        })
    }

    fn set(self, setting: &str, change: impl FnOnce(&mut Node)) -> Self {
        let mut graph = self.graph.borrow_mut();
        let only = match self.upstreams.as_slice() {
            [only] if matches!(only.port, Port::Main) && only.partitioning.is_none() => Some(only.node),
            _ => None,
        };
        match only.and_then(|node| graph.nodes.get_mut(node)) {
            Some(node) => change(node),
            None => {
                let mistake = Error::config(format!(
                    "'{setting}' was set on something that is not an operator"
                ))
                .hint("set it right behind the operator, before union, side_output, rebalance or broadcast");
                graph.mistakes.push(mistake);
            }
        }
        drop(graph);
        self
    }
}

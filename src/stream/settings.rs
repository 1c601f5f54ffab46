//! Settings of the operator a stream comes out of, or of a sink: name, uid, parallelism, chaining.

use crate::error::Error;
use crate::function::Data;
use crate::graph::Node;
use crate::stream::data_stream::Upstream;
use crate::stream::{DataStream, DataStreamSink, SharedGraph};

/// Changes the one operator behind `upstreams`; notes a mistake if there is not exactly one.
fn change(graph: &SharedGraph, upstreams: &[Upstream], setting: &str, change: impl FnOnce(&mut Node)) {
    let mut graph = graph.borrow_mut();
    let only = match upstreams {
        [only] if only.is_plain_output() => Some(only.node),
        _ => None,
    };
    match only.and_then(|node| graph.nodes.get_mut(node)) {
        Some(node) => change(node),
        None => {
            let mistake = Error::config(format!("'{setting}' was set on something that is not an operator"))
                .hint("set it right behind the operator, before union, side_output, rebalance or broadcast");
            graph.mistakes.push(mistake);
        }
    }
}

macro_rules! settings {
    () => {
        /// Names the operator for people.
        pub fn name(self, name: &str) -> Self {
            change(&self.graph, &self.upstreams, "name", |node| node.name = name.to_owned());
            self
        }

        /// Gives the operator an identity that outlives changes of the program; state is matched by it on restore.
        pub fn uid(self, uid: &str) -> Self {
            change(&self.graph, &self.upstreams, "uid", |node| node.uid = Some(uid.to_owned()));
            self
        }

        /// Number of subtasks of this operator.
        pub fn parallelism(self, parallelism: u32) -> Self {
            change(&self.graph, &self.upstreams, "parallelism", |node| node.parallelism = Some(parallelism));
            self
        }

        /// Number of key groups of this operator: the most its parallelism can ever be. Fixed for the life of its
        /// state.
        pub fn max_parallelism(self, max_parallelism: u16) -> Self {
            change(&self.graph, &self.upstreams, "max_parallelism", |node| {
                node.max_parallelism = Some(max_parallelism);
            });
            self
        }

        /// Runs this operator, and those behind it that name no other group, in slots of their own: subtasks of different
        /// groups never share a slot. So a heavy operator can have a taskmanager for itself. The job then needs as
        /// many slots as the highest parallelisms of its groups together. A source that names none is in the group
        /// `default`, and so is an operator with inputs of different groups.
        pub fn slot_sharing_group(self, group: &str) -> Self {
            change(&self.graph, &self.upstreams, "slot_sharing_group", |node| {
                node.slot_sharing_group = Some(group.to_owned());
            });
            self
        }

        /// Does not chain this operator to the one before it.
        pub fn start_new_chain(self) -> Self {
            change(&self.graph, &self.upstreams, "start_new_chain", |node| node.chain_to_previous = false);
            self
        }

        /// Runs this operator in subtasks of its own.
        pub fn disable_chaining(self) -> Self {
            change(&self.graph, &self.upstreams, "disable_chaining", |node| {
                node.chain_to_previous = false;
                node.chain_to_next = false;
            });
            self
        }
    };
}

impl<T: Data> DataStream<T> {
    settings!();
}

impl DataStreamSink {
    settings!();
}

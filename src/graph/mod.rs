//! From a program to what is deployed: logical graph, chaining, job graph, execution plan.

mod chaining;
mod check;
mod job_graph;
mod logical;
mod plan;
mod program;
mod uids;

pub use job_graph::{Edge, JobGraph, OperatorInfo, OperatorKind, Partitioning, Vertex};
pub(crate) use logical::{
    AttachSide, ChildOperators, Input, LogicalGraph, Node, NodeFactory, OperatorBuild, OperatorFactory, Port,
    SourceFactory, join_branches,
};
pub(crate) use program::{BuildScope, Program, RestoredOperator};

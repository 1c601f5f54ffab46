//! From a program to what is deployed: logical graph, chaining, job graph, execution plan.

mod job_graph;

pub use job_graph::{Edge, JobGraph, OperatorInfo, OperatorKind, Partitioning, Vertex};

//! Recovery tests: one stateful program, run with and without faults, must publish the same output.
//!
//! Two lanes. The *simulated* lane runs jobmanager, taskmanagers and subtasks in one thread on virtual time, all chance
//! drawn from one printed seed. The *thread* lane runs the same program on real threads with a real checkpoint
//! directory, and crashes it at random times and at named points of the protocol.

pub mod connected;
pub mod counting;
pub mod leavings;
pub mod oracle;
pub mod proxy;
mod put_out;
pub mod repeating;
pub mod snapshots;
pub mod workload;

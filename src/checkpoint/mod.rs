//! Checkpoints: the protocol that makes them, the files that hold them, the store that keeps them.

mod barrier;
mod handle;

pub use barrier::{Barrier, CheckpointKind};
pub use handle::{OperatorHandles, StateFileKind, StateHandle, SubtaskSnapshot, SubtaskTimings};

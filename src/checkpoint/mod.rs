//! Checkpoints: the protocol that makes them, the files that hold them, the store that keeps them.

mod barrier;
mod crash_points;
mod handle;

pub use barrier::{Barrier, CheckpointKind};
pub use crash_points::{CrashAction, CrashPoints, CRASH_POINTS};
pub use handle::{OperatorHandles, StateFileKind, StateHandle, SubtaskSnapshot, SubtaskTimings};

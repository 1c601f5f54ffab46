//! Checkpoints: the protocol that makes them, the files that hold them, the store that keeps them.

mod barrier;
mod config;
mod coordinator;
mod crash_points;
mod envelope;
mod handle;
mod manifest;
mod request;
mod restore;

pub use barrier::{Barrier, CheckpointKind};
pub use config::{CheckpointConfig, Retention};
pub use coordinator::{CheckpointAction, CheckpointCounters, CompletedCheckpoint, Coordinator};
pub use crash_points::{CRASH_POINTS, CrashAction, CrashPoints};
pub use handle::{OperatorHandles, StateFileKind, StateHandle, SubtaskSnapshot, SubtaskTimings};
pub use manifest::{EnumeratorState, MANIFEST_FORMAT, Manifest, OperatorState, manifest_path};
pub use request::{
    Commit, Loaded, RequestId, StoreReply, StoreRequest, Sweep, TerminalRecord, TerminalStatus,
};
pub use restore::{RestorePlan, plan_restore};

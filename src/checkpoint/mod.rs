//! Checkpoints: the protocol that makes them, the files that hold them, the store that keeps them.

mod barrier;
mod config;
mod coordinator;
mod crash_points;
mod envelope;
mod epoch;
mod execute;
#[cfg(any(test, feature = "testing"))]
pub mod fault_store;
mod handle;
mod manifest;
mod open;
mod request;
mod resolve;
mod restore;
#[cfg(test)]
mod restore_tests;
mod store;
#[cfg(test)]
mod store_tests;

pub use barrier::{Barrier, CheckpointKind};
pub use config::{CheckpointConfig, Retention};
pub use coordinator::{CheckpointAction, CheckpointCounters, CompletedCheckpoint, Coordinator};
pub use crash_points::{CRASH_POINTS, CrashAction, CrashPoints};
pub use epoch::{claim_leadership, latest_completed};
pub use execute::{execute, read_status};
pub use handle::{OperatorHandles, StateFileKind, StateHandle, SubtaskSnapshot, SubtaskTimings};
pub use manifest::{EnumeratorState, MANIFEST_FORMAT, Manifest, OperatorState, manifest_path};
pub use request::{
    Commit, Dispose, Loaded, RequestId, StoreReply, StoreRequest, Sweep, TerminalRecord, TerminalStatus,
};
pub use resolve::resolve_restore_path;
pub use restore::{RestoreFrom, RestorePlan, plan_restore};
pub use store::{CheckpointStore, JobStore};

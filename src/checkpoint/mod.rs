//! Checkpoints: the protocol that makes them, the files that hold them, the store that keeps them.

mod barrier;
mod calls;
mod claim;
#[cfg(test)]
mod claim_tests;
mod comparison;
mod config;
mod coordinator;
mod crash_points;
mod download;
pub(crate) mod envelope;
mod epoch;
mod execute;
#[cfg(any(test, feature = "testing"))]
pub mod fault_store;
mod fsck;
#[cfg(test)]
mod fsck_tests;
mod handle;
mod history;
mod inherit;
mod inspect;
mod manifest;
mod object_upload;
mod open;
mod permit;
mod request;
mod resolve;
mod restore;
#[cfg(test)]
mod restore_tests;
mod savepoint;
mod savepoint_place;
mod savepoint_writer;
mod staged;
mod state_reader;
mod status;
mod store;
#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod transfer_tests;

pub use barrier::{Barrier, CheckpointKind};
pub use claim::RestoreMode;
pub(crate) use claim::{claim, names_checkpoint};
pub use config::{CheckpointConfig, CheckpointMode, Retention};
pub use coordinator::{CheckpointAction, CheckpointCounters, CompletedCheckpoint, Coordinator, Due, Stopped};
pub use crash_points::{CRASH_POINTS, CrashAction, CrashPoints};
pub(crate) use download::ReadInto;
pub(crate) use epoch::{LeaderRecord, claim_term, head, newest_leader};
pub use epoch::{claim_leadership, latest_completed};
pub use execute::execute;
pub use fsck::{
    DirectoryCheck, FsckOptions, HalfWritten, Orphan, Problem, check_directory, check_root, delete_orphans,
    delete_probes, verify_checkpoint,
};
pub(crate) use handle::file_identity;
pub use handle::{OperatorHandles, StateFileKind, StateHandle, SubtaskSnapshot, SubtaskTimings};
pub use history::{CheckpointHistory, HistoryEntry, read_history};
pub(crate) use history::{HISTORY_PATH, encode_history};
pub use inherit::Inherit;
pub use inspect::{Inspected, Place, StoredCheckpoint, open_place};
pub use manifest::{EnumeratorState, MANIFEST_FORMAT, Manifest, OperatorState, SubtaskTimes, manifest_path};
pub(crate) use object_upload::{ObjectUpload, UploadSlots};
pub(crate) use open::is_transient;
pub(crate) use permit::Permit;
pub use request::{
    Commit, Dispose, Loaded, RequestId, Rescaled, StoreReply, StoreRequest, Sweep, TerminalRecord,
    TerminalStatus,
};
pub use resolve::resolve_restore_path;
pub use restore::{RestoreFrom, RestorePlan, plan_restore};
pub(crate) use savepoint::{SAVEPOINT_MANIFEST, read_savepoint};
pub use savepoint::{Savepoint, SavepointMode, SavepointRequest};
pub(crate) use savepoint_place::announce;
pub use savepoint_writer::{KeyedStateWriter, SavepointWriter};
pub use state_reader::{OperatorSummary, RecordVisitor, StateQuery, StateReader, StateRecord, StateSummary};
pub use status::read_status;
pub use store::{CheckpointStore, JobStore};

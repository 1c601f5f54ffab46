//! A simulated taskmanager: its subtasks as plain values, stepped when the world says so.

use crate::checkpoint::CrashPoints;
use crate::cluster::taskmanager::{LocalCopies, UploadScope};
use crate::id::{Attempt, SubtaskId, WorkerId};
use crate::task::Subtask;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;
use tidegate_state::envelope::Compression;

/// Small, so that small state goes up in parts, too.
const PART_BYTES: usize = 512;

/// Tasks that were woken since the world last looked.
pub(super) type Woken = Arc<Mutex<BTreeSet<(WorkerId, Attempt, SubtaskId)>>>;

/// Remembers who was woken.
pub(super) struct TaskWaker {
    pub(super) task: (WorkerId, Attempt, SubtaskId),
    pub(super) woken: Woken,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).insert(self.task);
    }
}

/// A subtask with its place in the schedule.
pub(super) struct SimulatedTask {
    pub(super) task: Subtask,
    /// When its next step is due, if one is planned; a later plan for the same task replaces it.
    pub(super) due_us: Option<u64>,
}

/// A taskmanager process.
pub(super) struct SimulatedWorker {
    pub(super) index: u32,
    pub(super) tasks: BTreeMap<(Attempt, SubtaskId), SimulatedTask>,
    pub(super) crash_points: CrashPoints,
    pub(super) upload: UploadScope,
    /// It hangs.
    pub(super) is_frozen: bool,
}

impl SimulatedWorker {
    pub(super) fn new(index: u32, id: WorkerId, crash_points: CrashPoints, compression: Compression) -> Self {
        let upload = UploadScope::new(u64::from(id.0), crash_points.clone())
            .with_copies(LocalCopies::below(None))
            .with_parts_of(PART_BYTES)
            .with_compression(compression);
        Self { index, tasks: BTreeMap::new(), crash_points, upload, is_frozen: false }
    }
}

//! The taskmanager: runs subtasks, stores their snapshots, answers the jobmanager.

mod restore;
mod runner;
mod upload;
mod worker;

pub(crate) use restore::load_restored;
pub(crate) use upload::{UploadScope, encode_snapshot, upload_files};
pub(crate) use worker::{Hubs, ProcessClock, TaskManager, TaskManagerParts};

//! The taskmanager: runs subtasks, stores their snapshots, answers the jobmanager.

mod blocking;
mod destination;
mod local_copies;
mod process;
mod restore;
mod runner;
mod stored;
mod upload;
mod worker;

pub(crate) use blocking::Blocking;
pub(crate) use destination::destination;
pub(crate) use local_copies::LocalCopies;
pub(crate) use process::TaskManagerProcess;
pub(crate) use restore::{load_restored, read_in_flight, read_operator_state};
pub(crate) use stored::{ReadFrom, StoredSnapshot};
pub(crate) use upload::{Upload, UploadScope};
pub(crate) use worker::{Hubs, ProcessClock, TaskManager, TaskManagerParts};

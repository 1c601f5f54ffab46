//! Savepoints: what is asked for, and what comes of it.
//!
//! A savepoint is a directory of its own with a manifest at the top and all files it names below. Every path in it is
//! relative, so that it can be copied anywhere. It belongs to the person who asked for it: no job deletes it.
//!
//! ```text
//! <target>/savepoint-<job>-<random>/manifest.json
//!                                  /chk-N/<files>
//! ```

use crate::checkpoint::{JobStore, Manifest};
use crate::error::{Error, Result};
use crate::id::CheckpointId;
use serde::{Deserialize, Serialize};

/// Name of a savepoint's manifest in its directory.
pub(crate) const SAVEPOINT_MANIFEST: &str = "manifest.json";

/// What becomes of the job once the savepoint is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SavepointMode {
    /// It goes on. What the savepoint covers is published by the next checkpoint.
    #[default]
    Continue,
    /// It stops: nothing is processed after the cut, the savepoint's output is published, the job ends as finished.
    Stop,
    /// As `Stop`, but event time is brought to its end before the cut: all event-time timers fire and every operator
    /// is told that its input has ended. For programs that are not to be resumed.
    Drain,
}

/// A savepoint to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavepointRequest {
    /// Named in the answer.
    pub id: u64,
    /// The directory or URL below which the savepoint's own directory is made.
    pub target: String,
    /// What follows.
    pub mode: SavepointMode,
}

/// A complete savepoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Savepoint {
    /// Its number among the job's checkpoints.
    pub checkpoint: CheckpointId,
    /// Its directory: what to name after `--restore`.
    pub location: String,
    /// Bytes of state in it.
    pub state_bytes: u64,
}

/// Reads the savepoint in the directory of `store`; `None` if there is none.
pub(crate) async fn read_savepoint(store: &JobStore) -> Result<Option<Manifest>> {
    let shown = store.shown(SAVEPOINT_MANIFEST);
    let Some(bytes) = store.get(SAVEPOINT_MANIFEST).await? else { return Ok(None) };
    let manifest = Manifest::decode(&bytes, &shown)?;
    if !manifest.kind.is_savepoint() || manifest.location.is_some() {
        return Err(Error::data("the manifest is not that of a savepoint").at(shown));
    }
    Ok(Some(manifest))
}

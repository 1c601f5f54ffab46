//! How a job ended: the last entry of its commit log, and a copy of it for people, `status.json`.
//!
//! Invariant: the entry comes first. It takes a place in the log that a successor would have to take as well, so either it
//! ends the job for every later leader, or the successor has the job and it never comes to be. A leader that is held up
//! between its entry and the file writes, however late, what the log says.

use crate::checkpoint::epoch::{EpochRecord, head, take_place};
use crate::checkpoint::{CrashPoints, JobStore, Permit, TerminalRecord, envelope};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

const STATUS: &str = "tidegate-status";
pub(crate) const STATUS_PATH: &str = "status.json";

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StatusFile {
    #[serde(flatten)]
    pub(super) ended: TerminalRecord,
    /// The entry of the commit log that says so, too; none in files of older builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) record: Option<u64>,
}

/// Ends a job, for the leader that runs it. Repeating it is fine.
///
/// # Errors
/// Fenced if there is a later leader, or an earlier one has ended the job; the store's.
pub(super) async fn end(store: &JobStore, crash: &CrashPoints, ended: &TerminalRecord) -> Result<()> {
    let nonce = format!("end-{}", ended.leader_epoch);
    write(store, crash, ended, &nonce, not_ended).await
}

/// Says of a job anew how it ended, for one that has taken its leadership to clean up behind it.
pub(super) async fn end_again(store: &JobStore, crash: &CrashPoints, ended: &TerminalRecord) -> Result<()> {
    let nonce = format!("cleanup-{}", ended.leader_epoch);
    write(store, crash, ended, &nonce, |_| Ok(())).await
}

/// Refuses to run a job that has ended.
pub(super) fn not_ended(last: &EpochRecord) -> Result<()> {
    match &last.ended {
        None => Ok(()),
        Some(ended) => Err(Error::fenced(format!(
            "the job has ended in term {}, before this leader came to run it: {}",
            ended.leader_epoch, ended.status
        ))),
    }
}

async fn write(
    store: &JobStore,
    crash: &CrashPoints,
    ended: &TerminalRecord,
    nonce: &str,
    allows: impl Fn(&EpochRecord) -> Result<()>,
) -> Result<()> {
    let permit = Permit::of_leader(store, ended.leader_epoch).await?;
    let says_so = |mine: &mut EpochRecord| {
        allows(mine)?;
        mine.ended = Some(ended.clone());
        Ok(())
    };
    let entry = take_place(store, crash, "job.before_terminal", &permit, nonce, says_so).await?;
    // A place that a successor had taken and deleted again is no place in the log.
    let permit = Permit::of_leader(store, ended.leader_epoch).await?;
    crash.reach("job.ended_no_status").await?;
    let file = StatusFile { ended: ended.clone(), record: Some(entry.number) };
    store.replace(&permit, STATUS_PATH, envelope::seal(STATUS, &file)?).await
}

pub(super) async fn read_status_file(store: &JobStore) -> Result<Option<StatusFile>> {
    match store.get(STATUS_PATH).await? {
        Some(bytes) => envelope::open(STATUS, &bytes, &store.shown(STATUS_PATH)).map(Some),
        None => Ok(None),
    }
}

/// How a job ended; `None` if it has not.
///
/// # Errors
/// The store's, and a data error if the newest entry of the commit log, or the file, cannot be read.
pub async fn read_status(store: &JobStore) -> Result<Option<TerminalRecord>> {
    match head(store).await?.and_then(|last| last.ended) {
        Some(ended) => Ok(Some(ended)),
        None => Ok(read_status_file(store).await?.map(|file| file.ended)),
    }
}

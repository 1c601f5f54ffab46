//! What a job leaves in its store: whatever was killed or hung, clean-up finds all that is not kept.

use futures::TryStreamExt;
use futures::executor::block_on;
use object_store::ObjectStore;
use std::sync::Arc;
use tidegate::checkpoint::{CheckpointStore, FsckOptions, Place, check_directory, delete_orphans};
use tidegate::error::{Error, Result};
use tidegate::testing::simulation::SIMULATED_STORE;

/// Cleans up behind jobs that nobody runs any more. Then there are the files of the protocol, checkpoints that are kept, and
/// savepoints, all whole, and nothing else. Returns how many objects were left over.
///
/// # Errors
/// What is left or damaged.
pub fn check(store: &Arc<dyn ObjectStore>) -> Result<usize> {
    let root = CheckpointStore::over(Arc::clone(store), "", SIMULATED_STORE);
    let options = FsckOptions { now_ms: u64::MAX, grace_ms: 0 };
    let (mut whole, mut deleted) = (Vec::new(), 0);
    for place in block_on(root.places())? {
        let directory = match &place {
            Place::Job(job) => {
                deleted += block_on(delete_orphans(job, "fsck", options))?.len();
                job
            }
            Place::Savepoint(directory) => directory,
            other => return Err(Error::data(format!("found {other:?}"))),
        };
        let check = block_on(check_directory(directory, options))?;
        if check.is_damaged() || check.has_leavings() {
            return Err(Error::data(format!("left: {check:?}")));
        }
        whole.push(directory.location());
    }
    let objects: Vec<_> = block_on(store.list(None).try_collect()).map_err(|e| Error::data(e.to_string()))?;
    let shown = objects.iter().map(|o| format!("{SIMULATED_STORE}/{}", o.location));
    let is_known = |path: &String| whole.iter().any(|place| path.starts_with(&format!("{place}/")));
    match shown.into_iter().find(|path| !is_known(path)) {
        Some(path) => Err(Error::data(format!("left is {path}"))),
        None => Ok(deleted),
    }
}

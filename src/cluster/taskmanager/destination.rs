//! Where the files of a checkpoint go.

use crate::checkpoint::{Barrier, CrashPoints, JobStore, announce};
use crate::error::Result;

/// The directory that the files of this checkpoint are written into, to which their handles are relative: the job's,
/// or that of a savepoint.
pub(crate) async fn destination(
    store: &JobStore,
    crash: &CrashPoints,
    barrier: &Barrier,
) -> Result<JobStore> {
    match &barrier.location {
        Some(location) => {
            // First, so that whatever is left of it is found.
            let place = async {
                announce(store, barrier.checkpoint, location).await?;
                crash.reach("savepoint.before_upload").await?;
                store.for_base(location, &[])
            };
            place.await.map_err(|e| e.at(format!("savepoint {location}")))
        }
        None => Ok(store.clone()),
    }
}

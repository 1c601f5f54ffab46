//! The committer of sinks that publish as they write.

use crate::error::Result;
use crate::function::Committer;

/// Nothing to publish, nothing to clean up.
#[derive(Clone, Copy, Debug)]
pub(super) struct NothingToCommit;

impl Committer<()> for NothingToCommit {
    fn clean_up(&mut self, _kept: &[()]) -> Result<()> {
        Ok(())
    }

    fn commit(&mut self, _committable: &()) -> Result<()> {
        Ok(())
    }
}

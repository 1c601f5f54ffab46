//! The enumerator most sources need: a list of splits, handed out first come first served.

use crate::error::Result;
use crate::function::{Data, NextSplit, SplitEnumerator};
use std::collections::VecDeque;

/// Hands out a fixed list of splits in order; then [`NextSplit::NoMore`].
#[derive(Clone, Debug)]
pub struct SplitQueue<S> {
    left: VecDeque<S>,
}

impl<S: Data> SplitQueue<S> {
    /// The splits to hand out, or those that were left at the restored checkpoint. `list` runs only at a fresh
    /// start: what was enumerated once stays as it was, whatever has changed outside since.
    ///
    /// # Errors
    /// What `list` reports, or a damaged snapshot.
    pub fn new(restored: Option<&[u8]>, list: impl FnOnce() -> Result<Vec<S>>) -> Result<Self> {
        let left = match restored {
            Some(bytes) => tidegate_state::codec::decode::<Vec<S>>(bytes)?,
            None => list()?,
        };
        Ok(Self { left: left.into() })
    }
}

impl<S: Data> SplitEnumerator<S> for SplitQueue<S> {
    fn next_split(&mut self, _subtask: u32) -> Result<NextSplit<S>> {
        Ok(self.left.pop_front().map_or(NextSplit::NoMore, NextSplit::Split))
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        tidegate_state::codec::encode(&self.left, &mut bytes)?;
        Ok(bytes)
    }
}

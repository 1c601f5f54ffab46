//! The enumerators most sources need: a list of splits, handed out first come first served, or in turn.

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

/// Hands out a fixed list of splits in turn: reader *i* of *p* gets splits *i*, *i + p*, ... and no other, so that every
/// reader has its share however early another one asks.
#[derive(Clone, Debug)]
pub struct AssignedSplits<S> {
    parallelism: u32,
    /// What is left, with the place in the original list.
    left: VecDeque<(u32, S)>,
}

impl<S: Data> AssignedSplits<S> {
    /// As [`SplitQueue::new`], for `parallelism` readers.
    ///
    /// # Errors
    /// What `list` reports, or a damaged snapshot.
    pub fn new(
        parallelism: u32,
        restored: Option<&[u8]>,
        list: impl FnOnce() -> Result<Vec<S>>,
    ) -> Result<Self> {
        let left = match restored {
            Some(bytes) => tidegate_state::codec::decode::<VecDeque<(u32, S)>>(bytes)?,
            None => (0..).zip(list()?).collect(),
        };
        Ok(Self { parallelism: parallelism.max(1), left })
    }
}

impl<S: Data> SplitEnumerator<S> for AssignedSplits<S> {
    fn next_split(&mut self, subtask: u32) -> Result<NextSplit<S>> {
        let mine =
            self.left.iter().position(|(place, _)| place % self.parallelism == subtask % self.parallelism);
        let split = mine.and_then(|index| self.left.remove(index));
        Ok(split.map_or(NextSplit::NoMore, |(_, split)| NextSplit::Split(split)))
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        tidegate_state::codec::encode(&self.left, &mut bytes)?;
        Ok(bytes)
    }
}

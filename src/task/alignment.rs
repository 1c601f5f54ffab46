//! Barrier alignment over the channels of one gate. Pure.
//!
//! From the first barrier of checkpoint *n* until the last, channels that have delivered theirs are blocked, so that
//! nothing behind the cut is processed before the cut is complete. Barriers of an older checkpoint than the one being
//! aligned are late and dropped; a newer one abandons the older alignment, since the coordinator has given it up.
//!
//! Barriers of an at-least-once checkpoint are only counted: no channel is blocked, records behind the cut are part of
//! the state and will be read again after a restore.

use crate::checkpoint::Barrier;
use crate::id::CheckpointId;
use std::collections::BTreeMap;

/// What a barrier or abort leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Alignment {
    /// Nothing to do but to respect [`Aligner::is_blocked`].
    Waiting,
    /// Every channel has delivered: take the snapshot.
    Complete(Barrier),
}

/// Alignment state of a gate.
#[derive(Debug)]
pub(crate) struct Aligner {
    /// Per channel: has delivered the current barrier.
    blocked: Vec<bool>,
    current: Option<CheckpointId>,
    arrived: usize,
    /// At-least-once checkpoints under way: who has delivered.
    counted: BTreeMap<CheckpointId, Vec<bool>>,
    /// Checkpoints at or below it are over: completed, aborted or overtaken.
    done: Option<CheckpointId>,
    /// Aborted ones above it, whose barriers may still come.
    aborted: Vec<CheckpointId>,
}

impl Aligner {
    pub(crate) fn new(channels: usize) -> Self {
        Self {
            blocked: vec![false; channels],
            current: None,
            arrived: 0,
            counted: BTreeMap::new(),
            done: None,
            aborted: Vec::new(),
        }
    }

    /// Whether the channel must not be read now.
    pub(crate) fn is_blocked(&self, channel: usize) -> bool {
        self.blocked.get(channel).copied().unwrap_or(false)
    }

    /// Whether an alignment is under way.
    pub(crate) fn is_aligning(&self) -> bool {
        self.current.is_some() || !self.counted.is_empty()
    }

    /// A channel has delivered a barrier.
    pub(crate) fn on_barrier(&mut self, channel: usize, barrier: Barrier) -> Alignment {
        let id = barrier.checkpoint;
        if self.done.is_some_and(|done| id <= done) || self.aborted.contains(&id) {
            return Alignment::Waiting;
        }
        let complete = if barrier.blocking { self.align(channel, id) } else { self.count(channel, id) };
        if !complete {
            return Alignment::Waiting;
        }
        self.give_up(id);
        Alignment::Complete(barrier)
    }

    /// Blocks the channel; whether it was the last.
    fn align(&mut self, channel: usize, id: CheckpointId) -> bool {
        match self.current {
            Some(current) if id < current => return false,
            Some(current) if id > current => self.give_up(current),
            _ => {}
        }
        self.current = Some(id);
        if let Some(blocked) = self.blocked.get_mut(channel)
            && !std::mem::replace(blocked, true)
        {
            self.arrived += 1;
        }
        self.arrived == self.blocked.len()
    }

    /// Counts the channel; whether it was the last.
    fn count(&mut self, channel: usize, id: CheckpointId) -> bool {
        let channels = self.blocked.len();
        let seen = self.counted.entry(id).or_insert_with(|| vec![false; channels]);
        if let Some(seen) = seen.get_mut(channel) {
            *seen = true;
        }
        seen.iter().all(|seen| *seen)
    }

    /// The coordinator has given up a checkpoint: its barriers, past and future, mean nothing any more.
    pub(crate) fn on_aborted(&mut self, checkpoint: CheckpointId) {
        self.counted.remove(&checkpoint);
        match self.current {
            Some(current) if current == checkpoint => self.give_up(checkpoint),
            // An abort says nothing about older checkpoints, whose barriers may be on their way.
            _ if self.done < Some(checkpoint) => self.aborted.push(checkpoint),
            _ => {}
        }
    }

    fn give_up(&mut self, checkpoint: CheckpointId) {
        self.blocked.fill(false);
        self.arrived = 0;
        self.current = None;
        self.counted.retain(|counted, _| *counted > checkpoint);
        self.done = self.done.max(Some(checkpoint));
        self.aborted.retain(|aborted| *aborted > checkpoint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::CheckpointKind;
    use proptest::prelude::*;

    fn barrier(n: u64) -> Barrier {
        Barrier::new(CheckpointId(n), CheckpointKind::Periodic, 0)
    }

    #[test]
    fn blocks_what_is_ahead_until_the_last_barrier() {
        let mut a = Aligner::new(3);
        assert_eq!(a.on_barrier(1, barrier(4)), Alignment::Waiting);
        assert!(a.is_blocked(1) && !a.is_blocked(0) && !a.is_blocked(2));
        assert_eq!(a.on_barrier(0, barrier(4)), Alignment::Waiting);
        assert_eq!(a.on_barrier(2, barrier(4)), Alignment::Complete(barrier(4)));
        assert!((0..3).all(|c| !a.is_blocked(c)));
    }

    #[test]
    fn an_aborted_checkpoint_unblocks_and_its_late_barriers_are_dropped() {
        let mut a = Aligner::new(2);
        a.on_barrier(0, barrier(1));
        a.on_aborted(CheckpointId(1));
        assert!(!a.is_blocked(0));
        assert_eq!(a.on_barrier(1, barrier(1)), Alignment::Waiting);
        assert!(!a.is_blocked(1), "a late barrier of an aborted checkpoint must not block");
        a.on_barrier(0, barrier(2));
        assert_eq!(a.on_barrier(1, barrier(2)), Alignment::Complete(barrier(2)));
    }

    #[test]
    fn aborting_a_younger_checkpoint_leaves_the_older_alignment_alone() {
        let mut a = Aligner::new(2);
        a.on_barrier(0, barrier(1));
        a.on_aborted(CheckpointId(2));
        assert!(a.is_blocked(0));
        assert_eq!(a.on_barrier(1, barrier(1)), Alignment::Complete(barrier(1)));
        assert_eq!(a.on_barrier(0, barrier(2)), Alignment::Waiting);
        assert!(!a.is_blocked(0));
    }

    #[test]
    fn a_newer_barrier_overtakes_an_unfinished_alignment() {
        let mut a = Aligner::new(2);
        a.on_barrier(0, barrier(1));
        // Channel 0 is blocked; the barrier of checkpoint 2 comes in on channel 1, whose barrier 1 was never sent.
        assert_eq!(a.on_barrier(1, barrier(2)), Alignment::Waiting);
        assert!(!a.is_blocked(0) && a.is_blocked(1));
        assert_eq!(a.on_barrier(0, barrier(2)), Alignment::Complete(barrier(2)));
    }

    fn counted(n: u64) -> Barrier {
        Barrier { blocking: false, ..barrier(n) }
    }

    #[test]
    fn at_least_once_blocks_nothing_and_completes_with_the_last_barrier() {
        let mut a = Aligner::new(2);
        assert_eq!(a.on_barrier(0, counted(1)), Alignment::Waiting);
        assert!(a.is_aligning() && !a.is_blocked(0));
        // The channel that is not blocked delivers the next one before the other has delivered the first.
        assert_eq!(a.on_barrier(0, counted(2)), Alignment::Waiting);
        assert_eq!(a.on_barrier(1, counted(1)), Alignment::Complete(counted(1)));
        assert_eq!(a.on_barrier(1, counted(2)), Alignment::Complete(counted(2)));
        assert!(!a.is_aligning());
        a.on_barrier(0, counted(3));
        a.on_aborted(CheckpointId(3));
        assert_eq!(a.on_barrier(1, counted(3)), Alignment::Waiting);
        assert!(!a.is_aligning());
    }

    #[test]
    fn a_savepoint_is_aligned_between_counted_checkpoints() {
        let mut a = Aligner::new(2);
        a.on_barrier(0, counted(1));
        assert_eq!(a.on_barrier(0, barrier(2)), Alignment::Waiting);
        assert!(a.is_blocked(0));
        assert_eq!(a.on_barrier(1, barrier(2)), Alignment::Complete(barrier(2)));
        assert_eq!(a.on_barrier(1, counted(1)), Alignment::Waiting, "overtaken");
    }

    proptest! {
        /// However the channels interleave, a checkpoint completes exactly when its last barrier arrives, and no
        /// channel is read past its barrier before that.
        #[test]
        fn completes_each_checkpoint_once_and_never_reads_past_a_barrier(
            channels in 1usize..6,
            order in proptest::collection::vec(0usize..6, 0..400),
        ) {
            let mut a = Aligner::new(channels);
            let mut delivered = vec![0u64; channels];
            let mut completed = 0;
            for pick in order {
                let channel = pick % channels;
                if a.is_blocked(channel) {
                    continue;
                }
                prop_assert_eq!(delivered[channel], completed, "read past the cut");
                delivered[channel] += 1;
                match a.on_barrier(channel, barrier(delivered[channel])) {
                    Alignment::Complete(b) => {
                        completed += 1;
                        prop_assert_eq!(b, barrier(completed));
                        prop_assert!(delivered.iter().all(|d| *d == completed));
                    }
                    Alignment::Waiting => prop_assert!(delivered.contains(&completed)),
                }
            }
        }
    }
}

//! Barrier alignment over the channels of one gate. Pure.
//!
//! From the first barrier of checkpoint *n* until the last, channels that have delivered theirs are blocked, so that
//! nothing behind the cut is processed before the cut is complete. Barriers of an older checkpoint than the one being
//! aligned are late and dropped; a newer one abandons the older alignment, since the coordinator has given it up.
//!
//! A barrier that may overtake records is *announced* before it is delivered. Once its time has come, the cut is made
//! without waiting for the barriers on channels that can be overtaken; channels that cannot are waited for as ever. What
//! stands in front of the missing barriers, or still comes there, is *collected*: it belongs to the checkpoint.
//!
//! Barriers of an at-least-once checkpoint are only counted: no channel is blocked, records behind the cut are part of
//! the state and will be read again after a restore.

use crate::checkpoint::Barrier;
use crate::id::CheckpointId;
use std::collections::BTreeMap;

/// What a barrier, or time, leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Alignment {
    /// Nothing to do but to respect [`Aligner::is_blocked`].
    Waiting,
    /// Every channel has delivered: take the snapshot.
    Complete(Barrier),
    /// Take the snapshot now, and collect what is in front of the barriers that have not been delivered.
    Overtake(Barrier),
    /// The barrier of the checkpoint that is being collected is announced on this channel: what is in front of it is the
    /// last of the channel to collect.
    Last(usize, CheckpointId),
}

/// An alignment under way.
#[derive(Debug)]
struct Current {
    barrier: Barrier,
    /// Per channel: the barrier is there, delivered or announced.
    announced: Vec<bool>,
}

/// A checkpoint whose snapshot is taken and whose records in flight are being collected.
#[derive(Debug)]
struct Collection {
    checkpoint: CheckpointId,
    /// Per channel: more is to come.
    open: Vec<bool>,
}

/// Alignment state of a gate.
#[derive(Debug)]
pub(crate) struct Aligner {
    /// Per channel: a barrier may overtake its records.
    overtakable: Vec<bool>,
    /// Per channel: has delivered the current barrier.
    blocked: Vec<bool>,
    current: Option<Current>,
    arrived: usize,
    collection: Option<Collection>,
    /// At-least-once checkpoints under way: who has delivered.
    counted: BTreeMap<CheckpointId, Vec<bool>>,
    /// Checkpoints at or below it are over: completed, aborted or overtaken.
    done: Option<CheckpointId>,
    /// Aborted ones above it, whose barriers may still come.
    aborted: Vec<CheckpointId>,
}

impl Aligner {
    /// One entry per channel: whether a barrier may overtake its records.
    pub(crate) fn new(overtakable: Vec<bool>) -> Self {
        Self {
            blocked: vec![false; overtakable.len()],
            overtakable,
            current: None,
            arrived: 0,
            collection: None,
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

    /// Whether what the channel delivers now is in flight for a checkpoint whose snapshot is taken.
    pub(crate) fn is_collecting(&self, channel: usize) -> bool {
        self.collection.as_ref().is_some_and(|c| c.open.get(channel) == Some(&true))
    }

    /// The checkpoint of which records in flight are collected.
    pub(crate) fn collects(&self) -> Option<CheckpointId> {
        self.collection.as_ref().map(|collection| collection.checkpoint)
    }

    /// The checkpoint of which everything in flight is collected; says so once.
    pub(crate) fn take_collected(&mut self) -> Option<CheckpointId> {
        let collected = self.collection.take_if(|collection| !collection.open.contains(&true))?;
        Some(collected.checkpoint)
    }

    /// When [`Self::on_time`] may have something to do, in milliseconds of the coordinator's clock.
    pub(crate) fn overtakes_at_ms(&self) -> Option<u64> {
        let current = self.current.as_ref()?;
        current.barrier.overtakes_at_ms().filter(|_| self.may_overtake())
    }

    /// A channel has delivered a barrier.
    pub(crate) fn on_barrier(&mut self, channel: usize, barrier: Barrier, now_ms: u64) -> Alignment {
        let id = barrier.checkpoint;
        self.close(channel, id);
        if self.is_over(id) {
            return Alignment::Waiting;
        }
        if !barrier.blocking {
            return if self.count(channel, id) { self.complete(barrier) } else { Alignment::Waiting };
        }
        if !self.enter(channel, &barrier) {
            return Alignment::Waiting;
        }
        if let Some(blocked) = self.blocked.get_mut(channel)
            && !std::mem::replace(blocked, true)
        {
            self.arrived += 1;
        }
        if self.arrived == self.blocked.len() { self.complete(barrier) } else { self.on_time(now_ms) }
    }

    /// A barrier that may overtake is on its way in this channel.
    pub(crate) fn on_announced(&mut self, channel: usize, barrier: &Barrier, now_ms: u64) -> Alignment {
        let id = barrier.checkpoint;
        if self.is_collecting(channel) {
            self.close(channel, id);
            if self.collection.as_ref().is_some_and(|collection| collection.checkpoint == id) {
                return Alignment::Last(channel, id);
            }
        }
        if self.is_over(id) || !self.enter(channel, barrier) {
            return Alignment::Waiting;
        }
        self.on_time(now_ms)
    }

    /// Time has passed: overtakes if it is due.
    pub(crate) fn on_time(&mut self, now_ms: u64) -> Alignment {
        if self.overtakes_at_ms().is_none_or(|at_ms| at_ms > now_ms) {
            return Alignment::Waiting;
        }
        let Some(current) = self.current.take() else { return Alignment::Waiting };
        let checkpoint = current.barrier.checkpoint;
        self.give_up(checkpoint);
        // Those whose barrier is announced have their last records collected at once.
        let open = current.announced.iter().map(|announced| !announced).collect();
        self.collection = Some(Collection { checkpoint, open });
        Alignment::Overtake(current.barrier)
    }

    /// The coordinator has given up a checkpoint: its barriers, past and future, mean nothing any more.
    pub(crate) fn on_aborted(&mut self, checkpoint: CheckpointId) {
        self.counted.remove(&checkpoint);
        self.collection.take_if(|collection| collection.checkpoint == checkpoint);
        match &self.current {
            Some(current) if current.barrier.checkpoint == checkpoint => self.give_up(checkpoint),
            // An abort says nothing about older checkpoints, whose barriers may be on their way.
            _ if self.done < Some(checkpoint) => self.aborted.push(checkpoint),
            _ => {}
        }
    }

    fn is_over(&self, id: CheckpointId) -> bool {
        self.done.is_some_and(|done| id <= done) || self.aborted.contains(&id)
    }

    /// Takes the barrier of a channel into the alignment, a new one if there is none of it; whether it counts.
    fn enter(&mut self, channel: usize, barrier: &Barrier) -> bool {
        let id = barrier.checkpoint;
        if let Some(current) = &self.current {
            let current = current.barrier.checkpoint;
            if id < current {
                return false;
            }
            if id > current {
                self.give_up(current);
            }
        }
        let channels = self.blocked.len();
        let current = self
            .current
            .get_or_insert_with(|| Current { barrier: barrier.clone(), announced: vec![false; channels] });
        if let Some(announced) = current.announced.get_mut(channel) {
            *announced = true;
        }
        true
    }

    /// Whether every channel that cannot be overtaken has delivered.
    fn may_overtake(&self) -> bool {
        self.overtakable.iter().zip(&self.blocked).all(|(overtakable, blocked)| *overtakable || *blocked)
    }

    /// Nothing more of the channel is in flight for the checkpoint; for an older one neither, whose barrier never came.
    fn close(&mut self, channel: usize, checkpoint: CheckpointId) {
        let Some(collection) = &mut self.collection else { return };
        match collection.open.get_mut(channel) {
            Some(open) if collection.checkpoint == checkpoint => *open = false,
            Some(true) if collection.checkpoint < checkpoint => self.collection = None,
            _ => {}
        }
    }

    fn complete(&mut self, barrier: Barrier) -> Alignment {
        self.give_up(barrier.checkpoint);
        Alignment::Complete(barrier)
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
#[path = "alignment_tests.rs"]
mod tests;

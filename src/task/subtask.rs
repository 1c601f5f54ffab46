//! A subtask as a state machine: messages and steps in, outputs out. It reads no clock, sends nothing and never
//! blocks; whoever drives it does.

use crate::checkpoint::{Barrier, CrashPoints};
use crate::error::{Error, Result};
use crate::id::{CheckpointId, OperatorUid, SubtaskId};
use crate::operator::{ChainSnapshot, Control, take_panicked_operator};
use crate::task::{Head, HeadEvent, Progress};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How long a partly filled batch may wait under load, in milliseconds. A task that runs out of input flushes at
/// once.
const BUFFER_TIMEOUT_MS: i64 = 10;

/// To a subtask, in the order sent by the jobmanager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskMessage {
    /// Every subtask of the job has its state: process.
    Start,
    /// Start a checkpoint (sources only).
    Trigger(Barrier),
    /// A checkpoint is durable.
    Completed(CheckpointId),
    /// A checkpoint was given up.
    Aborted(CheckpointId),
    /// A split for the source; `None`: there are no more.
    Split(Option<Vec<u8>>),
    /// The source ends as if its input had ended.
    Drain,
    /// The final checkpoint is committed: end.
    Finish,
}

/// From a subtask.
#[derive(Debug)]
pub enum TaskOutput {
    /// The source wants a split.
    NeedSplit(OperatorUid),
    /// State has just been frozen.
    Frozen,
    /// Everything of a checkpoint is frozen: serialise, upload, acknowledge.
    Snapshot {
        /// The checkpoint.
        barrier: Barrier,
        /// The frozen state.
        chain: ChainSnapshot,
        /// Milliseconds between the first and the last barrier.
        alignment_ms: i64,
    },
    /// All input is processed.
    Drained,
}

/// How a subtask goes on.
#[derive(Debug)]
pub enum Step {
    /// There is more to do at once.
    Ready,
    /// Nothing to do until woken, or until this processing time (milliseconds since the Unix epoch).
    Wait(Option<i64>),
    /// Ended after [`TaskMessage::Finish`].
    Finished,
}

/// One parallel instance of a chain.
pub struct Subtask {
    id: SubtaskId,
    /// Vertex name and subtask number, for messages to people.
    label: String,
    source: Option<OperatorUid>,
    head: Box<dyn Head>,
    /// When the chain wants processing time.
    next_timer_ms: Option<i64>,
    last_flush_ms: i64,
    /// Something was processed since the last flush.
    dirty: bool,
    aligning_since_ms: Option<i64>,
    /// A snapshot that waits for the records in flight that belong to it.
    incomplete: Option<Incomplete>,
    /// [`TaskMessage::Start`] has come: before it nothing is processed, so that no user code sees a record of a job
    /// whose state is not whole.
    started: bool,
    /// The cut with which the job stops is taken: nothing is processed until it is given up or the job ends.
    held_by: Option<CheckpointId>,
    finished: bool,
    crash_points: CrashPoints,
}

struct Incomplete {
    barrier: Barrier,
    chain: ChainSnapshot,
    since_ms: i64,
}

impl std::fmt::Debug for Subtask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subtask").field("id", &self.id).field("label", &self.label).finish_non_exhaustive()
    }
}

impl Subtask {
    pub(crate) fn new(
        id: SubtaskId,
        label: String,
        source: Option<OperatorUid>,
        head: Box<dyn Head>,
        crash_points: CrashPoints,
    ) -> Self {
        Self {
            id,
            label,
            source,
            head,
            // A restored chain may hold timers that are due.
            next_timer_ms: Some(i64::MIN),
            last_flush_ms: 0,
            dirty: false,
            aligning_since_ms: None,
            incomplete: None,
            started: false,
            held_by: None,
            finished: false,
            crash_points,
        }
    }

    /// Which subtask it is.
    pub fn id(&self) -> SubtaskId {
        self.id
    }

    /// Takes a message.
    ///
    /// # Errors
    /// Fails the subtask: it must not be stepped again.
    pub fn deliver(
        &mut self,
        message: TaskMessage,
        now_ms: i64,
        outputs: &mut Vec<TaskOutput>,
    ) -> Result<()> {
        self.guarded(|task| match message {
            TaskMessage::Start => {
                task.started = true;
                Ok(())
            }
            TaskMessage::Trigger(barrier) => {
                // What the clock says now is part of what is frozen: timers that are due fire first.
                task.fire_timers(now_ms)?;
                task.snapshot(barrier, 0, outputs)
            }
            TaskMessage::Completed(checkpoint) => {
                task.crash_points.reach_sync("notify.received")?;
                task.head.control(&mut Control::Completed(checkpoint))
            }
            TaskMessage::Aborted(checkpoint) => {
                task.aligning_since_ms = None;
                task.incomplete.take_if(|incomplete| incomplete.barrier.checkpoint == checkpoint);
                if task.held_by == Some(checkpoint) {
                    task.held_by = None;
                }
                task.head.event(HeadEvent::Aborted(checkpoint))
            }
            TaskMessage::Split(split) => task.head.event(HeadEvent::Split(split)),
            TaskMessage::Drain => {
                task.crash_points.reach_sync("drain.received")?;
                task.head.event(HeadEvent::Drain)
            }
            TaskMessage::Finish => {
                if task.held_by.is_some() || !task.started {
                    task.crash_points.reach_sync("stop.finish")?;
                }
                task.finished = true;
                Ok(())
            }
        })
    }

    /// Does a bounded amount of work. `now_ms` is processing time in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// Fails the subtask: it must not be stepped again.
    pub fn step(&mut self, now_ms: i64, outputs: &mut Vec<TaskOutput>) -> Result<Step> {
        self.guarded(|task| task.step_inner(now_ms, outputs))
    }

    fn step_inner(&mut self, now_ms: i64, outputs: &mut Vec<TaskOutput>) -> Result<Step> {
        if self.finished {
            return Ok(Step::Finished);
        }
        if !self.started {
            return Ok(Step::Wait(None));
        }
        let ahead = self.head.look_ahead(now_ms)?;
        let Progress::Idle(look_again_ms) = ahead else { return self.progress(ahead, now_ms, outputs) };
        let mut blocked = false;
        self.head.control(&mut Control::Drain(&mut blocked))?;
        if blocked || self.held_by.is_some() {
            return Ok(Step::Wait(look_again_ms));
        }
        if self.next_timer_ms.is_some_and(|due| due <= now_ms) {
            self.fire_timers(now_ms)?;
        }
        match self.head.step(now_ms)? {
            Progress::Idle(until) => {
                // Nothing may stay in an open batch while the task sleeps: neither what timers have emitted, nor
                // what a reader has emitted in the same poll in which it found that it has to wait.
                self.fire_timers(now_ms)?;
                self.flush(now_ms)?;
                Ok(Step::Wait([until, self.next_timer_ms, look_again_ms].into_iter().flatten().min()))
            }
            progress => self.progress(progress, now_ms, outputs),
        }
    }

    fn progress(&mut self, progress: Progress, now_ms: i64, outputs: &mut Vec<TaskOutput>) -> Result<Step> {
        match progress {
            Progress::Worked => {
                if !self.dirty {
                    self.dirty = true;
                    self.last_flush_ms = now_ms;
                    // Records may have registered timers.
                    self.fire_timers(now_ms)?;
                } else if now_ms - self.last_flush_ms >= BUFFER_TIMEOUT_MS {
                    self.flush(now_ms)?;
                }
                Ok(Step::Ready)
            }
            Progress::Idle(until) => Ok(Step::Wait(until)),
            Progress::NeedSplit => {
                outputs.extend(self.source.clone().map(TaskOutput::NeedSplit));
                Ok(Step::Ready)
            }
            Progress::Aligning => {
                self.aligning_since_ms = Some(now_ms);
                self.crash_points.reach_sync("barrier.first")?;
                Ok(Step::Ready)
            }
            Progress::Aligned(barrier) => {
                let since = self.aligning_since_ms.take().unwrap_or(now_ms);
                self.snapshot(barrier, now_ms - since, outputs)?;
                Ok(Step::Ready)
            }
            Progress::Overtaken(barrier) => {
                let since_ms = self.aligning_since_ms.take().unwrap_or(now_ms);
                self.crash_points.reach_sync("barrier.overtaken")?;
                let chain = self.freeze(barrier.clone())?;
                outputs.push(TaskOutput::Frozen);
                self.incomplete = Some(Incomplete { barrier, chain, since_ms });
                Ok(Step::Ready)
            }
            Progress::Collected(checkpoint) => {
                let incomplete = self.incomplete.take_if(|waits| waits.barrier.checkpoint == checkpoint);
                if let Some(Incomplete { barrier, mut chain, since_ms }) = incomplete {
                    self.crash_points.reach_sync("in_flight.collected")?;
                    self.head.put_in_flight(&mut chain);
                    let alignment_ms = now_ms - since_ms;
                    outputs.push(TaskOutput::Snapshot { barrier, chain, alignment_ms });
                }
                Ok(Step::Ready)
            }
            Progress::Ended => {
                self.flush(now_ms)?;
                outputs.push(TaskOutput::Drained);
                Ok(Step::Ready)
            }
        }
    }

    /// Lets processing-time timers fire and asks when the next is due.
    fn fire_timers(&mut self, now_ms: i64) -> Result<()> {
        let mut next_ms = None;
        self.head.control(&mut Control::Time { now_ms, next_ms: &mut next_ms })?;
        self.next_timer_ms = next_ms;
        Ok(())
    }

    fn flush(&mut self, now_ms: i64) -> Result<()> {
        self.dirty = false;
        self.last_flush_ms = now_ms;
        self.head.control(&mut Control::Flush)
    }

    fn snapshot(&mut self, barrier: Barrier, alignment_ms: i64, outputs: &mut Vec<TaskOutput>) -> Result<()> {
        self.crash_points.reach_sync("barrier.aligned")?;
        let chain = self.freeze(barrier.clone())?;
        outputs.push(TaskOutput::Frozen);
        if barrier.kind.is_stop() {
            self.crash_points.reach_sync("stop.barrier")?;
            self.held_by = Some(barrier.checkpoint);
        }
        outputs.push(TaskOutput::Snapshot { barrier, chain, alignment_ms });
        Ok(())
    }

    fn freeze(&mut self, barrier: Barrier) -> Result<ChainSnapshot> {
        let mut chain = ChainSnapshot::default();
        self.head.barrier(barrier, &mut chain)?;
        self.crash_points.reach_sync("snapshot.sync")?;
        Ok(chain)
    }

    /// User code runs in there: a panic becomes an error that names operator and subtask.
    fn guarded<R>(&mut self, run: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        match catch_unwind(AssertUnwindSafe(|| run(self))) {
            Ok(result) => result.map_err(|e| e.at(&self.label)),
            Err(payload) => Err(panic_error(payload.as_ref()).at(&self.label)),
        }
    }
}

/// A caught panic as an error that asks for a restart.
pub(crate) fn panic_error(payload: &(dyn Any + Send)) -> Error {
    let text = payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without text".to_owned());
    let error = Error::restart_job(format!("user code panicked: {text}"));
    match take_panicked_operator() {
        Some(operator) => error.at(format_args!("operator '{operator}'")),
        None => error,
    }
}

#[cfg(test)]
#[path = "subtask_tests.rs"]
mod tests;

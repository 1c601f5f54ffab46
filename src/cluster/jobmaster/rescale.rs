//! The parallelism of a job: what the program says, what a person has asked for since, what the slots allow.
//!
//! A running job changes its parallelism by a fresh checkpoint, a stop of all subtasks and a restore at the new
//! parallelism. What a person has asked for is written into the commit log with the read that the restore begins with,
//! so that a later leader keeps it; it lapses when the program asks for another parallelism than it did then.
//!
//! An adaptive job (one with a minimum) that finds fewer slots than it needs waits until their number has been the same
//! for the settling time, and then runs on those there are. It grows in the same way.

use super::failure::Then;
use super::{JobMaster, JobNotice, Phase, Scope};
use crate::checkpoint::Rescaled;
use crate::cluster::message::Failure;
use crate::error::Error;
use crate::graph::JobGraph;
use crate::id::CheckpointId;

/// A change of parallelism that waits for its checkpoint.
#[derive(Clone, Debug)]
pub(super) struct PendingRescale {
    /// Who asked for it; none if it was the slots.
    request: Option<u64>,
    rescaled: Option<Rescaled>,
    /// Its checkpoint, once triggered.
    checkpoint: Option<CheckpointId>,
}

impl JobMaster {
    pub(super) fn slots_available(&self) -> u32 {
        self.workers.values().fold(0, |sum, slots| sum.saturating_add(*slots))
    }

    /// The program at another parallelism, within what the key groups of the restored state allow.
    fn at(&self, parallelism: u32) -> JobGraph {
        let mut limited = self.config.graph.clone();
        let known = self.graph.vertices.iter().flat_map(|v| &v.operators);
        let operators = limited.vertices.iter_mut().flat_map(|v| &mut v.operators);
        operators.zip(known).for_each(|(operator, known)| operator.max_parallelism = known.max_parallelism);
        self.with_parallelism_of(&limited.scaled(parallelism))
    }

    /// The program as it was written, at the parallelism of another form of it.
    fn with_parallelism_of(&self, other: &JobGraph) -> JobGraph {
        let mut graph = self.config.graph.clone();
        let pairs = graph.vertices.iter_mut().zip(&other.vertices);
        pairs.for_each(|(vertex, other)| vertex.parallelism = other.parallelism);
        graph
    }

    /// The graph at the parallelism asked for.
    pub(super) fn wanted_graph(&self) -> JobGraph {
        let program = &self.config.graph;
        match self.coordinator.rescaled() {
            Some(rescaled) if rescaled.from == program.parallelism() => self.at(rescaled.to),
            _ => program.clone(),
        }
    }

    /// The graph to run on the slots that are there; `None` if they are too few.
    pub(super) fn fitting_graph(&self) -> Option<JobGraph> {
        let (wanted, available) = (self.wanted_graph(), self.slots_available());
        if wanted.slots_needed() <= available {
            return Some(wanted);
        }
        let least = self.config.min_parallelism?.max(1);
        let mut smaller = (least..wanted.parallelism()).rev().map(|parallelism| self.at(parallelism));
        smaller.find(|graph| graph.slots_needed() <= available)
    }

    /// A person wants another parallelism.
    pub(super) fn rescale_requested(&mut self, request: u64, parallelism: u32, now_ms: u64) {
        match self.check_rescale(parallelism) {
            Err(e) => self.rescale_failed(Some(request), &Failure::from(&e)),
            Ok(rescaled) if self.at(parallelism) == self.with_parallelism_of(&self.graph) => {
                self.coordinator.set_rescaled(rescaled);
                self.notice(JobNotice::Rescaled { request: Some(request), parallelism });
            }
            Ok(rescaled) => self.begin_rescale(Some(request), Some(rescaled), now_ms),
        }
    }

    fn check_rescale(&self, parallelism: u32) -> crate::error::Result<Rescaled> {
        let operators = self.graph.operators();
        let most = operators.map(|(_, o)| u32::from(o.max_parallelism)).max().unwrap_or(1);
        if parallelism == 0 || parallelism > most {
            let e = format!(
                "parallelism {parallelism} is not between 1 and {most}, the most key groups of an operator"
            );
            return Err(Error::config(e));
        }
        if !matches!(self.phase, Phase::Running) {
            return Err(Error::retry(format!(
                "the job is {:?}, and only a running one can be rescaled",
                self.status()
            ))
            .hint("try again when it runs"));
        }
        if self.pending_rescale.as_ref().is_some_and(|pending| pending.request.is_some()) {
            return Err(Error::retry("the job is being rescaled already").hint("try again when that is done"));
        }
        let (needed, available) = (self.at(parallelism).slots_needed(), self.slots_available());
        if needed > available {
            return Err(Error::config(format!(
                "the job would need {needed} slots and there are {available}"
            ))
            .hint("start taskmanagers first"));
        }
        Ok(Rescaled { from: self.config.graph.parallelism(), to: parallelism })
    }

    fn begin_rescale(&mut self, request: Option<u64>, rescaled: Option<Rescaled>, now_ms: u64) {
        self.coordinator.request_checkpoint();
        self.pending_rescale = Some(PendingRescale { request, rescaled, checkpoint: None });
        self.trigger_due(now_ms);
    }

    /// A checkpoint was triggered: the first one after the request is the one to restore.
    pub(super) fn rescale_triggered(&mut self, checkpoint: CheckpointId) {
        if let Some(pending) = &mut self.pending_rescale {
            pending.checkpoint.get_or_insert(checkpoint);
        }
    }

    /// A checkpoint is complete. Running -> Stopping, if the new parallelism waited for it; whether it did.
    pub(super) fn rescale_checkpointed(&mut self, checkpoint: CheckpointId, now_ms: u64) -> bool {
        let Some(pending) = self.pending_rescale.take_if(|p| p.checkpoint == Some(checkpoint)) else {
            return false;
        };
        if let Some(rescaled) = pending.rescaled {
            self.coordinator.set_rescaled(rescaled);
        }
        let parallelism = self.fitting_graph().unwrap_or_else(|| self.wanted_graph()).parallelism();
        self.notice(JobNotice::Rescaled { request: pending.request, parallelism });
        self.stop(Then::Rescale, Scope::Whole, now_ms);
        true
    }

    /// A checkpoint was given up; so is the new parallelism that waited for it.
    pub(super) fn rescale_aborted(&mut self, checkpoint: CheckpointId, why: &str) {
        if let Some(pending) = self.pending_rescale.take_if(|p| p.checkpoint == Some(checkpoint)) {
            self.grow_at_ms = None;
            let e = Error::retry(format!("checkpoint {checkpoint} was given up: {why}"));
            self.rescale_failed(pending.request, &Failure::from(&e));
        }
    }

    /// The attempt ends for another reason.
    pub(super) fn drop_rescale(&mut self) {
        self.grow_at_ms = None;
        if let Some(pending) = self.pending_rescale.take() {
            let e = Error::retry("the attempt ended before the checkpoint was complete");
            self.rescale_failed(pending.request, &Failure::from(&e));
        }
    }

    /// Nobody waits for what the slots had asked for: it is tried again.
    fn rescale_failed(&mut self, request: Option<u64>, failure: &Failure) {
        if let Some(request) = request {
            self.notice(JobNotice::RescaleFailed { request, failure: failure.clone() });
        }
    }

    /// Running: has an adaptive job grow into slots that have settled.
    pub(super) fn grow(&mut self, now_ms: u64) {
        if self.config.min_parallelism.is_none() || self.pending_rescale.is_some() {
            return;
        }
        let running = self.graph.parallelism();
        let fitting = self.fitting_graph().map_or(running, |graph| graph.parallelism());
        if fitting <= running {
            self.grow_at_ms = None;
            return;
        }
        let (settling, at_ms) = match self.grow_at_ms {
            Some(settling) if settling.0 == fitting => settling,
            _ => (fitting, now_ms.saturating_add(self.config.settle_ms)),
        };
        self.grow_at_ms = Some((settling, at_ms));
        if at_ms <= now_ms {
            self.grow_at_ms = None;
            self.begin_rescale(None, None, now_ms);
        }
    }
}

//! What a standing cluster decides: which job runs when, what is started again and after which pause, and when a job has
//! ended. Pure: events and the time go in, actions come out.
//!
//! Invariants: the slots of the jobs that run are never more than the cluster has; a job has ended only if its status in the
//! store says so, or a person has withdrawn it while it did not run; after that nothing of it is started.

use super::job::{Job, Phase, Process, State};
use super::record::Outcome;
use crate::cluster::local_cluster::Member;
use crate::id::JobId;
use std::collections::BTreeMap;

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A job is written down that was never started.
    Submitted(Wanted),
    /// A job was found written down, of which it is not known whether it has ended.
    Found(Wanted),
    /// What its status in the store says: `None` if it has not ended.
    Status { job: JobId, status: Result<Option<Outcome>, String> },
    /// A process has ended, or could not be started.
    Died { job: JobId, member: Member, how: Death },
    /// A person has withdrawn a job that does not run, and that is written down.
    Withdrawn { job: JobId },
    /// All processes are to be stopped, and no job is to end.
    Stop,
    /// Time has passed.
    Time,
}

/// A job to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its place in the queue.
    pub(super) number: u64,
    pub(super) job: JobId,
    /// Slots of each of its taskmanagers.
    pub(super) taskmanagers: Vec<u32>,
}

/// How a process has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Death {
    /// It ended with exit code 0.
    pub(super) is_success: bool,
    /// For people.
    pub(super) how: String,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Read its status in the store, and answer with [`Event::Status`].
    ReadStatus {
        job: JobId,
    },
    Start {
        job: JobId,
        member: Member,
        slots: u32,
    },
    /// Have it end by itself.
    Dismiss {
        job: JobId,
        member: Member,
    },
    Kill {
        job: JobId,
        member: Member,
    },
    /// The job has ended: write that down.
    Ended {
        job: JobId,
        outcome: Outcome,
    },
}

/// Where a job is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) status: &'static str,
    /// More about it.
    pub(super) why: Option<String>,
    /// How often one of its processes was started again.
    pub(super) restarts: u64,
}

/// The decisions of a cluster.
#[derive(Debug)]
pub(super) struct Decisions {
    slots: u32,
    jobs: BTreeMap<JobId, Job>,
    stopping: bool,
}

impl Decisions {
    /// A cluster with so many slots, and no job.
    pub(super) fn new(slots: u32) -> Self {
        Self { slots, jobs: BTreeMap::new(), stopping: false }
    }

    /// Slots that no job runs on.
    pub(super) fn free(&self) -> u32 {
        let holds = |job: &&Job| matches!(job.phase, Phase::Running | Phase::Leaving { .. });
        let used = self.jobs.values().filter(holds).fold(0, |sum: u32, job| sum.saturating_add(job.slots()));
        self.slots.saturating_sub(used)
    }

    /// When to come back with [`Event::Time`], if nothing happens before.
    pub(super) fn due(&self) -> Option<u64> {
        self.jobs.values().filter_map(Job::due).min()
    }

    /// All is stopped.
    pub(super) fn is_over(&self) -> bool {
        self.stopping && self.jobs.is_empty()
    }

    /// Whether a job has not ended.
    pub(super) fn has(&self, job: &JobId) -> bool {
        self.jobs.contains_key(job)
    }

    /// Whether a job can be withdrawn: it has no jobmanager that could be asked, and nobody is asking its store.
    pub(super) fn is_idle(&self, job: &JobId) -> bool {
        self.jobs.get(job).is_some_and(|job| match (&job.phase, &job.jobmanager.state) {
            (Phase::Queued, _) | (Phase::Running, State::Pausing { .. }) => true,
            (Phase::Checking { again_at }, _) | (Phase::Running, State::Asking { again_at, .. }) => {
                again_at.is_some()
            }
            (Phase::Running | Phase::Leaving { .. }, _) => false,
        })
    }

    /// Takes an event in; `now` in milliseconds, never falling.
    pub(super) fn handle(&mut self, event: Event, now: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Submitted(wanted) => self.add(wanted, Phase::Queued),
            Event::Found(wanted) => {
                actions.push(Action::ReadStatus { job: wanted.job.clone() });
                self.add(wanted, Phase::Checking { again_at: None });
            }
            Event::Status { job, status } => {
                if let Some(known) = self.jobs.get_mut(&job)
                    && known.status(status, now, &mut actions)
                {
                    self.jobs.remove(&job);
                }
            }
            Event::Died { job, member, how } => {
                if let Some(known) = self.jobs.get_mut(&job) {
                    known.died(member, &how, now, self.stopping, &mut actions);
                    if known.has_left() {
                        self.jobs.remove(&job);
                    }
                }
            }
            Event::Withdrawn { job } => {
                if let Some(known) = self.jobs.get_mut(&job) {
                    known.leave(now, true, &mut actions);
                    if known.has_left() {
                        self.jobs.remove(&job);
                    }
                }
            }
            Event::Stop => self.stop(now, &mut actions),
            Event::Time => self.jobs.values_mut().for_each(|job| job.time(now, &mut actions)),
        }
        self.start_from_queue(now, &mut actions);
        actions
    }

    fn add(&mut self, wanted: Wanted, phase: Phase) {
        self.jobs.entry(wanted.job.clone()).or_insert_with(|| Job::new(wanted, phase));
    }

    fn stop(&mut self, now: u64, actions: &mut Vec<Action>) {
        self.stopping = true;
        for job in self.jobs.values_mut() {
            if !matches!(job.phase, Phase::Leaving { .. }) {
                job.leave(now, true, actions);
            }
        }
        self.jobs.retain(|_, job| !job.has_left());
    }

    /// Starts jobs in their order. One that could never run is passed over; one that may run once its status is read keeps
    /// its place.
    fn start_from_queue(&mut self, now: u64, actions: &mut Vec<Action>) {
        if self.stopping {
            return;
        }
        let mut free = self.free();
        let mut waiting: Vec<&mut Job> = self.jobs.values_mut().collect();
        waiting.retain(|job| matches!(job.phase, Phase::Queued | Phase::Checking { .. }));
        waiting.sort_by_key(|job| job.wanted.number);
        for job in waiting {
            let needed = job.slots();
            if needed > self.slots {
                continue;
            }
            if needed > free {
                return;
            }
            free -= needed;
            if matches!(job.phase, Phase::Queued) {
                job.start_all(now, actions);
            }
        }
    }

    /// Where a job is that has not ended.
    pub(super) fn place(&self, job: &JobId) -> Option<Place> {
        let known = self.jobs.get(job)?;
        let (needed, free) = (known.slots(), self.free());
        let trouble = known.trouble.clone();
        let (status, why) = match (&known.phase, &known.jobmanager.state) {
            (Phase::Checking { .. }, _) => ("checking", trouble),
            (Phase::Queued, _) if needed > self.slots => {
                let why = format!("it needs {needed} slots, and the cluster has {}", self.slots);
                ("queued", Some(why))
            }
            (Phase::Queued, _) => {
                let why = format!("it needs {needed} slots, and {free} of {} are free", self.slots);
                ("queued", Some(if needed > free { why } else { "others are before it".to_owned() }))
            }
            (Phase::Running, State::Up { .. }) if !known.workers.iter().any(Process::is_pausing) => {
                ("running", None)
            }
            (Phase::Running, _) => ("restarting", trouble),
            (Phase::Leaving { .. }, _) => ("ending", None),
        };
        Some(Place { status, why, restarts: known.restarts })
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;

//! One job of a standing cluster, as pure decisions: its processes, and where it is.

use super::decide::{Action, Death, Wanted};
use super::record::Outcome;
use crate::cluster::local_cluster::{Deaths, Member};
use std::time::Duration;

/// How long processes may take to leave before they are killed, in milliseconds.
const FAREWELL_MS: u64 = 5_000;

#[derive(Debug)]
pub(super) struct Job {
    pub(super) wanted: Wanted,
    pub(super) phase: Phase,
    pub(super) jobmanager: Process,
    pub(super) workers: Vec<Process>,
    /// How often in a row its status could not be read.
    unreadable: Deaths,
    /// How often one of its processes was started again.
    pub(super) restarts: u64,
    /// What last went wrong.
    pub(super) trouble: Option<String>,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Before anything is started its status is read, at once or at this time.
    Checking {
        again_at: Option<u64>,
    },
    /// It waits for slots.
    Queued,
    Running,
    /// It has ended, or all is to stop: its processes leave, and are killed at this time.
    Leaving {
        kill_at: Option<u64>,
    },
}

#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) state: State,
    deaths: Deaths,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Not started, or left because the job was over.
    #[default]
    Away,
    Up {
        since: u64,
    },
    /// To be started at this time.
    Pausing {
        until: u64,
    },
    /// A jobmanager that has ended: whether that is the job's end is asked, or will be at `again_at`. If not it is started at
    /// `until`.
    Asking {
        until: u64,
        again_at: Option<u64>,
    },
}

impl Process {
    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    pub(super) fn is_pausing(&self) -> bool {
        matches!(self.state, State::Pausing { .. })
    }

    /// The pause before it is started again, in milliseconds.
    fn pause(&mut self, now: u64) -> u64 {
        let State::Up { since } = self.state else { return 0 };
        self.deaths.next_pause(Duration::from_millis(now.saturating_sub(since))).as_millis() as u64
    }
}

impl Job {
    pub(super) fn new(wanted: Wanted, phase: Phase) -> Self {
        let workers = wanted.taskmanagers.iter().map(|_| Process::default()).collect();
        Self {
            wanted,
            phase,
            jobmanager: Process::default(),
            workers,
            unreadable: Deaths::default(),
            restarts: 0,
            trouble: None,
        }
    }

    pub(super) fn slots(&self) -> u32 {
        self.wanted.taskmanagers.iter().fold(0, |sum, slots| sum.saturating_add(*slots))
    }

    fn process(&mut self, member: Member) -> Option<&mut Process> {
        match member {
            Member::JobManager => Some(&mut self.jobmanager),
            Member::TaskManager(index) => self.workers.get_mut(index as usize),
        }
    }

    fn members(&self) -> impl Iterator<Item = (Member, &Process)> {
        let workers = self.workers.iter().enumerate();
        let workers = workers.map(|(index, worker)| (Member::TaskManager(index as u32), worker));
        std::iter::once((Member::JobManager, &self.jobmanager)).chain(workers)
    }

    fn start(&mut self, member: Member, now: u64, actions: &mut Vec<Action>) {
        let slots = match member {
            Member::JobManager => 0,
            Member::TaskManager(index) => {
                self.wanted.taskmanagers.get(index as usize).copied().unwrap_or_default()
            }
        };
        let job = self.wanted.job.clone();
        if let Some(process) = self.process(member) {
            process.state = State::Up { since: now };
            actions.push(Action::Start { job, member, slots });
        }
    }

    /// Starts the jobmanager, and with it the taskmanagers that are away.
    pub(super) fn start_all(&mut self, now: u64, actions: &mut Vec<Action>) {
        self.phase = Phase::Running;
        self.start(Member::JobManager, now, actions);
        for index in 0..self.workers.len() as u32 {
            if self.process(Member::TaskManager(index)).is_some_and(|p| p.state == State::Away) {
                self.start(Member::TaskManager(index), now, actions);
            }
        }
    }

    /// Has the processes leave: first the jobmanager, so that it takes no part in the end of the others.
    pub(super) fn leave(&mut self, now: u64, dismiss: bool, actions: &mut Vec<Action>) {
        self.phase = Phase::Leaving { kill_at: Some(now + FAREWELL_MS) };
        let mut up = Vec::new();
        for process in std::iter::once(&mut self.jobmanager).chain(&mut self.workers) {
            if !process.is_up() {
                process.state = State::Away;
            }
        }
        for (member, process) in self.members() {
            if process.is_up() {
                up.push(member);
            }
            if member == Member::JobManager && process.is_up() {
                break;
            }
        }
        if dismiss {
            let job = &self.wanted.job;
            actions.extend(up.into_iter().map(|member| Action::Dismiss { job: job.clone(), member }));
        }
    }

    pub(super) fn has_left(&self) -> bool {
        matches!(self.phase, Phase::Leaving { .. }) && self.members().all(|(_, process)| !process.is_up())
    }

    /// The next time at which it has something to do.
    pub(super) fn due(&self) -> Option<u64> {
        let of_phase = match self.phase {
            Phase::Checking { again_at } => again_at,
            Phase::Leaving { kill_at } => kill_at,
            Phase::Queued | Phase::Running => None,
        };
        let of_processes = self.members().filter_map(|(_, process)| match process.state {
            State::Pausing { until } => Some(until),
            State::Asking { again_at, .. } => again_at,
            State::Away | State::Up { .. } => None,
        });
        of_phase.into_iter().chain(of_processes).min()
    }

    /// Does what is due.
    pub(super) fn time(&mut self, now: u64, actions: &mut Vec<Action>) {
        let job = self.wanted.job.clone();
        let is_due = |at: Option<u64>| at.is_some_and(|at| at <= now);
        match &mut self.phase {
            Phase::Checking { again_at } if is_due(*again_at) => {
                *again_at = None;
                actions.push(Action::ReadStatus { job: job.clone() });
            }
            Phase::Leaving { kill_at } if is_due(*kill_at) => {
                *kill_at = None;
                let up = self.members().filter(|(_, process)| process.is_up());
                actions.extend(up.map(|(member, _)| Action::Kill { job: job.clone(), member }));
            }
            _ => {}
        }
        if let State::Asking { again_at, .. } = &mut self.jobmanager.state
            && is_due(*again_at)
        {
            *again_at = None;
            actions.push(Action::ReadStatus { job });
        }
        let pausing = self.members().filter_map(|(member, process)| match process.state {
            State::Pausing { until } if until <= now => Some(member),
            _ => None,
        });
        for member in pausing.collect::<Vec<_>>() {
            match member {
                Member::JobManager => self.start_all(now, actions),
                Member::TaskManager(_) => self.start(member, now, actions),
            }
        }
    }

    pub(super) fn died(
        &mut self,
        member: Member,
        how: &Death,
        now: u64,
        stopping: bool,
        actions: &mut Vec<Action>,
    ) {
        let leaving = matches!(self.phase, Phase::Leaving { .. });
        let Some(process) = self.process(member).filter(|process| process.is_up()) else { return };
        let pause = process.pause(now);
        if leaving {
            process.state = State::Away;
            if stopping && member == Member::JobManager {
                self.leave(now, true, actions);
            }
            return;
        }
        match member {
            Member::JobManager => {
                process.state = State::Asking { until: now + pause, again_at: None };
                self.trouble = Some(format!("the jobmanager {}", how.how));
                actions.push(Action::ReadStatus { job: self.wanted.job.clone() });
            }
            // It was told that the job is over. If it is not it starts with the next jobmanager.
            Member::TaskManager(_) if how.is_success => process.state = State::Away,
            Member::TaskManager(index) => {
                process.state = State::Pausing { until: now + pause };
                self.restarts += 1;
                self.trouble = Some(format!("taskmanager {} {}", index + 1, how.how));
            }
        }
    }

    /// What its status says, if that was asked. True if nothing of it runs any more.
    pub(super) fn status(
        &mut self,
        status: Result<Option<Outcome>, String>,
        now: u64,
        actions: &mut Vec<Action>,
    ) -> bool {
        let asked = match (&mut self.phase, &mut self.jobmanager.state) {
            (Phase::Checking { again_at }, _) | (Phase::Running, State::Asking { again_at, .. }) => again_at,
            _ => return false,
        };
        match status {
            Err(why) => {
                let pause = self.unreadable.next_pause(Duration::ZERO).as_millis() as u64;
                *asked = Some(now + pause);
                self.trouble = Some(format!("its status cannot be read: {why}"));
                false
            }
            Ok(Some(outcome)) => {
                actions.push(Action::Ended { job: self.wanted.job.clone(), outcome });
                // The taskmanagers were told by the jobmanager.
                self.leave(now, false, actions);
                self.has_left()
            }
            Ok(None) => {
                self.unreadable = Deaths::default();
                match self.jobmanager.state {
                    State::Asking { until, .. } => {
                        self.jobmanager.state = State::Pausing { until };
                        self.restarts += 1;
                    }
                    _ => self.phase = Phase::Queued,
                }
                false
            }
        }
    }
}

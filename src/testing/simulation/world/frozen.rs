//! Processes that hang at a crash point.
//!
//! A taskmanager that hangs does nothing more, and nobody is told: its subtasks keep their channels, messages to it are
//! lost. The job notices by itself where it has a time limit (checkpoints, cancelling), and otherwise when heartbeats have
//! been missing for long.
//!
//! A jobmanager that hangs is replaced as one that has died. But it wakes up later, and goes on with the step of the
//! checkpoint protocol in whose middle it was, while its successor has the job.

use super::{Event, World};
use crate::checkpoint::CrashPoints;
use crate::error::Result;
use crate::id::WorkerId;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use futures::task::noop_waker_ref;
use std::pin::Pin;
use std::task::{Context, Poll};

/// After so long a taskmanager from which nothing is heard is taken for dead: longer than any time limit of the job.
const HEARTBEATS_MISSED_US: u64 = 300_000_000;

/// What a jobmanager was doing.
pub(super) struct Frozen {
    pub(super) work: LocalBoxFuture<'static, ()>,
    pub(super) points: CrashPoints,
}

/// Does what can be done without waiting. In the simulation nothing waits but what hangs.
pub(super) fn poll_once<T>(work: &mut LocalBoxFuture<'static, T>) -> Poll<T> {
    Pin::new(work).poll(&mut Context::from_waker(noop_waker_ref()))
}

impl World {
    /// The jobmanager stops in the middle of something, and another one takes over.
    pub(super) fn freeze_master(&mut self, work: LocalBoxFuture<'static, ()>) {
        let points = self.master_points.clone();
        self.log.add(self.now_us, format_args!("jobmanager hangs at {:?}", points.hung()));
        self.hangs += 1;
        self.frozen.push(Frozen { work, points });
        self.replace_master();
        let delay = self.network.between(1_000, 1_000_000);
        self.after(delay, Event::MasterThaws);
    }

    /// The jobmanager comes by a point on its way; whether it goes on.
    pub(super) fn master_reaches(&mut self, point: Option<&'static str>) -> bool {
        let Some(point) = point else { return true };
        let points = self.master_points.clone();
        let mut reaching = async move { points.reach(point).await }.boxed_local();
        match poll_once(&mut reaching) {
            Poll::Ready(reached) => reached.is_ok(),
            Poll::Pending => {
                self.freeze_master(reaching.map(drop).boxed_local());
                false
            }
        }
    }

    /// The jobmanager that has hung for longest goes on.
    pub(super) fn thaw_master(&mut self) {
        if self.frozen.is_empty() {
            return;
        }
        let Frozen { work, points } = self.frozen.remove(0);
        self.log.add(self.now_us, format_args!("jobmanager wakes up at {:?}", points.hung()));
        points.thaw();
        // What comes of it nobody asks any more.
        futures::executor::block_on(work);
    }

    /// Taskmanagers that have reached a point at which they hang are no longer stepped.
    pub(super) fn freeze_workers(&mut self) {
        let mut hanging: Vec<(WorkerId, String)> = Vec::new();
        for (id, worker) in self.workers.iter_mut().filter(|(_, w)| !w.is_frozen) {
            if let Some(point) = worker.crash_points.hung() {
                worker.is_frozen = true;
                hanging.push((*id, point));
            }
        }
        for (worker, point) in hanging {
            self.hangs += 1;
            self.log.add(self.now_us, format_args!("taskmanager {worker} hangs at {point}"));
            self.after(HEARTBEATS_MISSED_US, Event::HeartbeatsMissed { worker });
        }
    }

    pub(super) fn heartbeats_missed(&mut self, worker: WorkerId) -> Result<()> {
        if let Some(index) = self.workers.get(&worker).map(|w| w.index) {
            self.crash_worker(index, "without a heartbeat");
        }
        Ok(())
    }

    /// Whether a message to the worker, or an event in it, comes to nothing.
    pub(super) fn is_frozen(&self, worker: WorkerId) -> bool {
        self.workers.get(&worker).is_some_and(|w| w.is_frozen || w.crash_points.hung().is_some())
    }
}

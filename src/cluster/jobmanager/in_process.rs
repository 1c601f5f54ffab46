//! Taskmanagers in the jobmanager's own process, as groups of threads.

use super::shell::{ShellEvent, TaskManagers};
use crate::checkpoint::{CrashPoints, JobStore};
use crate::cluster::jobmaster::{JobEvent, JobResult};
use crate::cluster::message::{FromWorker, ToWorker};
use crate::cluster::taskmanager::{
    Hubs, LocalCopies, ProcessClock, TaskManager, TaskManagerParts, UploadScope,
};
use crate::graph::Program;
use crate::id::{JobId, WorkerId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use tidegate_state::BackendOptions;
use tidegate_state::envelope::Compression;
use tokio::runtime::Handle;

/// What the taskmanagers of a process are made of.
pub(crate) struct InProcessOptions {
    pub(crate) job: JobId,
    pub(crate) program: Arc<Program>,
    pub(crate) store: JobStore,
    pub(crate) runtime: Handle,
    pub(crate) clock: ProcessClock,
    /// How many there are.
    pub(crate) taskmanagers: u32,
    /// Slots of each.
    pub(crate) slots: u32,
    pub(crate) backend: BackendOptions,
    pub(crate) local_dir: Option<PathBuf>,
    pub(crate) compression: Compression,
    /// Crash points of the taskmanager with this index, for its first life.
    pub(crate) crash_points: BTreeMap<u32, CrashPoints>,
    /// Random for this process.
    pub(crate) seed: u64,
}

/// Taskmanagers in this process. One that dies is replaced by another at once.
pub(crate) struct InProcess {
    options: InProcessOptions,
    hubs: Arc<Hubs>,
    workers: BTreeMap<WorkerId, (u32, TaskManager)>,
    next_worker: u32,
    events: Sender<ShellEvent>,
}

impl InProcess {
    pub(crate) fn start(mut options: InProcessOptions, events: Sender<ShellEvent>) -> Self {
        let mut crash_points = std::mem::take(&mut options.crash_points);
        let count = options.taskmanagers;
        let mut this =
            Self { options, hubs: Arc::default(), workers: BTreeMap::new(), next_worker: 0, events };
        (0..count).for_each(|index| this.add(index, crash_points.remove(&index).unwrap_or_default()));
        this
    }

    fn add(&mut self, index: u32, crash_points: CrashPoints) {
        let id = WorkerId(self.next_worker);
        self.next_worker += 1;
        let events = self.events.clone();
        let options = &self.options;
        let parts = TaskManagerParts {
            id,
            job: options.job.clone(),
            program: options.program.clone(),
            store: options.store.clone(),
            runtime: options.runtime.clone(),
            backend: options.backend.clone(),
            local_dir: options.local_dir.clone(),
            crash_points: crash_points.clone(),
            clock: options.clock,
            upload: UploadScope::new(
                options.seed.wrapping_add(u64::from(id.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                crash_points,
            )
            .with_copies(LocalCopies::below(options.local_dir.clone()))
            .with_compression(options.compression),
            hubs: self.hubs.clone(),
            network: None,
            report: Box::new(move |message: FromWorker| {
                _ = events.send(ShellEvent::Job(JobEvent::Worker(message)))
            }),
        };
        self.workers.insert(id, (index, TaskManager::new(parts)));
        let joined = JobEvent::WorkerJoined { worker: id, slots: self.options.slots };
        _ = self.events.send(ShellEvent::Job(joined));
    }
}

impl TaskManagers for InProcess {
    fn send(&mut self, worker: WorkerId, message: ToWorker) {
        if let Some((_, manager)) = self.workers.get_mut(&worker) {
            manager.handle(message);
        }
    }

    fn abandon(&mut self, worker: WorkerId, _why: &str) {
        // Its threads cannot be stopped: another one takes its place, so that the slots are back.
        if let Some((index, manager)) = self.workers.remove(&worker) {
            manager.crash();
            self.add(index, CrashPoints::none());
        }
    }

    fn crash(&mut self, index: u32) {
        let found = self.workers.iter().find(|(_, (i, _))| *i == index).map(|(id, _)| *id);
        let Some((id, (index, manager))) = found.and_then(|id| self.workers.remove_entry(&id)) else {
            return;
        };
        manager.crash();
        let lost = JobEvent::WorkerLost { worker: id, why: "it crashed".to_owned() };
        _ = self.events.send(ShellEvent::Job(lost));
        self.add(index, CrashPoints::none());
    }

    /// Those that crash points have killed.
    fn look_round(&mut self) {
        let killed: Vec<u32> =
            self.workers.values().filter(|(_, w)| w.was_killed()).map(|(index, _)| *index).collect();
        killed.into_iter().for_each(|index| self.crash(index));
    }

    fn end(&mut self, _result: &JobResult) {
        std::mem::take(&mut self.workers).into_values().for_each(|(_, worker)| worker.crash());
    }
}

//! Taskmanagers and their subtasks in the simulated world.

use super::{Event, Link, World};
use crate::cluster::jobmaster::JobEvent;
use crate::cluster::message::{Failure, FromWorker, SubtaskDeployment, SubtaskEvent, ToWorker};
use crate::cluster::taskmanager::{Blocking, Upload, destination, load_restored};
use crate::error::{Error, Result};
use crate::graph::{BuildScope, JobGraph};
use crate::id::{Attempt, SubtaskId, WorkerId};
use crate::task::{ExchangeHub, Step, Subtask, TaskMessage, TaskOutput};
use crate::testing::simulation::worker::{SimulatedTask, SimulatedWorker, TaskWaker};
use futures::executor::block_on;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::task::Waker;

impl World {
    /// What a dead process would have said is never said.
    fn report(&mut self, worker: WorkerId, attempt: Attempt, subtask: SubtaskId, event: SubtaskEvent) {
        if self.workers.get(&worker).is_none_or(|w| w.crash_points.killed().is_some()) {
            return;
        }
        let message = FromWorker { worker, attempt, subtask, event };
        let generation = self.generation;
        self.send(Link::ToMaster(worker), Event::Master { generation, event: JobEvent::Worker(message) });
    }

    pub(super) fn on_worker_message(&mut self, worker: WorkerId, message: ToWorker) -> Result<()> {
        if !self.workers.contains_key(&worker) {
            return Ok(());
        }
        match message {
            ToWorker::Deploy { attempt, subtasks, key_groups, placement, oldest } => {
                let graph = self.program.job_graph.of_attempt(placement.iter().map(|(s, _)| s), &key_groups);
                let hub = self.hubs.of(attempt, oldest);
                for deployment in subtasks {
                    self.deploy(worker, attempt, &deployment, &graph, &hub);
                }
            }
            ToWorker::Start { attempt } => self.deliver(worker, attempt, None, &TaskMessage::Start),
            ToWorker::Cancel { attempt, subtasks } => {
                for subtask in subtasks {
                    let Some(w) = self.workers.get_mut(&worker) else { return Ok(()) };
                    if w.tasks.remove(&(attempt, subtask)).is_some() {
                        self.report(worker, attempt, subtask, SubtaskEvent::Canceled);
                    }
                }
            }
            ToWorker::TriggerCheckpoint { attempt, subtask, barrier } => {
                self.deliver(worker, attempt, Some(subtask), &TaskMessage::Trigger(barrier));
            }
            ToWorker::CheckpointCompleted { attempt, checkpoint } => {
                self.deliver(worker, attempt, None, &TaskMessage::Completed(checkpoint));
            }
            ToWorker::CheckpointAborted { attempt, checkpoint } => {
                self.deliver(worker, attempt, None, &TaskMessage::Aborted(checkpoint));
            }
            ToWorker::AssignSplit { attempt, subtask, operator: _, split } => {
                self.deliver(worker, attempt, Some(subtask), &TaskMessage::Split(split));
            }
            ToWorker::Drain { attempt } => self.deliver(worker, attempt, None, &TaskMessage::Drain),
            ToWorker::Finish { attempt } => self.deliver(worker, attempt, None, &TaskMessage::Finish),
        }
        Ok(())
    }

    fn deploy(
        &mut self,
        worker: WorkerId,
        attempt: Attempt,
        deployment: &SubtaskDeployment,
        graph: &JobGraph,
        hub: &ExchangeHub,
    ) {
        let subtask = deployment.subtask;
        match self.build(worker, attempt, deployment, graph, hub) {
            Ok(task) => {
                if let Some(w) = self.workers.get_mut(&worker) {
                    w.tasks.insert((attempt, subtask), SimulatedTask { task, due_us: None });
                }
                self.report(worker, attempt, subtask, SubtaskEvent::Ready);
            }
            Err(e) => self.report(worker, attempt, subtask, SubtaskEvent::Failed(Failure::from(&e))),
        }
    }

    fn build(
        &self,
        worker: WorkerId,
        attempt: Attempt,
        deployment: &SubtaskDeployment,
        graph: &JobGraph,
        hub: &ExchangeHub,
    ) -> Result<Subtask> {
        let id = deployment.subtask;
        let gone = || Error::restart_job(format!("taskmanager {worker} is gone"));
        let SimulatedWorker { crash_points: points, upload, .. } =
            self.workers.get(&worker).ok_or_else(gone)?;
        let vertex = graph.vertex(id.vertex);
        let vertex = vertex.ok_or_else(|| Error::bug(format!("vertex {} is not of this job", id.vertex)))?;
        let mut restored = match &deployment.restore {
            Some(restore) => {
                let (store, blocking, copies) = (&self.store, &Blocking::Inline, &upload.copies);
                load_restored(store, blocking, points, copies, vertex, id.index, restore)?
            }
            None => BTreeMap::new(),
        };
        let waker = TaskWaker { task: (worker, attempt, id), woken: self.woken.clone() };
        let scope = BuildScope {
            job: &self.job,
            attempt,
            hub,
            backend: &self.config.state.backend,
            local_dir: self.config.state.local_dir.clone(),
            crash_points: points,
            waker: &Waker::from(Arc::new(waker)),
            graph,
        };
        let task = self.program.build_subtask(id, &scope, &mut restored)?;
        points.reach_sync("restore.before_running")?;
        Ok(task)
    }

    pub(super) fn plan_step(
        &mut self,
        worker: WorkerId,
        attempt: Attempt,
        subtask: SubtaskId,
        at_least_us: u64,
    ) {
        let mut due_us = self.now_us + at_least_us + self.schedule.between(1, 300);
        let is_slow = self.slow_vertices >> (subtask.vertex.0 % 64) & 1 == 1;
        if let Some(longest_us) = self.settings.faults.slow_step_us.filter(|_| is_slow) {
            due_us += self.slowness.between(1, longest_us.max(2));
        }
        let task = self.workers.get_mut(&worker).and_then(|w| w.tasks.get_mut(&(attempt, subtask)));
        if let Some(task) = task
            && task.due_us.is_none_or(|planned| planned > due_us)
        {
            task.due_us = Some(due_us);
            self.at(due_us, Event::Step { worker, attempt, subtask });
        }
    }

    pub(super) fn schedule_woken(&mut self) {
        let woken = std::mem::take(&mut *self.woken.lock().unwrap_or_else(PoisonError::into_inner));
        for (worker, attempt, subtask) in woken {
            self.plan_step(worker, attempt, subtask, 0);
        }
    }

    pub(super) fn step(&mut self, worker: WorkerId, attempt: Attempt, subtask: SubtaskId) {
        let (now_us, now_ms) = (self.now_us, self.now_us.cast_signed() / 1000);
        let task = self.workers.get_mut(&worker).and_then(|w| w.tasks.get_mut(&(attempt, subtask)));
        let Some(task) = task.filter(|t| t.due_us == Some(now_us)) else { return };
        task.due_us = None;
        let mut outputs = Vec::new();
        let step = task.task.step(now_ms, &mut outputs);
        self.act(worker, attempt, subtask, outputs);
        match step {
            Ok(Step::Ready) => self.plan_step(worker, attempt, subtask, 0),
            Ok(Step::Wait(None)) => {}
            Ok(Step::Wait(Some(until))) => {
                let wait_us = (until - now_ms).max(0).unsigned_abs().saturating_mul(1000).min(3_600_000_000);
                self.plan_step(worker, attempt, subtask, wait_us);
            }
            Ok(Step::Finished) => self.end(worker, attempt, subtask, SubtaskEvent::Finished),
            Err(e) => self.end(worker, attempt, subtask, SubtaskEvent::Failed(Failure::from(&e))),
        }
    }

    fn end(&mut self, worker: WorkerId, attempt: Attempt, subtask: SubtaskId, event: SubtaskEvent) {
        // What hangs keeps its channels.
        if let Some(w) = self.workers.get_mut(&worker)
            && w.crash_points.hung().is_none()
        {
            w.tasks.remove(&(attempt, subtask));
        }
        self.report(worker, attempt, subtask, event);
    }

    fn deliver(&mut self, worker: WorkerId, attempt: Attempt, to: Option<SubtaskId>, message: &TaskMessage) {
        let Some(w) = self.workers.get_mut(&worker) else { return };
        let addressed = |id: &SubtaskId| to.is_none_or(|to| to == *id);
        let ids: Vec<SubtaskId> =
            w.tasks.keys().filter(|(a, s)| *a == attempt && addressed(s)).map(|(_, s)| *s).collect();
        let now_ms = self.now_us.cast_signed() / 1000;
        for id in ids {
            let task = self.workers.get_mut(&worker).and_then(|w| w.tasks.get_mut(&(attempt, id)));
            let Some(task) = task else { continue };
            let mut outputs = Vec::new();
            let delivered = task.task.deliver(message.clone(), now_ms, &mut outputs);
            self.act(worker, attempt, id, outputs);
            match delivered {
                Ok(()) => self.plan_step(worker, attempt, id, 0),
                Err(e) => self.end(worker, attempt, id, SubtaskEvent::Failed(Failure::from(&e))),
            }
        }
    }

    fn act(&mut self, worker: WorkerId, attempt: Attempt, subtask: SubtaskId, outputs: Vec<TaskOutput>) {
        for output in outputs {
            match output {
                TaskOutput::NeedSplit(operator) => {
                    self.report(worker, attempt, subtask, SubtaskEvent::SplitRequest { operator });
                }
                TaskOutput::Frozen => {}
                TaskOutput::Drained => self.report(worker, attempt, subtask, SubtaskEvent::Drained),
                snapshot @ TaskOutput::Snapshot { .. } => {
                    let delay = self.network.between(1, self.settings.faults.store_delay_us.max(2));
                    self.after(
                        delay,
                        Event::Upload { worker, attempt, subtask, snapshot: Box::new(snapshot) },
                    );
                }
            }
        }
    }

    /// The asynchronous part of a snapshot, a while after the synchronous one.
    pub(super) fn upload(
        &mut self,
        worker: WorkerId,
        attempt: Attempt,
        subtask: SubtaskId,
        snapshot: TaskOutput,
    ) {
        let TaskOutput::Snapshot { barrier, chain, .. } = snapshot else { return };
        let Some(w) = self.workers.get(&worker) else { return };
        let checkpoint = barrier.checkpoint;
        let stored = block_on(destination(&self.store, &w.crash_points, &barrier)).and_then(|store| {
            let upload = Upload {
                job: &self.job,
                store: &store,
                scope: &w.upload,
                blocking: &Blocking::Inline,
                attempt,
                subtask,
                checkpoint,
                base: barrier.base,
            };
            let stored = upload.store(chain)?;
            w.crash_points.reach_sync("ack.before_send")?;
            Ok(stored)
        });
        let crash_points = w.crash_points.clone();
        if crash_points.killed().is_some() {
            return;
        }
        let event = match stored {
            Ok(operators) => SubtaskEvent::Acknowledge {
                checkpoint,
                snapshot: crate::checkpoint::SubtaskSnapshot { operators, ..Default::default() },
            },
            Err(e) => SubtaskEvent::Decline { checkpoint, reason: Failure::from(&e) },
        };
        self.report(worker, attempt, subtask, event);
        // A process killed here has sent its acknowledgement.
        _ = crash_points.reach_sync("ack.after_send");
    }
}

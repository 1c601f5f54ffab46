//! Runs one subtask on a thread of its own: restores, builds, steps, parks, reports.

use crate::checkpoint::{Barrier, SubtaskSnapshot, SubtaskTimings};
use crate::cluster::message::{Failure, SubtaskDeployment, SubtaskEvent};
use crate::cluster::taskmanager::worker::{Now, WorkerShared};
use crate::cluster::taskmanager::{Blocking, Upload, destination, load_restored};
use crate::error::{Error, Result};
use crate::graph::{BuildScope, JobGraph};
use crate::id::{Attempt, SubtaskId};
use crate::operator::ChainSnapshot;
use crate::task::{ExchangeHub, Step, Subtask, TaskMessage, TaskOutput, panic_error};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

/// A parked task looks round at least this often: the flags that stop it are not part of its mailbox.
const MAX_PARK_MS: i64 = 100;

/// Wakes a parked task thread.
struct ThreadWaker(Thread);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// What the subtasks of an attempt in one taskmanager have in common.
#[derive(Clone)]
pub(super) struct AttemptPlan {
    pub(super) attempt: Attempt,
    /// The job graph as the attempt runs it.
    pub(super) graph: Arc<JobGraph>,
    pub(super) hub: Arc<ExchangeHub>,
}

/// The taskmanager's grip on a running subtask.
pub(super) struct Runner {
    attempt: Attempt,
    subtask: SubtaskId,
    messages: Sender<TaskMessage>,
    cancel: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Runner {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's, if it has no thread left.
    pub(super) fn start(
        shared: Arc<WorkerShared>,
        plan: AttemptPlan,
        deployment: SubtaskDeployment,
    ) -> Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "control messages only: a handful per checkpoint")]
        let (messages, mailbox) = channel();
        let cancel = Arc::new(AtomicBool::new(false));
        let (subtask, attempt) = (deployment.subtask, plan.attempt);
        let body =
            TaskThread { shared, plan, deployment, mailbox, cancel: cancel.clone(), frozen_us: Cell::new(0) };
        let handle = thread::Builder::new()
            .name(format!("task-{subtask}"))
            .spawn(move || body.run())
            .map_err(|e| Error::restart_job(format!("no thread for subtask {subtask}")).with_source(e))?;
        Ok(Self { attempt, subtask, messages, cancel, thread: handle })
    }

    pub(super) fn attempt(&self) -> Attempt {
        self.attempt
    }

    pub(super) fn subtask(&self) -> SubtaskId {
        self.subtask
    }

    /// A message to a subtask that has ended is nobody's loss.
    pub(super) fn send(&self, message: TaskMessage) {
        _ = self.messages.send(message);
        self.thread.thread().unpark();
    }

    pub(super) fn cancel(&self) {
        self.cancel.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
    }

    pub(super) fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }
}

struct TaskThread {
    shared: Arc<WorkerShared>,
    plan: AttemptPlan,
    deployment: SubtaskDeployment,
    mailbox: Receiver<TaskMessage>,
    cancel: Arc<AtomicBool>,
    /// How long the last freeze took, in microseconds.
    frozen_us: Cell<u64>,
}

impl TaskThread {
    fn run(self) {
        let end = match catch_unwind(AssertUnwindSafe(|| self.run_to_end())) {
            Ok(Ok(end)) => end,
            Ok(Err(error)) => SubtaskEvent::Failed(Failure::from(&error)),
            Err(payload) => SubtaskEvent::Failed(Failure::from(&panic_error(payload.as_ref()))),
        };
        self.shared.report(self.plan.attempt, self.deployment.subtask, end);
    }

    fn stopped(&self) -> bool {
        self.cancel.load(Ordering::Relaxed) || self.shared.is_dead()
    }

    fn run_to_end(&self) -> Result<SubtaskEvent> {
        let waker = Waker::from(Arc::new(ThreadWaker(thread::current())));
        let mut task = self.build(&waker)?;
        if self.stopped() {
            return Ok(SubtaskEvent::Canceled);
        }
        self.shared.crash_points().reach_sync("restore.before_running")?;
        self.shared.report(self.plan.attempt, task.id(), SubtaskEvent::Ready);
        let mut outputs = Vec::new();
        let mut now = self.shared.now();
        loop {
            if self.stopped() {
                return Ok(SubtaskEvent::Canceled);
            }
            while let Ok(message) = self.mailbox.try_recv() {
                task.deliver(message, now.wall_ms, &mut outputs)?;
                now = self.act_all(&mut outputs, now);
            }
            let step = task.step(now.wall_ms, &mut outputs)?;
            now = self.act_all(&mut outputs, now);
            match step {
                Step::Ready => {}
                Step::Finished => return Ok(SubtaskEvent::Finished),
                Step::Wait(until) => {
                    let wait_ms = until.map_or(MAX_PARK_MS, |until| until.saturating_sub(now.wall_ms));
                    // A wake-up between the step and here has left a token: park then returns at once.
                    thread::park_timeout(Duration::from_millis(wait_ms.clamp(0, MAX_PARK_MS).unsigned_abs()));
                    now = self.shared.now();
                }
            }
        }
    }

    /// Acts on what a call has put out that began at `began`; returns the time it ended.
    fn act_all(&self, outputs: &mut Vec<TaskOutput>, began: Now) -> Now {
        let now = self.shared.now();
        for output in outputs.drain(..) {
            if let TaskOutput::Frozen = output {
                self.frozen_us.set(now.elapsed_us.saturating_sub(began.elapsed_us));
            }
            self.act(output, began);
        }
        now
    }

    fn build(&self, waker: &Waker) -> Result<Subtask> {
        let shared = &self.shared;
        let id = self.deployment.subtask;
        let vertex = self.plan.graph.vertex(id.vertex);
        let vertex = vertex.ok_or_else(|| Error::bug(format!("vertex {} is not of this job", id.vertex)))?;
        let mut restored = match &self.deployment.restore {
            Some(restore) => load_restored(
                shared.store(),
                &Blocking::Runtime(shared.runtime().clone()),
                shared.crash_points(),
                &shared.upload_scope().copies,
                vertex,
                id.index,
                restore,
            )?,
            None => Default::default(),
        };
        let scope = BuildScope {
            job: shared.job(),
            attempt: self.plan.attempt,
            hub: &self.plan.hub,
            graph: &self.plan.graph,
            backend: shared.backend(),
            local_dir: shared.local_dir(),
            crash_points: shared.crash_points(),
            waker,
        };
        shared.program().build_subtask(id, &scope, &mut restored)
    }

    fn act(&self, output: TaskOutput, began: Now) {
        let id = self.deployment.subtask;
        match output {
            TaskOutput::NeedSplit(operator) => {
                self.shared.report(self.plan.attempt, id, SubtaskEvent::SplitRequest { operator });
            }
            TaskOutput::Frozen => {}
            TaskOutput::Drained => self.shared.report(self.plan.attempt, id, SubtaskEvent::Drained),
            TaskOutput::Snapshot { barrier, chain, alignment_ms } => {
                let since_trigger_ms = began.wall_ms.saturating_sub_unsigned(barrier.triggered_at_ms);
                let timings = SubtaskTimings {
                    start_delay_us: (since_trigger_ms - alignment_ms).max(0).unsigned_abs() * 1000,
                    alignment_us: alignment_ms.max(0).unsigned_abs() * 1000,
                    sync_us: self.frozen_us.get(),
                    async_us: 0,
                };
                let (shared, attempt) = (self.shared.clone(), self.plan.attempt);
                self.shared.runtime().spawn(async move {
                    let checkpoint = barrier.checkpoint;
                    let event = match store_snapshot(&shared, attempt, id, barrier, chain, timings).await {
                        Ok(snapshot) => SubtaskEvent::Acknowledge { checkpoint, snapshot },
                        Err(e) => SubtaskEvent::Decline { checkpoint, reason: Failure::from(&e) },
                    };
                    shared.report(attempt, id, event);
                    _ = shared.crash_points().reach("ack.after_send").await;
                });
            }
        }
    }
}

/// The asynchronous part of a subtask's checkpoint.
async fn store_snapshot(
    shared: &Arc<WorkerShared>,
    attempt: Attempt,
    id: SubtaskId,
    barrier: Barrier,
    chain: ChainSnapshot,
    mut timings: SubtaskTimings,
) -> Result<SubtaskSnapshot> {
    let start_us = shared.now().elapsed_us;
    let destination = destination(shared.store(), shared.crash_points(), &barrier).await?;
    let store = {
        let shared = shared.clone();
        move || {
            Upload {
                job: shared.job(),
                store: &destination,
                scope: shared.upload_scope(),
                blocking: &Blocking::Runtime(shared.runtime().clone()),
                attempt,
                subtask: id,
                checkpoint: barrier.checkpoint,
                base: barrier.base,
            }
            .store(chain)
        }
    };
    let operators = tokio::task::spawn_blocking(store)
        .await
        .map_err(|e| Error::restart_job("storing state panicked").with_source(e))??;
    timings.async_us = shared.now().elapsed_us.saturating_sub(start_us);
    shared.crash_points().reach("ack.before_send").await?;
    Ok(SubtaskSnapshot { operators, timings })
}

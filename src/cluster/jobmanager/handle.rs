//! The caller's grip on a running job.

use crate::checkpoint::{CheckpointStore, Savepoint, SavepointMode};
#[cfg(unix)]
use crate::cluster::control::{ControlDirectory, ControlServer};
use crate::cluster::jobmanager::shell::ShellEvent;
use crate::cluster::jobmanager::{JobException, JobInfo};
use crate::cluster::jobmaster::{JobNotice, JobResult, JobStatus, Slots};
use crate::error::{Error, Result};
use crate::graph::JobGraph;
use crate::id::{Attempt, CheckpointId, JobId};
use serde::{Deserialize, Serialize};
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What can be asked of a running job from any thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct JobController {
    events: Sender<ShellEvent>,
    /// Where savepoints go that name no place.
    savepoint_dir: Option<Arc<str>>,
    end: Arc<End>,
}

/// How the job has ended, once it has.
#[derive(Debug, Default)]
pub(super) struct End {
    result: Mutex<Option<JobResult>>,
    changed: Condvar,
}

impl End {
    pub(super) fn set(&self, result: JobResult) {
        *self.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        self.changed.notify_all();
    }
}

/// What a job says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobReport {
    /// The job.
    pub job: JobId,
    /// The name given to it.
    pub name: String,
    /// Where it is in its life.
    pub status: JobStatus,
    /// The current attempt; 0 before the first.
    pub attempt: Attempt,
    /// Restarts so far.
    pub restarts: u64,
    /// When it was started, in milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// The newest completed checkpoint.
    pub last_checkpoint: Option<CheckpointId>,
    /// Checkpoints completed by this process.
    pub completed: u64,
    /// Checkpoints given up by this process.
    pub aborted: u64,
    /// Its directory in the checkpoint store.
    pub directory: String,
    /// Slots there are and slots needed.
    pub slots: Slots,
}

/// What is to come of [`JobController::savepoint`] and [`JobController::stop`]: the answer, once it is there.
pub(crate) type SavepointAnswer = Receiver<Result<Savepoint>>;

impl JobController {
    pub(super) fn new(events: Sender<ShellEvent>, savepoint_dir: Option<&str>, end: Arc<End>) -> Self {
        Self { events, savepoint_dir: savepoint_dir.map(Arc::from), end }
    }

    /// How the job has ended; `None` if it has not after so long.
    pub(crate) fn ended_within(&self, patience: Duration) -> Option<JobResult> {
        let result = self.end.result.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.end.changed.wait_timeout_while(result, patience, |result| result.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Has the job ended like this.
    #[cfg(all(test, unix))]
    pub(crate) fn set_ended(&self, result: JobResult) {
        self.end.set(result);
    }

    /// The controller of a job of which nothing is left.
    #[cfg(all(test, unix))]
    pub(crate) fn of_nothing() -> Self {
        #[expect(clippy::disallowed_methods, reason = "nothing is ever sent")]
        let (events, _) = std::sync::mpsc::channel();
        Self::new(events, None, Arc::default())
    }

    /// Asks the job to stop; its checkpoints are kept unless configured otherwise. A job that has ended is left as
    /// it is. What was processed since the last checkpoint is not published: see [`JobController::stop`].
    pub fn cancel(&self) {
        _ = self.events.send(ShellEvent::Cancel);
    }

    /// Has the job go on at another parallelism, from a checkpoint taken for that, and returns the highest parallelism of
    /// its operators from then on. Operators whose parallelism the program sets itself do not get more than that. The
    /// slots must be there already. A jobmanager that takes over keeps to it, as long as the program is started with the
    /// parallelism that it has now.
    ///
    /// # Errors
    /// If the job does not run, has ended, has too few slots or key groups, or what kept the checkpoint from being
    /// completed; it goes on as it was then.
    pub fn rescale(&self, parallelism: u32) -> Result<u32> {
        let (reply, answer) = sync_channel(1);
        _ = self.events.send(ShellEvent::Rescale { parallelism, reply });
        answer.recv().map_err(|_| ended())?
    }

    /// Takes a savepoint below `target`, a path or URL, or below the configured directory, and waits for it. A job
    /// that does not run yet, or is being restarted, takes it once it runs. The job goes on.
    ///
    /// # Errors
    /// If there is nowhere to put it, if the job has ended or ends before it is complete, or what kept the savepoint
    /// from being completed; it is not tried again.
    pub fn savepoint(&self, target: Option<&str>) -> Result<Savepoint> {
        answer(&self.ask(target, SavepointMode::Continue)?)
    }

    /// Stops the job with a savepoint and waits for the savepoint: nothing is processed after its cut, its output is
    /// published, and the job ends as finished soon after this call returns. With `drain` event time comes to its
    /// end before the cut, for programs that are not to be resumed.
    ///
    /// # Errors
    /// As [`JobController::savepoint`]. After an error the job goes on, unless it has ended by itself.
    pub fn stop(&self, target: Option<&str>, drain: bool) -> Result<Savepoint> {
        let mode = if drain { SavepointMode::Drain } else { SavepointMode::Stop };
        answer(&self.ask(target, mode)?)
    }

    /// What the job says of itself.
    ///
    /// # Errors
    /// If it has ended.
    pub fn report(&self) -> Result<JobReport> {
        self.look(ShellEvent::Report)
    }

    /// What the job says of itself at length.
    ///
    /// # Errors
    /// If it has ended.
    pub fn info(&self) -> Result<JobInfo> {
        self.look(ShellEvent::Info)
    }

    /// The plan that runs, with numbers of key groups adopted from a restored checkpoint.
    ///
    /// # Errors
    /// If the job has ended.
    pub fn plan(&self) -> Result<JobGraph> {
        self.look(ShellEvent::Plan)
    }

    /// The last failures of the job under this jobmanager, oldest first.
    ///
    /// # Errors
    /// If it has ended.
    pub fn exceptions(&self) -> Result<Vec<JobException>> {
        self.look(ShellEvent::Exceptions)
    }

    fn look<T>(&self, question: impl FnOnce(Reply<T>) -> ShellEvent) -> Result<T> {
        let (reply, answer) = sync_channel(1);
        _ = self.events.send(question(reply));
        answer.recv().map_err(|_| ended())
    }

    pub(crate) fn ask(&self, target: Option<&str>, mode: SavepointMode) -> Result<SavepointAnswer> {
        let Some(target) = target.or(self.savepoint_dir.as_deref()) else {
            return Err(Error::config(
                "the job keeps its checkpoints in memory, where a savepoint would be lost",
            )
            .hint("name a directory for it, or set savepoint.dir or checkpoint.dir"));
        };
        // Makes the path absolute, creates a local directory, and finds out whether the place can be opened at all.
        let target = CheckpointStore::open(target, &[])?;
        if target.is_in_memory() {
            return Err(Error::config("a savepoint in memory would be lost with the process")
                .hint("name a directory, or the URL of a bucket"));
        }
        let (reply, answer) = sync_channel(1);
        _ = self.events.send(ShellEvent::Savepoint { target: target.location().to_owned(), mode, reply });
        Ok(answer)
    }

    /// Simulates the crash of the taskmanager with this index: its threads stop without a word and everything it
    /// holds is lost. A new one takes its place. For tests and demonstrations.
    pub fn crash_taskmanager(&self, index: u32) {
        _ = self.events.send(ShellEvent::CrashTaskManager(index));
    }
}

/// Waits for an answer.
pub(crate) fn answer(answer: &SavepointAnswer) -> Result<Savepoint> {
    answer.recv().map_err(|_| ended())?
}

fn ended() -> Error {
    Error::config("the job has ended").hint("its status.json says how")
}

/// Where an answer goes.
pub(super) type Reply<T> = SyncSender<T>;

/// A running job. Dropping the handle cancels the job and waits for it.
#[derive(Debug)]
pub struct JobHandle {
    job: JobId,
    controller: JobController,
    notices: Receiver<JobNotice>,
    thread: Option<JoinHandle<JobResult>>,
    #[cfg(unix)]
    control: Option<ControlServer>,
}

impl JobHandle {
    pub(super) fn new(
        job: JobId,
        controller: JobController,
        notices: Receiver<JobNotice>,
        thread: JoinHandle<JobResult>,
    ) -> Self {
        Self {
            job,
            controller,
            notices,
            thread: Some(thread),
            #[cfg(unix)]
            control: None,
        }
    }

    /// Lets other processes of the same person control the job, through a socket in `directory`.
    ///
    /// # Errors
    /// A config error if the socket cannot be made.
    #[cfg(unix)]
    pub fn listen(&mut self, directory: &ControlDirectory) -> Result<()> {
        self.control = Some(ControlServer::start(directory, &self.job, self.controller())?);
        Ok(())
    }

    /// The job's id: the name of its directory below the checkpoint directory.
    pub fn job_id(&self) -> &JobId {
        &self.job
    }

    /// What can be asked of the job, from any thread.
    pub fn controller(&self) -> JobController {
        self.controller.clone()
    }

    /// What happens to the job, as it happens; ends when the job has ended.
    pub fn notices(&self) -> impl Iterator<Item = JobNotice> {
        self.notices.iter()
    }

    /// Waits for the end of the job.
    ///
    /// # Errors
    /// A bug error if the jobmanager's thread itself has panicked.
    pub fn wait(mut self) -> Result<JobResult> {
        self.join()
    }

    fn join(&mut self) -> Result<JobResult> {
        let Some(thread) = self.thread.take() else { return Err(Error::bug("the job was waited for twice")) };
        let result =
            thread.join().map_err(|_| Error::bug(format!("the jobmanager of job {} panicked", self.job)))?;
        #[cfg(unix)]
        if let Some(control) = self.control.take() {
            control.finish();
        }
        Ok(result)
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.controller.cancel();
            _ = self.join();
        }
    }
}

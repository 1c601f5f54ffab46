//! The caller's grip on a running job.

use crate::cluster::jobmaster::{JobNotice, JobResult};
use crate::cluster::local::shell::ShellEvent;
use crate::error::{Error, Result};
use crate::id::JobId;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::JoinHandle;

/// What can be asked of a running job from any thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct JobController(pub(super) Sender<ShellEvent>);

impl JobController {
    /// Asks the job to stop; its checkpoints are kept unless configured otherwise. A job that has ended is left as
    /// it is.
    pub fn cancel(&self) {
        _ = self.0.send(ShellEvent::Cancel);
    }

    /// Simulates the crash of the taskmanager with this index: its threads stop without a word and everything it
    /// holds is lost. A new one takes its place. For tests and demonstrations.
    pub fn crash_taskmanager(&self, index: u32) {
        _ = self.0.send(ShellEvent::CrashTaskManager(index));
    }
}

/// A running job. Dropping the handle cancels the job and waits for it.
#[derive(Debug)]
pub struct JobHandle {
    job: JobId,
    controller: JobController,
    notices: Receiver<JobNotice>,
    thread: Option<JoinHandle<JobResult>>,
}

impl JobHandle {
    pub(super) fn new(
        job: JobId,
        controller: JobController,
        notices: Receiver<JobNotice>,
        thread: JoinHandle<JobResult>,
    ) -> Self {
        Self { job, controller, notices, thread: Some(thread) }
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
        thread.join().map_err(|_| Error::bug(format!("the jobmanager of job {} panicked", self.job)))
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

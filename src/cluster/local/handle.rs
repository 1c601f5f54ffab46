//! The caller's grip on a running job.

use crate::cluster::jobmaster::{JobNotice, JobResult};
use crate::error::{Error, Result};
use crate::id::JobId;
use std::sync::mpsc::{Receiver, Sender};
use std::thread::JoinHandle;

/// To the jobmanager's thread from outside.
#[derive(Debug)]
pub(super) enum Request {
    Cancel,
    CrashTaskManager(u32),
}

/// A running job. Dropping the handle cancels the job and waits for it.
#[derive(Debug)]
pub struct JobHandle {
    job: JobId,
    requests: Sender<Request>,
    wake: Box<dyn WakeShell>,
    notices: Receiver<JobNotice>,
    thread: Option<JoinHandle<JobResult>>,
}

/// Makes the jobmanager's thread look at its requests.
pub(super) trait WakeShell: Send + std::fmt::Debug {
    fn wake(&self);
}

impl JobHandle {
    pub(super) fn new(
        job: JobId,
        requests: Sender<Request>,
        wake: Box<dyn WakeShell>,
        notices: Receiver<JobNotice>,
        thread: JoinHandle<JobResult>,
    ) -> Self {
        Self { job, requests, wake, notices, thread: Some(thread) }
    }

    /// The job's id: the name of its directory below the checkpoint directory.
    pub fn job_id(&self) -> &JobId {
        &self.job
    }

    /// What happens to the job, as it happens; ends when the job has ended.
    pub fn notices(&self) -> impl Iterator<Item = JobNotice> {
        self.notices.iter()
    }

    /// Asks the job to stop; its checkpoints are kept unless configured otherwise.
    pub fn cancel(&self) {
        self.request(Request::Cancel);
    }

    /// Simulates the crash of a taskmanager: its threads stop without a word and everything it holds is lost. A new
    /// one takes its place. For tests and demonstrations.
    pub fn crash_taskmanager(&self, index: u32) {
        self.request(Request::CrashTaskManager(index));
    }

    /// A job that has ended needs no request.
    fn request(&self, request: Request) {
        _ = self.requests.send(request);
        self.wake.wake();
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
            self.cancel();
            _ = self.join();
        }
    }
}

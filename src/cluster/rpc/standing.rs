//! What a jobmanager's process is to those who call it: it may have its port long before it leads the job.

use super::server::Admission;
use crate::cluster::JobController;
use crate::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a caller waits for a process that is starting to become something.
const SETTLES_WITHIN: Duration = Duration::from_secs(10);

/// What it is.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// Neither leader nor standby yet, but about to be one of them.
    Starting,
    /// It waits for the end of the jobmanager at this address.
    Standby { job: String, leader: String },
    /// It leads the job.
    Leading(Arc<Leader>),
}

/// What a leader goes by.
#[derive(Debug)]
pub(super) struct Leader {
    pub(super) admission: Admission,
    pub(super) controller: JobController,
}

/// The place where a process says what it is.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    stage: watch::Sender<Stage>,
    nonce: Arc<str>,
}

impl Standing {
    /// Of a process that leads with this nonce, once it does.
    pub(crate) fn new(nonce: &str) -> Self {
        Self { stage: watch::Sender::new(Stage::Starting), nonce: nonce.into() }
    }

    pub(super) fn nonce(&self) -> &str {
        &self.nonce
    }

    /// It stands by for the jobmanager at `leader`.
    pub(crate) fn stands_by(&self, job: &str, leader: &str) {
        self.stage.send_replace(Stage::Standby { job: job.to_owned(), leader: leader.to_owned() });
    }

    /// It goes for the leadership: callers wait for what comes of it.
    pub(crate) fn starts(&self) {
        self.stage.send_replace(Stage::Starting);
    }

    /// It leads the job.
    pub(crate) fn leads(&self, admission: Admission, controller: JobController) {
        self.stage.send_replace(Stage::Leading(Arc::new(Leader { admission, controller })));
    }

    /// What it is, as soon as it is something.
    ///
    /// # Errors
    /// A retry error if it is nothing for too long.
    pub(super) async fn settled(&self) -> Result<Stage, Error> {
        let mut stage = self.stage.subscribe();
        let settled = stage.wait_for(|stage| !matches!(stage, Stage::Starting));
        match tokio::time::timeout(SETTLES_WITHIN, settled).await {
            Ok(Ok(stage)) => Ok(stage.clone()),
            Ok(Err(_)) | Err(_) => Err(Error::retry("the jobmanager is still starting")),
        }
    }
}

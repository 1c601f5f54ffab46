//! The side that asks, whichever way it reaches the job.

use super::ControlReply;
use crate::error::{Error, Result};
use std::fmt;

/// Where the replies to one request come from.
pub(super) trait Conversation: Send {
    /// Waits for the next reply; `None` if there are no more.
    fn reply(&mut self) -> Result<Option<ControlReply>>;
}

/// A running job that was asked for something.
pub struct ControlClient {
    /// How people call the job.
    name: String,
    with: Box<dyn Conversation>,
}

impl fmt::Debug for ControlClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlClient").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ControlClient {
    pub(super) fn new(name: String, with: impl Conversation + 'static) -> Self {
        Self { name, with: Box::new(with) }
    }

    /// Waits for the next reply. A reply [`ControlReply::Failed`] is returned as the error it carries.
    ///
    /// # Errors
    /// That, or if the job's process has gone.
    pub fn reply(&mut self) -> Result<ControlReply> {
        match self.with.reply() {
            Ok(Some(ControlReply::Failed(failure))) => Err(Error::from(failure)),
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(self.gone(Error::restart_job("the connection was closed"))),
            Err(e) => Err(self.gone(e)),
        }
    }

    fn gone(&self, e: Error) -> Error {
        Error::restart_job("the job's process is gone, or has not answered")
            .with_source(e)
            .at(&self.name)
            .hint("whether what was asked for has happened is unknown: look at its directory")
    }
}

//! What is said over a control socket, and to a jobmanager over the network.

use crate::checkpoint::Savepoint;
use crate::cluster::message::Failure;
use crate::cluster::{JobException, JobInfo, JobReport};
use crate::error::{Error, Result};
use crate::graph::JobGraph;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Read, Write};

/// Longest line with a request, in bytes.
pub(super) const LONGEST_REQUEST: u64 = 64 << 10;
/// Longest line with a reply.
pub(super) const LONGEST_REPLY: u64 = 16 << 20;
/// Version of [`ControlCall`] and of what is in it.
pub(crate) const CONTROL_VERSION: u32 = 1;

/// What is asked of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ControlRequest {
    /// What it says of itself: one `Report`.
    Report,
    /// What it says of itself at length: one `Info`.
    Info,
    /// What runs: one `Plan`.
    Plan,
    /// What has failed: one `Exceptions`.
    Exceptions,
    /// To take a savepoint: one `Savepoint`.
    Savepoint {
        /// Below this directory or URL; absolute. The configured one if absent.
        target: Option<String>,
    },
    /// To stop with a savepoint: `Savepoint`, then `Ended`.
    Stop {
        /// As for `Savepoint`.
        target: Option<String>,
        /// Whether event time is brought to its end first.
        drain: bool,
    },
    /// To go on at another parallelism: one `Rescaled`.
    Rescale {
        /// The highest of its operators.
        parallelism: u32,
    },
    /// To stop at once: `Ended`.
    Cancel,
}

/// What a job answers. `Failed` can come in place of any other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum ControlReply {
    /// What it says of itself.
    Report(JobReport),
    /// What it says of itself at length.
    Info(JobInfo),
    /// What runs.
    Plan(JobGraph),
    /// What has failed.
    Exceptions {
        /// Oldest first.
        exceptions: Vec<JobException>,
    },
    /// This jobmanager does not lead the job.
    Standby {
        /// The job.
        job: String,
        /// `host:port` of the jobmanager that leads it.
        leader: String,
    },
    /// The savepoint is complete.
    Savepoint(Savepoint),
    /// The job goes on at another parallelism.
    Rescaled {
        /// The highest of its operators.
        parallelism: u32,
    },
    /// The job has ended.
    Ended {
        /// `finished`, `canceled`, `failed` or `fenced`.
        status: String,
        /// Why, if it failed.
        failure: Option<Failure>,
    },
    /// What was asked for did not happen.
    Failed(Failure),
}

/// A request over the network: first the caller says who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ControlCall {
    /// [`CONTROL_VERSION`].
    pub(crate) version: u32,
    /// The text that the members of the cluster know; empty if there is none.
    pub(crate) token: String,
    /// The job that is meant; whichever there is if absent.
    pub(crate) job: Option<String>,
    pub(crate) request: ControlRequest,
}

pub(super) fn write_line<T: Serialize>(to: &mut impl Write, message: &T) -> Result<()> {
    let mut line = serde_json::to_vec(message)
        .map_err(|e| Error::bug("cannot encode a control message").with_source(e))?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()?;
    Ok(())
}

/// The next message, of at most `longest` bytes; `None` at the end.
pub(super) fn read_line<T: DeserializeOwned>(from: &mut impl BufRead, longest: u64) -> Result<Option<T>> {
    let mut line = Vec::new();
    let length = from.take(longest).read_until(b'\n', &mut line)?;
    if length == 0 {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        return Err(Error::data("a control message without an end"));
    }
    serde_json::from_slice(&line)
        .map(Some)
        .map_err(|e| Error::data("not a control message").with_source(e).hint("use a matching tidegate"))
}

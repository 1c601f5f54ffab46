//! What is said over a control socket.

use crate::checkpoint::Savepoint;
use crate::cluster::JobReport;
use crate::cluster::message::Failure;
use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Read, Write};

/// Longest line read, in bytes.
const LONGEST_LINE: u64 = 64 << 10;

/// What is asked of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ControlRequest {
    /// What it says of itself: one `Report`.
    Report,
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
    /// To stop at once: `Ended`.
    Cancel,
}

/// What a job answers. `Failed` can come in place of any other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum ControlReply {
    /// What it says of itself.
    Report(JobReport),
    /// The savepoint is complete.
    Savepoint(Savepoint),
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

pub(super) fn write_line<T: Serialize>(to: &mut impl Write, message: &T) -> Result<()> {
    let mut line = serde_json::to_vec(message)
        .map_err(|e| Error::bug("cannot encode a control message").with_source(e))?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()?;
    Ok(())
}

/// The next message; `None` at the end.
pub(super) fn read_line<T: DeserializeOwned>(from: &mut impl BufRead) -> Result<Option<T>> {
    let mut line = Vec::new();
    let length = from.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
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

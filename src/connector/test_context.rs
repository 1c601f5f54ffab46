//! For tests: the surroundings of a sink.

use crate::function::{SinkContext, SubtaskInfo};
use crate::id::{Attempt, JobId, OperatorUid};

/// One of two subtasks of the sink `out`.
pub(super) fn context(job: &str, attempt: u32, subtask: u32) -> SinkContext {
    let attempt = Attempt(attempt.into());
    let (job, operator) = (JobId::from(job.to_owned()), OperatorUid("out".into()));
    let subtask =
        SubtaskInfo { operator: "out".into(), index: subtask, parallelism: 2, max_parallelism: 128, attempt };
    SinkContext { job, operator, attempt, subtask }
}

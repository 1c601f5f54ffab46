//! What a job does about a request, whichever way it came.

use super::{ControlReply, ControlRequest};
use crate::checkpoint::{Savepoint, SavepointMode};
use crate::cluster::JobController;
use crate::cluster::jobmanager::answer;
use crate::cluster::jobmaster::JobResult;
use crate::cluster::message::Failure;
use crate::error::{Error, Result};
use std::time::Duration;

/// How often one who waits for the end looks whether it can still come.
const LOOK_ROUND: Duration = Duration::from_millis(500);

/// Does what is asked and says what comes of it; waits as long as that takes. `say` is false when nobody listens any more,
/// `closed` when nothing more can come.
pub(crate) fn answer_to(
    request: ControlRequest,
    controller: &JobController,
    say: &mut dyn FnMut(ControlReply) -> bool,
    closed: &dyn Fn() -> bool,
) {
    let take = |target: Option<&str>, mode| controller.ask(target, mode).and_then(|asked| answer(&asked));
    match request {
        ControlRequest::Report => _ = say(reply(controller.report(), ControlReply::Report)),
        ControlRequest::Info => _ = say(reply(controller.info(), ControlReply::Info)),
        ControlRequest::Plan => _ = say(reply(controller.plan(), ControlReply::Plan)),
        ControlRequest::Exceptions => {
            let answer = |exceptions| ControlReply::Exceptions { exceptions };
            _ = say(reply(controller.exceptions(), answer));
        }
        ControlRequest::Savepoint { target } => {
            _ = say(savepoint(take(target.as_deref(), SavepointMode::Continue)));
        }
        ControlRequest::Stop { target, drain } => {
            let mode = if drain { SavepointMode::Drain } else { SavepointMode::Stop };
            let taken = take(target.as_deref(), mode);
            let stops = taken.is_ok();
            if say(savepoint(taken)) && stops {
                _ = say(wait_for_end(controller, closed));
            }
        }
        ControlRequest::Rescale { parallelism } => {
            let answer = |parallelism| ControlReply::Rescaled { parallelism };
            _ = say(reply(controller.rescale(parallelism), answer));
        }
        ControlRequest::Cancel => {
            controller.cancel();
            _ = say(wait_for_end(controller, closed));
        }
    }
}

fn reply<T>(answer: Result<T>, good: impl FnOnce(T) -> ControlReply) -> ControlReply {
    match answer {
        Ok(answer) => good(answer),
        Err(e) => ControlReply::Failed(Failure::from(&e)),
    }
}

fn savepoint(taken: Result<Savepoint>) -> ControlReply {
    reply(taken, ControlReply::Savepoint)
}

fn wait_for_end(controller: &JobController, closed: &dyn Fn() -> bool) -> ControlReply {
    loop {
        if let Some(result) = controller.ended_within(LOOK_ROUND) {
            return ended(result);
        }
        // The jobmanager's thread has died without a result, or nobody listens.
        if closed() {
            return ControlReply::Failed(Failure::from(&Error::bug("the job has ended without a word")));
        }
    }
}

fn ended(result: JobResult) -> ControlReply {
    let (status, failure) = match result {
        JobResult::Finished => ("finished", None),
        JobResult::Canceled => ("canceled", None),
        JobResult::Failed(failure) => ("failed", Some(failure)),
        JobResult::Fenced(failure) => ("fenced", Some(failure)),
    };
    ControlReply::Ended { status: status.to_owned(), failure }
}

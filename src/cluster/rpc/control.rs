//! Commands of people, on the port of the jobmanager.

use super::server::{ClusterService, FAREWELL, REGISTER_WITHIN};
use super::standing::{Leader, Stage};
use crate::cluster::control::{CONTROL_VERSION, ControlCall, ControlReply, answer_to};
use crate::cluster::message::Failure;
use crate::error::{Error, Result};
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tonic::Streaming;

/// Commands at once; further ones are refused.
pub(super) const MOST_COMMANDS: u32 = 32;

impl ClusterService {
    /// The life of one command.
    pub(super) async fn command(self, mut from: Streaming<ControlCall>, to: UnboundedSender<ControlReply>) {
        let first = tokio::time::timeout(REGISTER_WITHIN, from.message()).await;
        let Ok(Ok(Some(call))) = first else { return };
        let Some(_open) = self.sessions.open_command() else {
            let e = Error::retry(format!("{MOST_COMMANDS} commands are under way")).hint("try again later");
            _ = to.send(ControlReply::Failed(Failure::from(&e)));
            return;
        };
        match self.leader_for(&call).await {
            Ok(Ok(leader)) => {
                if let Some(done) = answer_in_thread(call, leader, to.clone()) {
                    tokio::select! {
                        _ = done => {}
                        // One who breaks off has not asked for the request to be undone.
                        _ = from.message() => return,
                    }
                }
            }
            Ok(Err(standby)) => _ = to.send(standby),
            Err(e) => _ = to.send(ControlReply::Failed(Failure::from(&e))),
        }
        drop(to);
        // The caller goes when it has its replies. Without this wait they could be lost with the process.
        _ = tokio::time::timeout(FAREWELL, async { while let Ok(Some(_)) = from.message().await {} }).await;
    }

    /// The leader, if it may and can be asked this; what to reply if this is none.
    async fn leader_for(&self, call: &ControlCall) -> Result<Result<Arc<Leader>, ControlReply>> {
        if call.version != CONTROL_VERSION {
            return Err(Error::config(format!(
                "the command speaks version {}, the jobmanager {CONTROL_VERSION}",
                call.version
            ))
            .hint("use tidegate of the release that the job is built with"));
        }
        if *call.token != *self.token {
            return Err(Error::config("the command does not have the jobmanager's token")
                .hint("give it with --token-file the file that is the jobmanager's cluster.token-file"));
        }
        match self.standing.settled().await? {
            Stage::Leading(leader) => {
                let job = leader.admission.settings.job.as_str();
                match &call.job {
                    Some(wanted) if wanted != job => {
                        Err(Error::config(format!("this jobmanager has job {job}, not {wanted}")))
                    }
                    _ => Ok(Ok(leader)),
                }
            }
            Stage::Standby { job, leader } => Ok(Err(ControlReply::Standby { job, leader })),
            Stage::Starting => Err(Error::retry("the jobmanager is still starting")),
        }
    }
}

/// Answers on a thread of its own, as answers wait for the job; what is returned ends with it. None if there is no thread.
fn answer_in_thread(
    call: ControlCall,
    leader: Arc<Leader>,
    to: UnboundedSender<ControlReply>,
) -> Option<oneshot::Receiver<()>> {
    let (done, ended) = oneshot::channel();
    let started = std::thread::Builder::new().name("control-client".to_owned()).spawn(move || {
        let mut say = |reply| to.send(reply).is_ok();
        answer_to(call.request, &leader.controller, &mut say, &|| to.is_closed());
        drop(done);
    });
    started.is_ok().then_some(ended)
}

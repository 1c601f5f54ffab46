//! Taskmanagers in processes of their own, which come and go.

use super::TaskManagerAddress;
use super::shell::TaskManagers;
use crate::cluster::jobmaster::JobResult;
use crate::cluster::message::ToWorker;
use crate::cluster::rpc::{RpcServer, Sessions, ToTaskManager};
use crate::id::WorkerId;
use std::collections::BTreeMap;

/// Taskmanagers that have registered with this jobmanager's server.
pub(crate) struct Remote {
    sessions: Sessions,
    server: RpcServer,
}

impl Remote {
    pub(crate) fn new(sessions: Sessions, server: RpcServer) -> Self {
        Self { sessions, server }
    }
}

impl TaskManagers for Remote {
    fn send(&mut self, worker: WorkerId, message: ToWorker) {
        let peers = match &message {
            ToWorker::Deploy { .. } => self.sessions.data_addresses(),
            _ => Vec::new(),
        };
        self.sessions.send(worker, ToTaskManager::Command { message, peers });
    }

    fn abandon(&mut self, worker: WorkerId, why: &str) {
        self.sessions.dismiss(worker, ToTaskManager::Abandon { why: why.to_owned() });
    }

    /// For tests of clusters in one process; processes are killed from outside.
    fn crash(&mut self, _index: u32) {}

    fn processes(&self) -> BTreeMap<WorkerId, TaskManagerAddress> {
        self.sessions.processes()
    }

    fn end(&mut self, result: &JobResult) {
        match result {
            JobResult::Finished | JobResult::Canceled => self.sessions.end(None),
            JobResult::Failed(failure) => self.sessions.end(Some(failure.clone())),
            // The job goes on elsewhere: they find their connections closed, and look for the new leader.
            JobResult::Fenced(_) => {}
        }
    }

    fn farewell(self: Box<Self>) {
        self.server.farewell();
    }
}

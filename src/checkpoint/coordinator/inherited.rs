//! The checkpoint that a job starts from becomes its own first one, if the store can copy the files by itself.
//!
//! `reserved (subtasks restore) -> copying -> committing -> completed`; whatever fails on the way, it is given up, and the
//! first checkpoint of the job has all files anew. Meanwhile no checkpoint is triggered, as it would have no base.

use super::{CheckpointAction, Coordinator};
use crate::checkpoint::inherit::{Inherit, inherited};
use crate::checkpoint::{Manifest, RestoreFrom, SubtaskTimings};
use crate::cluster::message::Failure;
use crate::id::CheckpointId;

/// How far it has come.
#[derive(Debug, Default)]
pub(super) enum Inheriting {
    /// There is nothing to inherit, or no longer.
    #[default]
    Not,
    /// Subtasks have been told that there will be this checkpoint.
    Reserved(CheckpointId),
    /// The store copies.
    Copying(Box<Manifest>),
    /// It is in the queue of commits.
    Committing(CheckpointId),
}

impl Inheriting {
    /// Whether checkpoints wait for it.
    pub(super) fn is_under_way(&self) -> bool {
        matches!(self, Self::Copying(_) | Self::Committing(_))
    }

    /// Whether it is this one.
    pub(super) fn is_committing(&self, checkpoint: CheckpointId) -> bool {
        matches!(self, Self::Committing(id) if *id == checkpoint)
    }
}

impl Coordinator {
    /// The number under which the job will have the checkpoint that it is about to be restored from; none if it cannot have
    /// it.
    pub fn reserve_inherited(&mut self, from: &RestoreFrom) -> Option<CheckpointId> {
        self.raise_last_id(from.manifest.checkpoint);
        if !from.can_be_inherited() || self.retained.newest().is_some() {
            return None;
        }
        self.last_id = CheckpointId(self.last_id.0 + 1);
        self.inheriting = Inheriting::Reserved(self.last_id);
        Some(self.last_id)
    }

    /// All subtasks have restored it, and run: the job takes it over, if a number was reserved. `nonce` is for its manifest.
    pub fn inherit(
        &mut self,
        from: &RestoreFrom,
        nonce: impl FnOnce() -> String,
        now_ms: u64,
    ) -> Option<CheckpointAction> {
        let (Inheriting::Reserved(checkpoint), Some(attempt)) = (&self.inheriting, self.attempt) else {
            return None;
        };
        let manifest = Manifest {
            leader_epoch: self.leader_epoch,
            attempt,
            nonce: nonce(),
            triggered_at_ms: now_ms,
            completed_at_ms: now_ms,
            ..inherited(&from.manifest, &self.graph, &self.job, *checkpoint)
        };
        let request = Inherit {
            leader_epoch: self.leader_epoch,
            from: from.base.clone(),
            paths: manifest.file_paths().map(str::to_owned).collect(),
        };
        self.inheriting = Inheriting::Copying(Box::new(manifest));
        Some(CheckpointAction::Inherit(request))
    }

    /// The store has copied the files.
    pub fn on_inherited(&mut self, now_ms: u64) -> Option<CheckpointAction> {
        let Inheriting::Copying(manifest) = std::mem::take(&mut self.inheriting) else { return None };
        self.inheriting = Inheriting::Committing(manifest.checkpoint);
        let deadline_ms = now_ms.saturating_add(self.config.timeout_ms);
        self.commits.push(*manifest, None, SubtaskTimings::default(), None, deadline_ms);
        self.next_commit(now_ms)
    }

    /// The store could not copy the files: the job goes on without.
    pub fn on_inherit_failed(&mut self, failure: &Failure, now_ms: u64) {
        if let Inheriting::Copying(manifest) = std::mem::take(&mut self.inheriting) {
            let why = format!("its files could not be copied: {}", failure.message);
            self.history.gave_up(&super::barrier_of(&manifest), Default::default(), &why, now_ms);
        }
    }
}

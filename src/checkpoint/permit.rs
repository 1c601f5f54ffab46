//! Permits: what changes a job's directory for good takes the proof that somebody has looked whether it may.
//!
//! Entries of the commit log, manifests, files that are replaced and everything that is deleted take one, and only a look at
//! the store makes one: to forget the look does not compile. A permit is no lock. Another leader may come right behind the
//! look, and what is then still done by the old one is made harmless by the protocol: places and names that are
//! taken once, deletions of nothing that a later leader needs. What must not be *told* to anybody before it is sure ends
//! with a second look, [`confirm`](Permit::confirm).

use crate::checkpoint::epoch::leader_path;
use crate::checkpoint::{JobStore, Manifest};
use crate::error::{Error, Result};
use crate::id::LeaderEpoch;

/// Proof of a look; see the module's text.
#[derive(Debug)]
pub(crate) struct Permit {
    leader_epoch: LeaderEpoch,
}

/// Proof that what was done was done by the leader.
#[derive(Debug)]
pub(crate) struct Confirmed(());

impl Permit {
    /// For the leader of a term.
    ///
    /// # Errors
    /// Of kind `Fenced` if there is a later leader; the store's.
    pub(crate) async fn of_leader(store: &JobStore, leader_epoch: LeaderEpoch) -> Result<Self> {
        match store.get(&leader_path(leader_epoch.0 + 1)).await? {
            None => Ok(Self { leader_epoch }),
            Some(_) => {
                Err(Error::fenced(format!("a later leader than that of term {leader_epoch} has the job")))
            }
        }
    }

    /// For the writer of a manifest that was read back, to take that one back: none if it is another's.
    pub(crate) fn of_writer(written: &Manifest, found: Option<&Manifest>) -> Option<Self> {
        let is_ours = found.is_some_and(|found| found.nonce == written.nonce);
        is_ours.then_some(Self { leader_epoch: written.leader_epoch })
    }

    /// The term in which things are done with it.
    pub(crate) fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// Looks again, behind what was done with it.
    ///
    /// # Errors
    /// As [`of_leader`](Self::of_leader): what was done may be void.
    pub(crate) async fn confirm(self, store: &JobStore) -> Result<Confirmed> {
        Self::of_leader(store, self.leader_epoch).await.map(|_| Confirmed(()))
    }
}

//! The completed checkpoints that are kept, and what follows for deletion.
//!
//! Invariants:
//! - The keep-set is computed from the manifests of retained checkpoints, never counted. While one of them is
//!   unreadable nothing is deleted, because what it names is unknown.
//! - A checkpoint under way may name files of its base, which was retained when it was triggered. A base that is no
//!   longer retained is kept like one that is, until no checkpoint under way has it.

use crate::checkpoint::{CheckpointKind, Manifest};
use crate::id::{CheckpointId, JobId};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
struct Entry {
    id: CheckpointId,
    kind: CheckpointKind,
    /// With the job that wrote each, if it was another one. `None`: the manifest is unreadable.
    files: Option<BTreeMap<String, Option<JobId>>>,
}

/// Retained checkpoints, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct RetainedSet {
    entries: Vec<Entry>,
    /// No longer retained, and perhaps still the base of a checkpoint under way.
    subsumed: Vec<Entry>,
}

impl RetainedSet {
    /// Replaces the set by what the store knows.
    pub(super) fn load(&mut self, older: &[(CheckpointId, Option<Manifest>)], latest: Option<&Manifest>) {
        // Nothing is under way.
        self.subsumed.clear();
        self.entries = older
            .iter()
            .map(|(id, manifest)| match manifest {
                Some(m) => Entry::of(m),
                // Of unknown kind: treated as the kind that is dropped when its turn comes.
                None => Entry { id: *id, kind: CheckpointKind::Periodic, files: None },
            })
            .chain(latest.map(Entry::of))
            .collect();
    }

    /// The ids that will be retained once `id` is complete: it and the newest others up to `count`.
    pub(super) fn ids_with(&self, id: CheckpointId, kind: CheckpointKind, count: u32) -> Vec<CheckpointId> {
        let mut next = self.clone();
        next.entries.push(Entry { id, kind, files: None });
        next.trim(count);
        next.ids().collect()
    }

    /// Adds a completed checkpoint and forgets what it subsumes.
    pub(super) fn add(&mut self, manifest: &Manifest, count: u32) {
        self.entries.push(Entry::of(manifest));
        self.trim(count);
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = CheckpointId> {
        self.entries.iter().map(|e| e.id)
    }

    pub(super) fn newest(&self) -> Option<CheckpointId> {
        self.entries.last().map(|e| e.id)
    }

    /// The checkpoint that the next periodic one may refer to.
    pub(super) fn base(&self) -> Option<CheckpointId> {
        let periodic = |e: &&Entry| e.kind == CheckpointKind::Periodic && e.files.is_some();
        self.entries.iter().rev().find(periodic).map(|e| e.id)
    }

    /// The job that wrote a file which the manifest of a checkpoint that has not been forgotten names; `None` inside if it was
    /// this one.
    pub(super) fn file(&self, checkpoint: CheckpointId, path: &str) -> Option<&Option<JobId>> {
        let mut entries = self.entries.iter().chain(&self.subsumed);
        entries.find(|e| e.id == checkpoint)?.files.as_ref()?.get(path)
    }

    /// Forgets what is neither retained nor one of these bases, and returns what to keep: checkpoints, and every file
    /// that their manifests name. `None` while one of them is unreadable.
    pub(super) fn keep(
        &mut self,
        bases: &BTreeSet<CheckpointId>,
    ) -> Option<(BTreeSet<CheckpointId>, BTreeSet<String>)> {
        self.subsumed.retain(|e| bases.contains(&e.id));
        let (mut ids, mut files) = (BTreeSet::new(), BTreeSet::new());
        for e in self.entries.iter().chain(&self.subsumed) {
            ids.insert(e.id);
            files.extend(e.files.as_ref()?.keys().cloned());
        }
        Some((ids, files))
    }

    fn trim(&mut self, count: u32) {
        let excess = self.entries.len().saturating_sub(count as usize);
        self.subsumed.extend(self.entries.drain(..excess));
    }
}

impl Entry {
    fn of(m: &Manifest) -> Self {
        // The files of a savepoint with which the job stops lie elsewhere.
        let files = match m.location {
            None => m.files().map(|f| (f.path.clone(), f.written_by.clone())).collect(),
            Some(_) => BTreeMap::new(),
        };
        Self { id: m.checkpoint, kind: m.kind, files: Some(files) }
    }
}

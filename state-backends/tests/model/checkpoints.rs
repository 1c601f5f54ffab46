//! Checkpoints on their way: images, files, which of them are complete, and what may be deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tidegate_state::{
    BackendOptions, FrozenState, InMemoryFiles, KeyedSnapshot, Result, SnapshotMode, SnapshotSource,
};

use crate::content::Model;
use crate::operator::Operator;

/// What is known of a checkpoint besides its bytes.
struct About {
    checkpoint: u64,
    /// The checkpoint whose files it may name.
    base: Option<u64>,
    canonical: bool,
    /// The backend that has written it, if only that kind of backend can read it.
    tied_to: Option<usize>,
    then: Model,
}

struct Stored {
    about: About,
    /// By subtask.
    snapshots: Vec<KeyedSnapshot>,
}

type Writer = JoinHandle<Result<Vec<KeyedSnapshot>>>;

/// All checkpoints of a run.
pub(crate) struct Checkpoints {
    files: InMemoryFiles,
    next: u64,
    completed: Option<u64>,
    lying: Vec<(About, Vec<FrozenState>)>,
    beside: Vec<(About, Writer)>,
    stored: BTreeMap<u64, Stored>,
}

/// Only RocksDB reads RocksDB's own files.
fn is_rocksdb(options: &BackendOptions) -> bool {
    matches!(options, BackendOptions::RocksDb(_))
}

fn write(files: &InMemoryFiles, checkpoint: u64, images: Vec<FrozenState>) -> Result<Vec<KeyedSnapshot>> {
    images.into_iter().map(|image| files.store(checkpoint, image)).collect()
}

impl Checkpoints {
    pub(crate) fn new() -> Self {
        Self {
            files: InMemoryFiles::new(),
            next: 1,
            completed: None,
            lying: Vec::new(),
            beside: Vec::new(),
            stored: BTreeMap::new(),
        }
    }

    /// Freezes all subtasks.
    pub(crate) fn freeze(
        &mut self,
        operator: &mut Operator,
        canonical: bool,
        (backend, options): (usize, &BackendOptions),
        model: &Model,
    ) -> Result<()> {
        let base = self.completed.filter(|_| !canonical);
        let mode = if canonical { SnapshotMode::Canonical } else { SnapshotMode::Native { base } };
        let checkpoint = self.next;
        self.next += 1;
        let images: Result<Vec<_>> =
            operator.0.iter_mut().map(|subtask| subtask.backend.freeze(checkpoint, mode)).collect();
        let tied_to = (!canonical && is_rocksdb(options)).then_some(backend);
        self.lying.push((About { checkpoint, base, canonical, tied_to, then: model.clone() }, images?));
        Ok(())
    }

    /// Writes one of the images that lie about.
    pub(crate) fn write(&mut self, which: usize) -> Result<()> {
        if let Some(at) = which.checked_rem(self.lying.len()) {
            let (about, images) = self.lying.remove(at);
            let snapshots = write(&self.files, about.checkpoint, images)?;
            self.keep(about, snapshots);
        }
        Ok(())
    }

    /// Begins to write one of them on another thread.
    pub(crate) fn write_beside(&mut self, which: usize) {
        if let Some(at) = which.checked_rem(self.lying.len()) {
            let (about, images) = self.lying.remove(at);
            let (files, checkpoint) = (self.files.clone(), about.checkpoint);
            let writer = thread::Builder::new().name("writer".into());
            let writer = writer.spawn(move || write(&files, checkpoint, images)).unwrap();
            self.beside.push((about, writer));
        }
    }

    /// Waits for the oldest thread.
    pub(crate) fn join(&mut self) -> Result<()> {
        if !self.beside.is_empty() {
            let (about, writer) = self.beside.remove(0);
            let snapshots = writer.join().unwrap()?;
            self.keep(about, snapshots);
        }
        Ok(())
    }

    /// Gives up one of the images.
    pub(crate) fn abort(&mut self, which: usize) {
        if let Some(at) = which.checked_rem(self.lying.len()) {
            drop(self.lying.remove(at));
            self.clean_up();
        }
    }

    fn keep(&mut self, about: About, snapshots: Vec<KeyedSnapshot>) {
        let base = about.base.and_then(|base| self.stored.get(&base));
        for file in snapshots.iter().flat_map(|snapshot| &snapshot.files) {
            let named = |base: &Stored| base.snapshots.iter().any(|snapshot| snapshot.files.contains(file));
            let is_known = file.checkpoint == about.checkpoint || base.is_some_and(named);
            assert!(is_known, "checkpoint {} names {file:?}, which its base does not", about.checkpoint);
        }
        self.stored.insert(about.checkpoint, Stored { about, snapshots });
        self.clean_up();
    }

    /// Completes one of the stored checkpoints that are newer than the completed one.
    pub(crate) fn complete(&mut self, which: usize) {
        let newer = |(id, stored): &(&u64, &Stored)| !stored.about.canonical && Some(**id) > self.completed;
        let newer: Vec<u64> = self.stored.iter().filter(newer).map(|(id, _)| *id).collect();
        if let Some(at) = which.checked_rem(newer.len()) {
            self.completed = Some(newer[at]);
            self.clean_up();
        }
    }

    /// Deletes what is older than the completed checkpoint and the base of no image, and the files that nobody names.
    fn clean_up(&mut self) {
        let is_base = |id: u64| {
            let (lying, beside) = (self.lying.iter().map(|(a, _)| a), self.beside.iter().map(|(a, _)| a));
            lying.chain(beside).any(|about| about.base == Some(id))
        };
        let completed = self.completed;
        self.stored.retain(|id, stored| {
            // Some savepoints are kept by hand.
            Some(*id) >= completed || is_base(*id) || (stored.about.canonical && id.is_multiple_of(2))
        });
        // What a thread writes is named by nobody yet.
        if self.beside.is_empty() {
            let snapshots = || self.stored.values().flat_map(|stored| &stored.snapshots);
            self.files.retain(|id| snapshots().any(|snapshot| snapshot.files.iter().any(|f| &*f.id == id)));
        }
    }

    fn sources(&self, stored: &Stored, base: Option<u64>) -> Vec<Arc<dyn SnapshotSource>> {
        stored.snapshots.iter().map(|snapshot| self.files.source(snapshot, base)).collect()
    }

    /// Goes back to the completed checkpoint, or to any other one as a new job that shares nothing with this one.
    /// The images of the attempt before are given up, or written when nobody wants them any more.
    pub(crate) fn restore(
        &mut self,
        which: Option<usize>,
        backends: &[BackendOptions],
        (backend, parallelism, wall): (usize, u32, i64),
    ) -> Result<Option<(Operator, Model, usize)>> {
        let id = match which {
            None => self.completed,
            Some(which) => {
                let at = which.checked_rem(self.stored.len());
                at.and_then(|at| self.stored.keys().nth(at).copied())
            }
        };
        let Some(stored) = id.and_then(|id| self.stored.get(&id)) else { return Ok(None) };
        let backend = match stored.about.tied_to {
            Some(_) if is_rocksdb(&backends[backend]) => backend,
            Some(tied) => tied,
            None => backend,
        };
        let base = id.filter(|_| which.is_none());
        let model = stored.about.then.clone();
        let sources = self.sources(stored, base);
        let operator = Operator::open(&backends[backend], parallelism, &sources, wall, model.watermark)?;
        self.lying.clear();
        while !self.beside.is_empty() {
            self.join()?;
        }
        match which {
            None => self.stored.retain(|other, stored| Some(*other) <= id || stored.about.canonical),
            Some(_) => {
                self.completed = None;
                self.stored.retain(|other, stored| Some(*other) == id || stored.about.canonical);
            }
        }
        self.clean_up();
        Ok(Some((operator, model, backend)))
    }

    /// Restores every checkpoint there is and compares it with the model of its moment; of RocksDB's, which are costly to
    /// open, the newest two.
    pub(crate) fn verify(mut self, backends: &[BackendOptions], parallelism: u32) -> Result<()> {
        while !self.lying.is_empty() {
            self.write(0)?;
        }
        while !self.beside.is_empty() {
            self.join()?;
        }
        let mut tied = 0;
        for stored in self.stored.values().rev() {
            tied += usize::from(stored.about.tied_to.is_some());
            if tied > 2 && stored.about.tied_to.is_some() {
                continue;
            }
            let then = &stored.about.then;
            let options = stored.about.tied_to.map_or(&BackendOptions::Memory, |backend| &backends[backend]);
            let sources = self.sources(stored, None);
            let mut operator = Operator::open(options, parallelism, &sources, then.running, then.watermark)?;
            operator.check(then).map_err(|e| e.at(format!("checkpoint {}", stored.about.checkpoint)))?;
        }
        Ok(())
    }
}

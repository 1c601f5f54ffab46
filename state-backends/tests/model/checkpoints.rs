//! Checkpoints on their way: images, files, which of them are complete, and what may be deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tidegate_state::{
    BackendOptions, FrozenState, InMemoryFiles, KeyedSnapshot, Result, SnapshotMode, SnapshotSource,
};

use crate::content::Model;
use crate::fault::{Fuse, Local, TornSink, TornSource, is_injected};
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
    /// Where the images have their local files.
    local: Local,
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
    /// What the next sink and the sources of the next restore let through.
    pub(crate) next_sink: Fuse,
    pub(crate) next_source: Fuse,
}

/// Only RocksDB reads RocksDB's own files.
fn is_rocksdb(options: &BackendOptions) -> bool {
    matches!(options, BackendOptions::RocksDb(_))
}

fn write(
    files: &InMemoryFiles,
    checkpoint: u64,
    images: Vec<FrozenState>,
    fuse: &Fuse,
) -> Result<Vec<KeyedSnapshot>> {
    let sink = || TornSink { inner: files.sink(checkpoint), fuse: fuse.clone() };
    images.into_iter().map(|image| image.store(&mut sink())).collect()
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
            next_sink: Fuse::whole(),
            next_source: Fuse::whole(),
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
        let (then, local) = (model.clone(), operator.1.clone());
        self.lying.push((About { checkpoint, base, canonical, tied_to, then, local }, images?));
        Ok(())
    }

    /// Writes one of the images that lie about.
    pub(crate) fn write(&mut self, which: usize) -> Result<()> {
        if let Some(at) = which.checked_rem(self.lying.len()) {
            let (about, images) = self.lying.remove(at);
            let fuse = std::mem::replace(&mut self.next_sink, Fuse::whole());
            let written = write(&self.files, about.checkpoint, images, &fuse);
            self.end(about, written)?;
        }
        Ok(())
    }

    /// One that could not be written is given up, and nothing else comes of it.
    fn end(&mut self, about: About, written: Result<Vec<KeyedSnapshot>>) -> Result<()> {
        match written {
            Ok(snapshots) => self.keep(about, snapshots),
            Err(e) if is_injected(&e) || about.local.explains(&e) => self.clean_up(),
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Begins to write one of them on another thread.
    pub(crate) fn write_beside(&mut self, which: usize) {
        if let Some(at) = which.checked_rem(self.lying.len()) {
            let (about, images) = self.lying.remove(at);
            let (files, checkpoint) = (self.files.clone(), about.checkpoint);
            let writer = thread::Builder::new().name("writer".into());
            let fuse = std::mem::replace(&mut self.next_sink, Fuse::whole());
            let writer = writer.spawn(move || write(&files, checkpoint, images, &fuse)).unwrap();
            self.beside.push((about, writer));
        }
    }

    /// Waits for the oldest thread.
    pub(crate) fn join(&mut self) -> Result<()> {
        if !self.beside.is_empty() {
            let (about, writer) = self.beside.remove(0);
            let written = writer.join().unwrap();
            self.end(about, written)?;
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

    fn sources(&self, stored: &Stored, base: Option<u64>, fuse: &Fuse) -> Vec<Arc<dyn SnapshotSource>> {
        let source = |snapshot| -> Arc<dyn SnapshotSource> {
            Arc::new(TornSource { inner: self.files.source(snapshot, base), fuse: fuse.clone() })
        };
        stored.snapshots.iter().map(source).collect()
    }

    /// What a restart goes back to: the completed checkpoint or else the newest there is.
    pub(crate) fn newest(&self) -> Option<Option<usize>> {
        let last = self.stored.len().checked_sub(1).map(Some);
        if self.completed.is_some() { Some(None) } else { last }
    }

    /// Gives up all images.
    pub(crate) fn give_up(&mut self) -> Result<()> {
        self.lying.clear();
        while !self.beside.is_empty() {
            self.join()?;
        }
        Ok(())
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
        let open = |fuse: &Fuse| {
            let sources = self.sources(stored, base, fuse);
            Operator::open(&backends[backend], parallelism, &sources, wall, model.watermark)
        };
        // One that fails is tried again.
        let operator = match open(&self.next_source) {
            Err(e) if is_injected(&e) => open(&Fuse::whole()),
            result => result,
        }?;
        self.next_source = Fuse::whole();
        self.give_up()?;
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
            let sources = self.sources(stored, None, &Fuse::whole());
            let mut operator = Operator::open(options, parallelism, &sources, then.running, then.watermark)?;
            operator.check(then).map_err(|e| e.at(format!("checkpoint {}", stored.about.checkpoint)))?;
        }
        Ok(())
    }
}

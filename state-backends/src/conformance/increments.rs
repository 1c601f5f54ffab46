//! Checks of snapshots that build on earlier ones: which base, and in which order images are stored, given up and
//! completed, must not matter.

use std::collections::BTreeMap;

use super::{GROUPS, MakeOptions, expect, open, open_subtasks, owner, switch};
use crate::{
    Error, FrozenState, InMemoryFiles, KeyGroupRange, KeyedBackend, KeyedSnapshot, Result, SnapshotMode,
};

/// By number of the key: its value, and the entries of its map.
type Model = BTreeMap<u16, (u64, BTreeMap<u8, u64>)>;

/// One thing that happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Changes so many keys from this one on, in one of several ways.
    Change { first: u16, count: u16, how: u64 },
    /// Freezes, in the canonical form or on the completed checkpoint.
    Freeze { canonical: bool },
    /// Freezes on a checkpoint that nobody knows.
    FreezeOnUnknown,
    /// Stores one of the images.
    Store(usize),
    /// Gives up one of the images.
    GiveUp(usize),
    /// Completes one of the stored checkpoints. Those before it, and files that nobody needs any more, are deleted.
    Complete(usize),
    /// Goes back to the completed checkpoint.
    Restart,
    /// Restores every checkpoint there is, at this parallelism.
    Verify(u32),
}

struct Image {
    checkpoint: u64,
    base: Option<u64>,
    canonical: bool,
    frozen: FrozenState,
    then: Model,
}

struct Stored {
    snapshot: KeyedSnapshot,
    canonical: bool,
    then: Model,
}

/// A backend and its checkpoints, driven through a list of steps.
struct Run<'a> {
    options: MakeOptions<'a>,
    backend: KeyedBackend<String>,
    files: InMemoryFiles,
    model: Model,
    next: u64,
    completed: Option<u64>,
    images: Vec<Image>,
    stored: BTreeMap<u64, Stored>,
}

fn name(key: u16) -> String {
    format!("key-{key}")
}

fn change(backend: &mut KeyedBackend<String>, model: &mut Model, key: u16, how: u64) -> Result<()> {
    let (mut value, mut map) = (backend.value_state::<u64>("value")?, backend.map_state::<u8, u64>("map")?);
    switch(backend, &name(key))?;
    if how.is_multiple_of(7) {
        value.clear()?;
        map.clear()?;
        model.remove(&key);
        return Ok(());
    }
    let content = model.entry(key).or_default();
    value.set(how)?;
    content.0 = how;
    let slot = (how % 5) as u8;
    if how.is_multiple_of(3) {
        map.remove(&slot)?;
        content.1.remove(&slot);
    } else {
        map.insert(slot, how)?;
        content.1.insert(slot, how);
    }
    Ok(())
}

/// Checks that the subtasks have what the model has, for all keys below `keys`.
fn verify(backends: &mut [KeyedBackend<String>], model: &Model, keys: u16) -> Result<()> {
    let parallelism = backends.len() as u32;
    for key in 0..keys {
        let backend = &mut backends[owner(&name(key), parallelism)];
        let (value, map) = (backend.value_state::<u64>("value")?, backend.map_state::<u8, u64>("map")?);
        switch(backend, &name(key))?;
        let expected = model.get(&key);
        expect("a restored value", value.get()?, expected.map(|content| content.0))?;
        let entries = expected.map(|content| content.1.clone()).unwrap_or_default();
        expect("a restored map", map.iter()?.collect::<BTreeMap<_, _>>(), entries)?;
    }
    Ok(())
}

impl<'a> Run<'a> {
    fn new(options: MakeOptions<'a>) -> Result<Self> {
        Ok(Self {
            options,
            backend: open(options, KeyGroupRange::all(GROUPS), &[])?,
            files: InMemoryFiles::new(),
            model: Model::new(),
            next: 1,
            completed: None,
            images: Vec::new(),
            stored: BTreeMap::new(),
        })
    }

    fn freeze(&mut self, canonical: bool, base: Option<u64>) -> Result<()> {
        let mode = if canonical { SnapshotMode::Canonical } else { SnapshotMode::Native { base } };
        let checkpoint = self.next;
        self.next += 1;
        let frozen = self.backend.freeze(checkpoint, mode)?;
        let base = base.filter(|base| !canonical && self.stored.contains_key(base));
        self.images.push(Image { checkpoint, base, canonical, frozen, then: self.model.clone() });
        Ok(())
    }

    fn store(&mut self, which: usize) -> Result<()> {
        if self.images.is_empty() {
            return Ok(());
        }
        let image = self.images.remove(which % self.images.len());
        let snapshot = self.files.store(image.checkpoint, image.frozen)?;
        let base = image.base.and_then(|base| self.stored.get(&base));
        for file in snapshot.files.iter().filter(|file| file.checkpoint != image.checkpoint) {
            if !base.is_some_and(|base| base.snapshot.files.contains(file)) {
                let what = format!("checkpoint {} names {file:?}, which its base does not", image.checkpoint);
                return Err(Error::bug(what));
            }
        }
        let stored = Stored { snapshot, canonical: image.canonical, then: image.then };
        self.stored.insert(image.checkpoint, stored);
        self.clean_up();
        Ok(())
    }

    /// Deletes what is older than the completed checkpoint and not the base of an image.
    fn clean_up(&mut self) {
        let needed = |id: &u64| {
            self.completed.is_none_or(|completed| *id >= completed)
                || self.images.iter().any(|image| image.base == Some(*id))
        };
        self.stored.retain(|id, _| needed(id));
        let names = |id: &str| self.stored.values().any(|s| s.snapshot.files.iter().any(|f| &*f.id == id));
        self.files.retain(names);
    }

    fn complete(&mut self, which: usize) {
        let open = |id: &u64| self.completed.is_none_or(|completed| *id > completed);
        let open: Vec<u64> =
            self.stored.iter().filter(|(id, s)| open(id) && !s.canonical).map(|(id, _)| *id).collect();
        if !open.is_empty() {
            self.completed = Some(open[which % open.len()]);
            self.clean_up();
        }
    }

    /// The images of the attempt before are given up.
    fn restart(&mut self) -> Result<()> {
        let Some(stored) = self.completed.and_then(|id| self.stored.get(&id)) else { return Ok(()) };
        let source = self.files.source(&stored.snapshot, self.completed);
        self.backend = open(self.options, KeyGroupRange::all(GROUPS), &[source])?;
        self.model = stored.then.clone();
        self.images.clear();
        let completed = self.completed;
        self.stored.retain(|id, _| Some(*id) <= completed);
        self.clean_up();
        Ok(())
    }

    fn verify(&mut self, parallelism: u32, keys: u16) -> Result<()> {
        for (id, stored) in &self.stored {
            let source = self.files.source(&stored.snapshot, None);
            let mut backends = open_subtasks(self.options, parallelism, &[source])?;
            verify(&mut backends, &stored.then, keys).map_err(|e| e.at(format!("checkpoint {id}")))?;
        }
        verify(std::slice::from_mut(&mut self.backend), &self.model, keys)
    }
}

/// Runs a list of steps over keys below `keys`; the end verifies everything.
pub(super) fn run(options: MakeOptions<'_>, keys: u16, steps: &[Step]) -> Result<()> {
    let mut run = Run::new(options)?;
    for key in 0..keys {
        change(&mut run.backend, &mut run.model, key, 1)?;
    }
    for step in steps {
        match *step {
            Step::Change { first, count, how } => {
                for key in first..first.saturating_add(count) {
                    change(&mut run.backend, &mut run.model, key % keys, how.wrapping_add(key.into()))?;
                }
            }
            Step::Freeze { canonical } => run.freeze(canonical, run.completed)?,
            Step::FreezeOnUnknown => run.freeze(false, Some(u64::MAX))?,
            Step::Store(which) => run.store(which)?,
            Step::GiveUp(which) => {
                if !run.images.is_empty() {
                    run.images.remove(which % run.images.len());
                }
            }
            Step::Complete(which) => run.complete(which),
            Step::Restart => run.restart()?,
            Step::Verify(parallelism) => run.verify(parallelism, keys)?,
        }
    }
    run.verify(3, keys)
}

/// Checkpoints one after the other; then overlapping, out of order, with a late base; then after a restart.
pub(super) fn increments(options: MakeOptions<'_>) -> Result<()> {
    use Step::*;
    let mut steps = Vec::new();
    for round in 0..12 {
        steps.extend([
            Change { first: round * 50, count: 10, how: u64::from(round) },
            Freeze { canonical: round == 5 },
            Store(0),
            Complete(0),
        ]);
    }
    steps.extend([1, 3, 8].map(Verify));
    for round in 0..6 {
        steps.extend([
            Change { first: round * 70, count: 7, how: 100 },
            Freeze { canonical: false },
            Change { first: round * 90, count: 7, how: 200 },
            Freeze { canonical: false },
            if round == 2 { GiveUp(0) } else { Store(1) },
            Store(0),
            Complete(usize::from(round)),
        ]);
    }
    steps.extend([
        Verify(2),
        Restart,
        Freeze { canonical: false },
        Store(0),
        FreezeOnUnknown,
        Store(0),
        Verify(5),
    ]);
    run(options, 600, &steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BackendOptions;
    use crate::conformance::ordered_store;
    use proptest::prelude::*;

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0u16..400, 1u16..40, any::<u64>())
                .prop_map(|(first, count, how)| Step::Change { first, count, how: how >> 8 }),
            4 => Just(Step::Freeze { canonical: false }),
            1 => Just(Step::Freeze { canonical: true }),
            1 => Just(Step::FreezeOnUnknown),
            5 => any::<usize>().prop_map(Step::Store),
            1 => any::<usize>().prop_map(Step::GiveUp),
            3 => any::<usize>().prop_map(Step::Complete),
            1 => Just(Step::Restart),
            1 => (1u32..9).prop_map(Step::Verify),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_checkpoint_comes_back_whatever_it_builds_on(steps in prop::collection::vec(step(), 1..60)) {
            let memory = || BackendOptions::Memory;
            run(&memory, 400, &steps).map_err(|e| TestCaseError::fail(format!("{e:?}")))?;
        }
    }

    #[test]
    fn the_checks_see_every_backend() {
        increments(&|| BackendOptions::Memory).unwrap();
        increments(&|| BackendOptions::Custom(ordered_store(5))).unwrap();
    }
}

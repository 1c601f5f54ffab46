//! What was restored, before anybody has asked for it: rows that are addressed by bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cold::{Cold, EachRow};
use super::native::RestoredTables;
use super::row_prefix::RowPrefix;
use super::{BackendOptions, BackendScope};
use crate::key_group::{KeyGroup, KeyGroupRange};
use crate::snapshot::{RestoredState, Restorer, SnapshotSource, Tables};
use crate::ttl::ClockReading;
use crate::{Error, Result};

/// The states of some key groups, read and verified.
pub(crate) struct Unclaimed {
    pub(crate) states: BTreeMap<String, RestoredState>,
    /// The store that holds the rows; none if the states do.
    pub(super) cold: Option<Cold>,
    /// When the latest of the snapshots was taken.
    pub(super) clock: ClockReading,
    /// That of the program; if there is no program, that of the snapshots.
    key_type: Option<String>,
}

impl Unclaimed {
    /// Reads the scope's key groups out of snapshots, into a store if the options name one. Without a prefix the keys
    /// may be of any type. Errors as for [`KeyedBackend::open`](super::KeyedBackend::open).
    pub(super) fn load(
        options: &BackendOptions,
        scope: &BackendScope,
        prefix: Option<RowPrefix>,
        snapshots: &[Arc<dyn SnapshotSource>],
    ) -> Result<Self> {
        scope.check()?;
        let key_type = prefix.as_ref().map(|prefix| prefix.key_type().to_owned());
        let mut restorer = Restorer::new(scope.range, scope.max_parallelism, key_type);
        let mut files = RestoredTables::default();
        for snapshot in snapshots {
            match Tables::read(&**snapshot)? {
                Some(tables) => {
                    restorer.add(&tables.body(&**snapshot))?;
                    files.0.push((Arc::clone(snapshot), tables));
                }
                None => restorer.add(&**snapshot)?,
            }
        }
        let (key_type, clock) = (restorer.key_type().map(str::to_owned), restorer.clock());
        let mut states = restorer.finish()?;
        let cold = Cold::open(options, scope, prefix, &files)?;
        if let Some(cold) = &cold {
            states.values_mut().try_for_each(|state| cold.restore(state, &files))?;
        }
        Ok(Self { states, cold, clock, key_type })
    }

    /// Reads a snapshot of any backend without a program: in memory, or, if it is one of RocksDB's own files, in a
    /// temporary database.
    pub(crate) fn read(
        snapshot: &Arc<dyn SnapshotSource>,
        range: KeyGroupRange,
        max_parallelism: u16,
    ) -> Result<Self> {
        let options = match Tables::read(&**snapshot)? {
            Some(_) => BackendOptions::RocksDb(Default::default()),
            None => BackendOptions::Memory,
        };
        let operator = "state-reader".to_owned();
        let scope = BackendScope { operator, subtask: 0, max_parallelism, range, local_dir: None };
        Self::load(&options, &scope, None, std::slice::from_ref(snapshot))
    }

    /// The type of the keys in a snapshot of any backend.
    pub(crate) fn key_type_of(snapshot: &dyn SnapshotSource, max_parallelism: u16) -> Result<String> {
        let mut restorer = Restorer::new(KeyGroupRange { start: 0, end: 0 }, max_parallelism, None);
        match Tables::read(snapshot)? {
            Some(tables) => restorer.add(&tables.body(snapshot))?,
            None => restorer.add(snapshot)?,
        }
        restorer.key_type().map(str::to_owned).ok_or_else(|| Error::bug("a snapshot without a type of keys"))
    }

    /// What Rust calls the type of the keys; empty if nothing has said it.
    pub(crate) fn key_type(&self) -> &str {
        self.key_type.as_deref().unwrap_or_default()
    }

    /// Visits the rows of one key group of a state: row key and value.
    pub(crate) fn rows(&self, state: &str, group: KeyGroup, visit: EachRow<'_>) -> Result<()> {
        let Some(restored) = self.states.get(state) else { return Ok(()) };
        if let Some(cold) = &self.cold {
            return cold.rows(state, group, visit);
        }
        restored.groups.get(&group).map_or(Ok(()), |group| group.rows(visit))
    }
}

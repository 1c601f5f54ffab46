//! Reads the state in a checkpoint or savepoint from outside: without the program that wrote it, and without touching
//! the job.
//!
//! Keyed state is read one old subtask after the other, so that no more than the files of one are in memory. Values are
//! read by the schema that is stored with them, keys by the name of their type; what nobody can read without the
//! program's types is shown as bytes.

mod in_flight;
mod operator_lists;
mod summary;
mod wanted_key;

pub use summary::{OperatorSummary, StateSummary};

use crate::checkpoint::{CrashPoints, Manifest, OperatorState, StoredCheckpoint, open_place};
use crate::cluster::taskmanager::{
    Blocking, LocalCopies, ReadFrom, StoredSnapshot, read_in_flight, read_operator_state,
};
use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "testing")]
use crate::function::NO_WATERMARK;
use crate::id::OperatorUid;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use tidegate_state::{Part, SnapshotReader, SnapshotSource, Stamps, StateEntry, range_of};
use tokio::runtime::Runtime;

use in_flight::{IN_FLIGHT, InFlightRecords};
use operator_lists::OperatorList;
use wanted_key::WantedKey;

/// The state in one checkpoint or savepoint. Its calls block; they must not be made on a thread of an asynchronous
/// runtime.
#[derive(Debug)]
pub struct StateReader {
    pub(super) stored: StoredCheckpoint,
    runtime: Runtime,
}

/// What to read. Whatever is absent means all.
#[derive(Clone, Debug, Default)]
pub struct StateQuery {
    /// The operator's uid.
    pub operator: Option<String>,
    /// The name of the state.
    pub state: Option<String>,
    /// The key: strings and characters as they are, numbers in decimal, byte strings as `0x..`, options and tuples as
    /// JSON; keys of a program's own types as `0x..`, their ordered form. Only keyed state is read then, and of that
    /// only the key group of the key, if its type is known.
    pub key: Option<String>,
}

/// One row of a state.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StateRecord<'a> {
    /// The operator.
    pub operator: &'a OperatorUid,
    /// The name of the state.
    pub state: &'a str,
    /// The old subtask; only for what belongs to no key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subtask: Option<u32>,
    /// The key; absent for what belongs to no key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Part>,
    /// The namespace, if the state has namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Part>,
    /// The map's own key, or that of a broadcast state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map_key: Option<Part>,
    /// When the timer fires, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<i64>,
    /// The value; absent for timers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Part>,
    /// When the value was last updated, if the state has a time to live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Stamps>,
}

/// Takes records; says whether it wants more.
pub type RecordVisitor<'a> = &'a mut dyn FnMut(StateRecord<'_>) -> Result<ControlFlow<()>>;

impl StateReader {
    /// Opens what `location` names: a savepoint, a `chk-N` directory, or a job's directory for its newest checkpoint;
    /// a path, or a URL that is opened with `options`. Reads the manifest.
    ///
    /// # Errors
    /// A config error if there is nothing, or on a thread of an asynchronous runtime; a data error if the manifest is
    /// damaged; the store's.
    pub fn open(location: &str, options: &[(String, String)]) -> Result<Self> {
        let runtime = Blocking::own_runtime("state is read")?;
        let stored = async { open_place(location, options).await?.checkpoint().await };
        Ok(Self { stored: runtime.block_on(stored)?, runtime })
    }

    /// Reads a checkpoint that has been found already.
    ///
    /// # Errors
    /// A config error on a thread of an asynchronous runtime.
    pub fn of(stored: StoredCheckpoint) -> Result<Self> {
        Ok(Self { stored, runtime: Blocking::own_runtime("state is read")? })
    }

    /// What the checkpoint consists of.
    pub fn manifest(&self) -> &Manifest {
        &self.stored.manifest
    }

    /// All operators with their states. Reads every file.
    ///
    /// # Errors
    /// A data error that names the file if one is damaged or missing; a config error for snapshots that this build
    /// cannot read; the store's.
    pub fn operators(&self) -> Result<Vec<OperatorSummary>> {
        self.stored.manifest.operators.iter().map(|o| self.summary(o).map_err(|e| self.place(o, e))).collect()
    }

    /// Visits the records that the query asks for: operators as the manifest lists them, states by name, old subtasks
    /// and key groups in order, keys in order. Returns whether the visitor wanted all.
    ///
    /// # Errors
    /// Those of [`operators`](Self::operators) and of `visit`; a config error if there is no such operator or state, or
    /// if the key is not one of the operator's type.
    pub fn read(&self, query: &StateQuery, visit: RecordVisitor<'_>) -> Result<ControlFlow<()>> {
        let mut known = Vec::new();
        let mut found = false;
        for operator in self.chosen(query.operator.as_deref())? {
            let names = self.read_operator(operator, query, visit).map_err(|e| self.place(operator, e))?;
            let Some(names) = names else { return Ok(ControlFlow::Break(())) };
            found |= query.state.as_ref().is_none_or(|state| names.contains(state));
            known.extend(names.into_iter().map(|name| format!("{}/{name}", operator.uid)));
        }
        match &query.state {
            Some(state) if !found => {
                let hint = format!("there are: {}", known.join(", "));
                Err(Error::config(format!("there is no state {state:?}")).hint(hint))
            }
            _ => Ok(ControlFlow::Continue(())),
        }
    }

    fn chosen(&self, uid: Option<&str>) -> Result<Vec<&OperatorState>> {
        let operators = &self.stored.manifest.operators;
        let Some(uid) = uid else { return Ok(operators.iter().collect()) };
        match operators.iter().find(|operator| operator.uid.as_str() == uid) {
            Some(operator) => Ok(vec![operator]),
            None => {
                let known: Vec<_> = operators.iter().map(|operator| operator.uid.as_str()).collect();
                Err(Error::config(format!("there is no operator {uid:?}"))
                    .hint(format!("there are: {}", known.join(", "))))
            }
        }
    }

    /// The names of the operator's states; none if the visitor has had enough.
    fn read_operator(
        &self,
        operator: &OperatorState,
        query: &StateQuery,
        visit: RecordVisitor<'_>,
    ) -> Result<Option<Vec<String>>> {
        let mut names = Vec::new();
        let wants = |name: &str| query.state.as_ref().is_none_or(|state| state == name);
        let mut key = query.key.as_deref().map(|text| WantedKey::new(text, operator.max_parallelism));
        for subtask in 0..operator.parallelism {
            let Some(reader) = self.keyed(operator, subtask, key.as_mut())? else { continue };
            for state in reader.states() {
                if !names.contains(&state.name) {
                    names.push(state.name.clone());
                }
                if !wants(&state.name) {
                    continue;
                }
                let mut flow = ControlFlow::Continue(());
                let prefix = key.as_ref().map_or(&[][..], WantedKey::ordered);
                reader.visit(&state.name, prefix, &mut |entry| {
                    let StateEntry { key, namespace, map_key, time, value, updated_at } = entry;
                    let (operator, state) = (&operator.uid, state.name.as_str());
                    let key = Some(key);
                    if flow.is_continue() {
                        flow = visit(StateRecord {
                            operator,
                            state,
                            subtask: None,
                            key,
                            namespace,
                            map_key,
                            time,
                            value,
                            updated_at,
                        })?;
                    }
                    Ok(flow)
                })?;
                if flow.is_break() {
                    return Ok(None);
                }
            }
        }
        if key.is_some() {
            if names.is_empty() && query.operator.is_some() {
                return Err(Error::config("it has no keyed state, but a key is asked for"));
            }
            return Ok(Some(names));
        }
        for (subtask, list) in self.lists(operator)? {
            if !names.contains(&list.name) {
                names.push(list.name.clone());
            }
            if !wants(&list.name) {
                continue;
            }
            for element in list.elements() {
                let (map_key, value) = element?;
                let record = StateRecord {
                    operator: &operator.uid,
                    state: &list.name,
                    subtask: Some(subtask),
                    key: None,
                    namespace: None,
                    map_key,
                    time: None,
                    value: Some(value),
                    updated_at: None,
                };
                if visit(record)?.is_break() {
                    return Ok(None);
                }
            }
        }
        for (subtask, records) in self.in_flight(operator)? {
            if !names.iter().any(|name| name == IN_FLIGHT) {
                names.push(IN_FLIGHT.to_owned());
            }
            if !wants(IN_FLIGHT) {
                continue;
            }
            for value in records.values() {
                let record = StateRecord {
                    operator: &operator.uid,
                    state: IN_FLIGHT,
                    subtask: Some(subtask),
                    key: None,
                    namespace: None,
                    map_key: None,
                    time: None,
                    value: Some(value?),
                    updated_at: None,
                };
                if visit(record)?.is_break() {
                    return Ok(None);
                }
            }
        }
        Ok(Some(names))
    }

    fn summary(&self, operator: &OperatorState) -> Result<OperatorSummary> {
        let (mut key_type, mut states) = (None, BTreeMap::<String, StateSummary>::new());
        for subtask in 0..operator.parallelism {
            let Some(reader) = self.keyed(operator, subtask, None)? else { continue };
            key_type.get_or_insert_with(|| reader.key_type().to_owned());
            for state in reader.states() {
                let (rows, bytes) = reader.size(&state.name)?;
                let summary = states.entry(state.name.clone()).or_insert_with(|| StateSummary::of(state));
                summary.rows += rows;
                summary.bytes += bytes;
            }
        }
        let mut lists = BTreeMap::<String, StateSummary>::new();
        for (_, list) in self.lists(operator)? {
            let summary = list.add_to(lists.remove(&list.name));
            lists.insert(list.name, summary);
        }
        for (_, records) in self.in_flight(operator)? {
            let summary = records.add_to(lists.remove(IN_FLIGHT))?;
            lists.insert(IN_FLIGHT.to_owned(), summary);
        }
        Ok(OperatorSummary {
            uid: operator.uid.clone(),
            name: operator.name.clone(),
            parallelism: operator.parallelism,
            max_parallelism: operator.max_parallelism,
            key_type,
            states: states.into_values().chain(lists.into_values()).collect(),
        })
    }

    /// The keyed state of an old subtask, or of it the key group of `key`; none if it has none of that.
    fn keyed(
        &self,
        operator: &OperatorState,
        subtask: u32,
        key: Option<&mut WantedKey>,
    ) -> Result<Option<SnapshotReader>> {
        let blocking = Blocking::Runtime(self.runtime.handle().clone());
        let from = ReadFrom {
            store: &self.stored.files,
            blocking: &blocking,
            crash_points: &CrashPoints::none(),
            written_by: &self.stored.manifest.job,
            base: None,
            copies: &LocalCopies::default(),
        };
        let Some(handles) = operator.subtasks.get(subtask as usize) else { return Ok(None) };
        let max = operator.max_parallelism;
        let own = range_of(subtask, operator.parallelism, max)?;
        let Some(snapshot) = StoredSnapshot::new(&from, &operator.uid, subtask, &handles.files) else {
            return Ok(None);
        };
        let range = match key {
            Some(key) => key.range(own, || SnapshotReader::key_type_of(&snapshot, max))?,
            None => Some(own),
        };
        let snapshot: Arc<dyn SnapshotSource> = Arc::new(snapshot);
        range.map(|range| SnapshotReader::open(&snapshot, range, max)).transpose()
    }

    /// The lists and broadcast states of the old subtasks.
    fn lists(&self, operator: &OperatorState) -> Result<Vec<(u32, OperatorList)>> {
        let (mut lists, no_crash) = (Vec::new(), CrashPoints::none());
        for (subtask, handles) in (0..).zip(&operator.subtasks) {
            let written_by = &self.stored.manifest.job;
            let read = read_operator_state(&self.stored.files, &no_crash, written_by, subtask, handles);
            for (name, list) in self.runtime.block_on(read)?.lists {
                lists.push((subtask, OperatorList::new(name, list)?));
            }
        }
        Ok(lists)
    }

    /// The records in flight to the old subtasks.
    fn in_flight(&self, operator: &OperatorState) -> Result<Vec<(u32, InFlightRecords)>> {
        let (mut all, no_crash) = (Vec::new(), CrashPoints::none());
        for (subtask, handles) in (0..).zip(&operator.subtasks) {
            let written_by = &self.stored.manifest.job;
            let read = read_in_flight(&self.stored.files, &no_crash, written_by, subtask, handles);
            if let Some(in_flight) = self.runtime.block_on(read)? {
                all.push((subtask, InFlightRecords::new(in_flight)?));
            }
        }
        Ok(all)
    }

    /// The event time that each old subtask of an operator had reached; none of those that keep none.
    ///
    /// # Errors
    /// A data error that names the file if one is damaged or missing; the store's.
    #[cfg(feature = "testing")]
    pub fn watermarks(&self, operator: &OperatorState) -> Result<Vec<Option<i64>>> {
        let no_crash = CrashPoints::none();
        let watermark = |(subtask, handles)| {
            let written_by = &self.stored.manifest.job;
            let read = read_operator_state(&self.stored.files, &no_crash, written_by, subtask, handles);
            let watermark = self.runtime.block_on(read)?.watermark;
            Ok((watermark != NO_WATERMARK).then_some(watermark))
        };
        (0..).zip(&operator.subtasks).map(watermark).collect()
    }

    /// Reads every record of an in-flight file.
    #[cfg(feature = "testing")]
    pub(crate) fn check_in_flight(in_flight: crate::task::InFlight) -> Result<()> {
        InFlightRecords::new(in_flight)?.values().try_for_each(|value| value.map(drop))
    }

    /// Reads every element of the lists of an operator file.
    #[cfg(feature = "testing")]
    pub(crate) fn check_lists(state: crate::operator::OperatorState) -> Result<()> {
        for (name, list) in state.lists {
            OperatorList::new(name, list)?.elements().try_for_each(|element| element.map(drop))?;
        }
        Ok(())
    }

    fn place(&self, operator: &OperatorState, e: Error) -> Error {
        let StoredCheckpoint { manifest, job, .. } = &self.stored;
        let place =
            format!("reading state of operator '{}' from checkpoint {}", operator.uid, manifest.checkpoint);
        let is_gone = || !self.runtime.block_on(job.retains(manifest.checkpoint)).unwrap_or(true);
        if e.kind() == ErrorKind::Data && is_gone() {
            return Error::config(
                "the job no longer keeps the checkpoint, files of it may have been deleted",
            )
            .with_source(e)
            .at(place)
            .hint("read the newest one, or a savepoint");
        }
        e.at(place)
    }
}

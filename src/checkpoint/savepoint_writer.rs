//! Builds a savepoint out of a data set, without a job: state for operators that a program restores as its own.

mod keyed;

pub use keyed::KeyedStateWriter;

use crate::checkpoint::inspect::CALL_TIMEOUT;
use crate::checkpoint::store::Created;
use crate::checkpoint::{
    CheckpointKind, CheckpointStore, CrashPoints, EnumeratorState, JobStore, MANIFEST_FORMAT, Manifest,
    OperatorState, SAVEPOINT_MANIFEST, Savepoint, StateReader, StoredCheckpoint,
};
use crate::cluster::taskmanager::{Blocking, ProcessClock, Upload, UploadScope};
use crate::environment::process_seed;
use crate::error::{Error, Result};
use crate::function::{KeyedOpenContext, OpenContext, OperatorStates, SubtaskInfo};
use crate::id::{Attempt, CheckpointId, JobId, LeaderEpoch, OperatorUid, SubtaskId, VertexId};
use crate::operator::{ChainSnapshot, OperatorSnapshot};
use std::collections::BTreeMap;
use tidegate_state::{BackendOptions, Key};
use tokio::runtime::Runtime;

/// Key groups of an operator that nobody has asked for another number of, as in a program.
const MAX_PARALLELISM: u16 = 128;

/// Builds a savepoint: state of operators by their uids, out of data of any origin, or an existing savepoint with some
/// operators exchanged. A program that is started with `--restore` from it finds the state as if it had written it.
///
/// State is written through the handles that the program's functions use, so its types and names must be theirs. Nothing
/// is a savepoint before [`write`](Self::write): what a writer that is dropped has stored is removed, as far as the store
/// answers. Calls block; they must not be made on a thread of an asynchronous runtime.
///
/// ```
/// # fn main() -> tidegate::error::Result<()> {
/// # let directory = tempfile::tempdir()?;
/// # let savepoints = directory.path().to_string_lossy();
/// use tidegate::checkpoint::SavepointWriter;
///
/// let mut savepoint = SavepointWriter::create(&savepoints, "word counts", &[])?;
/// let mut counts = savepoint.keyed_operator("count", |open| open.value_state::<u64>("count"))?;
/// for (word, count) in [("to", 2), ("be", 2), ("or", 1), ("not", 1)] {
///     counts.key(word.to_owned())?.set(count)?;
/// }
/// counts.finish()?;
/// println!("--restore {}", savepoint.write()?.location);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SavepointWriter {
    /// Whose state the savepoint says it is.
    job: JobId,
    directory: JobStore,
    checkpoint: CheckpointId,
    operators: BTreeMap<OperatorUid, OperatorState>,
    enumerators: Vec<EnumeratorState>,
    backend: BackendOptions,
    max_parallelism: u16,
    scope: UploadScope,
    clock: ProcessClock,
    /// The operator whose state is being written.
    unfinished: Option<OperatorUid>,
    is_written: bool,
    runtime: Runtime,
}

impl SavepointWriter {
    /// Begins an empty savepoint in a new directory `savepoint-<name>-<random>` below `target`, a path or a URL that is
    /// opened with `options`.
    ///
    /// # Errors
    /// A config error if the target cannot be written, or on a thread of an asynchronous runtime.
    pub fn create(target: &str, name: &str, options: &[(String, String)]) -> Result<Self> {
        Self::begin(target, JobId::new(name, process_seed() as u32), CheckpointId(1), options)
    }

    /// Begins a savepoint with the operators of another savepoint or checkpoint that `keep` wants, and the positions of
    /// the sources among them, in a new directory below `target`. Files are copied as they are, and checked.
    ///
    /// # Errors
    /// As [`create`](Self::create); a data error that names the file if one is damaged or missing; the stores'.
    pub fn from_existing(
        existing: &StateReader,
        target: &str,
        options: &[(String, String)],
        mut keep: impl FnMut(&OperatorUid) -> bool,
    ) -> Result<Self> {
        let StoredCheckpoint { manifest, files, .. } = &existing.stored;
        // Files say whose they are.
        let mut writer =
            Self::begin(target, manifest.job.clone(), CheckpointId(manifest.checkpoint.0 + 1), options)?;
        for operator in manifest.operators.iter().filter(|operator| keep(&operator.uid)) {
            for file in operator.subtasks.iter().flat_map(|subtask| &subtask.files) {
                let copy = files.copy_file(file, &writer.directory, &writer.scope.slots);
                writer.runtime.block_on(copy).map_err(|e| e.at(format!("operator {}", operator.uid)))?;
            }
            let positions = manifest.enumerators.iter().filter(|source| source.operator == operator.uid);
            writer.enumerators.extend(positions.cloned());
            writer.operators.insert(operator.uid.clone(), operator.clone());
        }
        Ok(writer)
    }

    fn begin(
        target: &str,
        job: JobId,
        checkpoint: CheckpointId,
        options: &[(String, String)],
    ) -> Result<Self> {
        let runtime = Blocking::own_runtime("a savepoint is written")?;
        let random = process_seed();
        let directory = JobId::from(format!("savepoint-{job}-{random:016x}"));
        let opened = async {
            let store = CheckpointStore::open(target, options)?.with_call_timeout(CALL_TIMEOUT);
            store.probe().await?;
            store.job(&directory)
        };
        let directory = runtime.block_on(opened)?;
        Ok(Self {
            job,
            directory,
            checkpoint,
            operators: BTreeMap::new(),
            enumerators: Vec::new(),
            backend: BackendOptions::Memory,
            max_parallelism: MAX_PARALLELISM,
            scope: UploadScope::new(random, CrashPoints::none()),
            clock: ProcessClock::start(),
            unfinished: None,
            is_written: false,
            runtime,
        })
    }

    /// Where the state of an operator is kept until it is [finished](KeyedStateWriter::finish): in memory, if nothing else
    /// is said. A job with any backend can restore it.
    #[must_use]
    pub fn with_backend(mut self, backend: BackendOptions) -> Self {
        self.backend = backend;
        self
    }

    /// The number of key groups of operators written from now on, 128 if nothing else is said: the highest parallelism at
    /// which they can ever run.
    #[must_use]
    pub fn with_max_parallelism(mut self, max_parallelism: u16) -> Self {
        self.max_parallelism = max_parallelism;
        self
    }

    /// Begins the state of a keyed operator. `open` registers it as the closure of
    /// [`process`](crate::stream::KeyedStream::process) does, and returns the handles.
    ///
    /// # Errors
    /// A config error if there is an operator of this uid already or one that is not finished, or the maximum parallelism
    /// is 0; those of `open`.
    pub fn keyed_operator<K: Key, S>(
        &mut self,
        uid: &str,
        open: impl FnOnce(&mut KeyedOpenContext<'_, K>) -> Result<S>,
    ) -> Result<KeyedStateWriter<'_, K, S>> {
        let uid = self.new_operator(uid)?;
        let subtask = self.subtask(&uid);
        let writer = KeyedStateWriter::open(self, uid.clone(), &subtask, open);
        writer.map_err(|e| e.at(format!("operator {uid}")))
    }

    /// Writes the state of an operator without keys: `fill` registers its lists and broadcast states and fills them.
    ///
    /// # Errors
    /// As [`keyed_operator`](Self::keyed_operator); those of `fill`; the store's.
    pub fn operator(
        &mut self,
        uid: &str,
        fill: impl FnOnce(&mut OpenContext<'_>) -> Result<()>,
    ) -> Result<()> {
        let uid = self.new_operator(uid)?;
        let subtask = self.subtask(&uid);
        let mut states = OperatorStates::new(BTreeMap::new(), true);
        let fill = fill(&mut OpenContext { subtask: &subtask, operator_states: &mut states });
        fill.map_err(|e| e.at(format!("operator {uid}")))?;
        let mut snapshot = OperatorSnapshot::new(uid, Default::default());
        snapshot.lists = states.freeze()?;
        self.store(snapshot)
    }

    /// Completes the savepoint.
    ///
    /// # Errors
    /// A config error if an operator was begun and not finished; the store's. There is no savepoint then.
    pub fn write(mut self) -> Result<Savepoint> {
        if let Some(uid) = &self.unfinished {
            return Err(not_finished(uid));
        }
        let now = self.clock.now().wall_ms.unsigned_abs();
        let manifest = Manifest {
            format: MANIFEST_FORMAT,
            job: self.job.clone(),
            checkpoint: self.checkpoint,
            leader_epoch: LeaderEpoch(0),
            attempt: Attempt(0),
            nonce: format!("{:016x}", self.scope.incarnation),
            kind: CheckpointKind::Savepoint,
            triggered_at_ms: now,
            completed_at_ms: now,
            operators: std::mem::take(&mut self.operators).into_values().collect(),
            enumerators: std::mem::take(&mut self.enumerators),
            subtasks: Vec::new(),
            location: None,
        };
        let created = self.directory.create(SAVEPOINT_MANIFEST, manifest.encode()?);
        match self.runtime.block_on(created)? {
            Created::Yes => self.is_written = true,
            Created::Exists => {
                return Err(Error::retry("another savepoint has taken the directory")
                    .at(self.directory.location())
                    .hint("write it again: the directory gets another name"));
            }
        }
        let (location, state_bytes) = (self.directory.location(), manifest.state_bytes());
        Ok(Savepoint { checkpoint: self.checkpoint, location, state_bytes })
    }

    fn new_operator(&self, uid: &str) -> Result<OperatorUid> {
        let uid = OperatorUid(uid.to_owned());
        if let Some(unfinished) = &self.unfinished {
            return Err(not_finished(unfinished));
        }
        if self.operators.contains_key(&uid) {
            return Err(Error::config(format!("operator {uid} has state in the savepoint already"))
                .hint("leave it out where the other savepoint is taken over, or use another uid"));
        }
        if self.max_parallelism == 0 {
            return Err(Error::config("a maximum parallelism of 0").hint("name at least 1"));
        }
        Ok(uid)
    }

    /// All state is written as that of one subtask: it goes to as many as there are when it is restored.
    fn subtask(&self, uid: &OperatorUid) -> SubtaskInfo {
        SubtaskInfo {
            operator: uid.as_str().into(),
            index: 0,
            parallelism: 1,
            max_parallelism: self.max_parallelism,
            attempt: Attempt(0),
        }
    }

    fn store(&mut self, snapshot: OperatorSnapshot) -> Result<()> {
        let uid = snapshot.uid.clone();
        let subtask = SubtaskId { vertex: VertexId(self.operators.len() as u32), index: 0 };
        let upload = Upload {
            job: &self.job,
            store: &self.directory,
            scope: &self.scope,
            blocking: &Blocking::Runtime(self.runtime.handle().clone()),
            attempt: Attempt(0),
            subtask,
            checkpoint: self.checkpoint,
            base: None,
        };
        let subtasks = upload.store(ChainSnapshot { operators: vec![snapshot] })?;
        let parallelism = subtasks.len() as u32;
        if parallelism == 1 {
            let (name, max_parallelism) = (uid.to_string(), self.max_parallelism);
            let state = OperatorState { uid: uid.clone(), name, parallelism, max_parallelism, subtasks };
            self.operators.insert(uid, state);
        }
        Ok(())
    }
}

/// What was stored for a savepoint that never came to be.
impl Drop for SavepointWriter {
    fn drop(&mut self) {
        if !self.is_written {
            let remove = async {
                let left = self.directory.list_objects().await?;
                let left: Vec<_> = left.into_iter().map(|object| object.path).collect();
                self.directory.take_back(&left).await
            };
            _ = self.runtime.block_on(remove);
        }
    }
}

fn not_finished(uid: &OperatorUid) -> Error {
    Error::config(format!("the state of operator {uid} is not finished")).hint("call finish() on its writer")
}

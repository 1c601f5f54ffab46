//! What the tests of whole programs share: a source that waits to be let on, a log to wait for, published output.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tidegate::cluster::JobHandle;
use tidegate::cluster::jobmaster::{JobNotice, JobResult};
use tidegate::error::{ErrorKind, Result};
use tidegate::function::{
    AssignedSplits, Collector, Data, EnumeratorContext, ReaderContext, ReaderStatus, Source, SourceReader,
    SplitEnumerator,
};

/// A test that waits longer than this for something that must happen has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A list that other threads append to, and that a test can wait for.
pub(crate) struct Log<T>(Arc<(Mutex<Vec<T>>, Condvar)>);

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Clone + std::fmt::Debug> Log<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new((Mutex::new(Vec::new()), Condvar::new())))
    }

    pub(crate) fn push(&self, entry: T) {
        self.0.0.lock().unwrap().push(entry);
        self.0.1.notify_all();
    }

    pub(crate) fn entries(&self) -> Vec<T> {
        self.0.0.lock().unwrap().clone()
    }

    /// Waits until the list is as wanted, and returns it.
    pub(crate) fn wait_until(&self, wanted: impl Fn(&[T]) -> bool) -> Vec<T> {
        let list = self.0.0.lock().unwrap();
        let (list, timeout) = self.0.1.wait_timeout_while(list, PATIENCE, |list| !wanted(list)).unwrap();
        let last = &list[list.len().saturating_sub(20)..];
        assert!(!timeout.timed_out(), "waited in vain, with {} entries, the last: {last:?}", list.len());
        list.clone()
    }

    pub(crate) fn wait_for(&self, entries: usize) -> Vec<T> {
        self.wait_until(|list| list.len() >= entries)
    }
}

/// A bounded, replayable source that emits record `i` only once its gate has been opened beyond `i`.
///
/// Emits everything it may in one call and says in the same call that it has to wait.
#[derive(Clone)]
pub(crate) struct Gated<F> {
    count: u64,
    splits: u64,
    /// Where the first lane ends, whatever the gate.
    short: u64,
    gate: Gate,
    record: F,
}

/// How far a [`Gated`] source may go.
#[derive(Clone)]
pub(crate) struct Gate {
    limit: Arc<AtomicU64>,
    /// One entry per snapshot of a reader.
    snapshots: Log<()>,
    /// One entry per reader that is gone.
    gone: Log<()>,
}

impl Gate {
    pub(crate) fn open_to(&self, records: u64) {
        self.limit.store(records, Ordering::SeqCst);
    }

    /// Waits until a checkpoint has completed that was triggered after this call, with one checkpoint under way at
    /// once: a reader that is asked for the next one shows that the one before has completed.
    pub(crate) fn wait_for_checkpoint(&self, readers: usize) {
        let so_far = self.snapshots.entries().len();
        self.snapshots.wait_for(so_far + 2 * readers);
    }

    /// Waits until so many readers are gone since the job began. Threads of a taskmanager that has crashed may still be in
    /// the middle of a step; what they read after that is seen by nobody but a test that looks into their functions.
    pub(crate) fn wait_until_gone(&self, readers: usize) {
        self.gone.wait_for(readers);
    }

    pub(crate) fn open(&self) {
        self.open_to(u64::MAX);
    }
}

/// `count` records in `splits` lanes, each with every `splits`-th record. Ends once the gate is wide open.
pub(crate) fn gated<T: Data, F: Fn(u64) -> T + Clone + Send + Sync + 'static>(
    count: u64,
    splits: u64,
    record: F,
) -> (Gated<F>, Gate) {
    gated_and_short(count, splits, u64::MAX, record)
}

/// The same, but the first lane ends before record `short`, as soon as the gate lets it get there.
pub(crate) fn gated_and_short<T: Data, F: Fn(u64) -> T + Clone + Send + Sync + 'static>(
    count: u64,
    splits: u64,
    short: u64,
    record: F,
) -> (Gated<F>, Gate) {
    let gate = Gate { limit: Arc::default(), snapshots: Log::new(), gone: Log::new() };
    (Gated { count, splits, short, gate: gate.clone(), record }, gate)
}

/// The elements of a list, behind a gate.
pub(crate) fn gated_list<T: Data + Sync>(
    list: Vec<T>,
) -> (Gated<impl Fn(u64) -> T + Clone + Send + Sync + 'static>, Gate) {
    let list = Arc::new(list);
    gated(list.len() as u64, 1, move |index| list[index as usize].clone())
}

impl<T: Data, F: Fn(u64) -> T + Clone + Send + Sync + 'static> Source for Gated<F> {
    type Record = T;
    type Split = Lanes;

    fn is_bounded(&self) -> bool {
        true
    }

    fn enumerator(
        &self,
        context: &EnumeratorContext,
        restored: Option<&[u8]>,
    ) -> Result<Box<dyn SplitEnumerator<Lanes>>> {
        // Every reader gets its lanes at once: one that waits at the gate does not ask for more.
        let readers = u64::from(context.parallelism);
        let lanes = |reader| {
            (reader..self.splits).step_by(readers as usize).map(|first| (first, self.splits)).collect()
        };
        let splits = || Ok((0..readers.min(self.splits)).map(lanes).collect());
        Ok(Box::new(AssignedSplits::new(context.parallelism, restored, splits)?))
    }

    fn reader(&self, _: &ReaderContext) -> Result<Box<dyn SourceReader<Record = T, Split = Lanes>>> {
        let gone = Gone(self.gate.gone.clone());
        Ok(Box::new(GatedReader { source: self.clone(), lanes: Vec::new(), _gone: gone }))
    }
}

/// Next record and distance to the one after it, of one or more lanes.
type Lanes = Vec<(u64, u64)>;

struct GatedReader<F> {
    source: Gated<F>,
    lanes: Lanes,
    _gone: Gone,
}

/// Says that it is gone: for functions and readers that go with their subtask.
pub(crate) struct Gone(pub(crate) Log<()>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.0.0.lock().unwrap().push(());
        self.0.0.1.notify_all();
    }
}

impl<T: Data, F: Fn(u64) -> T> SourceReader for GatedReader<F> {
    type Record = T;
    type Split = Lanes;

    fn add_split(&mut self, lanes: Lanes) -> Result<()> {
        self.lanes.extend(lanes);
        Ok(())
    }

    fn poll(&mut self, now_ms: i64, out: &mut Collector<'_, T>) -> Result<ReaderStatus> {
        let limit = self.source.gate.limit.load(Ordering::SeqCst);
        let (count, short) = (self.source.count, self.source.short);
        let end_of = |next: u64, step: u64| if next.is_multiple_of(step) { count.min(short) } else { count };
        for (next, step) in &mut self.lanes {
            let end = limit.min(end_of(*next, *step));
            // Some hundreds at a time: checkpoints wait.
            for _ in 0..200 {
                if *next < end {
                    out.collect((self.source.record)(*next));
                    *next += *step;
                }
            }
        }
        self.lanes.retain(|(next, step)| {
            let ends = limit == u64::MAX || end_of(*next, *step) == short;
            !ends || *next < end_of(*next, *step)
        });
        let more = self.lanes.iter().any(|(next, step)| *next < limit.min(end_of(*next, *step)));
        Ok(match (self.lanes.is_empty(), more) {
            (true, _) => ReaderStatus::NeedSplit,
            (false, true) => ReaderStatus::More,
            (false, false) => ReaderStatus::WaitUntil(now_ms + 1),
        })
    }

    fn snapshot(&self) -> Result<Vec<Lanes>> {
        self.source.gate.snapshots.push(());
        // Each lane by itself, so that they can be dealt out to another number of readers.
        Ok(self.lanes.iter().map(|lane| vec![*lane]).collect())
    }
}

/// All files in a directory and in those below it, sorted.
pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let (mut files, mut left) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => left.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    files
}

/// All published lines below a [`FileSink`]'s directory, sorted.
pub(crate) fn published(directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden && entry.file_type().unwrap().is_file() {
            lines.extend(std::fs::read_to_string(entry.path()).unwrap().lines().map(str::to_owned));
        }
    }
    lines.sort();
    lines
}

/// Waits for so many checkpoints to complete from now on.
pub(crate) fn wait_for_checkpoints(job: &JobHandle, checkpoints: usize) {
    let completed =
        job.notices().filter(|n| matches!(n, JobNotice::CheckpointCompleted(_))).take(checkpoints);
    assert_eq!(completed.count(), checkpoints, "the job ended before");
}

/// Runs a job to its end with all its notices.
pub(crate) fn run_out(job: JobHandle) -> (JobResult, Vec<JobNotice>) {
    let notices: Vec<JobNotice> = job.notices().collect();
    (job.wait().unwrap(), notices)
}

/// Asserts that an error is of this kind and names all of these.
#[track_caller]
pub(crate) fn assert_error<T>(result: Result<T>, kind: ErrorKind, names: &[&str]) -> String {
    let Err(error) = result else { panic!("no error") };
    let text = error.to_string();
    println!("{error:?}");
    assert_eq!(error.kind(), kind, "{text}");
    for name in names {
        assert!(text.contains(name), "'{name}' is missing in: {text}");
    }
    text
}

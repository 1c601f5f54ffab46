//! What every state backend has to do, as checks to run against any of them.
//!
//! A third party calls [`check_all`] from a test with a function that makes its options; a backend that passes can
//! be used wherever another one was, also to continue from a snapshot of another one.

mod all_keys;
mod handles;
mod increments;
mod maps;
mod namespaces;
mod ordered_store;
mod snapshots;
mod timers;
mod ttl;

pub use ordered_store::ordered_store;

use std::fmt::Debug;
use std::sync::Arc;

use crate::{
    BackendOptions, BackendScope, BorrowedKey, Error, InMemoryFiles, KeyGroupRange, KeyedBackend, Result,
    SnapshotMode, SnapshotSource, key_group_of, range_of, subtask_of,
};

/// Makes the options of the backend under test; called once per opened backend.
pub type MakeOptions<'a> = &'a dyn Fn() -> BackendOptions;

/// One check.
type Check = fn(MakeOptions<'_>) -> Result<()>;

const CHECKS: [(&str, Check); 21] = [
    ("value state", handles::value_state),
    ("list state", handles::list_state),
    ("map state", maps::map_state),
    ("map state with more entries than the cache", maps::large_map),
    ("ranges of map state", maps::ranges),
    ("reducing and aggregating state", handles::folding_state),
    ("timers", timers::timers),
    ("many timers of one key", timers::many),
    ("state within namespaces", namespaces::namespaces),
    ("all keys", all_keys::all_keys),
    ("registration", handles::registration),
    ("time to live", ttl::expiry),
    ("kinds of time to live", ttl::kinds_of_expiry),
    ("cleaning of what has expired", ttl::cleaning),
    ("time to live across restores", ttl::restores),
    ("snapshot isolation", snapshots::isolation),
    ("rescaling", snapshots::rescaling),
    ("unregistered state", snapshots::unregistered),
    ("incremental snapshots", increments::increments),
    ("damage", snapshots::damage),
    ("incomplete files", snapshots::incomplete),
];

/// Runs every check.
///
/// # Errors
/// That of the first check that fails, saying which one and what differed.
pub fn check_all(options: MakeOptions<'_>) -> Result<()> {
    CHECKS
        .iter()
        .try_for_each(|(name, check)| check(options).map_err(|e| e.at(format!("conformance: {name}"))))
}

/// The number of key groups in all checks.
const GROUPS: u16 = 16;

fn expect<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::bug(format!("{what}: found {found:?}, expected {expected:?}")))
}

fn expect_error<T>(what: &str, result: Result<T>, kind: crate::ErrorKind) -> Result<Error> {
    match result {
        Ok(_) => Err(Error::bug(format!("{what}: accepted"))),
        Err(e) if e.kind() == kind => Ok(e),
        Err(e) => Err(Error::bug(format!("{what}: refused, but as {}", e.kind())).with_source(e)),
    }
}

fn open(options: MakeOptions<'_>, range: KeyGroupRange, files: &[Stored]) -> Result<KeyedBackend<String>> {
    let scope = BackendScope {
        operator: "conformance".into(),
        subtask: 0,
        max_parallelism: GROUPS,
        range,
        local_dir: None,
    };
    KeyedBackend::open(&options(), scope, files)
}

fn open_all(options: MakeOptions<'_>) -> Result<KeyedBackend<String>> {
    open(options, KeyGroupRange::all(GROUPS), &[])
}

/// Opens every subtask of a job at this parallelism from the same files.
fn open_subtasks(
    options: MakeOptions<'_>,
    parallelism: u32,
    files: &[Stored],
) -> Result<Vec<KeyedBackend<String>>> {
    (0..parallelism).map(|subtask| open(options, range_of(subtask, parallelism, GROUPS)?, files)).collect()
}

/// The subtask that owns a key.
fn owner(key: &str, parallelism: u32) -> usize {
    subtask_of(key_group_of(BorrowedKey::hash64(key), GROUPS), parallelism, GROUPS) as usize
}

fn switch(backend: &KeyedBackend<String>, key: &str) -> Result<()> {
    backend.set_current_key_ref(key, BorrowedKey::hash64(key))
}

/// A stored snapshot.
type Stored = Arc<dyn SnapshotSource>;

/// Freezes a backend and stores the image on another thread, in the canonical form.
fn snapshot(backend: &mut KeyedBackend<String>) -> Result<Stored> {
    let files = InMemoryFiles::new();
    let frozen = backend.freeze(1, SnapshotMode::Canonical)?;
    let store = {
        let files = files.clone();
        move || files.store(1, frozen)
    };
    let writer = std::thread::Builder::new().name("snapshot".to_owned()).spawn(store)?;
    let snapshot = writer.join().map_err(|_| Error::bug("storing the image panicked"))??;
    Ok(files.source(&snapshot, None))
}

/// A snapshot of one file with these bytes.
fn stored(body: impl Into<bytes::Bytes>) -> Stored {
    let files = InMemoryFiles::new();
    let snapshot = files.insert(body);
    files.source(&snapshot, None)
}

/// The body of a snapshot of one file.
fn body(snapshot: &Stored) -> Result<bytes::Bytes> {
    let length = snapshot.body_length(0)?;
    snapshot.read(&[(0, 0..length)])?.pop().ok_or_else(|| Error::bug("nothing was read"))
}

fn snapshots(backends: &mut [KeyedBackend<String>]) -> Result<Vec<Stored>> {
    backends.iter_mut().map(snapshot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_conforms() {
        check_all(&|| BackendOptions::Memory).unwrap();
    }

    #[test]
    fn a_cold_store_conforms_with_any_cache() {
        for cache_bytes in [1, 300, 10_000, 10_000_000] {
            check_all(&|| BackendOptions::Custom(ordered_store(cache_bytes))).unwrap();
        }
    }

    #[cfg(feature = "rocksdb")]
    #[test]
    fn rocksdb_conforms_with_any_cache() {
        for cache_bytes in [1, 10_000, 10_000_000] {
            let options = crate::RocksDbOptions { cache_bytes, ..crate::RocksDbOptions::small() };
            check_all(&|| BackendOptions::RocksDb(options.clone())).unwrap();
        }
    }
}

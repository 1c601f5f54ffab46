//! The table files that hold a store as it was at a freeze, give or take rows written since.
//!
//! A freeze takes a snapshot of RocksDB (a sequence number) and, if files are wanted, opens a [`ChangeLog`]: from
//! then on every write notes its keys there first. Another thread flushes the memtables and lists the files that
//! there are then. They hold every row of the freeze, and may hold rows that came later, while the flush went on; the
//! keys of those are in the log. For these, and no others, the value at the freeze is read through the snapshot and
//! goes into the checkpoint beside the files, to be laid over them. So nothing holds up the task: it neither waits
//! for the flush nor for room in a buffer, and rows are neither held back nor written twice.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rocksdb::{BottommostLevelCompaction, CompactOptions, FlushOptions};

use super::ext;
use super::{CAPTURES, DATABASE, Database, Db, failed, family};
use crate::backend::native::ChangedKeys;
use crate::key_group::{KeyGroup, KeyGroupRange};
use crate::snapshot::{NamedTable, TableFile};
use crate::table::cold::WriteBatch;
use crate::work_directory::WorkDirectory;
use crate::{Error, Result};

/// A log that has grown to this many bytes of keys is given up: the files can then no longer stand for the freeze.
const MAX_LOG_BYTES: usize = 64 << 20;

/// What a key in a log takes beside its own bytes.
const KEY_BYTES: usize = 56;

/// Length of a key that lies behind most others of its key group.
const LAST_BYTES: usize = 64;

/// Distinguishes the directories of the captures of one process.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// The table files of a freeze, linked into a directory that is removed on drop.
#[derive(Debug)]
pub(super) struct Capture {
    pub(super) tables: Vec<NamedTable>,
    /// The keys written since the freeze: what the files say about them may be too new.
    pub(super) changed: ChangedKeys,
    directory: PathBuf,
    /// Holds the directory above, also when the database is gone.
    _parent: Arc<WorkDirectory>,
}

impl Capture {
    /// Where a file lies for as long as the capture is there.
    pub(super) fn path(&self, id: &str) -> PathBuf {
        self.directory.join(id)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // What is left goes with the directory of the database.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The keys written since one freeze.
#[derive(Debug, Default)]
pub(super) struct ChangeLog(Mutex<Option<Changes>>);

#[derive(Debug, Default)]
struct Changes {
    keys: ChangedKeys,
    bytes: usize,
}

impl ChangeLog {
    fn note(&self, state: &str, batch: &WriteBatch) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(changes) = &mut *log else { return };
        changes.bytes += batch.iter().map(|(key, _)| key.len() + KEY_BYTES).sum::<usize>();
        if changes.bytes > MAX_LOG_BYTES {
            *log = None;
            return;
        }
        let keys = batch.iter().map(|(key, _)| key.to_vec());
        match changes.keys.get_mut(state) {
            Some(present) => present.extend(keys),
            None => drop(changes.keys.insert(state.to_owned(), keys.collect())),
        }
    }

    /// Ends the log; nothing if it was given up.
    fn take(&self) -> Option<ChangedKeys> {
        let changes = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        changes.map(|changes| changes.keys)
    }
}

/// The logs that are still wanted.
#[derive(Debug, Default)]
pub(super) struct ChangeLogs(Vec<Weak<ChangeLog>>);

impl ChangeLogs {
    /// Opens a log of all writes that are [noted](Self::note) from now on.
    pub(super) fn open(&mut self) -> Arc<ChangeLog> {
        let log = Arc::new(ChangeLog(Mutex::new(Some(Changes::default()))));
        self.0.push(Arc::downgrade(&log));
        log
    }

    /// Notes a write that is about to be made.
    pub(super) fn note(&mut self, state: &str, batch: &WriteBatch) {
        self.0.retain(|log| {
            log.upgrade().is_some_and(|log| {
                log.note(state, batch);
                true
            })
        });
    }
}

/// Flushes and links the table files. `None` if more was written meanwhile than a log holds.
pub(super) fn capture(database: &Database, log: &ChangeLog) -> Result<Option<Capture>> {
    let db = &database.db;
    flush(db, database)?;
    drop_foreign(database)?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let directory = database.directory.path().join(CAPTURES).join(number.to_string());
    let io = |e| Error::restart_task("cannot link RocksDB's files").with_source(e).at(directory.display());
    fs::create_dir_all(&directory).map_err(io)?;
    let _parent = Arc::clone(&database.directory);
    let mut capture = Capture { tables: Vec::new(), changed: ChangedKeys::new(), directory, _parent };
    db.disable_file_deletions().map_err(|e| failed("keep its files", e))?;
    let linked = link(database, &mut capture);
    db.enable_file_deletions().map_err(|e| failed("let go of its files", e))?;
    linked?;
    // After the list was made: what is in the files is in the log.
    let Some(changed) = log.take() else { return Ok(None) };
    capture.changed = changed;
    Ok(Some(capture))
}

fn flush(db: &Db, database: &Database) -> Result<()> {
    let mut options = FlushOptions::default();
    options.set_wait(true);
    for state in database.states() {
        db.flush_cf_opt(&family::find(db, &state)?, &options).map_err(|e| failed("flush", e))?;
    }
    Ok(())
}

/// Lets go of rows of other subtasks' key groups, which came with files that span key groups.
///
/// They must not get into a checkpoint: there they would lie over what their new owner has made of them.
fn drop_foreign(database: &Database) -> Result<()> {
    if !database.has_foreign.load(Ordering::Acquire) {
        return Ok(());
    }
    let (db, range) = (&database.db, database.range);
    // The border itself may be a key: that of a key without bytes.
    let mut last_below = range.start.saturating_sub(1).to_be_bytes().to_vec();
    last_below.resize(LAST_BYTES, u8::MAX);
    let below = (range.start > 0).then_some((Vec::new(), last_below));
    let above = Some((range.end.to_be_bytes().to_vec(), vec![u8::MAX; LAST_BYTES]));
    let mut all = CompactOptions::default();
    all.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
    for state in database.states() {
        let family = family::find(db, &state)?;
        for (from, to) in [&below, &above].into_iter().flatten() {
            // Such a database ends its files with their key group, so what is foreign is then in files of its own. One
            // that is not removed here is left out of every capture.
            db.compact_range_cf_opt(&family, Some(from), Some(to), &all);
            db.delete_file_in_range_cf(&family, from, to).map_err(|e| failed("drop files", e))?;
        }
    }
    let spanning = ext::table_files(db)?.into_iter().find(|(_, table)| spans_border(table, range));
    match spanning {
        Some((name, _)) => Err(Error::restart_task(format!("the compaction of {name} did not happen"))),
        None => {
            database.has_foreign.store(false, Ordering::Release);
            Ok(())
        }
    }
}

fn link(database: &Database, capture: &mut Capture) -> Result<()> {
    for (name, table) in ext::table_files(&database.db)? {
        if is_foreign(&table, database.range) {
            continue;
        }
        if spans_border(&table, database.range) {
            return Err(Error::bug(format!("{name} holds rows of other subtasks")));
        }
        let id = database.id_of(&name);
        let (from, to) = (database.directory.path().join(DATABASE).join(name), capture.path(&id));
        // Where there are no hard links it is copied.
        fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, to).map(drop)).map_err(|e| {
            Error::restart_task("cannot link one of RocksDB's files").with_source(e).at(from.display())
        })?;
        capture.tables.push(NamedTable { id, table });
    }
    Ok(())
}

/// The key groups of the first and of the last key.
pub(super) fn groups(table: &TableFile) -> Option<(KeyGroup, KeyGroup)> {
    let group = |key: &[u8]| key.first_chunk().map(|group| KeyGroup(u16::from_be_bytes(*group)));
    Some((group(&table.keys.0)?, group(&table.keys.1)?))
}

/// Whether nothing of a file is of the range.
pub(super) fn is_foreign(table: &TableFile, range: KeyGroupRange) -> bool {
    groups(table).is_none_or(|(first, last)| last.0 < range.start || first.0 >= range.end)
}

/// Whether a part of a file is of the range and another part is not.
pub(super) fn spans_border(table: &TableFile, range: KeyGroupRange) -> bool {
    !is_foreign(table, range)
        && groups(table).is_some_and(|(first, last)| !(range.contains(first) && range.contains(last)))
}

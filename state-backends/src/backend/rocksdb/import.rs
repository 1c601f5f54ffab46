//! A database made of the table files of a checkpoint, whatever the parallelism it was taken with.
//!
//! Files whose keys lie in the subtask's range are linked into the new database as they are, on the level they had;
//! those that lie outside are left out. The old subtasks' key groups are disjoint, so the files of several of them fit
//! into one column family, side by side on each level. A few files on each level reach over a border of
//! the range; they come along whole, nothing reads what they hold of other key groups, and the first
//! [capture](super::capture) gets rid of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rocksdb::Options;

use super::capture::{is_foreign, spans_border};
use super::ext::{self, LocalTable};
use super::{DATABASE, Db, STAGING, failed};
use crate::key_group::KeyGroupRange;
use crate::snapshot::NamedTable;
use crate::work_directory::WorkDirectory;
use crate::{Error, Result};

/// Sequence numbers are 56 bits wide.
const MAX_SEQUENCE: u64 = (1 << 56) - 1;

/// Levels of a database.
const LEVELS: u8 = 7;

/// Puts a table file of a checkpoint into a new local file.
pub(super) type Download<'a> = Box<dyn Fn(&Path) -> Result<()> + 'a>;

/// What an import has made.
#[derive(Debug, Default)]
pub(super) struct Imported {
    pub(super) states: Vec<String>,
    /// The ids of the files by their new names.
    pub(super) ids: BTreeMap<String, String>,
    /// Whether there are rows of other subtasks' key groups.
    pub(super) has_foreign: bool,
}

/// Makes a database of those of the files that hold keys of the range.
pub(super) fn import(
    options: &Options,
    directory: &WorkDirectory,
    range: KeyGroupRange,
    files: Vec<(NamedTable, Download<'_>)>,
) -> Result<Imported> {
    let mut imported = Imported::default();
    let mut states: BTreeMap<String, Vec<(NamedTable, Download<'_>)>> = BTreeMap::new();
    for (file, download) in files {
        check(&file)?;
        if !is_foreign(&file.table, range) {
            imported.has_foreign |= spans_border(&file.table, range);
            states.entry(file.table.state.clone()).or_default().push((file, download));
        }
    }
    if states.is_empty() {
        return Ok(imported);
    }
    let staging = directory.path().join(STAGING);
    fs::create_dir_all(&staging).map_err(|e| {
        Error::restart_task("cannot make a directory for RocksDB").with_source(e).at(staging.display())
    })?;
    let path = directory.path().join(DATABASE);
    let mut quiet = options.clone();
    // Until it is known which file has become which.
    quiet.set_disable_auto_compactions(true);
    let db = Db::open(&quiet, &path).map_err(|e| failed("open", e).at(path.display()))?;
    for (state, files) in states {
        let mut tables: Vec<LocalTable> = Vec::new();
        for (number, (file, download)) in files.iter().enumerate() {
            let name = format!("{number:06}.sst");
            download(&staging.join(&name)).map_err(|e| e.at(format!("table file {}", file.id)))?;
            tables.push((name, file.table.clone()));
        }
        ext::import(&db, &quiet, &state, &staging, &tables)?;
        let mut there = ext::table_files(&db)?;
        there.retain(|(_, table)| table.state == state);
        there.sort();
        for ((name, table), (file, _)) in there.into_iter().zip(&files) {
            // They are numbered in the order of the list.
            if table == file.table {
                imported.ids.insert(name, file.id.clone());
            }
        }
        imported.states.push(state);
    }
    Ok(imported)
}

/// Refuses what no database has said of a file of its own.
fn check(NamedTable { id, table }: &NamedTable) -> Result<()> {
    let well_formed = table.level < LEVELS
        && table.sequence.0 <= table.sequence.1
        && table.sequence.1 <= MAX_SEQUENCE
        && table.bytes > 0
        && table.keys.0.len() >= super::GROUP_BYTES
        && table.keys.0 <= table.keys.1;
    if well_formed {
        return Ok(());
    }
    Err(Error::data("the description of a table file contradicts itself").at(id))
}

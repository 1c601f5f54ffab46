//! Publishes staged parts, and removes those that belong to no checkpoint.

use super::layout::{Layout, parse_staged, sync_directory, write_failed};
use super::part::Part;
use crate::error::{Error, Result};
use crate::function::Committer;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

pub(super) struct FileCommitter {
    layout: Layout,
    /// Until `clean_up` the parts come from a checkpoint and were written by a process that may have died with its
    /// machine: their content is checked too.
    restored: bool,
}

impl FileCommitter {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, restored: true }
    }

    /// Whether `path` holds the content of `part`; an error if it holds another, false if it does not exist.
    fn holds(path: &Path, part: &Part, check_content: bool) -> Result<bool> {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(cannot_read(path, e)),
        };
        let found = metadata.len();
        if !metadata.is_file() || found != part.length {
            return Err(different(path, part, &format!("it has {found} bytes")));
        }
        if check_content {
            let crc32 = checksum(path).map_err(|e| cannot_read(path, e))?;
            if crc32 != part.crc32 {
                return Err(different(path, part, &format!("its checksum is {crc32:08x}")));
            }
        }
        Ok(true)
    }
}

impl Committer<Part> for FileCommitter {
    fn clean_up(&mut self, kept: &[Part]) -> Result<()> {
        self.restored = false;
        // One subtask cleans up for all. Files of this attempt are not touched: other subtasks are writing already.
        if self.layout.subtask != 0 {
            return Ok(());
        }
        let staging = self.layout.staging_path();
        let kept: BTreeSet<_> = kept.iter().map(Part::staged_path).collect();
        let entries = match fs::read_dir(&staging) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(cannot_read(&staging, e)),
        };
        for entry in entries {
            let path = entry.map_err(|e| cannot_read(&staging, e))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(parse_staged);
            let orphan = name.is_some_and(|name| {
                name.operator == self.layout.operator() && name.attempt < self.layout.attempt.0
            });
            if orphan && !kept.contains(&path) {
                match fs::remove_file(&path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(write_failed(&path, e)),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn commit(&mut self, part: &Part) -> Result<()> {
        let (staged, published) = (part.staged_path(), part.published_path());
        if !Self::holds(&published, part, true)? {
            match Self::holds(&staged, part, self.restored)? {
                true => match fs::rename(&staged, &published) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(write_failed(&published, e)),
                    // Somebody else may have renamed it just now, as two jobs restored from one savepoint do.
                    Err(_) if !Self::holds(&published, part, true)? => {
                        return Err(lost(&staged, &published, part));
                    }
                    _ => {}
                },
                // Renamed between our two looks, or gone.
                false if !Self::holds(&published, part, true)? => {
                    return Err(lost(&staged, &published, part));
                }
                false => {}
            }
        }
        // Also if it was there already: whoever renamed it may have crashed before this.
        sync_directory(Path::new(&part.directory))
    }
}

impl Drop for FileCommitter {
    /// Removes the staging directory with the last part that left it; while it holds any this does nothing.
    fn drop(&mut self) {
        let _ = fs::remove_dir(self.layout.staging_path());
    }
}

fn checksum(path: &Path) -> io::Result<u32> {
    let mut file = File::open(path)?;
    let mut crc = crc32fast::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(crc.finalize()),
            Ok(read) => crc.update(&buffer[..read]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn cannot_read(path: &Path, e: io::Error) -> Error {
    Error::restart_job(format!("cannot read '{}'", path.display())).with_source(e)
}

fn lost(staged: &Path, published: &Path, part: &Part) -> Error {
    Error::data(format!(
        "DATA LOSS: {} bytes of output that a completed checkpoint covers are gone: neither the staged file '{}' nor \
         the published file '{}' exists",
        part.length,
        staged.display(),
        published.display()
    ))
    .hint("if a consumer has moved the published file away, put it back under its name and restart; otherwise go back to an earlier savepoint")
}

fn different(path: &Path, part: &Part, found: &str) -> Error {
    Error::data(format!(
        "'{}' is not what the checkpoint says: {found}, expected are {} bytes with checksum {:08x}",
        path.display(),
        part.length,
        part.crc32
    ))
    .hint("published parts must not be changed before the next checkpoint completes; restore the file, or go back to an earlier savepoint")
}

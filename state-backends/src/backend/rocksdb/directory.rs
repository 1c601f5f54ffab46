//! The directory of one database: made fresh, gone with it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs, io, process};

use crate::backend::BackendScope;
use crate::{Error, Result};

/// Distinguishes the directories of one process.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// The directory of one backend instance, removed on drop.
#[derive(Debug)]
pub(super) struct WorkDirectory(PathBuf);

impl WorkDirectory {
    pub(super) fn create(scope: &BackendScope) -> Result<Self> {
        let parent = scope.local_dir.clone().unwrap_or_else(env::temp_dir);
        let failed = |e: io::Error, path: &Path| {
            Error::restart_task("cannot make a directory for RocksDB").with_source(e).at(path.display())
        };
        fs::create_dir_all(&parent).map_err(|e| failed(e, &parent))?;
        let operator: String = scope
            .operator
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .take(40)
            .collect();
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path =
                parent.join(format!("tidegate-{operator}-{}-{}-{number}", scope.subtask, process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                // Left by a dead process of the same number.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(failed(e, &path)),
            }
        }
    }

    pub(super) fn database(&self) -> PathBuf {
        self.0.join("db")
    }
}

impl Drop for WorkDirectory {
    fn drop(&mut self) {
        // What cannot be removed is left; a later instance uses another name.
        let _ = fs::remove_dir_all(&self.0);
    }
}

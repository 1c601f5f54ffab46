//! Directories for what a process keeps on the local disk while it runs, such as a database: made fresh, gone with their
//! owner.
//!
//! A process that is killed leaves its directories behind. Each holds a file that its owner keeps locked and that
//! gets its name only once it is locked; so a directory with such a file that can be locked has no owner any more, and
//! whoever makes a directory beside it removes it. A directory without the file is left alone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, io, process};

use crate::{Error, Result};

/// Distinguishes the directories of one process.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// What all of the directories' names start with.
const NAME: &str = "tidegate-";

/// The file that the owner of a directory keeps locked.
const OWNER: &str = "owner.lock";

/// A directory of one owner, removed on drop. What processes that were killed have left beside it is removed when it is
/// made.
#[derive(Debug)]
pub struct WorkDirectory {
    path: PathBuf,
    /// Unlocked after the directory is gone; none where files cannot be locked.
    _owner: Option<File>,
}

impl WorkDirectory {
    /// Makes `tidegate-<name>-<process>-<n>` in `parent`, or in the system's temporary directory. Of the name letters and
    /// digits are taken as they are.
    ///
    /// # Errors
    /// [`ErrorKind::RestartTask`](crate::ErrorKind::RestartTask) if that is not possible.
    pub fn create(parent: Option<&Path>, name: &str) -> Result<Self> {
        let parent = parent.map_or_else(env::temp_dir, Path::to_owned);
        let failed = |e: io::Error, path: &Path| {
            Error::restart_task("cannot make a local directory").with_source(e).at(path.display())
        };
        fs::create_dir_all(&parent).map_err(|e| failed(e, &parent))?;
        sweep(&parent);
        let name: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
            .take(60)
            .collect();
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{NAME}{name}-{}-{number}", process::id()));
            match fs::create_dir(&path) {
                Ok(()) => {
                    let _owner = own(&path).ok();
                    return Ok(Self { path, _owner });
                }
                // Left by a dead process of the same number.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(failed(e, &path)),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkDirectory {
    fn drop(&mut self) {
        // What cannot be removed is left; a later instance uses another name.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Locks a directory for as long as the file is open.
fn own(directory: &Path) -> io::Result<File> {
    let unnamed = directory.join("new.lock");
    let file = File::create_new(&unnamed)?;
    file.try_lock()?;
    fs::rename(unnamed, directory.join(OWNER))?;
    Ok(file)
}

/// Removes the directories that have lost their owner. What cannot be looked at or removed is left.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(NAME.as_bytes()) {
            continue;
        }
        let Ok(owner) = File::open(entry.path().join(OWNER)) else { continue };
        if owner.try_lock().is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_without_an_owner_are_swept() {
        let local = tempfile::tempdir().unwrap();
        let make = |name: &str, lock: Option<&str>| {
            let path = local.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("data"), "1").unwrap();
            lock.inspect(|lock| fs::write(path.join(lock), "").unwrap());
            path
        };
        let dead = make("tidegate-dead-0-1-0", Some(OWNER));
        let kept = [
            make("tidegate-foreign", None),
            make("tidegate-starting", Some("new.lock")),
            make("other", Some(OWNER)),
        ];
        let [first, second] =
            ["o", "a/b c"].map(|name| WorkDirectory::create(Some(local.path()), name).unwrap());
        assert!(!dead.exists());
        assert!(kept.iter().all(|path| path.exists()));
        assert!(first.path.exists() && second.path.exists());
        let alive = first.path.clone();
        drop(first);
        assert!(!alive.exists());
    }
}

//! Names of parts, the directories they lie in, and what a failing file system means.

use crate::error::{Error, Result};
use crate::function::SinkContext;
use crate::id::Attempt;
use std::fmt::Write;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Job ids and operator uids above this many bytes are cut and told apart by a hash: file names end at 255.
const MAX_NAME_BYTES: usize = 72;

/// Where one subtask's parts are and what they are called.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Absolute, and UTF-8.
    directory: String,
    job: String,
    operator: String,
    ending: &'static str,
    pub(super) attempt: Attempt,
    pub(super) subtask: u32,
}

/// A staged file's name, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StagedName<'a> {
    pub(super) operator: &'a str,
    pub(super) attempt: u64,
}

impl Layout {
    pub(super) fn new(directory: &Path, ending: &'static str, context: &SinkContext) -> Result<Self> {
        let absolute = std::path::absolute(directory).map_err(|e| {
            Error::config(format!("'{}' is no directory", directory.display())).with_source(e)
        })?;
        let Some(directory) = absolute.to_str() else {
            return Err(Error::config(format!("the directory name '{}' is not UTF-8", absolute.display()))
                .hint("give the sink another directory"));
        };
        Ok(Self {
            directory: directory.to_owned(),
            job: escape(context.job.as_str()),
            operator: escape(context.operator.as_str()),
            ending,
            attempt: context.attempt,
            subtask: context.subtask.index,
        })
    }

    pub(super) fn directory(&self) -> &str {
        &self.directory
    }

    pub(super) fn operator(&self) -> &str {
        &self.operator
    }

    fn staging(&self) -> String {
        format!(".staging-{}", self.job)
    }

    pub(super) fn staging_path(&self) -> PathBuf {
        Path::new(&self.directory).join(self.staging())
    }

    /// Path of staged part `number`, below the directory.
    pub(super) fn staged(&self, number: u64) -> String {
        format!("{}/{}-{}-{}-{number}.part", self.staging(), self.operator, self.attempt.0, self.subtask)
    }

    /// Name of published part `number`. The dot, which no escaped name has, keeps job and operator apart.
    pub(super) fn published(&self, number: u64) -> String {
        let Self { job, operator, subtask, attempt: Attempt(attempt), ending, .. } = self;
        format!("part-{job}.{operator}-{subtask}-{attempt}-{number}.{ending}")
    }

    /// Makes the directory and the staging directory, durably.
    pub(super) fn create_directories(&self) -> Result<()> {
        let directory = Path::new(&self.directory);
        let missing: Vec<&Path> = directory.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
        fs::create_dir_all(directory).map_err(|e| unusable(directory, e))?;
        for parent in missing.into_iter().filter_map(Path::parent) {
            sync_directory(parent)?;
        }
        if make_directory(&self.staging_path(), |path| fs::create_dir(path))? {
            sync_directory(directory)?;
        }
        Ok(())
    }
}

/// Tries to make a directory that others may be making and removing at the same time.
const MAKE_TRIES: u32 = 100;

/// Makes a directory with `make`, unless it exists; whether it had to. A directory that was in the way of `make` and is
/// gone at the next look was the staging directory of a subtask of an earlier attempt, which took it along, being
/// empty, when it ended late: it is made again.
fn make_directory(path: &Path, mut make: impl FnMut(&Path) -> io::Result<()>) -> Result<bool> {
    for _ in 0..MAKE_TRIES {
        let e = match make(path) {
            Ok(()) => return Ok(true),
            Err(e) => e,
        };
        // One look, or it could come and go between two of them.
        match fs::metadata(path) {
            Ok(found) if e.kind() == io::ErrorKind::AlreadyExists && found.is_dir() => return Ok(false),
            Err(gone)
                if e.kind() == io::ErrorKind::AlreadyExists && gone.kind() == io::ErrorKind::NotFound => {}
            _ => return Err(unusable(path, e)),
        }
    }
    Err(Error::restart_job(format!("'{}' is made and removed again and again", path.display()))
        .hint("let no other program tidy up in the output directory"))
}

/// The parts of a staged file's name that say whose it is; `None` for a file that no sink of ours has written.
pub(super) fn parse_staged(name: &str) -> Option<StagedName<'_>> {
    let mut parts = name.strip_suffix(".part")?.rsplitn(4, '-');
    let (number, subtask, attempt) = (parts.next()?, parts.next()?, parts.next()?);
    number.parse::<u64>().ok()?;
    subtask.parse::<u32>().ok()?;
    Some(StagedName { operator: parts.next()?, attempt: attempt.parse().ok()? })
}

/// A name as part of a file name: letters, digits, `_` and `-` as they are, everything else as `%` and two hex
/// digits per byte. Different names stay different.
fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "%{byte:02x}");
        }
    }
    if escaped.len() > MAX_NAME_BYTES {
        escaped.truncate(MAX_NAME_BYTES - 17);
        let _ = write!(escaped, "~{:016x}", xxhash_rust::xxh3::xxh3_64(name.as_bytes()));
    }
    escaped
}

/// Makes the entries of a directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(|e| write_failed(path, e))
}

/// A failure to make a directory: mostly the wrong directory.
fn unusable(path: &Path, e: io::Error) -> Error {
    use io::ErrorKind::{AlreadyExists, InvalidInput, NotADirectory, PermissionDenied, ReadOnlyFilesystem};
    match e.kind() {
        AlreadyExists | NotADirectory | PermissionDenied | ReadOnlyFilesystem | InvalidInput => {
            Error::config(format!("cannot write to the output directory '{}'", path.display()))
                .with_source(e)
                .hint("give the sink a directory that does not exist yet or that this user may write to, not a file")
        }
        _ => write_failed(path, e),
    }
}

/// A failure to write. Nothing staged is lost by it and nothing was published: a restart tries again.
pub(super) fn write_failed(path: &Path, e: io::Error) -> Error {
    let error = match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::restart_job(format!("the disk is full: cannot write '{}'", path.display()))
                .hint("free some space; the job goes on by itself from its last checkpoint")
        }
        _ => Error::restart_job(format!("cannot write '{}'", path.display())),
    };
    error.with_source(e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_stay_different() {
        assert_eq!(escape("word-count_1"), "word-count_1");
        assert_eq!(escape("../a b"), "%2e%2e%2fa%20b");
        assert_ne!(escape("a%2eb"), escape("a.b"));
        let (long, other) = ("x".repeat(100), "x".repeat(101));
        assert_ne!(escape(&long), escape(&other));
        assert_eq!(escape(&long).len(), MAX_NAME_BYTES);
    }

    #[test]
    fn staged_names_are_read_back() {
        let expected = StagedName { operator: "a-1-b", attempt: 7 };
        assert_eq!(parse_staged("a-1-b-7-0-12.part"), Some(expected));
        for foreign in ["a-1-b-7-0-12", "a-0-12.part", "notes.txt", "a-x-0-1.part"] {
            assert_eq!(parse_staged(foreign), None, "{foreign}");
        }
    }

    /// The file sink lost a job to this: a subtask of an older attempt that ended late removed the empty staging
    /// directory after a new one had failed to make it, because it existed, and before the new one looked at it. The
    /// new one then called the output directory unusable, which no restart cures.
    #[test]
    fn a_directory_that_vanishes_between_failing_to_make_it_and_looking_at_it_is_made_again() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(".staging-job");
        let mut tries = 0;
        let made = make_directory(&path, |path| {
            tries += 1;
            let made = fs::create_dir(path);
            if tries <= 3 {
                // Somebody else had made it in time and removes it now.
                fs::remove_dir(path)?;
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            made
        });
        assert!(made.unwrap() && path.is_dir());
        assert_eq!(tries, 4);
        assert!(!make_directory(&path, |path| fs::create_dir(path)).unwrap(), "it is there already");

        // What never comes to rest is worth a restart; what is no directory is not.
        let other = place.path().join("restless");
        let e = make_directory(&other, |_| Err(io::ErrorKind::AlreadyExists.into())).unwrap_err();
        assert!(e.kind().is_recoverable(), "{e}");
        fs::write(&other, "").unwrap();
        let e = make_directory(&other, |path| fs::create_dir(path)).unwrap_err();
        assert!(!e.kind().is_recoverable() && e.to_string().contains("not a file"), "{e}");
    }

    #[test]
    fn a_full_disk_is_said_and_worth_a_restart() {
        let e = write_failed(Path::new("/x"), io::ErrorKind::StorageFull.into());
        assert!(e.kind().is_recoverable());
        assert!(e.to_string().contains("the disk is full"), "{e}");
    }
}

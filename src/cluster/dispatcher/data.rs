//! The directory in which a standing cluster keeps what must outlive it.
//!
//! ```text
//! <data>/lock                  held as long as the cluster runs
//!       /jobs/<job id>.json    what was submitted, and how it ended
//!       /programs/<sha256>     the programs that run
//!       /work/<job id>/        where its processes run
//!       /checkpoints/          of jobs that name no place
//! ```
//!
//! Invariant: a record is replaced as a whole, and lasts before anybody is told of it.

use super::allow_list::{UNFINISHED, sync};
use super::hash::ProgramHash;
use super::record::JobRecord;
use crate::checkpoint::envelope;
use crate::error::{Error, Result};
use crate::id::JobId;
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

const KIND: &str = "tidegate-submitted";
const SUFFIX: &str = ".json";
/// What is in its place only when it is whole.
const UNREADY: &str = ".json.new";

/// The directory.
#[derive(Debug)]
pub(super) struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

impl DataDirectory {
    /// Opens it, makes what is missing, and removes what an earlier life has not finished.
    ///
    /// # Errors
    /// A config error if it cannot be used, others can write in it, or another cluster runs on it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let at = |e: Error| e.at(format!("data directory {}", path.display()));
        let refuse = |e: io::Error| at(Error::config("cannot be used").with_source(e));
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(refuse)?;
        let path = std::fs::canonicalize(path).map_err(refuse)?;
        let mode = std::fs::metadata(&path).map_err(refuse)?.mode();
        if mode & 0o022 != 0 {
            return Err(at(Error::config(format!("others may write in it: its mode is {:o}", mode & 0o777))
                .hint("chmod 700: what lies there is run")));
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock"));
        let lock = lock.map_err(refuse)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(at(Error::config("another cluster runs on it").hint("stop that one first")));
            }
            Err(TryLockError::Error(e)) => return Err(refuse(e)),
        }
        let this = Self { path, _lock: lock };
        for part in [this.jobs(), this.programs(), this.work()] {
            DirBuilder::new().recursive(true).mode(0o700).create(part).map_err(refuse)?;
        }
        sync(&this.path).map_err(refuse)?;
        this.remove_unfinished().map_err(refuse)?;
        Ok(this)
    }

    fn jobs(&self) -> PathBuf {
        self.path.join("jobs")
    }

    fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    pub(super) fn programs(&self) -> PathBuf {
        self.path.join("programs")
    }

    pub(super) fn program(&self, hash: &ProgramHash) -> PathBuf {
        self.programs().join(hash.as_str())
    }

    pub(super) fn work_of(&self, job: &JobId) -> PathBuf {
        self.work().join(job.as_str())
    }

    pub(super) fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    fn remove_unfinished(&self) -> io::Result<()> {
        let is_unfinished = |name: &str| name.starts_with(UNFINISHED) || name.ends_with(UNREADY);
        for part in [self.jobs(), self.programs()] {
            for entry in std::fs::read_dir(part)? {
                let entry = entry?;
                if entry.file_name().to_str().is_some_and(is_unfinished) {
                    std::fs::remove_file(entry.path())?;
                }
            }
        }
        Ok(())
    }

    /// What is written down of all jobs, in the order of their submission.
    ///
    /// # Errors
    /// A data error that names the file that is damaged.
    pub(super) fn records(&self) -> Result<Vec<JobRecord>> {
        let mut records = Vec::new();
        for entry in std::fs::read_dir(self.jobs())? {
            let path = entry?.path();
            if path.to_str().is_some_and(|name| name.ends_with(SUFFIX)) {
                let shown = path.display().to_string();
                let bytes = std::fs::read(&path).map_err(|e| {
                    Error::data("what was submitted cannot be read").with_source(e).at(shown.clone())
                })?;
                let record: JobRecord = envelope::open(KIND, &bytes, &shown)
                    .map_err(|e| e.hint("move it away to run without this job"))?;
                if self.record_path(&record.job) != path {
                    return Err(Error::data(format!("it is of job {}", record.job)).at(shown));
                }
                records.push(record);
            }
        }
        records.sort_by_key(|record| record.number);
        Ok(records)
    }

    fn record_path(&self, job: &JobId) -> PathBuf {
        self.jobs().join(format!("{job}{SUFFIX}"))
    }

    /// Writes a record in the place of the one before; it lasts when this returns.
    ///
    /// # Errors
    /// A retry error that names the file.
    pub(super) fn write(&self, record: &JobRecord) -> Result<()> {
        let path = self.record_path(&record.job);
        let bytes = envelope::seal(KIND, record)?;
        let unready = self.jobs().join(format!("{}{UNREADY}", record.job));
        let write = || {
            let mut file = File::create(&unready)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&unready, &path)?;
            sync(&self.jobs())
        };
        write().map_err(|e| Error::retry("cannot be written").with_source(e).at(path.display()))
    }

    /// Makes the directory in which a job's processes run.
    ///
    /// # Errors
    /// A config error that names it.
    pub(super) fn make_work(&self, job: &JobId) -> Result<PathBuf> {
        let path = self.work_of(job);
        let made =
            DirBuilder::new().recursive(true).mode(0o700).create(&path).and_then(|()| sync(&self.work()));
        made.map_err(|e| Error::config("cannot be made").with_source(e).at(path.display()))?;
        Ok(path)
    }

    /// Checks that the copy of a program is what its name says.
    ///
    /// # Errors
    /// A data error if it is not, or cannot be read.
    pub(super) fn verify(&self, hash: &ProgramHash) -> Result<()> {
        let path = self.program(hash);
        let found =
            File::open(&path)
                .and_then(|mut file| ProgramHash::of_copy(&mut file, &mut io::sink()))
                .map_err(|e| Error::data("the program cannot be read").with_source(e).at(path.display()))?;
        if found == *hash {
            return Ok(());
        }
        Err(Error::data(format!("the program was changed: its hash is {found}"))
            .at(path.display())
            .hint("withdraw the job, and submit it again under its id"))
    }

    /// Forgets a job.
    pub(super) fn forget(&self, job: &JobId) {
        _ = std::fs::remove_file(self.record_path(job));
        self.clear_work(job);
    }

    /// Removes a job's working directory, unless it has left something there.
    pub(super) fn clear_work(&self, job: &JobId) {
        _ = std::fs::remove_dir(self.work_of(job));
    }

    /// Removes the programs that no job runs.
    pub(super) fn keep_programs(&self, kept: &BTreeSet<ProgramHash>) {
        for entry in std::fs::read_dir(self.programs()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let hash = name.to_str().and_then(|name| name.parse::<ProgramHash>().ok());
            if hash.is_some_and(|hash| !kept.contains(&hash)) {
                _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;

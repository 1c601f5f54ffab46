//! The directory of the control sockets.

use crate::error::{Error, Result};
use crate::id::JobId;
use std::fs::{DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

const SUFFIX: &str = ".sock";

/// The directory of the control sockets of one person's jobs.
#[derive(Clone, Debug)]
pub struct ControlDirectory(PathBuf);

impl ControlDirectory {
    /// Where it is unless configured otherwise: `tidegate` in `XDG_RUNTIME_DIR`, else `.tidegate/run` in the home
    /// directory; `None` if neither is known.
    pub fn default_path() -> Option<PathBuf> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        set("XDG_RUNTIME_DIR")
            .map(|dir| dir.join("tidegate"))
            .or_else(|| set("HOME").map(|home| home.join(".tidegate").join("run")))
    }

    /// Opens the directory, and creates it if there is none.
    ///
    /// # Errors
    /// A config error if it cannot be made, or if others than its owner may enter it.
    pub fn open(path: &Path) -> Result<Self> {
        let at = |e: Error| e.at(format!("control directory {}", path.display()));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|e| at(Error::config("cannot be created").with_source(e)))?;
        let found =
            std::fs::metadata(path).map_err(|e| at(Error::config("cannot be read").with_source(e)))?;
        if found.mode() & 0o077 != 0 {
            return Err(at(Error::config(format!(
                "others may enter it: its mode is {:o}",
                found.mode() & 0o777
            ))
            .hint("chmod 700, or set control.dir to another")));
        }
        Ok(Self(path.to_owned()))
    }

    /// The socket of a job.
    pub(super) fn socket(&self, job: &JobId) -> PathBuf {
        self.0.join(format!("{job}{SUFFIX}"))
    }

    /// Whether `other`, which this process has made, has the owner of the directory.
    pub(super) fn has_owner_of(&self, other: &Metadata) -> io::Result<bool> {
        Ok(std::fs::metadata(&self.0)?.uid() == other.uid())
    }

    /// The jobs with a socket, whether anybody listens or not, in order.
    pub(super) fn sockets(&self) -> Result<Vec<(JobId, PathBuf)>> {
        let mut sockets = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            let entry = entry?;
            let name = entry.file_name();
            if let Some(job) = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)) {
                sockets.push((JobId::from(job.to_owned()), entry.path()));
            }
        }
        sockets.sort();
        Ok(sockets)
    }
}

//! The programs that a cluster may run: the executable files directly in one directory, by their names.
//!
//! What is run is never such a file itself but a private copy, made while its hash is computed: what happens to the file
//! afterwards changes no job.

use super::hash::ProgramHash;
use crate::error::{Error, Result};
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Copies under way begin so.
pub(super) const UNFINISHED: &str = ".new-";
/// May be read and run by the owner, and changed by nobody.
const PRIVATE: u32 = 0o500;

/// The directory.
#[derive(Clone, Debug)]
pub(super) struct AllowList(PathBuf);

impl AllowList {
    /// Opens the directory.
    ///
    /// # Errors
    /// A config error if there is none.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let at = |e: Error| e.at(format!("allow-list {}", path.display()));
        let real = std::fs::canonicalize(path)
            .map_err(|e| at(Error::config("cannot be opened").with_source(e).hint("make the directory")))?;
        if !real.is_dir() {
            return Err(at(Error::config("is no directory")));
        }
        Ok(Self(real))
    }

    /// Copies the program `name` into `programs`, under its hash, which must be `wanted` if that is given. `unique` tells copies
    /// apart that are made at once.
    ///
    /// # Errors
    /// A config error if it is not in the list, cannot be run, or has another hash; nothing is left of it then.
    pub(super) fn copy(
        &self,
        name: &str,
        wanted: Option<&ProgramHash>,
        programs: &Path,
        unique: u64,
    ) -> Result<ProgramHash> {
        let at = |e: Error| e.at(format!("program '{name}'"));
        let mut file = self.find(name).map_err(at)?;
        let copy = programs.join(format!("{UNFINISHED}{unique}"));
        let copied = copy_to(&mut file, &copy)
            .map_err(|e| at(Error::config("cannot be copied").with_source(e)))
            .and_then(|hash| match wanted {
                Some(wanted) if *wanted != hash => {
                    Err(at(Error::config(format!("its hash is {hash}, and {wanted} was asked for"))
                        .hint("it is another build: submit with the hash of the one that is to run")))
                }
                _ => Ok(hash),
            });
        let named = copied.and_then(|hash| {
            let named = std::fs::rename(&copy, programs.join(hash.as_str())).and_then(|()| sync(programs));
            named.map_err(|e| at(Error::config("cannot be kept").with_source(e)))?;
            Ok(hash)
        });
        if named.is_err() {
            _ = std::fs::remove_file(&copy);
        }
        named
    }

    /// Opens the program `name`.
    fn find(&self, name: &str) -> Result<File> {
        let is_plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0']);
        if !is_plain {
            return Err(
                Error::config("is no plain name").hint("name a file of the allow-list, without a path")
            );
        }
        let absent = |e: io::Error| match e.kind() {
            io::ErrorKind::NotFound => Error::config("is not in the allow-list").hint(self.hint()),
            _ => Error::config("cannot be opened").with_source(e),
        };
        // A link may lead to another file of the list, and nowhere else.
        let real = std::fs::canonicalize(self.0.join(name)).map_err(absent)?;
        if real.parent() != Some(&self.0) {
            return Err(Error::config("is a link that leads out of the allow-list").hint(self.hint()));
        }
        // Opening what is no file, such as a pipe, may take for ever.
        is_program(&std::fs::metadata(&real).map_err(absent)?)?;
        let file = File::open(&real).map_err(absent)?;
        is_program(&file.metadata().map_err(absent)?)?;
        Ok(file)
    }

    /// What can be named.
    fn hint(&self) -> String {
        const MOST: usize = 20;
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| std::fs::metadata(self.0.join(name)).is_ok_and(|m| is_program(&m).is_ok()))
            .collect();
        names.sort();
        names.truncate(MOST);
        if names.is_empty() { "it is empty".to_owned() } else { format!("it has {}", names.join(", ")) }
    }
}

fn is_program(found: &std::fs::Metadata) -> Result<()> {
    if !found.is_file() {
        return Err(Error::config("is no regular file"));
    }
    if found.permissions().mode() & 0o111 == 0 {
        return Err(Error::config("is not executable").hint("chmod +x, if it is meant to be run"));
    }
    Ok(())
}

fn copy_to(from: &mut File, to: &Path) -> io::Result<ProgramHash> {
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let hash = ProgramHash::of_copy(from, &mut copy)?;
    copy.set_permissions(Permissions::from_mode(PRIVATE))?;
    copy.sync_all()?;
    Ok(hash)
}

/// Makes what a directory names last.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
#[path = "allow_list_tests.rs"]
mod tests;

//! Which files a path, directory or pattern stands for.

use super::input::modified_ms;
use crate::error::{Error, Result};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Deeper than any sensible tree: a link that leads back to a directory above it.
const MAX_DEPTH: usize = 64;

/// A file as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListedFile {
    /// Its path.
    pub(super) path: String,
    /// Bytes.
    pub(super) length: u64,
    /// Modification time in milliseconds since the Unix epoch.
    pub(super) modified_ms: i64,
}

/// The files `input` stands for, sorted by path, each once.
pub(super) fn list(input: &str) -> Result<Vec<ListedFile>> {
    let local = input.strip_prefix("file://").unwrap_or(input);
    if local.contains("://") {
        return Err(
            Error::config("only local files can be read").hint("give a path, a directory or a glob pattern")
        );
    }
    let mut files = Vec::new();
    match fs::metadata(local) {
        Ok(_) => visit(Path::new(local), 0, &mut files)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let matches = matches(local)?;
            if matches.is_empty() {
                return Err(nothing_there(local));
            }
            for path in matches {
                visit(&path, 0, &mut files)?;
            }
        }
        Err(e) => return Err(unreadable(Path::new(local), e)),
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files.dedup_by(|a, b| a.path == b.path);
    Ok(files)
}

fn nothing_there(local: &str) -> Error {
    let directory =
        std::env::current_dir().map_or_else(|_| "unknown".to_owned(), |d| d.display().to_string());
    let what =
        if is_pattern(local) { "no file matches the pattern" } else { "there is no file or directory" };
    Error::config(format!("{what} '{local}' (working directory: {directory})"))
        .hint("check the spelling; relative paths start at the working directory of the jobmanager")
}

fn is_pattern(local: &str) -> bool {
    local.contains(['*', '?', '['])
}

/// What a pattern matches; nothing if it is no pattern.
fn matches(pattern: &str) -> Result<Vec<PathBuf>> {
    if !is_pattern(pattern) {
        return Ok(Vec::new());
    }
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let found = glob::glob_with(pattern, options)
        .map_err(|e| Error::config(format!("'{pattern}' is not a glob pattern")).with_source(e))?;
    // `_` is hidden from wildcards as a leading dot is.
    let asked_for = pattern.rsplit('/').next().is_some_and(|name| name.starts_with('_'));
    let mut paths = Vec::new();
    for path in found {
        let path = path.map_err(|e| {
            let at = e.path().to_path_buf();
            unreadable(&at, e.into())
        })?;
        if asked_for || !is_hidden(&path) {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| matches!(name.as_encoded_bytes().first(), Some(b'.' | b'_')))
}

/// Adds a file, or all visible files of a directory and those below it.
fn visit(path: &Path, depth: usize, files: &mut Vec<ListedFile>) -> Result<()> {
    let metadata = fs::metadata(path).map_err(|e| unreadable(path, e))?;
    if metadata.is_dir() {
        if depth > MAX_DEPTH {
            return Err(Error::config(format!(
                "'{}' lies more than {MAX_DEPTH} directories deep",
                path.display()
            ))
            .hint("look for a symbolic link that leads back to a directory above it"));
        }
        for entry in fs::read_dir(path).map_err(|e| unreadable(path, e))? {
            let entry = entry.map_err(|e| unreadable(path, e))?.path();
            if !is_hidden(&entry) {
                visit(&entry, depth + 1, files)?;
            }
        }
    } else if metadata.is_file() {
        let name = path.to_str().ok_or_else(|| {
            Error::config(format!("the file name '{}' is not UTF-8", path.display())).hint("rename the file")
        })?;
        let length = metadata.len();
        files.push(ListedFile { path: name.to_owned(), length, modified_ms: modified_ms(&metadata) });
    } else if depth == 0 {
        return Err(Error::config(format!("'{}' is neither a file nor a directory", path.display()))
            .hint("pipes, sockets and devices cannot be read again after a failure"));
    }
    Ok(())
}

fn unreadable(path: &Path, e: io::Error) -> Error {
    Error::config(format!("cannot read '{}'", path.display()))
        .with_source(e)
        .hint("check that it exists and that this user may read it")
}

//! What a local file system keeps of files that were being written when a process died: `<name>#<number>` beside the
//! place of the file, which listings of the store do not show.

use crate::checkpoint::store::ObjectInfo;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Whether this is the name of such a file.
pub(super) fn is_staged(name: &str) -> bool {
    let number = name.rsplit_once('#').map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// All of them below a directory, with paths relative to `root`.
pub(super) async fn list(root: PathBuf, below: PathBuf) -> io::Result<Vec<ObjectInfo>> {
    blocking(move || {
        let mut found = Vec::new();
        walk(&root, &below, &mut found)?;
        Ok(found)
    })
    .await
}

/// Deletes one; whether it was there.
pub(super) async fn delete(file: PathBuf) -> io::Result<bool> {
    blocking(move || match std::fs::remove_file(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    })
    .await
}

fn walk(root: &Path, directory: &Path, found: &mut Vec<ObjectInfo>) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        // It may be gone by now.
        let Ok(metadata) = entry.metadata() else { continue };
        let path = entry.path();
        if metadata.is_dir() {
            walk(root, &path, found)?;
        } else if let (Ok(relative), true) =
            (path.strip_prefix(root), is_staged(&entry.file_name().to_string_lossy()))
            && let Some(relative) = relative.to_str()
        {
            let age = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            found.push(ObjectInfo {
                path: relative.replace(std::path::MAIN_SEPARATOR, "/"),
                bytes: metadata.len(),
                modified_ms: age.map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            });
        }
    }
    Ok(())
}

/// On a thread that may wait, if there is a runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await.map_err(io::Error::other)?,
        Err(_) => work(),
    }
}

//! Opening a checkpoint store, checking that it serves, and what its errors mean.

use crate::checkpoint::CheckpointStore;
use crate::checkpoint::calls::Calls;
use crate::error::{Error, ErrorKind, Result};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use url::Url;

/// URL schemes that need a cargo feature, with the feature and whether this build has it.
const CLOUD: [(&str, &str, bool); 8] = [
    ("s3", "aws", cfg!(feature = "aws")),
    ("s3a", "aws", cfg!(feature = "aws")),
    ("gs", "gcp", cfg!(feature = "gcp")),
    ("az", "azure", cfg!(feature = "azure")),
    ("adl", "azure", cfg!(feature = "azure")),
    ("azure", "azure", cfg!(feature = "azure")),
    ("abfs", "azure", cfg!(feature = "azure")),
    ("abfss", "azure", cfg!(feature = "azure")),
];

/// How stores in memory are named.
pub(super) const MEMORY: &str = "memory://local";

/// Opens a path or URL.
pub(super) fn open(location: &str, options: &[(String, String)], create: bool) -> Result<CheckpointStore> {
    if !location.contains("://") {
        return local(PathBuf::from(location), create);
    }
    let refuse = |what: String| Error::config(what).at(location);
    let url = Url::parse(location).map_err(|e| refuse("not a URL".into()).with_source(e))?;
    let scheme = url.scheme();
    if scheme == "file" {
        let path = url.to_file_path().map_err(|()| refuse("not the path of a local file".into()))?;
        return local(path, create);
    }
    if let Some((_, feature, false)) = CLOUD.iter().find(|(s, ..)| *s == scheme) {
        return Err(refuse(format!("this build has no support for {scheme} URLs"))
            .hint(format!("build tidegate with the cargo feature `{feature}`")));
    }
    if scheme != "memory" && !CLOUD.iter().any(|(s, ..)| *s == scheme) {
        return Err(refuse(format!("{scheme} URLs cannot hold checkpoints"))
            .hint("use a local directory, file:, memory:, s3:, gs: or abfs:"));
    }
    let options = from_environment().chain(options.iter().cloned());
    let (store, root) = object_store::parse_url_opts(&url, options)
        .map_err(|e| refuse("the store cannot be opened".into()).with_source(e))?;
    let shown = if scheme == "memory" { MEMORY } else { location };
    Ok(CheckpointStore::over(Arc::from(store), root.as_ref(), shown))
}

/// What the environment says of clouds: credentials, regions, endpoints, under the names that their own tools use. What is
/// said explicitly comes behind it and wins.
fn from_environment() -> impl Iterator<Item = (String, String)> {
    let is_of_cloud = |name: &str| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|cloud| name.starts_with(cloud));
    std::env::vars_os().filter_map(move |(name, value)| {
        let name = name.into_string().ok().filter(|name| is_of_cloud(name))?;
        Some((name.to_ascii_lowercase(), value.into_string().ok()?))
    })
}

fn local(path: PathBuf, create: bool) -> Result<CheckpointStore> {
    let named = |e: Error| e.at(format!("checkpoint directory {}", path.display()));
    let refuse = |what: &str, e: io::Error| {
        let hint = match e.kind() {
            io::ErrorKind::PermissionDenied => {
                "make it writable for the user tidegate runs as, or choose another"
            }
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                "it, or a part of the path, is a file: choose a directory"
            }
            io::ErrorKind::NotFound => "check the path",
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space, or choose another",
            io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only: choose another",
            _ => "choose another",
        };
        named(Error::config(what).with_source(e).hint(hint))
    };
    if create {
        std::fs::create_dir_all(&path).map_err(|e| refuse("cannot be created", e))?;
    }
    let canonical = std::fs::canonicalize(&path).map_err(|e| refuse("cannot be opened", e))?;
    if !canonical.is_dir() {
        return Err(named(Error::config("is a file, not a directory").hint("choose a directory")));
    }
    let Some(shown) = canonical.to_str().map(str::to_owned) else {
        return Err(named(Error::config("the path is not UTF-8").hint("choose another")));
    };
    let store = LocalFileSystem::new_with_prefix(&canonical)
        .map_err(|e| named(Error::config("cannot be opened").with_source(e)))?
        .with_fsync(true)
        .with_automatic_cleanup(true);
    Ok(CheckpointStore::in_directory(Arc::new(store), &canonical, &shown))
}

/// Whether [`probe`] has written an object of this name: `probe-<process>-<number>`.
pub(super) fn is_probe(name: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = name.strip_prefix("probe-").and_then(|numbers| numbers.split_once('-'));
    numbers.is_some_and(|(process, number)| digits(process) && digits(number))
}

/// Writes, reads, creates twice and deletes a small object.
pub(super) async fn probe(store: &dyn ObjectStore, root: &Path, calls: Calls) -> Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("probe-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = root.clone().join(name.as_str());
    let refuse = |e: StoreError, what: &str| {
        let e = classify(e, what).with_kind(ErrorKind::Config);
        e.hint("it must be writable, have free space, and the credentials must be right")
    };
    let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    let written = calls.once(store.put(&path, name.clone().into())).await;
    written.map_err(|e| refuse(e, "not writable"))?;
    let read = async { store.get(&path).await?.bytes().await };
    let read = calls.once(read).await.map_err(|e| refuse(e, "not readable"))?;
    let second = calls.once(store.put_opts(&path, name.clone().into(), create())).await;
    match calls.once(store.delete(&path)).await {
        Ok(()) | Err(StoreError::NotFound { .. }) => {}
        Err(e) => return Err(refuse(e, "deleting is refused")),
    }
    if read != name.as_bytes() {
        return Err(Error::config("what is read is not what was written").hint("choose another store"));
    }
    match second {
        Err(StoreError::AlreadyExists { .. }) => Ok(()),
        Ok(_) => Err(Error::config("the store overwrites an object that was to be created only if absent")
            .hint("choose a store with conditional writes: commits and leadership rest on them")),
        Err(e) => Err(refuse(e, "conditional writes do not work")),
    }
}

/// What is to be done about an error of the store.
pub(super) fn classify(e: StoreError, what: &str) -> Error {
    let kind = match &e {
        StoreError::NotFound { .. } | StoreError::InvalidPath { .. } => ErrorKind::Data,
        StoreError::PermissionDenied { .. }
        | StoreError::Unauthenticated { .. }
        | StoreError::NotSupported { .. }
        | StoreError::NotImplemented { .. }
        | StoreError::UnknownConfigurationKey { .. } => ErrorKind::Config,
        other => match io_kind(other) {
            Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => ErrorKind::Config,
            _ => ErrorKind::Retry,
        },
    };
    let full = matches!(io_kind(&e), Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded));
    let error = Error::new(kind, what).with_source(e);
    if full { error.hint("the checkpoint store is full: free some space") } else { error }
}

/// Whether the same call, made again at once, may succeed: not if a disk is full, which takes a person.
pub(crate) fn is_transient(e: &Error) -> bool {
    let full = matches!(io_kind(e), Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded));
    e.kind() == ErrorKind::Retry && !full
}

fn io_kind(e: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(e);
    while let Some(c) = cause {
        if let Some(io) = c.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        cause = c.source();
    }
    None
}

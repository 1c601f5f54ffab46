//! From what a person writes after `--restore` to a checkpoint.

use crate::checkpoint::claim::{CLAIMED_PATH, Claimed, is_claimed_away, read_claimed};
use crate::checkpoint::epoch::{checkpoint_manifest, latest_completed, number_in};
use crate::checkpoint::{
    CheckpointStore, JobStore, RestoreFrom, SAVEPOINT_MANIFEST, read_savepoint, read_status,
};
use crate::error::{Error, Result};
use crate::id::{CheckpointId, JobId};

/// Finds the checkpoint at `location`: a savepoint's directory, a `chk-N` directory, the `manifest.json` of either, or
/// a job's directory, which means its newest completed checkpoint. `store` is used if the location lies in it, otherwise one is opened with
/// `options`.
pub async fn resolve_restore_path(
    store: &CheckpointStore,
    location: &str,
    options: &[(String, String)],
) -> Result<RestoreFrom> {
    resolve(store, location, options).await.map_err(|e| e.at(format!("cannot restore from {location}")))
}

async fn resolve(
    store: &CheckpointStore,
    location: &str,
    options: &[(String, String)],
) -> Result<RestoreFrom> {
    let absolute = absolute(location)?;
    let trimmed = absolute.trim_end_matches('/');
    let trimmed = trimmed.strip_suffix("/manifest.json").unwrap_or(trimmed);
    let (parent, last) = split(trimmed)?;
    let checkpoint = number_in(last, "chk-", "").map(CheckpointId);
    let (root, job) = match checkpoint {
        Some(_) => split(parent)?,
        None => (parent, last),
    };
    let own = store;
    let store = own.reopen(root, options)?;
    let shares_store = store.shares_objects_with(own);
    let job = store.job(&JobId::from(job.to_owned()))?;
    let found = job.list_top().await?;
    let hint = match found.as_slice() {
        [] => "there is nothing at that place".to_owned(),
        names => format!("found there: {}", few(names)),
    };
    let manifest = match checkpoint {
        Some(id) => {
            if !found.contains(&format!("chk-{id}"))
                || job.get(&format!("chk-{id}/manifest.json")).await?.is_none()
            {
                return Err(Error::config(format!("chk-{id} is no complete checkpoint")).hint(hint));
            }
            checkpoint_manifest(&job, id).await?
        }
        None if found.iter().any(|name| name == SAVEPOINT_MANIFEST) => match read_savepoint(&job).await? {
            Some(manifest) => manifest,
            None => return Err(Error::config("no savepoint there").hint(hint)),
        },
        None if found.iter().any(|name| name == CLAIMED_PATH)
            && !found.iter().any(|name| name == "epochs") =>
        {
            return Err(gone(&job).await?);
        }
        None => match latest_completed(&job).await {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return Err(Error::config("no completed checkpoint there").hint(hint)),
            Err(_) if is_claimed_away(&job).await? => return Err(gone(&job).await?),
            Err(e) => match read_status(&job).await {
                Ok(Some(status)) => {
                    if let Some(savepoint) = &status.savepoint
                        && let Ok(savepoint) = job.for_base(savepoint, options)
                        && is_claimed_away(&savepoint).await?
                    {
                        return Err(gone(&savepoint).await?);
                    }
                    let why = match &status.savepoint {
                        Some(savepoint) => format!("the job was stopped with a savepoint: {savepoint}"),
                        None => format!(
                            "the job has ended ({:?}); checkpoints may have been deleted with it",
                            status.status
                        ),
                    };
                    return Err(e.hint(why));
                }
                _ => return Err(e),
            },
        },
    };
    if let Some(savepoint) = &manifest.location {
        let savepoint = job.for_base(savepoint, options)?;
        if is_claimed_away(&savepoint).await? {
            return Err(gone(&savepoint).await?);
        }
    }
    let base = manifest.location.clone().unwrap_or_else(|| job.location());
    Ok(RestoreFrom { manifest, base, shares_store })
}

/// The error of a directory whose content the job that has claimed it has deleted.
async fn gone(directory: &JobStore) -> Result<Error> {
    let error = Error::config("what was there has been deleted");
    Ok(match read_claimed(directory).await? {
        Some(Claimed { job, by }) => {
            error.hint(format!("job {job} had claimed it; that job's own checkpoints are in {by}"))
        }
        None => error,
    })
}

fn split(location: &str) -> Result<(&str, &str)> {
    location.rsplit_once('/').ok_or_else(|| {
        Error::config("not a checkpoint").hint("name a savepoint, a chk-N directory or a job's directory")
    })
}

/// What is beside a path that does not exist, if its directory does and holds anything.
fn siblings(path: &str) -> Option<String> {
    let directory = std::path::absolute(path).ok()?.parent()?.to_owned();
    let names = std::fs::read_dir(&directory).ok()?.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    (!names.is_empty()).then(|| format!("in {} there are: {}", directory.display(), few(&names)))
}

/// A list for people: not all of a directory with thousands of entries.
fn few(names: &[String]) -> String {
    const SHOWN: usize = 12;
    match names.split_at_checked(SHOWN) {
        Some((first, more)) if !more.is_empty() => format!("{} and {} more", first.join(", "), more.len()),
        _ => names.join(", "),
    }
}

/// Local paths are made absolute, so that they can be compared with the store's and read by other processes.
pub(super) fn absolute(location: &str) -> Result<String> {
    let path = location.strip_prefix("file://").unwrap_or(location);
    if path.contains("://") {
        return Ok(path.to_owned());
    }
    let full = std::fs::canonicalize(path).map_err(|e| {
        let error = match e.kind() {
            std::io::ErrorKind::NotFound => Error::config("no such file or directory"),
            _ => Error::config("it cannot be opened").with_source(e),
        };
        error.hint(siblings(path).unwrap_or_else(|| "check the path".to_owned()))
    })?;
    if full.is_file() && !full.ends_with("manifest.json") {
        return Err(Error::config("it is a file and no checkpoint")
            .hint("name a savepoint, a chk-N directory, the manifest.json of either, or a job's directory"));
    }
    full.to_str().map(str::to_owned).ok_or_else(|| Error::config("the path is not UTF-8"))
}

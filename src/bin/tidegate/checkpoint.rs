//! `tidegate checkpoint ls|verify|diff`.

use crate::arguments::CheckpointCommand;
use crate::table::{Table, date, size};
use crate::{Outcome, block_on, print, show};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use tidegate::checkpoint::{
    CheckpointKind, Manifest, OperatorState, Place, Problem, StoredCheckpoint, open_place, verify_checkpoint,
};
use tidegate::error::{ErrorKind, Result};
use tidegate::id::CheckpointId;

pub(crate) fn run(command: CheckpointCommand, json: bool) -> Result<Outcome> {
    match command {
        CheckpointCommand::Ls { place } => ls(&place, json),
        CheckpointCommand::Show { place, files } => show::run(&place, files, json),
        CheckpointCommand::Verify { place } => verify(&place, json),
        CheckpointCommand::Diff { from, to } => diff(&from, &to, json),
    }
}

/// A checkpoint in a list.
#[derive(Debug, Serialize)]
struct Listed {
    checkpoint: CheckpointId,
    location: String,
    job: Option<String>,
    kind: Option<CheckpointKind>,
    /// Whether the job would start from it.
    newest: bool,
    completed_at_ms: Option<u64>,
    operators: Option<usize>,
    state_bytes: Option<u64>,
    /// Of the files that it brought.
    uploaded_bytes: Option<u64>,
    /// What is wrong with its manifest.
    damage: Option<String>,
}

impl Listed {
    fn of(id: CheckpointId, newest: bool, stored: Result<StoredCheckpoint>) -> Self {
        let unknown = Self {
            checkpoint: id,
            location: String::new(),
            job: None,
            kind: None,
            newest,
            completed_at_ms: None,
            operators: None,
            state_bytes: None,
            uploaded_bytes: None,
            damage: None,
        };
        match stored {
            Ok(StoredCheckpoint { manifest, location, .. }) => Self {
                location,
                job: Some(manifest.job.to_string()),
                kind: Some(manifest.kind),
                completed_at_ms: Some(manifest.completed_at_ms),
                operators: Some(manifest.operators.len()),
                state_bytes: Some(manifest.state_bytes()),
                uploaded_bytes: Some(manifest.uploaded_bytes()),
                ..unknown
            },
            Err(e) => Self { damage: Some(e.to_string()), ..unknown },
        }
    }
}

/// Everything complete at a place, with the newest of each job marked.
async fn all(place: Place) -> Result<Vec<(CheckpointId, bool, Result<StoredCheckpoint>)>> {
    let places = match place {
        Place::Root(root) => root.places().await?,
        one => vec![one],
    };
    let mut found = Vec::new();
    for place in places {
        match place {
            Place::Job(job) => {
                let inspected = job.inspect().await?;
                let newest = inspected.newest;
                for (id, stored) in inspected.checkpoints {
                    // A running job has deleted it meanwhile.
                    if stored.is_err() && !job.retains(id).await? {
                        continue;
                    }
                    found.push((id, Some(id) == newest, stored));
                }
            }
            Place::Root(_) => {}
            one => match one.checkpoint().await {
                Ok(stored) => found.push((stored.manifest.checkpoint, false, Ok(stored))),
                Err(e) if e.kind() == ErrorKind::Data => found.push((CheckpointId(0), false, Err(e))),
                Err(e) => return Err(e),
            },
        }
    }
    Ok(found)
}

fn ls(place: &str, json: bool) -> Result<Outcome> {
    let found = block_on(async { all(open_place(place, &[]).await?).await })?;
    let listed: Vec<Listed> = found.into_iter().map(|(id, newest, s)| Listed::of(id, newest, s)).collect();
    let damaged = listed.iter().any(|l| l.damage.is_some());
    print(json, &listed, || {
        let mut table = Table::new(&[
            ">id",
            "",
            "kind",
            "completed",
            ">operators",
            ">state",
            ">uploaded",
            "job",
            "location",
        ]);
        for l in &listed {
            let location =
                l.damage.as_ref().map_or(l.location.clone(), |damage| format!("DAMAGED: {damage}"));
            table.row(vec![
                l.checkpoint.to_string(),
                if l.newest { "newest" } else { "" }.to_owned(),
                l.kind.map(show::kind).unwrap_or_default().to_owned(),
                l.completed_at_ms.map(date).unwrap_or_default(),
                l.operators.map(|n| n.to_string()).unwrap_or_default(),
                l.state_bytes.map(size).unwrap_or_default(),
                l.uploaded_bytes.map(size).unwrap_or_default(),
                l.job.clone().unwrap_or_default(),
                location,
            ]);
        }
        if listed.is_empty() { "no completed checkpoint\n".to_owned() } else { table.text() }
    })?;
    Ok(if damaged { Outcome::Bad } else { Outcome::Fine })
}

/// What reading a checkpoint has found.
#[derive(Debug, Serialize)]
struct Verified {
    checkpoint: CheckpointId,
    location: String,
    files: u64,
    bytes: u64,
    problems: Vec<Problem>,
}

fn verify(place: &str, json: bool) -> Result<Outcome> {
    let verified = block_on(async {
        let mut verified = Vec::new();
        for (checkpoint, _, stored) in all(open_place(place, &[]).await?).await? {
            verified.push(match stored {
                Ok(stored) => {
                    let (files, problems) = verify_checkpoint(&stored).await?;
                    if !problems.is_empty() && !stored.job.retains(checkpoint).await? {
                        continue;
                    }
                    let bytes = stored.manifest.state_bytes();
                    Verified { checkpoint, location: stored.location, files, bytes, problems }
                }
                Err(e) => {
                    let problem = Problem { checkpoint: Some(checkpoint), what: e.to_string() };
                    Verified {
                        checkpoint,
                        location: String::new(),
                        files: 0,
                        bytes: 0,
                        problems: vec![problem],
                    }
                }
            });
        }
        Ok(verified)
    })?;
    let damaged = verified.iter().any(|v| !v.problems.is_empty());
    print(json, &verified, || {
        let mut text = String::new();
        for v in &verified {
            let state = if v.problems.is_empty() { "whole" } else { "DAMAGED" };
            // Writing to a String cannot fail, here and below.
            _ = writeln!(
                text,
                "checkpoint {}: {state}, {} files, {}  {}",
                v.checkpoint,
                v.files,
                size(v.bytes),
                v.location
            );
            for problem in &v.problems {
                _ = writeln!(text, "  {}", problem.what);
            }
        }
        if verified.is_empty() { "no completed checkpoint\n".to_owned() } else { text }
    })?;
    Ok(if damaged { Outcome::Bad } else { Outcome::Fine })
}

/// One operator in two checkpoints.
#[derive(Debug, Serialize)]
struct OperatorDiff {
    uid: String,
    name: String,
    /// `added`, `removed` or `both`.
    presence: &'static str,
    from: Option<OperatorSide>,
    to: Option<OperatorSide>,
}

#[derive(Debug, Serialize)]
struct OperatorSide {
    parallelism: u32,
    max_parallelism: u16,
    files: usize,
    state_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Diff {
    from: String,
    to: String,
    operators: Vec<OperatorDiff>,
    /// Files that both name.
    shared_files: usize,
    /// Bytes of files that only the newer one names.
    new_bytes: u64,
}

impl Diff {
    fn between(from: &StoredCheckpoint, to: &StoredCheckpoint) -> Self {
        let by_uid = |m: &Manifest| -> BTreeMap<String, OperatorState> {
            m.operators.iter().map(|o| (o.uid.to_string(), o.clone())).collect()
        };
        let (old, new) = (by_uid(&from.manifest), by_uid(&to.manifest));
        let uids: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let operators = uids.into_iter().map(|uid| {
            let (from, to) = (old.get(uid), new.get(uid));
            OperatorDiff {
                uid: uid.clone(),
                name: to.or(from).map(|o| o.name.clone()).unwrap_or_default(),
                presence: match (from, to) {
                    (None, _) => "added",
                    (_, None) => "removed",
                    _ => "both",
                },
                from: from.map(OperatorSide::of),
                to: to.map(OperatorSide::of),
            }
        });
        // The same path names the same file only in the same directory.
        let together = from.files.location() == to.files.location();
        let old_files: BTreeSet<&str> = from.manifest.file_paths().filter(|_| together).collect();
        let new_files: BTreeMap<&str, u64> =
            to.manifest.files().map(|f| (f.path.as_str(), f.length)).collect();
        Self {
            from: from.location.clone(),
            to: to.location.clone(),
            operators: operators.collect(),
            shared_files: new_files.keys().filter(|path| old_files.contains(*path)).count(),
            new_bytes: new_files.iter().filter(|(p, _)| !old_files.contains(*p)).map(|(_, n)| n).sum(),
        }
    }
}

impl OperatorSide {
    fn of(operator: &OperatorState) -> Self {
        let files = || operator.subtasks.iter().flat_map(|s| &s.files);
        Self {
            parallelism: operator.parallelism,
            max_parallelism: operator.max_parallelism,
            files: files().count(),
            state_bytes: files().map(|f| f.length).sum(),
        }
    }
}

fn diff(from: &str, to: &str, json: bool) -> Result<Outcome> {
    let (from, to) = block_on(async {
        let from = open_place(from, &[]).await?.checkpoint().await?;
        Ok((from, open_place(to, &[]).await?.checkpoint().await?))
    })?;
    let diff = Diff::between(&from, &to);
    print(json, &diff, || {
        let mut table = Table::new(&["", "uid", "name", ">parallelism", ">key groups", ">state"]);
        for o in &diff.operators {
            let change = |get: &dyn Fn(&OperatorSide) -> String| match (&o.from, &o.to) {
                (Some(from), Some(to)) if get(from) != get(to) => format!("{} -> {}", get(from), get(to)),
                (one, other) => other.as_ref().or(one.as_ref()).map(get).unwrap_or_default(),
            };
            table.row(vec![
                match o.presence {
                    "added" => "+",
                    "removed" => "-",
                    _ => "",
                }
                .to_owned(),
                o.uid.clone(),
                o.name.clone(),
                change(&|side| side.parallelism.to_string()),
                change(&|side| side.max_parallelism.to_string()),
                change(&|side| size(side.state_bytes)),
            ]);
        }
        format!(
            "from  {}\nto    {}\n\n{}\n{} files are shared, {} are new\n",
            diff.from,
            diff.to,
            table.text(),
            diff.shared_files,
            size(diff.new_bytes)
        )
    })?;
    Ok(Outcome::Fine)
}

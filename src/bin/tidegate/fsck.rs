//! `tidegate fsck`.

use crate::arguments::FsckCommand;
use crate::table::{Table, size, span};
use crate::{Outcome, block_on, jobs, now_ms, print};
use serde::Serialize;
use std::fmt::Write;
use tidegate::checkpoint::{
    DirectoryCheck, FsckOptions, JobStore, Orphan, Place, check_directory, check_root, delete_orphans,
    delete_probes, open_place,
};
use tidegate::error::{Error, Result};

#[derive(Debug, Serialize)]
struct Checked {
    #[serde(flatten)]
    check: DirectoryCheck,
    /// Orphans that were deleted.
    deleted: Vec<Orphan>,
    /// Why nothing was deleted although it was asked for.
    refused: Option<String>,
}

pub(crate) fn run(command: &FsckCommand, json: bool) -> Result<Outcome> {
    let options = FsckOptions { now_ms: now_ms(), grace_ms: command.grace };
    let running = if command.delete { jobs::directories(&command.control)? } else { Vec::new() };
    let checked = block_on(async {
        let mut checked = Vec::new();
        let places = match open_place(&command.place, &[]).await? {
            Place::Root(root) => {
                let check = check_root(&root, options).await?;
                if check.has_leavings() {
                    let deleted = match command.delete {
                        true => delete_probes(&root, options).await?,
                        false => Vec::new(),
                    };
                    checked.push(Checked { check, deleted, refused: None });
                }
                root.places().await?
            }
            one => vec![one],
        };
        for place in places {
            checked.push(match place {
                Place::Job(job) | Place::Checkpoint(job, _) => {
                    check(&job, options, command.delete, &running).await?
                }
                Place::Savepoint(directory) => check(&directory, options, false, &running).await?,
                Place::Root(_) => continue,
            });
        }
        Ok(checked)
    })?;
    let bad = checked.iter().any(|c| c.check.is_damaged() || c.refused.is_some());
    print(json, &checked, || text(&checked))?;
    Ok(if bad { Outcome::Bad } else { Outcome::Fine })
}

async fn check(store: &JobStore, options: FsckOptions, delete: bool, running: &[String]) -> Result<Checked> {
    let check = check_directory(store, options).await?;
    if !delete || !check.has_leavings() {
        return Ok(Checked { check, deleted: Vec::new(), refused: None });
    }
    let done = if running.contains(&store.location()) {
        Err(Error::config("the job is running").hint("stop it first"))
    } else {
        let nonce = format!("fsck-{}-{}", std::process::id(), options.now_ms);
        delete_orphans(store, &nonce, options).await
    };
    match done {
        Ok(deleted) => Ok(Checked { check: check_directory(store, options).await?, deleted, refused: None }),
        Err(e) => Ok(Checked { check, deleted: Vec::new(), refused: Some(e.to_string()) }),
    }
}

fn text(checked: &[Checked]) -> String {
    let mut text = String::new();
    for Checked { check, deleted, refused } in checked {
        let state = if check.is_damaged() { "DAMAGED" } else { "whole" };
        // Writing to a String cannot fail, here and below.
        _ = writeln!(
            text,
            "{}\n  {state}: {} checkpoints, {} files, {}",
            check.location,
            check.checkpoints.len(),
            check.files,
            size(check.bytes)
        );
        for problem in &check.problems {
            _ = writeln!(text, "  damage: {}", problem.what);
        }
        match &check.orphans {
            Some(orphans) if !orphans.is_empty() => {
                let bytes = orphans.iter().map(|o| o.bytes).sum();
                _ = writeln!(text, "  {} objects that nothing names, {}:", orphans.len(), size(bytes));
                let mut table = Table::new(&["  path", ">bytes", ">age"]);
                for o in orphans {
                    table.row(vec![format!("    {}", o.path), o.bytes.to_string(), span(o.age_ms)]);
                }
                text.push_str(&table.text());
            }
            Some(_) => {}
            None => text.push_str("  what nothing names cannot be known while a manifest is unreadable\n"),
        }
        for half in &check.half_written {
            _ = writeln!(
                text,
                "  savepoint {} was never complete: {} files, {}, in {}",
                half.checkpoint,
                half.files,
                size(half.bytes),
                half.location
            );
        }
        if let Some(claimed) = &check.half_deleted {
            _ = writeln!(text, "  has begun to delete what it has claimed: {claimed}");
        }
        if check.young > 0 {
            _ = writeln!(text, "  {} objects that nothing names are too young to judge", check.young);
        }
        if !deleted.is_empty() {
            let bytes = deleted.iter().map(|o| o.bytes).sum();
            _ = writeln!(text, "  deleted {} objects, {}", deleted.len(), size(bytes));
        }
        if let Some(why) = refused {
            _ = writeln!(text, "  nothing deleted: {why}");
        }
    }
    if checked.is_empty() { "neither jobs nor savepoints\n".to_owned() } else { text }
}

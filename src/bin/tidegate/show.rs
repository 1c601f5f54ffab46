//! `tidegate checkpoint show`.

use crate::table::{Table, date, micros, size, span};
use crate::{Outcome, block_on, print};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write;
use tidegate::checkpoint::{
    CheckpointHistory, CheckpointKind, HistoryEntry, Manifest, Place, StoredCheckpoint, SubtaskTimes,
    open_place, read_history,
};
use tidegate::error::Result;

/// A checkpoint and the history of its job.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    location: &'a str,
    files: String,
    manifest: &'a Manifest,
    /// What became of the job's last checkpoints; empty for a savepoint.
    history: Vec<&'a HistoryEntry>,
}

/// How people call a kind.
pub(crate) fn kind(kind: CheckpointKind) -> &'static str {
    match kind {
        CheckpointKind::Periodic => "checkpoint",
        CheckpointKind::Final => "final",
        CheckpointKind::Savepoint => "savepoint",
        CheckpointKind::Stop => "stop",
        CheckpointKind::Drain => "drain",
    }
}

pub(crate) fn run(place: &str, files: bool, json: bool) -> Result<Outcome> {
    let (stored, history): (StoredCheckpoint, CheckpointHistory) = block_on(async {
        let place = open_place(place, &[]).await?;
        let history = match &place {
            Place::Job(job) | Place::Checkpoint(job, _) => read_history(job).await?,
            Place::Savepoint(_) | Place::Root(_) => CheckpointHistory::default(),
        };
        Ok((place.checkpoint().await?, history))
    })?;
    let shown = Shown {
        location: &stored.location,
        files: stored.files.location(),
        manifest: &stored.manifest,
        history: history.entries().collect(),
    };
    print(json, &shown, || text(&shown, files))?;
    Ok(Outcome::Fine)
}

fn text(shown: &Shown<'_>, files: bool) -> String {
    let m = shown.manifest;
    let mut text = String::new();
    // Writing to a String cannot fail, here and below.
    _ = write!(
        text,
        "{} {} of job {}\n  location   {}\n  triggered  {}\n  completed  {} (after {})\n  written    by leader {}, \
         attempt {}\n  state      {} in {} files, {} of them new\n",
        kind(m.kind),
        m.checkpoint,
        m.job,
        shown.location,
        date(m.triggered_at_ms),
        date(m.completed_at_ms),
        span(m.completed_at_ms.saturating_sub(m.triggered_at_ms)),
        m.leader_epoch,
        m.attempt,
        size(m.state_bytes()),
        m.files().count(),
        size(m.uploaded_bytes()),
    );
    if shown.files != shown.location && m.location.is_some() {
        _ = writeln!(text, "  files in   {}", shown.files);
    }
    _ = write!(text, "\nOperators\n{}", operators(m));
    if !m.subtasks.is_empty() {
        _ = write!(text, "\nTimes of each subtask\n{}", times(&m.subtasks));
    }
    if files {
        let mut table = Table::new(&["path", ">bytes", "crc32"]);
        for file in m.files() {
            table.row(vec![file.path.clone(), file.length.to_string(), format!("{:08x}", file.crc32)]);
        }
        _ = write!(text, "\nFiles\n{}", table.text());
    }
    if !shown.history.is_empty() {
        _ = write!(text, "\nThe job's last checkpoints, as far as written down\n{}", history(&shown.history));
        let failed = shown.history.iter().rev().find(|e| e.failure.is_some());
        if let Some(e) = failed.filter(|e| !e.subtasks.is_empty()) {
            let id = e.checkpoint;
            _ = write!(text, "\nThose that had acknowledged {id} when it failed\n{}", times(&e.subtasks));
        }
    }
    text
}

fn operators(m: &Manifest) -> String {
    let mut table = Table::new(&["uid", "name", ">parallelism", ">key groups", ">files", ">state", "states"]);
    for o in &m.operators {
        let files = || o.subtasks.iter().flat_map(|s| &s.files);
        let names: BTreeSet<&str> = o.subtasks.iter().flat_map(|s| &s.states).map(String::as_str).collect();
        table.row(vec![
            o.uid.to_string(),
            o.name.clone(),
            o.parallelism.to_string(),
            o.max_parallelism.to_string(),
            files().count().to_string(),
            size(files().map(|f| f.length).sum()),
            names.into_iter().collect::<Vec<_>>().join(", "),
        ]);
    }
    table.text()
}

fn times(subtasks: &[SubtaskTimes]) -> String {
    let mut table = Table::new(&["vertex", ">subtask", ">start delay", ">alignment", ">sync", ">async"]);
    for s in subtasks {
        let t = s.timings;
        table.row(vec![
            s.vertex.clone(),
            (s.index + 1).to_string(),
            micros(t.start_delay_us),
            micros(t.alignment_us),
            micros(t.sync_us),
            micros(t.async_us),
        ]);
    }
    table.text()
}

fn history(entries: &[&HistoryEntry]) -> String {
    let mut table =
        Table::new(&[">id", "kind", "triggered", ">took", ">state", ">uploaded", "what became of it"]);
    for e in entries {
        let outcome = match (&e.failure, &e.location) {
            (Some(why), _) => format!("failed: {why}"),
            (None, Some(location)) => format!("complete: {location}"),
            (None, None) => "complete".to_owned(),
        };
        table.row(vec![
            e.checkpoint.to_string(),
            kind(e.kind).to_owned(),
            date(e.triggered_at_ms),
            span(e.ended_at_ms.saturating_sub(e.triggered_at_ms)),
            e.state_bytes.map(size).unwrap_or_default(),
            size(e.uploaded_bytes),
            outcome,
        ]);
    }
    table.text()
}

//! Runs the job and shows what happens to it.

use crate::report;
use crate::screen::grouped;
use crate::watch::Watch;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use tidegate::checkpoint::{CheckpointKind, CompletedCheckpoint};
use tidegate::cluster::jobmaster::{JobNotice, JobResult};
use tidegate::config::Role;
use tidegate::prelude::*;

/// How often the line that tells how far the job is changes.
const STATUS_EVERY: Duration = Duration::from_millis(100);

/// What to show, and how.
#[derive(Debug)]
pub(crate) struct Show {
    pub(crate) input: String,
    pub(crate) output: PathBuf,
    pub(crate) rate: Rate,
    pub(crate) crash: bool,
    /// The plan is asked for, not a run.
    pub(crate) plan_only: bool,
}

/// Lines per second of every reader; 0 for as fast as it goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate(pub(crate) f64);

impl Rate {
    pub(crate) fn apply<R>(self, source: FileSource<R>) -> FileSource<R> {
        if self.0 == 0.0 { source } else { source.with_rate(self.0) }
    }
}

impl Show {
    /// Runs the program to its end.
    pub(crate) fn run(&self, env: Environment, watch: &Watch) -> Result<()> {
        if self.plan_only {
            return env.execute("word-count").map(drop);
        }
        let last_taskmanager = env.config().cluster.taskmanagers.saturating_sub(1);
        // The readers of other processes are watched there.
        let readers_are_here = env.config().cluster.role == Role::Local;
        let handle = env.start("word-count")?;
        watch.set_victim(handle.controller(), last_taskmanager);
        let job = handle.job_id().clone();
        watch.screen.event(&format!("job {job} reads {}", self.input));
        quiet_task_panics();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while readers_are_here && !over.load(Relaxed) {
                    watch.screen.status(&format!(
                        "{} lines read; {}",
                        grouped(watch.lines()),
                        watch.positions()
                    ));
                    thread::sleep(STATUS_EVERY);
                }
            });
            handle.notices().filter_map(|notice| told(&notice)).for_each(|text| watch.screen.event(&text));
            over.store(true, Relaxed);
        });
        match handle.wait()? {
            JobResult::Finished => {}
            JobResult::Failed(failure) | JobResult::Fenced(failure) => return Err(failure.into()),
            JobResult::Canceled => return Err(Error::restart_job("the job was canceled")),
        }
        if readers_are_here {
            watch.screen.event(&format!(
                "finished after {} lines; those read twice are counted twice here",
                grouped(watch.lines())
            ));
        }
        if watch.ended_early() {
            watch.screen.event("the input was too short for both crashes");
        }
        report::print(&self.output, &job)
    }
}

/// What is said about a notice, if anything.
fn told(notice: &JobNotice) -> Option<String> {
    match notice {
        JobNotice::CheckpointCompleted(completed) => Some(checkpoint(completed)),
        JobNotice::Failed { failure, .. } => Some(format!("FAILED  {}", failure.message)),
        JobNotice::Restored { checkpoint, .. } => Some(format!("RESTORE from checkpoint {checkpoint}")),
        JobNotice::Deployed { .. } => Some(notice.to_string()),
        // The taskmanagers report one after the other.
        JobNotice::WaitingForSlots { .. } => None,
        _ => notice.is_trouble().then(|| notice.to_string()),
    }
}

fn checkpoint(completed: &CompletedCheckpoint) -> String {
    let last = if completed.kind == CheckpointKind::Final { ", the last one" } else { "" };
    format!(
        "checkpoint {} completed in {} ms, {} bytes{last}",
        completed.checkpoint,
        completed.duration_ms,
        grouped(completed.state_bytes)
    )
}

/// A panic in a task is caught by the runtime and comes back as a notice: no need for Rust to print it too.
fn quiet_task_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !thread::current().name().is_some_and(|name| name.starts_with("task-")) {
            usual(info);
        }
    }));
}

//! Runs the job and shows what happens to it.

use crate::report;
use crate::screen::grouped;
use crate::watch::Watch;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;
use tidegate::checkpoint::{CheckpointKind, CompletedCheckpoint};
use tidegate::cluster::JobHandle;
use tidegate::cluster::jobmaster::{JobNotice, JobResult};
use tidegate::prelude::*;

/// With `--crash`: lines after which user code panics.
const PANIC_AFTER_LINES: u64 = 9_000;
/// With `--crash`: lines after which a taskmanager crashes.
const CRASH_AFTER_LINES: u64 = 20_000;

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
        if self.0 > 0.0 { source.with_rate(self.0) } else { source }
    }
}

impl Show {
    pub(crate) fn panic_after(&self) -> Option<u64> {
        self.crash.then_some(PANIC_AFTER_LINES)
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, env: Environment, watch: &Watch) -> Result<()> {
        if self.plan_only {
            return env.execute("word-count").map(drop);
        }
        let last_taskmanager = env.config().cluster.taskmanagers.saturating_sub(1);
        let interval_ms = env.config().checkpoint.interval_ms.unwrap_or(0);
        let handle = env.start("word-count")?;
        let job = handle.job_id().clone();
        watch.screen.event(&format!("job {job} reads {}", self.input));
        quiet_task_panics();
        let over = AtomicBool::new(false);
        let mut crash_due = self.crash;
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    watch.screen.status(&format!(
                        "{} lines read; {}",
                        grouped(watch.lines()),
                        watch.positions()
                    ));
                    thread::sleep(Duration::from_millis(100));
                }
            });
            for notice in handle.notices() {
                show(&notice, watch);
                let completed = matches!(notice, JobNotice::CheckpointCompleted(_));
                if completed && crash_due && watch.lines() >= CRASH_AFTER_LINES {
                    crash_due = false;
                    crash(&handle, last_taskmanager, interval_ms, watch);
                }
            }
            over.store(true, Relaxed);
        });
        match handle.wait()? {
            JobResult::Finished => {}
            other => return Err(Error::restart_job(format!("the job did not finish: {other:?}"))),
        }
        watch
            .screen
            .event(&format!("finished; {} lines were read, some of them again", grouped(watch.lines())));
        if crash_due {
            watch.screen.event("the input was too short for the crash of a taskmanager");
        }
        report::print(&self.output, &job)
    }
}

/// Crashes a taskmanager half-way between two checkpoints, when there is work to lose.
fn crash(handle: &JobHandle, taskmanager: u32, interval_ms: u64, watch: &Watch) {
    thread::sleep(Duration::from_millis(interval_ms / 2));
    watch
        .screen
        .event(&format!("CRASH   taskmanager {taskmanager} is made to crash: everything it holds is lost"));
    handle.crash_taskmanager(taskmanager);
}

fn show(notice: &JobNotice, watch: &Watch) {
    let text = match notice {
        JobNotice::CheckpointCompleted(completed) => checkpoint(completed),
        JobNotice::Failed { .. } => format!("CRASH   {notice}"),
        JobNotice::Restored { .. } => format!("RESTORE {notice}"),
        JobNotice::Deployed { .. } => notice.to_string(),
        _ if notice.is_trouble() => notice.to_string(),
        _ => return,
    };
    watch.screen.event(&text);
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

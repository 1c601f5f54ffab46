//! `tidegate info|plan|exceptions`: what a running job says of itself.

use crate::arguments::{JobCommand, PlanCommand};
use crate::jobs::{ask, status};
use crate::table::{Table, date, size, span};
use crate::{Outcome, now_ms, print};
use std::fmt::Write;
use tidegate::checkpoint::HistoryEntry;
use tidegate::cluster::control::{ControlReply, ControlRequest};
use tidegate::cluster::{JobException, JobInfo, TaskManagerInfo};
use tidegate::error::{Error, Result};

fn unexpected<T>(reply: &ControlReply) -> Result<T> {
    Err(Error::data(format!("an unexpected reply: {reply:?}")))
}

pub(crate) fn info(command: &JobCommand, json: bool) -> Result<Outcome> {
    let (mut client, _) = ask(&command.job, &ControlRequest::Info)?;
    match client.reply()? {
        ControlReply::Info(info) => print(json, &info, || text(&info))?,
        other => return unexpected(&other),
    }
    Ok(Outcome::Fine)
}

pub(crate) fn plan(command: &PlanCommand, json: bool) -> Result<Outcome> {
    let (mut client, _) = ask(&command.job, &ControlRequest::Plan)?;
    match client.reply()? {
        ControlReply::Plan(plan) => {
            print(json, &plan, || if command.dot { plan.to_dot() } else { plan.to_text() })?;
        }
        other => return unexpected(&other),
    }
    Ok(Outcome::Fine)
}

pub(crate) fn exceptions(command: &JobCommand, json: bool) -> Result<Outcome> {
    let (mut client, _) = ask(&command.job, &ControlRequest::Exceptions)?;
    match client.reply()? {
        ControlReply::Exceptions { exceptions } => {
            print(json, &exceptions, || exceptions.iter().map(exception).collect::<Vec<_>>().join("\n"))?;
            if exceptions.is_empty() && !json {
                eprintln!("nothing has failed under this jobmanager");
            }
        }
        other => return unexpected(&other),
    }
    Ok(Outcome::Fine)
}

fn exception(failure: &JobException) -> String {
    let mut text = format!("{}  attempt {}", date(failure.at_ms), failure.attempt);
    if let Some(subtask) = &failure.subtask {
        _ = write!(text, ", {subtask}");
    }
    if let Some(taskmanager) = failure.taskmanager {
        _ = write!(text, ", on taskmanager {taskmanager}");
    }
    let next = match failure.restarting_after_ms {
        Some(pause) => format!("restarted after {pause} ms"),
        None => "not restarted".to_owned(),
    };
    format!("{text}: {next}\n  [{}] {}\n", failure.kind, failure.message.replace('\n', "\n  "))
}

fn text(info: &JobInfo) -> String {
    let job = &info.report;
    let last = job.last_checkpoint.map_or_else(|| "none".to_owned(), |id| id.to_string());
    let mut facts = vec![
        ("job", format!("{} ({})", job.job, job.name)),
        ("status", status(job)),
        ("up", span(now_ms().saturating_sub(job.started_at_ms))),
        ("attempt", job.attempt.to_string()),
        ("restarts", job.restarts.to_string()),
        ("checkpoints", format!("{} completed, {} aborted, newest {last}", job.completed, job.aborted)),
        ("directory", job.directory.clone()),
        ("plan", info.plan.clone()),
    ];
    if let Some(address) = &info.jobmanager {
        facts.push(("jobmanager", format!("{address}, term {}", info.leader_epoch)));
    }
    let facts: String = facts.iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect();
    format!("{facts}\n{}\n{}", taskmanagers(&info.taskmanagers), checkpoints(&info.checkpoints))
}

fn taskmanagers(taskmanagers: &[TaskManagerInfo]) -> String {
    if taskmanagers.is_empty() {
        return "no taskmanager is there\n".to_owned();
    }
    let mut table = Table::new(&["taskmanager", ">slots", "address", ">pid", "subtasks"]);
    for manager in taskmanagers {
        let (address, pid) = match &manager.process {
            Some(process) => (process.address.clone(), process.pid.to_string()),
            None => ("in the jobmanager's process".to_owned(), String::new()),
        };
        let subtasks = manager.subtasks.iter().map(|s| format!("{} #{}", s.name, s.index + 1));
        table.row(vec![
            manager.id.to_string(),
            manager.slots.to_string(),
            address,
            pid,
            subtasks.collect::<Vec<_>>().join("; "),
        ]);
    }
    table.text()
}

fn checkpoints(history: &[HistoryEntry]) -> String {
    if history.is_empty() {
        return "no checkpoint has been taken\n".to_owned();
    }
    let mut table = Table::new(&[">checkpoint", "triggered", ">took", ">state", ">uploaded", "outcome"]);
    for entry in history {
        table.row(vec![
            entry.checkpoint.to_string(),
            date(entry.triggered_at_ms),
            span(entry.ended_at_ms.saturating_sub(entry.triggered_at_ms)),
            entry.state_bytes.map(size).unwrap_or_default(),
            size(entry.uploaded_bytes),
            entry.failure.clone().unwrap_or_else(|| "completed".to_owned()),
        ]);
    }
    table.text()
}

//! `tidegate list|savepoint|stop|cancel`: running jobs, over their control sockets.

use crate::arguments::{CancelCommand, ControlArguments, ListCommand, SavepointCommand, StopCommand};
use crate::table::{Table, size, span};
use crate::{Outcome, now_ms, print};
use tidegate::checkpoint::Savepoint;
use tidegate::cluster::JobReport;
use tidegate::cluster::control::{ControlClient, ControlDirectory, ControlReply, ControlRequest, find_job};
use tidegate::error::{Error, Result};

fn directory(control: &ControlArguments) -> Result<ControlDirectory> {
    match control.control_dir.clone().or_else(ControlDirectory::default_path) {
        Some(path) => ControlDirectory::open(&path),
        None => {
            Err(Error::config("neither XDG_RUNTIME_DIR nor HOME is set").hint("name it with --control-dir"))
        }
    }
}

/// The directories of running jobs.
pub(crate) fn directories(control: &ControlArguments) -> Result<Vec<String>> {
    Ok(directory(control)?.jobs()?.into_iter().map(|job| job.directory).collect())
}

pub(crate) fn list(command: &ListCommand, json: bool) -> Result<Outcome> {
    let jobs = directory(&command.control)?.jobs()?;
    print(json, &jobs, || {
        let mut table =
            Table::new(&["job", "name", "status", ">up", ">restarts", ">checkpoints", "directory"]);
        for job in &jobs {
            table.row(vec![
                job.job.to_string(),
                job.name.clone(),
                format!("{:?}", job.status).to_lowercase(),
                span(now_ms().saturating_sub(job.started_at_ms)),
                job.restarts.to_string(),
                job.completed.to_string(),
                job.directory.clone(),
            ]);
        }
        if jobs.is_empty() { "no job of yours is running on this machine\n".to_owned() } else { table.text() }
    })?;
    Ok(Outcome::Fine)
}

fn ask(
    control: &ControlArguments,
    name: &str,
    request: impl FnOnce(&JobReport) -> Result<ControlRequest>,
) -> Result<(ControlClient, JobReport)> {
    let directory = directory(control)?;
    let job = find_job(&directory, name)?;
    let mut client = ControlClient::connect(&directory, &job.job)?;
    client.ask(&request(&job)?)?;
    Ok((client, job))
}

/// A path as the job's process, which is somewhere else, has to be told.
fn absolute(target: Option<&String>) -> Result<Option<String>> {
    let Some(target) = target else { return Ok(None) };
    if target.contains("://") {
        return Ok(Some(target.clone()));
    }
    let path = std::path::absolute(target)?;
    let path = path.to_str().ok_or_else(|| Error::config("the path is not UTF-8").at(target))?;
    Ok(Some(path.to_owned()))
}

/// A failure of the job to do what it was asked is an answer.
fn taken(client: &mut ControlClient) -> Result<Savepoint> {
    match client.reply()? {
        ControlReply::Savepoint(savepoint) => Ok(savepoint),
        other => Err(Error::data(format!("an unexpected reply: {other:?}"))),
    }
}

fn savepoint_text(savepoint: &Savepoint) -> String {
    format!("savepoint {}, {}\n{}\n", savepoint.checkpoint, size(savepoint.state_bytes), savepoint.location)
}

pub(crate) fn savepoint(command: &SavepointCommand, json: bool) -> Result<Outcome> {
    let target = absolute(command.target.as_ref())?;
    let (mut client, _) = ask(&command.control, &command.job, |_| Ok(ControlRequest::Savepoint { target }))?;
    let savepoint = taken(&mut client)?;
    print(json, &savepoint, || savepoint_text(&savepoint))?;
    Ok(Outcome::Fine)
}

pub(crate) fn stop(command: &StopCommand, json: bool) -> Result<Outcome> {
    let (target, drain) = (absolute(command.target.as_ref())?, command.drain);
    let (mut client, job) =
        ask(&command.control, &command.job, |_| Ok(ControlRequest::Stop { target, drain }))?;
    let savepoint = taken(&mut client)?;
    // The savepoint is worth knowing whatever becomes of the job.
    print(json, &savepoint, || savepoint_text(&savepoint))?;
    ended(&mut client, &job, "finished")
}

pub(crate) fn cancel(command: &CancelCommand, json: bool) -> Result<Outcome> {
    let (mut client, job) = ask(&command.control, &command.job, |_| Ok(ControlRequest::Cancel))?;
    let outcome = ended(&mut client, &job, "canceled")?;
    print(json, &job.job, || format!("job {} is canceled\n", job.job))?;
    Ok(outcome)
}

/// Waits for the end of the job, which should be `wanted`.
fn ended(client: &mut ControlClient, job: &JobReport, wanted: &str) -> Result<Outcome> {
    match client.reply()? {
        ControlReply::Ended { status, .. } if status == wanted => Ok(Outcome::Fine),
        ControlReply::Ended { status, failure } => {
            let why = failure.map(|f| format!(": {}", f.message)).unwrap_or_default();
            eprintln!("tidegate: job {} has ended as {status}{why}", job.job);
            Ok(Outcome::Bad)
        }
        other => Err(Error::data(format!("an unexpected reply: {other:?}"))),
    }
}

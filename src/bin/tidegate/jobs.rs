//! `tidegate list|savepoint|stop|cancel`: running jobs, over their control sockets or their jobmanagers' ports, or through the
//! standing cluster that runs them.

use crate::arguments::{
    ControlArguments, JobArguments, JobCommand, ListCommand, ReachArguments, RescaleCommand,
    SavepointCommand, StopCommand,
};
use crate::table::{Table, size, span};
use crate::{Outcome, cluster, now_ms, print};
use tidegate::checkpoint::Savepoint;
use tidegate::cluster::JobReport;
use tidegate::cluster::control::{
    ControlClient, ControlDirectory, ControlReply, ControlRequest, JobManagerClient, find_job,
};
use tidegate::cluster::jobmaster::JobStatus;
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

/// Where a job is in its life, in one word.
pub(crate) fn status(job: &JobReport) -> String {
    match job.status {
        JobStatus::Waiting => format!("waiting: {} of {} slots", job.slots.available, job.slots.needed),
        status => format!("{status:?}").to_lowercase(),
    }
}

pub(crate) fn list(command: &ListCommand, json: bool) -> Result<Outcome> {
    if let Some(at) = cluster::named(&command.reach)? {
        return cluster::list(&at, json);
    }
    let remote = jobmanager(&command.reach)?;
    let jobs = match &remote {
        Some(jobmanager) => vec![jobmanager.report().clone()],
        None => directory(&command.reach.control)?.jobs()?,
    };
    print(json, &jobs, || {
        let mut table =
            Table::new(&["job", "name", "status", ">up", ">restarts", ">checkpoints", "directory"]);
        for job in &jobs {
            table.row(vec![
                job.job.to_string(),
                job.name.clone(),
                status(job),
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

/// The jobmanager that was named; none if none was.
fn jobmanager(reach: &ReachArguments) -> Result<Option<JobManagerClient>> {
    let Some(addresses) = &reach.jobmanager else { return Ok(None) };
    JobManagerClient::find(&reach.address(addresses)?).map(Some)
}

/// Asks the job that is meant, and says which that is.
pub(crate) fn ask(arguments: &JobArguments, request: &ControlRequest) -> Result<(ControlClient, JobReport)> {
    if let Some(at) = cluster::named(&arguments.reach)? {
        let address = cluster::jobmanager_of(&at, arguments.job.as_deref().unwrap_or_default())?;
        return ask_at(&address, arguments, request);
    }
    if let Some(jobmanager) = jobmanager(&arguments.reach)? {
        let job = jobmanager.report().clone();
        if let Some(name) = arguments.job.as_ref().filter(|name| !jobmanager.is_called(name)) {
            return Err(Error::config(format!("the jobmanager there has job {}, not '{name}'", job.job))
                .hint("leave the job out, or name another jobmanager"));
        }
        return Ok((jobmanager.ask(request)?, job));
    }
    let directory = directory(&arguments.reach.control)?;
    let job = find_job(&directory, arguments.job.as_deref().unwrap_or_default())?;
    Ok((ControlClient::ask(&directory, &job.job, request)?, job))
}

/// Asks the job of a jobmanager.
fn ask_at(
    address: &str,
    arguments: &JobArguments,
    request: &ControlRequest,
) -> Result<(ControlClient, JobReport)> {
    let jobmanager = JobManagerClient::find(&arguments.reach.address(address)?)?;
    let job = jobmanager.report().clone();
    Ok((jobmanager.ask(request)?, job))
}

/// A path as the job's process, which is somewhere else, has to be told.
fn place(job: &JobArguments, target: Option<&String>) -> Result<Option<String>> {
    let Some(target) = target else { return Ok(None) };
    let is_remote = job.reach.jobmanager.is_some() || job.reach.cluster.is_some();
    if is_remote && !target.contains("://") && !target.starts_with('/') {
        return Err(Error::config(
            "the jobmanager may be on another machine, where a relative path means nothing",
        )
        .at(format!("--target {target}"))
        .hint("name an absolute path of its machine, or a URL"));
    }
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
    let target = place(&command.job, command.target.as_ref())?;
    let (mut client, _) = ask(&command.job, &ControlRequest::Savepoint { target })?;
    let savepoint = taken(&mut client)?;
    print(json, &savepoint, || savepoint_text(&savepoint))?;
    Ok(Outcome::Fine)
}

pub(crate) fn stop(command: &StopCommand, json: bool) -> Result<Outcome> {
    let (target, drain) = (place(&command.job, command.target.as_ref())?, command.drain);
    let (mut client, job) = ask(&command.job, &ControlRequest::Stop { target, drain })?;
    let savepoint = taken(&mut client)?;
    // The savepoint is worth knowing whatever becomes of the job.
    print(json, &savepoint, || savepoint_text(&savepoint))?;
    ended(&mut client, &job, "finished")
}

pub(crate) fn rescale(command: &RescaleCommand, json: bool) -> Result<Outcome> {
    let request = ControlRequest::Rescale { parallelism: command.parallelism };
    let (mut client, job) = ask(&command.job, &request)?;
    match client.reply()? {
        ControlReply::Rescaled { parallelism } => {
            let answer = serde_json::json!({ "job": job.job, "parallelism": parallelism });
            print(json, &answer, || format!("job {} goes on at parallelism {parallelism}\n", job.job))?;
            Ok(Outcome::Fine)
        }
        other => Err(Error::data(format!("an unexpected reply: {other:?}"))),
    }
}

pub(crate) fn cancel(command: &JobCommand, json: bool) -> Result<Outcome> {
    let (mut client, job) = match cluster::named(&command.job.reach)? {
        None => ask(&command.job, &ControlRequest::Cancel)?,
        // One that does not run, and perhaps never will, has only the cluster to be asked.
        Some(at) => match cluster::withdraw(&at, command.job.job.as_deref().unwrap_or_default())? {
            Ok(job) => {
                print(json, &job, || format!("job {job} is withdrawn; it did not run\n"))?;
                return Ok(Outcome::Fine);
            }
            Err(address) => ask_at(&address, &command.job, &ControlRequest::Cancel)?,
        },
    };
    // It may have ended by itself before it was asked.
    match ended(&mut client, &job, "canceled")? {
        Outcome::Fine => {
            print(json, &job.job, || format!("job {} is canceled\n", job.job))?;
            Ok(Outcome::Fine)
        }
        other => Ok(other),
    }
}

/// Waits for the end of the job, which should be `wanted`.
fn ended(client: &mut ControlClient, job: &JobReport, wanted: &str) -> Result<Outcome> {
    match client.reply()? {
        ControlReply::Ended { status, .. } if status == wanted => Ok(Outcome::Fine),
        ControlReply::Ended { status, failure } => {
            eprintln!("tidegate: {}", other_end(&job.job.to_string(), &status, failure.map(|f| f.message)));
            Ok(Outcome::Bad)
        }
        other => Err(Error::data(format!("an unexpected reply: {other:?}"))),
    }
}

/// What has become of a job, if not what was asked for.
fn other_end(job: &str, status: &str, failure: Option<String>) -> String {
    let why = failure.map(|why| format!(": {why}")).unwrap_or_default();
    match status {
        "fenced" => format!("this jobmanager has lost job {job} to another one, where it goes on{why}"),
        "finished" => format!("job {job} has finished by itself{why}"),
        _ => format!("job {job} has ended as {status}{why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_job_is_told_as_it_was() {
        let why = || Some("a later leader than that of term 1 has the job".to_owned());
        let fenced = other_end("words-1", "fenced", why());
        assert!(
            fenced.starts_with(
                "this jobmanager has lost job words-1 to another one, where it goes on: a later"
            )
        );
        assert!(!fenced.contains("ended"));
        assert_eq!(other_end("words-1", "finished", None), "job words-1 has finished by itself");
        assert!(
            other_end("words-1", "failed", why()).starts_with("job words-1 has ended as failed: a later")
        );
    }
}

//! Jobs of this machine, over their sockets.

use super::client::{ControlClient, Conversation};
use super::protocol::{LONGEST_REPLY, read_line, write_line};
use super::{ControlDirectory, ControlReply, ControlRequest};
use crate::cluster::JobReport;
use crate::error::{Error, Result};
use crate::id::JobId;
use std::io::{self, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a job may take to say what it is doing.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

struct Socket(BufReader<UnixStream>);

impl Conversation for Socket {
    fn reply(&mut self) -> Result<Option<ControlReply>> {
        read_line(&mut self.0, LONGEST_REPLY)
    }
}

fn open(directory: &ControlDirectory, job: &JobId) -> Result<UnixStream> {
    let path = directory.socket(job);
    UnixStream::connect(&path).map_err(|e| {
        remove_if_dead(&path, &e);
        Error::config("no process of it answers on this machine").with_source(e).at(format!("job {job}"))
    })
}

fn ask(stream: UnixStream, job: &JobId, request: &ControlRequest) -> Result<ControlClient> {
    write_line(&mut &stream, request).map_err(|e| {
        Error::restart_job("the job's process is gone").with_source(e).at(format!("job {job}"))
    })?;
    Ok(ControlClient::new(format!("job {job}"), Socket(BufReader::new(stream))))
}

impl ControlClient {
    /// Asks a job of this machine for something.
    ///
    /// # Errors
    /// A config error if no process listens; a restart error if it has gone meanwhile.
    pub fn ask(directory: &ControlDirectory, job: &JobId, request: &ControlRequest) -> Result<Self> {
        ask(open(directory, job)?, job, request)
    }
}

fn report(directory: &ControlDirectory, job: &JobId) -> Result<JobReport> {
    let stream = open(directory, job)?;
    stream.set_read_timeout(Some(REPORT_TIMEOUT))?;
    match ask(stream, job, &ControlRequest::Report)?.reply()? {
        ControlReply::Report(report) => Ok(report),
        other => Err(Error::data(format!("an unexpected reply: {other:?}"))),
    }
}

/// A socket that nobody listens on is what a killed process has left.
fn remove_if_dead(path: &Path, e: &io::Error) {
    if e.kind() == io::ErrorKind::ConnectionRefused {
        _ = std::fs::remove_file(path);
    }
}

impl ControlDirectory {
    /// What the running jobs say of themselves, by job id. One that does not answer is left out.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn jobs(&self) -> Result<Vec<JobReport>> {
        let jobs = self.sockets()?.into_iter();
        Ok(jobs.filter_map(|(job, _)| report(self, &job).ok()).collect())
    }
}

/// The running job that a person means by `name`: its id or the beginning of it, its directory, or the checkpoint
/// directory if only one running job uses it.
///
/// # Errors
/// A config error that lists the running jobs if it is none or several of them.
pub fn find_job(directory: &ControlDirectory, name: &str) -> Result<JobReport> {
    let mut jobs = directory.jobs()?;
    let path = std::fs::canonicalize(name).ok().and_then(|p| p.to_str().map(str::to_owned));
    let path = path.unwrap_or_else(|| name.trim_end_matches('/').to_owned());
    let rules: [&dyn Fn(&JobReport) -> bool; 3] = [
        &|job| job.job.as_str() == name || job.directory == path,
        &|job| job.directory.rsplit_once('/').is_some_and(|(root, _)| root == path),
        &|job| job.job.as_str().starts_with(name),
    ];
    for rule in rules {
        match jobs.iter().filter(|job| rule(job)).count() {
            0 => {}
            1 => {
                jobs.retain(|job| rule(job));
                return jobs.pop().ok_or_else(|| Error::bug("a job that was found is gone"));
            }
            many => {
                let ids: Vec<&str> =
                    jobs.iter().filter(|job| rule(job)).map(|job| job.job.as_str()).collect();
                return Err(Error::config(format!(
                    "'{name}' can mean {many} running jobs: {}",
                    ids.join(", ")
                )));
            }
        }
    }
    let ids: Vec<&str> = jobs.iter().map(|job| job.job.as_str()).collect();
    let hint =
        if ids.is_empty() { "none is running".to_owned() } else { format!("running: {}", ids.join(", ")) };
    Err(Error::config(format!("'{name}' is no running job of yours on this machine")).hint(hint))
}

//! The side that asks.

use crate::cluster::JobReport;
use crate::cluster::control::protocol::{read_line, write_line};
use crate::cluster::control::{ControlDirectory, ControlReply, ControlRequest};
use crate::error::{Error, Result};
use crate::id::JobId;
use std::io::{self, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a job may take to say what it is doing.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a running job, for one request.
#[derive(Debug)]
pub struct ControlClient {
    job: JobId,
    stream: BufReader<UnixStream>,
}

impl ControlClient {
    /// Connects to a job.
    ///
    /// # Errors
    /// A config error if no process listens.
    pub fn connect(directory: &ControlDirectory, job: &JobId) -> Result<Self> {
        let path = directory.socket(job);
        let stream = UnixStream::connect(&path).map_err(|e| {
            remove_if_dead(&path, &e);
            Error::config("no process of it answers on this machine").with_source(e).at(format!("job {job}"))
        })?;
        Ok(Self { job: job.clone(), stream: BufReader::new(stream) })
    }

    /// Sends the request.
    ///
    /// # Errors
    /// If the job's process has gone.
    pub fn ask(&mut self, request: &ControlRequest) -> Result<()> {
        write_line(self.stream.get_mut(), request).map_err(|e| self.gone(e))
    }

    /// Waits for the next reply. A reply [`ControlReply::Failed`] is returned as the error it carries.
    ///
    /// # Errors
    /// That, or if the job's process has gone.
    pub fn reply(&mut self) -> Result<ControlReply> {
        match read_line(&mut self.stream) {
            Ok(Some(ControlReply::Failed(failure))) => Err(Error::from(failure)),
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(self.gone(Error::restart_job("the connection was closed"))),
            Err(e) => Err(self.gone(e)),
        }
    }

    fn report(&mut self) -> Result<JobReport> {
        self.stream.get_mut().set_read_timeout(Some(REPORT_TIMEOUT))?;
        self.ask(&ControlRequest::Report)?;
        match self.reply()? {
            ControlReply::Report(report) => Ok(report),
            other => Err(Error::data(format!("an unexpected reply: {other:?}"))),
        }
    }

    fn gone(&self, e: Error) -> Error {
        Error::restart_job("the job's process is gone, or has not answered")
            .with_source(e)
            .at(format!("job {}", self.job))
            .hint("whether what was asked for has happened is unknown: look at its directory")
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
        Ok(jobs.filter_map(|(job, _)| ControlClient::connect(self, &job).ok()?.report().ok()).collect())
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

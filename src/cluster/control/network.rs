//! Jobs of other machines, over the ports of their jobmanagers.

use super::client::{ControlClient, Conversation};
use super::protocol::{CONTROL_VERSION, ControlCall};
use super::{ControlReply, ControlRequest};
use crate::cluster::rpc::{ControlStream, control_stream, read_token};
use crate::cluster::tls::{CONTROL_PLANE, Tls};
use crate::cluster::{JobReport, TlsFiles};
use crate::error::{Error, ErrorKind, Result};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long a jobmanager may take to say what it is doing.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Where a jobmanager may be, and what it wants to know of those who ask.
#[derive(Clone, Debug)]
pub struct JobManagerAddress {
    addresses: Vec<String>,
    token: String,
    tls: Option<Tls>,
}

impl JobManagerAddress {
    /// One of several addresses `host:port` with commas between them, with the token in a file if there is one.
    ///
    /// # Errors
    /// A config error if the file cannot be read.
    pub fn new(addresses: &str, token_file: Option<&Path>) -> Result<Self> {
        Ok(Self {
            addresses: addresses.split(',').map(|at| at.trim().to_owned()).collect(),
            token: read_token(token_file).map_err(|e| e.at("--token-file"))?,
            tls: None,
        })
    }

    /// The same, encrypted, with a certificate to show.
    ///
    /// # Errors
    /// A config error that names the file that is missing or wrong.
    pub fn encrypted(self, files: &TlsFiles) -> Result<Self> {
        Ok(Self { tls: Some(Tls::load(files, CONTROL_PLANE)?), ..self })
    }
}

#[cfg(unix)]
impl JobManagerAddress {
    /// The first address, and what it is called with.
    pub(crate) fn first(&self) -> (&str, &str, Option<&Tls>) {
        (self.addresses.first().map_or("", String::as_str), &self.token, self.tls.as_ref())
    }
}

/// The jobmanager that leads a job.
#[derive(Debug)]
pub struct JobManagerClient {
    runtime: Arc<Runtime>,
    address: String,
    at: JobManagerAddress,
    report: JobReport,
}

impl JobManagerClient {
    /// Finds it.
    ///
    /// # Errors
    /// What each address says, if none of them leads a job: nobody answers there, it refuses the token, it stands by for
    /// another one.
    pub fn find(at: &JobManagerAddress) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::config("no runtime for the connection").with_source(e))?;
        let runtime = Arc::new(runtime);
        let mut last = Error::config("no address of a jobmanager is given").hint("name it with --jobmanager");
        for address in &at.addresses {
            let asked = ask(&runtime, address, at, None, &ControlRequest::Report);
            let answer = asked.and_then(|mut stream| {
                let reply = async { tokio::time::timeout(ANSWER_WITHIN, stream.next()).await };
                runtime.block_on(reply).map_err(|_| silent(address))?
            });
            match answer {
                Ok(Some(ControlReply::Report(report))) => {
                    return Ok(Self { runtime, address: address.clone(), at: at.clone(), report });
                }
                Ok(Some(ControlReply::Standby { job, leader })) => {
                    last = Error::config(format!(
                        "the jobmanager at {address} stands by; job {job} is led by the one at {leader}"
                    ))
                    .hint(format!("ask that one: --jobmanager {leader}"));
                }
                Ok(Some(ControlReply::Failed(failure))) => {
                    return Err(Error::from(failure).at(format!("the jobmanager at {address}")));
                }
                Ok(Some(other)) => return Err(Error::data(format!("an unexpected reply: {other:?}"))),
                Ok(None) => last = silent(address),
                Err(e) if e.kind() == ErrorKind::Retry => {
                    last =
                        e.hint("start a jobmanager, or look whether --jobmanager names its cluster.listen");
                }
                Err(e) => return Err(e),
            }
        }
        Err(last)
    }

    /// What the job said of itself.
    pub fn report(&self) -> &JobReport {
        &self.report
    }

    /// Whether a person can mean the job by `name`: its id, the beginning of it, or its directory.
    pub fn is_called(&self, name: &str) -> bool {
        self.report.job.as_str().starts_with(name) || self.report.directory == name.trim_end_matches('/')
    }

    /// Asks the job for something.
    ///
    /// # Errors
    /// If the jobmanager does not answer any more.
    pub fn ask(&self, request: &ControlRequest) -> Result<ControlClient> {
        let job = self.report.job.as_str();
        let stream = ask(&self.runtime, &self.address, &self.at, Some(job), request)?;
        let name = format!("job {job} at {}", self.address);
        Ok(ControlClient::new(name, Network { runtime: self.runtime.clone(), stream }))
    }
}

fn silent(address: &str) -> Error {
    Error::retry(format!("the jobmanager at {address} does not answer"))
}

fn ask(
    runtime: &Runtime,
    address: &str,
    at: &JobManagerAddress,
    job: Option<&str>,
    request: &ControlRequest,
) -> Result<ControlStream> {
    let call = ControlCall {
        version: CONTROL_VERSION,
        token: at.token.clone(),
        job: job.map(str::to_owned),
        request: request.clone(),
    };
    runtime.block_on(control_stream(address, at.tls.as_ref(), call, ANSWER_WITHIN))
}

struct Network {
    runtime: Arc<Runtime>,
    stream: ControlStream,
}

impl Conversation for Network {
    fn reply(&mut self) -> Result<Option<ControlReply>> {
        self.runtime.block_on(self.stream.next())
    }
}

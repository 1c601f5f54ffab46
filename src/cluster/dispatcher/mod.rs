//! A standing cluster on this machine: it takes programs of an allow-list by name and hash, and runs each as a job of its own,
//! with a jobmanager and taskmanagers as processes that it watches.
//!
//! What was submitted is written down before the answer, so a cluster that is killed and started again goes on with every job
//! that has not ended. Whether one has is the word of the job's own store. The processes do not outlive the cluster: they end
//! when their standard input is closed. No code is sent anywhere.

mod allow_list;
mod data;
mod decide;
mod flags;
mod hash;
mod job;
mod process;
mod protocol;
mod record;
mod shell;
mod submit;

use crate::cluster::TlsFiles;
use crate::cluster::control::JobManagerAddress;
use crate::cluster::rpc::{DispatchServer, ask_cluster, read_token};
use crate::cluster::taskmanager::ProcessClock;
use crate::cluster::tls::{CONTROL_PLANE, Tls};
use crate::config::is_of_this_machine;
use crate::error::{Error, Result};
use crate::say::say;
use allow_list::AllowList;
use data::DataDirectory;
pub use hash::ProgramHash;
pub(crate) use protocol::{CLUSTER_VERSION, ClusterCall};
pub use protocol::{ClusterJob, ClusterReply, ClusterReport, ClusterRequest, Submission};
use shell::Shell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use submit::Desk;
pub(crate) use submit::JobDescription;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::mpsc::unbounded_channel;

/// How long a cluster may take to take a call.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);
/// How long it may take to reply: a submission asks the program.
const REPLIES_WITHIN: Duration = Duration::from_secs(150);

/// A standing cluster, to be started.
#[derive(Clone, Debug)]
pub struct StandingCluster {
    /// The directory with the programs that it may run.
    pub allow_list: PathBuf,
    /// Where it keeps what must outlive it; of one cluster at a time.
    pub data: PathBuf,
    /// Slots, for all jobs together.
    pub slots: u32,
    /// `host:port` at which commands are taken; the jobmanagers listen at the same host.
    pub listen: String,
    /// Path or URL for the checkpoints of jobs that name none; in the data directory if absent.
    pub checkpoint_dir: Option<String>,
    /// A file with a text that all members, and those who command them, have to know.
    pub token_file: Option<PathBuf>,
    /// The files for encrypted connections.
    pub tls: Option<TlsFiles>,
}

impl StandingCluster {
    /// Runs until this process is asked to stop, by Ctrl-C or SIGTERM, and returns 130 or 143. No process is left then, and no
    /// job has ended for it.
    ///
    /// # Errors
    /// What is wrong with the options, the directories, or what is written down in them.
    pub async fn run(mut self) -> Result<i32> {
        let token = read_token(self.token_file.as_deref()).map_err(|e| e.at("--token-file"))?;
        let tls = self.tls.as_ref().map(|files| Tls::load(files, CONTROL_PLANE)).transpose()?.map(Arc::new);
        if token.is_empty() && tls.is_none() && !is_of_this_machine(&self.listen) {
            return Err(Error::config(format!("--listen {} is open to other machines", self.listen)).hint(
                "give --tls-certificate, key and authority, so that strangers are refused and what is said is encrypted; or \
                 --token-file, in a network of your own",
            ));
        }
        self.make_absolute()?;
        let allow_list = AllowList::open(&self.allow_list)?;
        let data = DataDirectory::open(&self.data)?;
        let records = data.records()?;
        let bound = async {
            let listener = TcpListener::bind(&self.listen).await?;
            let address = listener.local_addr()?;
            Ok::<_, std::io::Error>((listener, address))
        };
        let (listener, address) = bound.await.map_err(|e| {
            Error::config(format!("the cluster cannot listen on {}", self.listen))
                .with_source(e)
                .hint("set --listen to an address of this machine and a free port; is a cluster running?")
        })?;
        say(format_args!(
            "cluster at {address} with {} slots, for the programs in {}",
            self.slots,
            self.allow_list.display()
        ));
        let (requests, asked) = unbounded_channel();
        let desk = Arc::new(Desk { options: self, allow_list, data });
        let shell = Shell::new(desk, address.ip(), records, ProcessClock::start());
        let server = DispatchServer::start(listener, tls, token, requests, &Handle::current());
        let code = shell.run(asked).await;
        drop(server);
        Ok(code)
    }

    /// Its processes run elsewhere.
    fn make_absolute(&mut self) -> Result<()> {
        let absolute = |path: &Path| {
            std::path::absolute(path)
                .map_err(|e| Error::config("has no absolute path").with_source(e).at(path.display()))
        };
        if let Some(place) = self.checkpoint_dir.as_mut().filter(|place| !place.contains("://")) {
            *place = absolute(Path::new(place))?.to_string_lossy().into_owned();
        }
        let tls =
            self.tls.iter_mut().flat_map(|tls| [&mut tls.certificate, &mut tls.key, &mut tls.authority]);
        for path in self.token_file.iter_mut().chain(tls) {
            *path = absolute(path)?;
        }
        Ok(())
    }
}

/// Asks a standing cluster for something, and waits for the answer. A reply [`ClusterReply::Failed`] is returned as the error
/// it carries.
///
/// # Errors
/// That, or if the cluster cannot be reached.
pub fn ask(at: &JobManagerAddress, request: ClusterRequest) -> Result<ClusterReply> {
    let (address, token, tls) = at.first();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::config("no runtime for the connection").with_source(e))?;
    let call = ClusterCall { version: CLUSTER_VERSION, token: token.to_owned(), request };
    match runtime.block_on(ask_cluster(address, tls, call, ANSWERS_WITHIN, REPLIES_WITHIN))? {
        ClusterReply::Failed(failure) => Err(Error::from(failure)),
        reply => Ok(reply),
    }
}

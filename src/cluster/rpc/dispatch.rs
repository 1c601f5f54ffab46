//! The port of a standing cluster: both sides of a person's call. Who calls it as a jobmanager is told what it is.

use super::client::{call, connect, endpoint};
use super::codec::Json;
use super::control::MOST_COMMANDS;
use super::message::VERSION;
use super::server::{CONTROL, FAREWELL, REGISTER_WITHIN, serve, serve_port};
use crate::cluster::control::{ControlCall, ControlReply};
use crate::cluster::dispatcher::{CLUSTER_VERSION, ClusterCall, ClusterReply, ClusterRequest};
use crate::cluster::message::Failure;
use crate::cluster::tls::Tls;
use crate::error::{Error, Result};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::{Code, Status, Streaming};

/// Path of the one method.
const ASK: &str = "/tidegate.Cluster/Ask";

/// A request, and where the reply goes.
pub(crate) type Asked = (ClusterRequest, oneshot::Sender<ClusterReply>);

/// The server of a standing cluster; it ends with this.
#[derive(Debug)]
pub(crate) struct DispatchServer(AbortHandle);

impl DispatchServer {
    /// Serves on `listener`. What callers with the token ask is sent into `requests`.
    pub(crate) fn start(
        listener: TcpListener,
        tls: Option<Arc<Tls>>,
        token: String,
        requests: UnboundedSender<Asked>,
        runtime: &Handle,
    ) -> Self {
        let service = Dispatch {
            token: Arc::from(token),
            requests,
            room: Arc::new(Semaphore::new(MOST_COMMANDS as usize)),
            runtime: runtime.clone(),
        };
        Self(runtime.spawn(serve_port(listener, tls, service)).abort_handle())
    }
}

impl Drop for DispatchServer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Clone)]
struct Dispatch {
    token: Arc<str>,
    requests: UnboundedSender<Asked>,
    room: Arc<Semaphore>,
    runtime: Handle,
}

impl NamedService for Dispatch {
    const NAME: &'static str = "tidegate.Cluster";
}

impl Service<http::Request<Body>> for Dispatch {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (service, runtime) = (self.clone(), self.runtime.clone());
        Box::pin(async move {
            Ok(match request.uri().path() {
                ASK => serve::<_, Json, _, _, _>(service, &runtime, request, Self::request).await,
                CONTROL => serve::<_, Json, _, _, _>(service, &runtime, request, Self::command).await,
                _ => Status::unimplemented("this is a standing cluster, no jobmanager").into_http(),
            })
        })
    }
}

impl Dispatch {
    /// The life of one call.
    async fn request(self, mut from: Streaming<ClusterCall>, to: UnboundedSender<ClusterReply>) {
        let first = tokio::time::timeout(REGISTER_WITHIN, from.message()).await;
        let Ok(Ok(Some(call))) = first else { return };
        let reply = match self.answer(call).await {
            Ok(reply) => reply,
            Err(e) => ClusterReply::Failed(Failure::from(&e)),
        };
        _ = to.send(reply);
        drop(to);
        // The caller goes when it has its reply.
        _ = tokio::time::timeout(FAREWELL, async { while let Ok(Some(_)) = from.message().await {} }).await;
    }

    async fn answer(&self, call: ClusterCall) -> Result<ClusterReply> {
        if call.version != CLUSTER_VERSION {
            let theirs = call.version;
            return Err(Error::config(format!(
                "the command speaks version {theirs}, the cluster {CLUSTER_VERSION}"
            ))
            .hint("use tidegate of the cluster's release"));
        }
        if *call.token != *self.token {
            return Err(Error::config("the command does not have the cluster's token")
                .hint("give it with --token-file the file that the cluster was started with"));
        }
        let busy =
            |_| Error::retry(format!("{MOST_COMMANDS} commands are under way")).hint("try again later");
        let _room = self.room.try_acquire().map_err(busy)?;
        let (reply, replied) = oneshot::channel();
        let gone = || Error::retry("the cluster is stopping");
        self.requests.send((call.request, reply)).map_err(|_| gone())?;
        replied.await.map_err(|_| gone())
    }

    /// Someone takes this for a jobmanager.
    async fn command(self, mut from: Streaming<ControlCall>, to: UnboundedSender<ControlReply>) {
        _ = tokio::time::timeout(REGISTER_WITHIN, from.message()).await;
        let e = Error::config("this is a standing cluster, no jobmanager").hint("name it with --cluster");
        _ = to.send(ControlReply::Failed(Failure::from(&e)));
    }
}

/// Asks the standing cluster at `address`, which has to take the call within `patience`, and to reply within `limit`.
///
/// # Errors
/// A retry error if it cannot be reached or does not answer in time.
pub(crate) async fn ask_cluster(
    address: &str,
    tls: Option<&Tls>,
    request: ClusterCall,
    patience: Duration,
    limit: Duration,
) -> Result<ClusterReply> {
    let who = format!("the cluster at {address}");
    let calling = async {
        let (channel, refusal) = connect(&endpoint(address, patience)?, address, tls, &who).await?;
        call::<Json, _, _>(channel, ASK, VERSION, request)
            .await
            .map_err(|status| refusal.or(broken(&status, &who)))
    };
    let silent = |limit: Duration| Error::retry(format!("{who} did not answer within {} s", limit.as_secs()));
    let called = tokio::time::timeout(patience, Box::pin(calling)).await;
    let (_to, mut from) = called.map_err(|_| silent(patience))??;
    let reply = tokio::time::timeout(limit, from.message()).await.map_err(|_| silent(limit))?;
    match reply {
        Ok(Some(reply)) => Ok(reply),
        Ok(None) => Err(Error::retry(format!("{who} has closed the connection"))),
        Err(status) => Err(broken(&status, &who)),
    }
}

fn broken(status: &Status, who: &str) -> Error {
    match status.code() {
        Code::Unimplemented => Error::config(format!("{who} is none, but a jobmanager"))
            .hint("name a jobmanager with --jobmanager"),
        Code::FailedPrecondition => Error::config(format!("{who}: {}", status.message()))
            .hint("give --tls-certificate, key and authority"),
        _ => Error::retry(format!("the connection to {who} is broken: {}", status.message())),
    }
}

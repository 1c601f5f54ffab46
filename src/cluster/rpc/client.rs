//! The side of the stream that calls: a taskmanager's, and that of a person's command.

use super::codec::{Form, Json, LARGEST_MESSAGE, Messages, One};
use super::made::{Made, Refusal};
use super::message::{Register, Registered, ToJobManager, ToTaskManager, VERSION, VERSION_KEY, Who};
use super::server::{CONTROL, JOIN, WHO};
use crate::cluster::control::{ControlCall, ControlReply};
use crate::cluster::tls::Tls;
use crate::error::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

/// A connection on which nothing is said for so long is tried out.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A membership.
pub(crate) struct Joined {
    pub(crate) registered: Registered,
    /// What is sent after the stream has ended is lost.
    pub(crate) to: UnboundedSender<ToJobManager>,
    from: Streaming<ToTaskManager>,
    address: String,
}

impl Joined {
    /// The next message.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// A retry error when the stream has ended.
    pub(crate) async fn next(&mut self) -> Result<ToTaskManager> {
        match self.from.message().await {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(Error::retry("the jobmanager has closed the connection")),
            Err(status) => Err(unreachable_by(&status, &self.address)),
        }
    }
}

/// What a call has broken on.
fn unreachable_by(status: &Status, address: &str) -> Error {
    match status.code() {
        // It does not encrypt, and has to: that cannot be mended by trying again.
        Code::FailedPrecondition => {
            Error::config(format!("the jobmanager at {address}: {}", status.message()))
                .hint("give this process the cluster.tls options that the jobmanager has")
        }
        // It speaks another version, or does not know the method.
        Code::Unimplemented => Error::config(format!("the jobmanager at {address}: {}", status.message()))
            .hint("start all members from the same release"),
        _ => Error::retry(format!("the connection to the jobmanager is broken: {}", status.message())),
    }
}

fn nobody(address: &str, e: &(dyn std::error::Error + 'static)) -> Error {
    // What the error itself says is that there was one.
    let mut cause: &dyn std::error::Error = e;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Error::retry(format!("nobody answers at {address}: {cause}"))
}

/// A call whose first message is `first`. It lasts as long as the sender lives.
pub(super) async fn call<F, Out, In>(
    channel: Channel,
    path: &'static str,
    version: u32,
    first: Out,
) -> Result<(UnboundedSender<Out>, Streaming<In>), Status>
where
    F: Form,
    Out: Serialize + Send + Sync + 'static,
    In: DeserializeOwned + Send + Sync + 'static,
{
    let mut grpc = Grpc::new(channel)
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    // Unbounded: a handful of reports per subtask and checkpoint.
    let (to, requests) = unbounded_channel();
    _ = to.send(first);
    grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
    let mut request = Request::new(stream(requests));
    request.metadata_mut().insert(VERSION_KEY, version.into());
    let call = grpc.streaming(request, PathAndQuery::from_static(path), Messages::<F, Out, In>::default());
    Ok((to, call.await?.into_inner()))
}

/// The replies to a command.
pub(crate) struct ControlStream {
    from: Streaming<ControlReply>,
    address: String,
    /// The call ends with it.
    _to: UnboundedSender<ControlCall>,
}

impl ControlStream {
    /// The next reply; `None` if there are no more.
    ///
    /// # Errors
    /// A retry error when the connection is broken.
    pub(crate) async fn next(&mut self) -> Result<Option<ControlReply>> {
        self.from.message().await.map_err(|status| unreachable_by(&status, &self.address))
    }
}

/// Sends a command to the jobmanager at `address`, which has to take the call within `patience`.
///
/// # Errors
/// A retry error if it cannot be reached or does not answer in time.
pub(crate) async fn control_stream(
    address: &str,
    tls: Option<&Tls>,
    command: ControlCall,
    patience: Duration,
) -> Result<ControlStream> {
    let calling = async {
        let endpoint = endpoint(address, patience)?
            // A command waits for as long as a savepoint takes, but not for a machine that is gone.
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE * 2);
        let who = jobmanager(address);
        let (channel, refusal) = connect(&endpoint, address, tls, &who).await?;
        let called = call::<Json, _, _>(channel, CONTROL, VERSION, command).await;
        let (to, from) = called.map_err(|status| refusal.or(unreachable_by(&status, address)))?;
        Ok(ControlStream { from, address: address.to_owned(), _to: to })
    };
    in_time(address, patience, Box::pin(calling)).await
}

async fn in_time<T>(address: &str, patience: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(patience, call).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::retry(format!(
            "the jobmanager at {address} did not answer within {} ms",
            patience.as_millis()
        ))),
    }
}

/// What answers at an address of a jobmanager.
fn jobmanager(address: &str) -> String {
    format!("the jobmanager at {address}")
}

pub(super) fn endpoint(address: &str, patience: Duration) -> Result<Endpoint> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|e| {
        Error::config(format!("'{address}' is no address")).with_source(e).hint("write host:port")
    })?;
    Ok(endpoint.connect_timeout(patience).tcp_nodelay(true))
}

/// A connection, and why it was refused if it comes to nothing.
pub(super) async fn connect(
    endpoint: &Endpoint,
    address: &str,
    tls: Option<&Tls>,
    peer: &str,
) -> Result<(Channel, Refusal)> {
    let refusal = Refusal::default();
    let channel = match tls {
        None => endpoint.connect().await,
        Some(tls) => {
            let stream = TcpStream::connect(address).await.map_err(|e| nobody(address, &e))?;
            _ = stream.set_nodelay(true);
            let stream = tls.connect(stream, peer).await?;
            endpoint.connect_with_connector(Made::new(stream, refusal.clone(), peer.to_owned())).await
        }
    };
    Ok((channel.map_err(|e| refusal.or(nobody(address, &e)))?, refusal))
}

/// The nonce of the jobmanager that answers at `address`. One that is stopped does not, though its port is open.
///
/// # Errors
/// A retry error if none answers; a config error if it refuses to.
pub(crate) async fn who(address: &str, tls: Option<&Tls>, patience: Duration) -> Result<String> {
    let asking = async {
        let peer = jobmanager(address);
        let (channel, refusal) = connect(&endpoint(address, patience)?, address, tls, &peer).await?;
        let called = call::<Json, _, _>(channel, WHO, VERSION, ()).await;
        let (_to, mut from): (UnboundedSender<()>, Streaming<Who>) =
            called.map_err(|status| refusal.or(unreachable_by(&status, address)))?;
        match from.message().await {
            Ok(Some(who)) => Ok(who.nonce),
            Ok(None) => Err(Error::retry("the jobmanager has closed the connection")),
            Err(status) => Err(refusal.or(unreachable_by(&status, address))),
        }
    };
    in_time(address, patience, Box::pin(asking)).await
}

/// Joins the cluster of the jobmanager at `address`.
///
/// # Errors
/// A retry error if it cannot be reached or does not answer in time; what it says if it refuses.
pub(crate) async fn join(
    address: &str,
    tls: Option<&Tls>,
    register: Register,
    patience: Duration,
) -> Result<Joined> {
    join_as(VERSION, address, tls, register, patience).await
}

/// [`join`] by one that speaks this version.
pub(super) async fn join_as(
    version: u32,
    address: &str,
    tls: Option<&Tls>,
    register: Register,
    patience: Duration,
) -> Result<Joined> {
    let joining = async {
        let who = jobmanager(address);
        let (channel, refusal) = connect(&endpoint(address, patience)?, address, tls, &who).await?;
        let called = call::<One, _, _>(channel, JOIN, version, ToJobManager::Register(register)).await;
        let (to, mut from) = called.map_err(|status| refusal.or(unreachable_by(&status, address)))?;
        match from.message().await {
            Ok(Some(ToTaskManager::Registered(registered))) => {
                Ok(Joined { registered, to, from, address: address.to_owned() })
            }
            Ok(Some(ToTaskManager::Refused(failure))) => Err(Error::from(failure)),
            Ok(Some(other)) => Err(Error::bug(format!("not an answer to a registration: {other:?}"))),
            Ok(None) => Err(Error::retry("the jobmanager has closed the connection")),
            Err(status) => Err(refusal.or(unreachable_by(&status, address))),
        }
    };
    in_time(address, patience, Box::pin(joining)).await
}

/// A receiver as a stream.
pub(super) fn stream<T>(mut receiver: UnboundedReceiver<T>) -> impl futures::Stream<Item = T> + Send
where
    T: Send,
{
    futures::stream::poll_fn(move |context| receiver.poll_recv(context))
}

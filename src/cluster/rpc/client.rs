//! The taskmanager's side of the stream.

use super::codec::{Codec1, LARGEST_MESSAGE};
use super::message::{Register, Registered, ToJobManager, ToTaskManager};
use super::server::JOIN;
use crate::error::{Error, ErrorKind, Result};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// A membership.
pub(crate) struct Joined {
    pub(crate) registered: Registered,
    /// What is sent after the stream has ended is lost.
    pub(crate) to: UnboundedSender<ToJobManager>,
    from: Streaming<ToTaskManager>,
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
            Err(status) => Err(unreachable_by(&status)),
        }
    }
}

fn unreachable_by(status: &Status) -> Error {
    Error::retry(format!("the connection to the jobmanager is broken: {}", status.message()))
}

async fn connect(address: &str, patience: Duration) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|e| {
        Error::config(format!("'{address}' is no address")).with_source(e).hint("write host:port")
    })?;
    let endpoint = endpoint.connect_timeout(patience).tcp_nodelay(true);
    endpoint.connect().await.map_err(|e| Error::retry(format!("nobody answers at {address}: {e}")))
}

/// Whether a jobmanager answers at `address`. One that is stopped does not, though its port is open.
pub(crate) async fn probe(address: &str, patience: Duration) -> bool {
    let stranger = Register {
        version: 0,
        token: String::new(),
        program: String::new(),
        backend: String::new(),
        slots: 0,
        data_address: String::new(),
        pid: std::process::id(),
    };
    match join(address, stranger, patience).await {
        Ok(_) => true,
        // Whoever refuses is alive.
        Err(e) => e.kind() != ErrorKind::Retry,
    }
}

/// Joins the cluster of the jobmanager at `address`.
///
/// # Errors
/// A retry error if it cannot be reached or does not answer in time; what it says if it refuses.
pub(crate) async fn join(address: &str, register: Register, patience: Duration) -> Result<Joined> {
    let joining = async {
        let mut grpc = Grpc::new(connect(address, patience).await?)
            .max_decoding_message_size(LARGEST_MESSAGE)
            .max_encoding_message_size(LARGEST_MESSAGE);
        // Unbounded: a handful of reports per subtask and checkpoint.
        let (to, requests) = unbounded_channel();
        _ = to.send(ToJobManager::Register(register));
        grpc.ready().await.map_err(|e| Error::retry(format!("nobody answers at {address}: {e}")))?;
        let call = grpc.streaming(
            Request::new(stream(requests)),
            PathAndQuery::from_static(JOIN),
            Codec1::<ToJobManager, ToTaskManager>::default(),
        );
        let mut from = call.await.map_err(|status| unreachable_by(&status))?.into_inner();
        match from.message().await {
            Ok(Some(ToTaskManager::Registered(registered))) => Ok(Joined { registered, to, from }),
            Ok(Some(ToTaskManager::Refused(failure))) => Err(Error::from(failure)),
            Ok(Some(other)) => Err(Error::bug(format!("not an answer to a registration: {other:?}"))),
            Ok(None) => Err(Error::retry("the jobmanager has closed the connection")),
            Err(status) => Err(unreachable_by(&status)),
        }
    };
    match tokio::time::timeout(patience, joining).await {
        Ok(joined) => joined,
        Err(_) => Err(Error::new(
            ErrorKind::Retry,
            format!("the jobmanager at {address} did not answer within {} ms", patience.as_millis()),
        )),
    }
}

/// A receiver as a stream.
pub(super) fn stream<T>(mut receiver: UnboundedReceiver<T>) -> impl futures::Stream<Item = T> + Send
where
    T: Send,
{
    futures::stream::poll_fn(move |context| receiver.poll_recv(context))
}

//! Encrypted connections to the port of a jobmanager; strangers are sent away with a reason.

use super::server::REGISTER_WITHIN;
use crate::cluster::tls::Tls;
use crate::error::{Error, Result};
use futures::{Stream, StreamExt};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::{self, Write};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// Handshakes at once.
const HANDSHAKES: usize = 64;
/// How long one who does not encrypt may take to read that it has to.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);
/// First byte of HTTP/2 without TLS.
const PLAIN_HTTP: u8 = b'P';

/// The connections that have come in and are encrypted.
pub(super) fn encrypted(
    incoming: TcpIncoming,
    tls: Arc<Tls>,
) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> {
    let shake = move |stream: io::Result<TcpStream>| {
        let tls = tls.clone();
        async move {
            match stream {
                Ok(stream) => shake_hands(stream, &tls).await.map(Ok),
                Err(e) => Some(Err(e)),
            }
        }
    };
    incoming.map(shake).buffer_unordered(HANDSHAKES).filter_map(ready)
}

async fn shake_hands(stream: TcpStream, tls: &Tls) -> Option<TlsStream<TcpStream>> {
    let peer = stream.peer_addr();
    let shaken = tokio::time::timeout(REGISTER_WITHIN, async {
        let mut first = [0];
        stream.peek(&mut first).await?;
        if first == [PLAIN_HTTP] {
            _ = tokio::time::timeout(REFUSED_WITHIN, refuse(stream)).await;
            return Err(Error::config("it is not encrypted"));
        }
        tls.accept(stream).await
    });
    let refused = match shaken.await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(e)) => e,
        Err(_) => Error::config("it took too long to shake hands"),
    };
    let peer = peer.map_or_else(|_| "a peer".to_owned(), |peer| peer.to_string());
    _ = writeln!(io::stderr(), "tidegate: a connection from {peer} is refused: {refused}");
    None
}

/// Answers a call in clear text.
async fn refuse(stream: TcpStream) {
    let only = futures::stream::iter([Ok::<_, io::Error>(stream)]);
    _ = Server::builder().add_service(NotEncrypted).serve_with_incoming(only).await;
}

#[derive(Clone)]
struct NotEncrypted;

impl NamedService for NotEncrypted {
    const NAME: &'static str = "tidegate.Cluster";
}

impl Service<http::Request<Body>> for NotEncrypted {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        ready(Ok(Status::failed_precondition("it takes encrypted connections only").into_http()))
    }
}

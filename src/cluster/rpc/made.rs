//! An encrypted connection that was made before HTTP/2 gets hold of it.

use crate::cluster::tls::refusal_in;
use crate::error::Error;
use hyper_util::rt::TokioIo;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;

/// Why the peer has refused this process, if it has. With TLS 1.3 that shows only when something is read, and HTTP/2 does not
/// pass it on.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusal(Arc<Mutex<Option<Error>>>);

impl Refusal {
    /// The refusal, if there was one, else the error that it has led to.
    pub(super) fn or(&self, e: Error) -> Error {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(e)
    }

    fn note(&self, e: &io::Error, peer: &str) {
        if let Some(refusal) = refusal_in(e, peer) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
        }
    }
}

/// Hands out the one connection that was made.
pub(super) struct Made(Option<TokioIo<Watched>>);

impl Made {
    pub(super) fn new(stream: TlsStream<TcpStream>, refusal: Refusal, peer: String) -> Self {
        Self(Some(TokioIo::new(Watched { stream, refusal, peer })))
    }
}

impl Service<Uri> for Made {
    type Response = TokioIo<Watched>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

/// Notes why reading fails.
pub(super) struct Watched {
    stream: TlsStream<TcpStream>,
    refusal: Refusal,
    peer: String,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, to);
        if let Poll::Ready(Err(e)) = &polled {
            self.refusal.note(e, &self.peer);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

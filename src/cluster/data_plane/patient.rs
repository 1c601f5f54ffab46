//! A stream that fails when nothing moves for too long. However slow the link is: what counts is that something moves.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A stream, or one direction of one, that somebody waits for with a limit.
pub(super) struct Patient<S> {
    stream: S,
    reads: Wait,
    writes: Wait,
}

/// How long one direction has stood still.
struct Wait {
    limit: Duration,
    end: Pin<Box<Sleep>>,
    stands_still: bool,
}

impl<S> Patient<S> {
    /// Within each `limit` a byte at least has to come in while somebody reads, and to go out while somebody writes.
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self { stream, reads: Wait::new(limit), writes: Wait::new(limit) }
    }
}

impl Wait {
    fn new(limit: Duration) -> Self {
        Self { limit, end: Box::pin(tokio::time::sleep(limit)), stands_still: false }
    }

    /// What a poll of the stream comes to.
    fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
        what: &str,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stands_still = false;
            return polled;
        }
        if !self.stands_still {
            self.stands_still = true;
            self.end.as_mut().reset(Instant::now() + self.limit);
        }
        self.end.as_mut().poll(context).map(|()| {
            let why = format!("nothing was {what} for {} ms", self.limit.as_millis());
            Err(io::Error::new(io::ErrorKind::TimedOut, why))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, to);
        self.reads.judge(context, polled, "heard")
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.writes.judge(context, polled, "taken")
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.writes.judge(context, polled, "taken")
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

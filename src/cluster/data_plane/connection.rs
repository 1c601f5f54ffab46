//! What both ends of a connection do: write what waits in an outbox, read with a limit on silence.

use super::frame::{self, Message};
use crate::cluster::tls::Tls;
use crate::error::{Error, Result};
use crate::task::remote::{Frame, Outbox};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::TcpStream;

const BUFFER_BYTES: usize = 128 << 10;

/// What comes in.
pub(super) type Reader = BufReader<Box<dyn AsyncRead + Send + Unpin>>;
/// What goes out.
pub(super) type Writer = BufWriter<Box<dyn AsyncWrite + Send + Unpin>>;

/// Both directions of a connection that has come in, buffered.
pub(super) async fn accepted(stream: TcpStream, tls: Option<&Tls>) -> Result<(Reader, Writer)> {
    stream.set_nodelay(true)?;
    Ok(match tls {
        None => plain(stream),
        Some(tls) => encrypted(tls.accept(stream).await?),
    })
}

/// Both directions of a connection to `address`, buffered.
pub(super) async fn connected(address: &str, tls: Option<&Tls>) -> Result<(Reader, Writer)> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(match tls {
        None => plain(stream),
        Some(tls) => encrypted(tls.connect(stream, "it").await?),
    })
}

/// Without the lock that both directions of an encrypted connection share.
fn plain(stream: TcpStream) -> (Reader, Writer) {
    let (read, write) = stream.into_split();
    buffered(Box::new(read), Box::new(write))
}

fn encrypted(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> (Reader, Writer) {
    let (read, write) = tokio::io::split(stream);
    buffered(Box::new(read), Box::new(write))
}

fn buffered(
    read: Box<dyn AsyncRead + Send + Unpin>,
    write: Box<dyn AsyncWrite + Send + Unpin>,
) -> (Reader, Writer) {
    (BufReader::with_capacity(BUFFER_BYTES, read), BufWriter::with_capacity(BUFFER_BYTES, write))
}

/// Writes what comes into the outbox, and signs of life, until the outbox is broken off or the peer takes nothing for
/// `patience`. `written` sees every frame that is out.
pub(super) async fn write_all(
    to: &mut (impl AsyncWrite + Unpin),
    outbox: &Outbox,
    patience: Duration,
    mut written: impl FnMut(&Frame),
) -> Result<()> {
    let mut frames = VecDeque::new();
    let mut ping = tokio::time::interval(patience / 3);
    ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let mut is_ping = false;
        tokio::select! {
            there = outbox.take_all(&mut frames) => {
                if !there {
                    return Ok(());
                }
            }
            _ = ping.tick() => is_ping = true,
        }
        let write = async {
            if is_ping {
                frame::write(to, &Message::Ping).await?;
            }
            while let Some(frame) = frames.pop_front() {
                let message = Message::Frame(frame);
                frame::write(to, &message).await?;
                if let Message::Frame(frame) = &message {
                    written(frame);
                }
            }
            Ok::<_, Error>(to.flush().await?)
        };
        within(patience, write).await?;
    }
}

/// The next message of the peer; an error if it ends or is silent for `patience`.
pub(super) async fn read(from: &mut Reader, patience: Duration) -> Result<Message> {
    let message = within(patience, frame::read(from)).await?;
    message.ok_or_else(|| Error::restart_job("it was closed"))
}

/// The outcome of `call`, if it comes in time.
pub(super) async fn within<T>(patience: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(patience, call).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::restart_job(format!("nothing was heard for {} ms", patience.as_millis()))),
    }
}

//! What both ends of a connection do: write what waits in an outbox, read with a limit on silence.

use super::frame::{self, FrameSums, Message};
use super::greeting::{GREETING_BYTES, Greeting};
use super::patient::Patient;
use crate::cluster::tls::Tls;
use crate::error::{Error, Result};
use crate::task::remote::{Frame, Outbox};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::TcpStream;

const BUFFER_BYTES: usize = 128 << 10;

type Bytes<S> = Patient<Box<S>>;
/// What comes in.
pub(super) type In = BufReader<Bytes<dyn AsyncRead + Send + Unpin>>;
/// What goes out.
pub(super) type Out = BufWriter<Bytes<dyn AsyncWrite + Send + Unpin>>;

/// Frames that come in.
pub(super) struct Reader<R> {
    pub(super) from: R,
    pub(super) sums: FrameSums,
}

/// Frames that go out.
pub(super) struct Writer<W> {
    pub(super) to: W,
    pub(super) sums: FrameSums,
}

/// Both directions of a connection that has come in, buffered. Each fails when nothing moves for `patience`.
pub(super) async fn accepted(stream: TcpStream, tls: Option<&Tls>, patience: Duration) -> Result<(In, Out)> {
    stream.set_nodelay(true)?;
    Ok(match tls {
        None => plain(stream, patience),
        Some(tls) => encrypted(tls.accept(stream).await?, patience),
    })
}

/// Both directions of a connection to `address`, buffered. Each fails when nothing moves for `patience`.
pub(super) async fn connected(address: &str, tls: Option<&Tls>, patience: Duration) -> Result<(In, Out)> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(match tls {
        None => plain(stream, patience),
        Some(tls) => encrypted(tls.connect(stream, "it").await?, patience),
    })
}

/// Without the lock that both directions of an encrypted connection share.
fn plain(stream: TcpStream, patience: Duration) -> (In, Out) {
    let (read, write) = stream.into_split();
    buffered(Box::new(read), Box::new(write), patience)
}

fn encrypted(stream: impl AsyncRead + AsyncWrite + Send + 'static, patience: Duration) -> (In, Out) {
    let (read, write) = tokio::io::split(stream);
    buffered(Box::new(read), Box::new(write), patience)
}

fn buffered(
    read: Box<dyn AsyncRead + Send + Unpin>,
    write: Box<dyn AsyncWrite + Send + Unpin>,
    patience: Duration,
) -> (In, Out) {
    let (read, write) = (Patient::new(read, patience), Patient::new(write, patience));
    (BufReader::with_capacity(BUFFER_BYTES, read), BufWriter::with_capacity(BUFFER_BYTES, write))
}

/// Says first who this is.
pub(super) async fn send_greeting(to: &mut Out, greeting: Greeting) -> Result<()> {
    to.write_all(&greeting.to_bytes()).await?;
    Ok(to.flush().await?)
}

/// What the peer says first.
pub(super) async fn read_greeting(from: &mut In) -> Result<Greeting> {
    let mut bytes = [0; GREETING_BYTES];
    from.read_exact(&mut bytes).await?;
    Greeting::from_bytes(bytes)
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Writes one message, and sees that it goes.
    pub(super) async fn say(&mut self, message: &Message) -> Result<()> {
        frame::write(&mut self.to, &mut self.sums, message).await?;
        Ok(self.to.flush().await?)
    }
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// The next message of the peer.
    ///
    /// # Errors
    /// A restart-job error if the connection has ended; a data error for what is no frame.
    pub(super) async fn next(&mut self) -> Result<Message> {
        let message = frame::read(&mut self.from, &mut self.sums).await?;
        message.ok_or_else(|| Error::restart_job("it was closed"))
    }
}

/// Writes what comes into the outbox, and signs of life, three within `patience`, until the outbox is broken off or the
/// connection fails. `written` sees every frame that is out.
pub(super) async fn write_all(
    Writer { to, sums }: &mut Writer<impl AsyncWrite + Unpin>,
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
        if is_ping {
            frame::write(to, sums, &Message::Ping).await?;
        }
        while let Some(frame) = frames.pop_front() {
            let message = Message::Frame(frame);
            frame::write(to, sums, &message).await?;
            if let Message::Frame(frame) = &message {
                written(frame);
            }
        }
        to.flush().await?;
    }
}

/// The outcome of `call`, if it comes in time.
pub(super) async fn within<T>(patience: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(patience, call).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::restart_job(format!("nothing was heard for {} ms", patience.as_millis()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::wire::ElementKind;
    use tokio::io::{AsyncReadExt, duplex};

    const PATIENCE: Duration = Duration::from_secs(1);
    /// Far more than anything here takes.
    const LONG: Duration = Duration::from_secs(60);

    /// A link that lets `step` bytes through, then pauses, until it has carried so many.
    async fn carry(
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        step: usize,
        up_to: usize,
    ) {
        let (mut buffer, mut carried) = (vec![0; step], 0);
        while carried < up_to {
            tokio::time::sleep(Duration::from_millis(20)).await;
            match from.read(&mut buffer).await {
                Ok(n @ 1..) => to.write_all(&buffer[..n]).await.unwrap(),
                _ => return,
            }
            carried += step;
        }
        std::future::pending::<()>().await;
    }

    /// Sends ten frames over a link that stands still after so many bytes; the outcomes of both ends.
    fn over_a_link(stands_still_after: usize) -> (Option<Error>, Option<Error>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = async {
            let ((near, link_in), (link_out, far)) = (duplex(256), duplex(256));
            let sums = FrameSums::new(1, 2, 0);
            let mut to = Writer { to: Patient::new(near, PATIENCE), sums: sums.clone() };
            let mut from = Reader { from: Patient::new(far, PATIENCE), sums };
            let outbox = Outbox::default();
            for channel in 0..10 {
                outbox.put(Frame::Element { channel, kind: ElementKind::Batch, body: vec![0; 4096] });
            }
            let reading = async {
                for due in 0..10 {
                    loop {
                        match from.next().await {
                            Ok(Message::Ping) => {}
                            Ok(Message::Frame(Frame::Element { channel, .. })) => {
                                break assert_eq!(channel, due);
                            }
                            Ok(other) => panic!("{other:?}"),
                            Err(e) => return Some(e),
                        }
                    }
                }
                outbox.break_off(&"done".into());
                None
            };
            let writing = async { write_all(&mut to, &outbox, PATIENCE, |_| ()).await.err() };
            tokio::select! {
                both = async { tokio::join!(writing, reading) } => both,
                () = carry(link_in, link_out, 256, stands_still_after) => panic!("the link is down"),
            }
        };
        runtime.block_on(async { tokio::time::timeout(LONG, outcome).await }).expect("in time")
    }

    /// Each of the frames takes some of it, and all of them together several times the patience.
    #[test]
    fn a_slow_link_is_not_taken_for_a_dead_peer() {
        let (written, read) = over_a_link(usize::MAX);
        assert!(written.is_none() && read.is_none(), "{written:?} {read:?}");
    }

    #[test]
    fn a_link_that_stands_still_in_the_middle_of_a_frame_is_noticed_by_both_ends() {
        let (written, read) = over_a_link(6000);
        let [written, read] = [written, read].map(|e| e.expect("noticed").to_string());
        assert!(written.contains("nothing was taken for 1000 ms"), "{written}");
        assert!(read.contains("nothing was heard for 1000 ms"), "{read}");
    }
}

//! Connections from other taskmanagers.

use super::DataPlaneConfig;
use super::connection::{In, Out, Reader, Writer, accepted, read_greeting, send_greeting, within, write_all};
use super::frame::Message;
use super::greeting::{Greeting, sums};
use crate::cluster::taskmanager::Hubs;
use crate::error::{Error, Result};
use crate::say::say;
use crate::task::remote::{Frame, Inbound, Outbox};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};

/// After a connection could not be accepted, for want of file descriptors, nothing is accepted for so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The port of one taskmanager. Dropping it closes all connections that came through it.
#[derive(Debug)]
pub(crate) struct DataListener {
    accepting: JoinHandle<()>,
}

impl DataListener {
    /// Binds `address`, a `host:port`; any port that is free if it is 0.
    ///
    /// # Errors
    /// A config error if that is not possible.
    pub(crate) async fn bind(address: &str) -> Result<TcpListener> {
        TcpListener::bind(address).await.map_err(|e| {
            Error::config(format!("the taskmanager cannot listen on {address}"))
                .with_source(e)
                .hint("set cluster.listen to an address of this machine and a free port")
        })
    }

    /// Accepts connections, and hands what arrives to the exchanges in `hubs`.
    pub(crate) fn start(
        listener: TcpListener,
        config: Arc<DataPlaneConfig>,
        hubs: Arc<Hubs>,
        runtime: &Handle,
    ) -> Self {
        let accepting = runtime.spawn(async move {
            // Aborts the connections when it is dropped itself.
            let mut connections = JoinSet::new();
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        let (config, hubs) = (config.clone(), hubs.clone());
                        connections.spawn(async move { serve(stream, peer, &config, &hubs).await });
                    }
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                }
                while connections.try_join_next().is_some() {}
            }
        });
        Self { accepting }
    }
}

impl DataListener {
    /// Closes the port and all connections, and returns when they are closed: the port is free then.
    pub(crate) async fn close(mut self) {
        self.accepting.abort();
        // Cut off, as it should be.
        _ = (&mut self.accepting).await;
    }
}

impl Drop for DataListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The receiving ends of a connection. They are broken off with it, however it ends.
#[derive(Default)]
struct Channels {
    open: BTreeMap<u32, Arc<Inbound>>,
    /// Numbers rise: what was the last one.
    last: u32,
    why: Option<Arc<str>>,
}

impl Drop for Channels {
    fn drop(&mut self) {
        let why = self.why.take().unwrap_or_else(|| "this taskmanager has left the cluster".into());
        self.open.values().for_each(|inbound| inbound.break_off(&why));
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, config: &DataPlaneConfig, hubs: &Hubs) {
    let mut channels = Channels::default();
    let (mut from, mut to) = match within(config.patience, greet(stream, config)).await {
        Ok(both) => both,
        Err(refused) => {
            // No subtask waits for a connection that was never greeted.
            say(format_args!("a connection for records from {peer} is refused: {refused}"));
            return;
        }
    };
    let outbox = Arc::new(Outbox::default());
    let outcome = tokio::select! {
        outcome = receive(&mut from, hubs, &outbox, &mut channels) => outcome,
        outcome = write_all(&mut to, &outbox, config.patience, |_| ()) => outcome,
    };
    let e = outcome.err().unwrap_or_else(|| Error::restart_job("it was closed"));
    channels.why = Some(format!("the connection from the taskmanager at {peer}: {e}").into());
}

async fn receive(
    from: &mut Reader<In>,
    hubs: &Hubs,
    outbox: &Arc<Outbox>,
    channels: &mut Channels,
) -> Result<()> {
    loop {
        match from.next().await? {
            Message::Ping => {}
            Message::Frame(Frame::Open { channel, attempt, id }) => {
                if channel <= channels.last {
                    return Err(Error::data(format!("it opens channel {channel} again")));
                }
                channels.last = channel;
                // What a sender of an old attempt still sends is dropped, and it gets no credit.
                if let Some(hub) = hubs.for_arrival(attempt) {
                    let inbound = hub.inbound(id);
                    let of = |e: Error| {
                        e.at(format!("channel {channel}, from {} to {} in attempt {attempt}", id.from, id.to))
                    };
                    inbound.open(channel, outbox.clone()).map_err(of)?;
                    channels.open.insert(channel, inbound);
                }
            }
            Message::Frame(Frame::Element { channel, kind, body }) => {
                if let Some(inbound) = channels.opened(channel)? {
                    inbound.deliver(kind, body).map_err(|e| e.at(format!("channel {channel}")))?;
                }
            }
            Message::Frame(Frame::Overrun { channel, bytes }) => {
                if let Some(inbound) = channels.opened(channel)? {
                    inbound.expect_overrun(bytes);
                }
            }
            Message::Frame(Frame::Close { channel }) => _ = channels.open.remove(&channel),
            other => return Err(Error::data(format!("it sent what only a receiver sends: {other:?}"))),
        }
    }
}

impl Channels {
    /// The receiving end of a channel; none if it is closed, or of an old attempt.
    fn opened(&self, channel: u32) -> Result<Option<&Arc<Inbound>>> {
        if channel > self.last {
            return Err(Error::data(format!("it sends on channel {channel}, which it has not opened")));
        }
        Ok(self.open.get(&channel))
    }
}

async fn greet(stream: TcpStream, config: &DataPlaneConfig) -> Result<(Reader<In>, Writer<Out>)> {
    let (mut from, mut to) = accepted(stream, config.tls.as_ref(), config.patience).await?;
    let theirs = read_greeting(&mut from).await?;
    let ours = Greeting::new(&config.nonces);
    send_greeting(&mut to, ours).await?;
    theirs.check_version()?;
    let [there, back] = sums(theirs, ours);
    let (mut from, mut to) = (Reader { from, sums: there }, Writer { to, sums: back });
    let Message::Hello(hello) = from.next().await? else {
        return Err(Error::data("it does not say who it is"));
    };
    let refusal = if hello.secret != config.secret {
        Some("the secret is not that of this cluster".to_owned())
    } else if hello.job != config.job.to_string() {
        Some(format!("this taskmanager runs job {}, not {}", config.job, hello.job))
    } else {
        None
    };
    to.say(&refusal.clone().map_or(Message::Welcome, Message::Refused)).await?;
    match refusal {
        None => Ok((from, to)),
        Some(why) => Err(Error::restart_job(why)),
    }
}

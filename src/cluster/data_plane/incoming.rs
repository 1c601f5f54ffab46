//! Connections from other taskmanagers.

use super::DataPlaneConfig;
use super::connection::{Reader, Writer, accepted, read, within, write_all};
use super::frame::{self, GREETING, Message};
use crate::cluster::taskmanager::Hubs;
use crate::error::{Error, Result};
use crate::task::remote::{Frame, Inbound, Outbox};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet};

/// After a connection could not be accepted, for want of file descriptors, nothing is accepted for so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The port of one taskmanager. Dropping it closes all connections that came through it.
#[derive(Debug)]
pub(crate) struct DataListener {
    accepting: AbortHandle,
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
        Self { accepting: accepting.abort_handle() }
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
    // Nobody waits for a connection that was never greeted.
    let Ok((mut from, mut to)) = within(config.patience, greet(stream, config)).await else { return };
    let outbox = Arc::new(Outbox::default());
    let outcome = tokio::select! {
        outcome = receive(&mut from, config, hubs, &outbox, &mut channels) => outcome,
        outcome = write_all(&mut to, &outbox, config.patience, |_| ()) => outcome,
    };
    let e = outcome.err().unwrap_or_else(|| Error::restart_job("it was closed"));
    channels.why = Some(format!("the connection from the taskmanager at {peer}: {e}").into());
}

async fn receive(
    from: &mut Reader,
    config: &DataPlaneConfig,
    hubs: &Hubs,
    outbox: &Arc<Outbox>,
    channels: &mut Channels,
) -> Result<()> {
    loop {
        match read(from, config.patience).await? {
            Message::Ping => {}
            Message::Frame(Frame::Open { channel, attempt, id }) => {
                // What a sender of an old attempt still sends is dropped, and it gets no credit.
                if let Some(hub) = hubs.for_arrival(attempt) {
                    let inbound = hub.inbound(id);
                    inbound.open(channel, outbox.clone());
                    channels.open.insert(channel, inbound);
                }
            }
            Message::Frame(Frame::Element { channel, kind, body }) => {
                if let Some(inbound) = channels.open.get(&channel) {
                    inbound.deliver(kind, body);
                }
            }
            Message::Frame(Frame::Close { channel }) => _ = channels.open.remove(&channel),
            other => return Err(Error::data(format!("it sent what only a receiver sends: {other:?}"))),
        }
    }
}

async fn greet(stream: TcpStream, config: &DataPlaneConfig) -> Result<(Reader, Writer)> {
    let (mut from, mut to) = accepted(stream, config.tls.as_ref()).await?;
    let mut greeting = [0; GREETING.len()];
    from.read_exact(&mut greeting).await?;
    if greeting != *GREETING {
        return Err(Error::data("not a taskmanager, or one of another release"));
    }
    let Some(Message::Hello(hello)) = frame::read(&mut from).await? else {
        return Err(Error::data("no greeting"));
    };
    let refusal = if hello.secret != config.secret {
        Some("the secret is not that of this cluster".to_owned())
    } else if hello.job != config.job.to_string() {
        Some(format!("this taskmanager runs job {}, not {}", config.job, hello.job))
    } else {
        None
    };
    let answer = refusal.clone().map_or(Message::Welcome, Message::Refused);
    frame::write(&mut to, &answer).await?;
    to.flush().await?;
    match refusal {
        None => Ok((from, to)),
        Some(why) => Err(Error::restart_job(why)),
    }
}

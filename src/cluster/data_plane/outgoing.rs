//! Connections to other taskmanagers, made when a subtask first sends there and kept for the attempts that follow.

use super::DataPlaneConfig;
use super::connection::{
    In, Out, Reader, Writer, connected, read_greeting, send_greeting, within, write_all,
};
use super::frame::{Hello, Message};
use super::greeting::{Greeting, sums};
use crate::error::{Error, Result};
use crate::id::Attempt;
use crate::task::hub::{ChannelId, Network};
use crate::task::remote::{Credit, Frame, Outbound, Outbox};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;

/// The connections of one taskmanager to others.
pub(crate) struct DataPlane {
    config: Arc<DataPlaneConfig>,
    runtime: Handle,
    connections: Mutex<BTreeMap<Arc<str>, Arc<Outgoing>>>,
}

/// A connection to one address, from the moment it is wanted to the moment it breaks.
#[derive(Debug, Default)]
struct Outgoing {
    outbox: Arc<Outbox>,
    channels: Mutex<Channels>,
}

#[derive(Debug, Default)]
struct Channels {
    last: u32,
    credits: BTreeMap<u32, Arc<Credit>>,
    broken: Option<Arc<str>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outgoing {
    /// A channel of this connection; none if it is broken.
    fn open(&self, attempt: Attempt, id: ChannelId) -> Option<Outbound> {
        let mut channels = locked(&self.channels);
        if channels.broken.is_some() {
            return None;
        }
        channels.last += 1;
        let channel = channels.last;
        let outbound = Outbound::open(channel, attempt, id, self.outbox.clone());
        channels.credits.insert(channel, outbound.credit());
        Some(outbound)
    }

    fn is_broken(&self) -> bool {
        locked(&self.channels).broken.is_some()
    }

    fn break_off(&self, why: &Arc<str>) {
        let mut channels = locked(&self.channels);
        channels.broken = Some(why.clone());
        let credits = std::mem::take(&mut channels.credits);
        drop(channels);
        self.outbox.break_off(why);
        credits.values().for_each(|credit| credit.break_off(why));
    }
}

impl DataPlane {
    pub(crate) fn new(config: Arc<DataPlaneConfig>, runtime: Handle) -> Self {
        Self { config, runtime, connections: Mutex::default() }
    }

    #[cfg(test)]
    pub(super) fn connections(&self) -> usize {
        locked(&self.connections).len()
    }

    /// Breaks off everything.
    pub(crate) fn close(&self) {
        let why = "this taskmanager has left the cluster".into();
        std::mem::take(&mut *locked(&self.connections)).values().for_each(|c| c.break_off(&why));
    }

    fn connect(&self, address: Arc<str>) -> Arc<Outgoing> {
        let outgoing = Arc::new(Outgoing::default());
        let (config, carried) = (self.config.clone(), outgoing.clone());
        self.runtime.spawn(async move {
            if let Err(e) = carry(&config, &address, &carried).await {
                carried.break_off(&format!("the connection to the taskmanager at {address}: {e}").into());
            }
        });
        outgoing
    }
}

impl Network for DataPlane {
    fn open(&self, address: &str, attempt: Attempt, channel: ChannelId) -> Outbound {
        let mut connections = locked(&self.connections);
        // A taskmanager that joins again has another address: what is left of the old one would stay for ever.
        connections.retain(|_, connection| !connection.is_broken());
        if let Some(outbound) = connections.get(address).and_then(|c| c.open(attempt, channel)) {
            return outbound;
        }
        let address: Arc<str> = address.into();
        loop {
            let connection = self.connect(address.clone());
            // A connection that is new can only be broken if it was refused within this moment.
            if let Some(outbound) = connection.open(attempt, channel) {
                connections.insert(address, connection);
                return outbound;
            }
        }
    }
}

/// Connects, and carries frames until something is wrong.
async fn carry(config: &DataPlaneConfig, address: &str, outgoing: &Outgoing) -> Result<()> {
    let (mut from, mut to) = within(config.patience, greet(config, address)).await?;
    let reading = async {
        loop {
            match from.next().await? {
                Message::Ping => {}
                Message::Frame(Frame::Credit { channel, bytes }) => {
                    let credit = locked(&outgoing.channels).credits.get(&channel).cloned();
                    if let Some(credit) = credit {
                        credit.grant(bytes);
                    }
                }
                other => return Err(Error::data(format!("it sent what only a sender sends: {other:?}"))),
            }
        }
    };
    let writing = write_all(&mut to, &outgoing.outbox, config.patience, |frame| {
        if let Frame::Close { channel } = frame {
            locked(&outgoing.channels).credits.remove(channel);
        }
    });
    tokio::select! {
        outcome = reading => outcome,
        outcome = writing => outcome,
    }
}

async fn greet(config: &DataPlaneConfig, address: &str) -> Result<(Reader<In>, Writer<Out>)> {
    let (mut from, mut to) = connected(address, config.tls.as_ref(), config.patience).await?;
    let ours = Greeting::new(&config.nonces);
    send_greeting(&mut to, ours).await?;
    let theirs = read_greeting(&mut from).await?;
    theirs.check_version()?;
    let [there, back] = sums(ours, theirs);
    let (mut from, mut to) = (Reader { from, sums: back }, Writer { to, sums: there });
    let hello = Hello { job: config.job.to_string(), secret: config.secret.clone() };
    to.say(&Message::Hello(hello)).await?;
    match from.next().await? {
        Message::Welcome => Ok((from, to)),
        Message::Refused(why) => Err(Error::restart_job(format!("refused: {why}"))),
        other => Err(Error::data(format!("not an answer to a greeting: {other:?}"))),
    }
}

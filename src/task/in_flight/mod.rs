//! Records in flight: what a barrier has overtaken, as bytes that any subtask can deal out again.

mod collect;
mod deal;
mod replay;
#[cfg(test)]
mod tests;

pub(crate) use collect::InFlightCollector;
pub(crate) use deal::{NewSubtask, deal};
pub(crate) use replay::{Replay, replay};

use crate::error::{Error, Result};
use crate::function::Timestamp;
use crate::graph::Partitioning;
use crate::id::OperatorUid;
use crate::operator::InputSide;
use serde::{Deserialize, Serialize};

/// The first byte of an element.
const WATERMARK: u8 = 0;
const RECORD: u8 = 1;
const KEYED_RECORD: u8 = 2;

/// Everything in flight to one subtask: the content of a file of its own in a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InFlight {
    /// The type of the records, as people call it.
    pub(crate) record: String,
    /// Its schema.
    pub(crate) schema: String,
    /// Channels that had something in flight.
    pub(crate) channels: Vec<InFlightChannel>,
}

/// What was in flight in one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InFlightChannel {
    /// The exchange it belongs to.
    pub(crate) edge: EdgeName,
    /// How the exchange spreads records.
    pub(crate) partitioning: Partitioning,
    /// The sending subtask.
    pub(crate) sender: u32,
    /// How many sending subtasks there were.
    pub(crate) senders: u32,
    /// Elements one behind the other, see [`InFlightElement`].
    pub(crate) elements: Vec<u8>,
}

/// How an exchange into a vertex is found again in another run of the program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct EdgeName {
    /// The operator that produces the records.
    pub(crate) from: OperatorUid,
    /// Which of its side outputs, if not its main output.
    pub(crate) side_output: Option<String>,
    /// Which of the consumer's inputs, if it has two.
    pub(crate) input: Option<InputSide>,
    /// Which of the exchanges of which all this is the same.
    pub(crate) number: u32,
}

impl std::fmt::Display for EdgeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "operator '{}'", self.from)?;
        match &self.side_output {
            Some(name) => write!(f, ", side output '{name}'"),
            None => Ok(()),
        }
    }
}

/// A channel of a gate, as it is known in checkpoints.
#[derive(Clone, Debug)]
pub(crate) struct ChannelName {
    pub(crate) edge: EdgeName,
    pub(crate) partitioning: Partitioning,
    pub(crate) sender: u32,
    pub(crate) senders: u32,
}

impl ChannelName {
    /// What was in flight in this channel.
    pub(crate) fn with(&self, elements: Vec<u8>) -> InFlightChannel {
        let Self { edge, partitioning, sender, senders } = self.clone();
        InFlightChannel { edge, partitioning, sender, senders, elements }
    }
}

/// One element, its value still encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InFlightElement<'a> {
    Watermark(Timestamp),
    Record { timestamp: Timestamp, hash: Option<u64>, value: &'a [u8] },
}

impl InFlightElement<'_> {
    /// Appends it.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Watermark(watermark) => {
                out.push(WATERMARK);
                out.extend_from_slice(&watermark.to_le_bytes());
            }
            Self::Record { timestamp, hash, value } => {
                put_head(timestamp, hash, out);
                out.extend_from_slice(&(value.len() as u32).to_le_bytes());
                out.extend_from_slice(value);
            }
        }
    }
}

fn put_head(timestamp: Timestamp, hash: Option<u64>, out: &mut Vec<u8>) {
    out.push(if hash.is_some() { KEYED_RECORD } else { RECORD });
    out.extend_from_slice(&timestamp.to_le_bytes());
    if let Some(hash) = hash {
        out.extend_from_slice(&hash.to_le_bytes());
    }
}

/// Reads elements that lie one behind the other.
#[derive(Clone, Debug)]
pub(crate) struct InFlightElements<'a>(&'a [u8]);

impl InFlightChannel {
    /// Its elements, in order.
    pub(crate) fn elements(&self) -> InFlightElements<'_> {
        InFlightElements(&self.elements)
    }
}

impl<'a> InFlightElements<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length).ok_or_else(|| {
            Error::data(format!(
                "records in flight end early: {length} bytes are due, {} are there",
                self.0.len()
            ))
        })?;
        self.0 = rest;
        Ok(head)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn element(&mut self) -> Result<InFlightElement<'a>> {
        let [tag] = self.take_array()?;
        let timestamp = Timestamp::from_le_bytes(self.take_array()?);
        let hash = match tag {
            WATERMARK => return Ok(InFlightElement::Watermark(timestamp)),
            RECORD => None,
            KEYED_RECORD => Some(u64::from_le_bytes(self.take_array()?)),
            other => return Err(Error::data(format!("there is no element {other} in flight"))),
        };
        let length = u32::from_le_bytes(self.take_array()?);
        Ok(InFlightElement::Record { timestamp, hash, value: self.take(length as usize)? })
    }
}

impl<'a> Iterator for InFlightElements<'a> {
    type Item = Result<InFlightElement<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let element = self.element();
        if element.is_err() {
            self.0 = &[];
        }
        Some(element)
    }
}

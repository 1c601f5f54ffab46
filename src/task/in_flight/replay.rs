//! Records in flight on their way back into a gate.

use crate::error::{Error, Result};
use crate::function::Data;
use crate::operator::Batch;
use crate::task::channel::Element;
use crate::task::in_flight::{InFlight, InFlightChannel, InFlightElement};
use std::collections::VecDeque;
use tidegate_state::schema::Schema;
use tidegate_state::{codec, short_type_name};

/// Records per batch.
const BATCH_RECORDS: usize = 1024;

/// What a gate has to process before any new element, with the channel each comes in.
pub(crate) type Replay<T> = VecDeque<(usize, Element<T>)>;

/// What was in flight to a subtask, as elements for its gate. `channel_of` finds the channel of this gate that stands for
/// one of the checkpoint.
///
/// # Errors
/// A config error if the program has other records or exchanges; a data error for what cannot be decoded.
pub(crate) fn replay<T: Data>(
    in_flight: &[InFlight],
    channel_of: impl Fn(&InFlightChannel) -> Result<usize>,
) -> Result<Replay<T>> {
    let mut replay = Replay::new();
    for part in in_flight {
        if part.channels.is_empty() {
            continue;
        }
        let schema = Schema::of::<T>().map_err(|e| e.at("records in flight"))?.to_string();
        if part.schema != schema {
            return Err(Error::config(format!(
                "records in flight are {} in the checkpoint and {} in the program, or are made of other fields",
                part.record,
                short_type_name::<T>()
            ))
            .hint("take a savepoint with the program that wrote the checkpoint: it has no records in flight"));
        }
        for channel in &part.channels {
            let place = || format!("records in flight from {}", channel.edge);
            let index = channel_of(channel).map_err(|e| e.at(place()))?;
            replay_channel(channel, index, &mut replay).map_err(|e| e.at(place()))?;
        }
    }
    Ok(replay)
}

fn replay_channel<T: Data>(channel: &InFlightChannel, index: usize, replay: &mut Replay<T>) -> Result<()> {
    let mut open = Batch::default();
    for element in channel.elements() {
        match element? {
            InFlightElement::Record { timestamp, hash, value } => {
                let value = codec::decode(value)?;
                if open.len() >= BATCH_RECORDS || !open.is_empty() && open.is_hashed() != hash.is_some() {
                    replay.push_back((index, Element::Batch(std::mem::take(&mut open))));
                }
                match hash {
                    Some(hash) => open.push_hashed(value, timestamp, hash),
                    None => open.push(value, timestamp),
                }
            }
            InFlightElement::Watermark(watermark) => {
                if !open.is_empty() {
                    replay.push_back((index, Element::Batch(std::mem::take(&mut open))));
                }
                replay.push_back((index, Element::Watermark(watermark)));
            }
        }
    }
    if !open.is_empty() {
        replay.push_back((index, Element::Batch(open)));
    }
    Ok(())
}

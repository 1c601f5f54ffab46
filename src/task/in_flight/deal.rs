//! How the records in flight to old subtasks are dealt out to new ones. Pure.

use crate::error::{Error, Result};
use crate::graph::Partitioning;
use crate::task::in_flight::{InFlight, InFlightChannel, InFlightElement};
use tidegate_state::{KeyGroupRange, key_group_of};

/// Who is to get what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewSubtask {
    pub(crate) index: u32,
    pub(crate) parallelism: u32,
    /// The key groups it owns.
    pub(crate) key_groups: KeyGroupRange,
    pub(crate) max_parallelism: u16,
}

/// The part of a new subtask in what was in flight to all old ones, in their order, if there are more or fewer of them now:
/// records of its key groups, and of those without a key one in turn. Watermarks are left out, as they were said of all
/// records of a channel; they come anew.
///
/// # Errors
/// A data error for what cannot be decoded.
pub(crate) fn deal(all: Vec<InFlight>, to: NewSubtask) -> Result<Vec<InFlight>> {
    let mut turn = 0;
    let mut parts = Vec::new();
    for mut old in all {
        for channel in &mut old.channels {
            channel.elements = share(channel, to, &mut turn)?;
        }
        old.channels.retain(|channel| !channel.elements.is_empty());
        parts.push(old);
    }
    Ok(parts)
}

fn share(channel: &InFlightChannel, to: NewSubtask, turn: &mut u32) -> Result<Vec<u8>> {
    let mut share = Vec::new();
    for element in channel.elements() {
        let element = element?;
        let InFlightElement::Record { hash, .. } = element else { continue };
        let is_mine = match (channel.partitioning, hash) {
            (Partitioning::Hash, Some(hash)) => {
                to.key_groups.contains(key_group_of(hash, to.max_parallelism))
            }
            (Partitioning::Rebalance, None) => {
                let is_mine = *turn == to.index;
                *turn = if *turn + 1 >= to.parallelism { 0 } else { *turn + 1 };
                is_mine
            }
            (partitioning, _) => {
                return Err(Error::data(format!(
                    "records in flight from {} cannot be dealt out anew: {partitioning:?}, {} a key",
                    channel.edge,
                    if hash.is_some() { "with" } else { "without" }
                )));
            }
        };
        if is_mine {
            element.put(&mut share);
        }
    }
    Ok(share)
}

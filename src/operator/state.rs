//! Operator state: what an operator keeps that belongs to no key, and how it is dealt out again.

use crate::error::{Error, Result};
use crate::function::{NO_WATERMARK, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tidegate_state::codec;

/// Non-keyed state of one operator of one subtask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorState {
    /// The watermark it had reached.
    pub watermark: Timestamp,
    /// Whether its input had ended, and everything that follows from that was done.
    pub ended: bool,
    /// Named lists of encoded elements; an element belongs to exactly one subtask.
    pub lists: BTreeMap<String, Vec<Vec<u8>>>,
}

impl Default for OperatorState {
    fn default() -> Self {
        Self { watermark: NO_WATERMARK, ended: false, lists: BTreeMap::new() }
    }
}

impl OperatorState {
    /// Whether there is anything worth a file.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds a list of encoded elements.
    ///
    /// # Errors
    /// A bug error if an element cannot be encoded.
    pub fn put_list<T: Serialize>(
        &mut self,
        name: &str,
        elements: impl IntoIterator<Item = T>,
    ) -> Result<()> {
        let mut encoded = Vec::new();
        for element in elements {
            let mut bytes = Vec::new();
            codec::encode(&element, &mut bytes)?;
            encoded.push(bytes);
        }
        self.lists.insert(name.to_owned(), encoded);
        Ok(())
    }
}

/// The operator state one new subtask starts from.
#[derive(Clone, Debug, Default)]
pub struct RestoredState {
    own: OperatorState,
    /// Every old subtask's state, in order.
    all: Vec<OperatorState>,
}

impl RestoredState {
    /// Deals out the states of all old subtasks: with unchanged parallelism each keeps its own; otherwise the
    /// elements of every list are dealt out in turn and the watermark is the lowest.
    ///
    /// # Errors
    /// A config error if the parallelism has changed while the input of only some old subtasks had ended.
    pub fn deal(all: Vec<OperatorState>, index: u32, parallelism: u32) -> Result<Self> {
        if all.len() == parallelism as usize {
            let own = all.get(index as usize).cloned().unwrap_or_default();
            return Ok(Self { own, all });
        }
        let ended = all.iter().filter(|s| s.ended).count();
        if ended != 0 && ended != all.len() {
            return Err(Error::config(format!(
                "the input of {ended} of {} old subtasks had ended at this checkpoint, so it cannot be restored with \
                 another parallelism",
                all.len()
            ))
            .hint("restore with the old parallelism or from an earlier checkpoint"));
        }
        let mut own = OperatorState {
            watermark: all.iter().map(|s| s.watermark).min().unwrap_or(NO_WATERMARK),
            ended: ended != 0,
            lists: BTreeMap::new(),
        };
        let mut dealt: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, element) in
            all.iter().flat_map(|s| s.lists.iter().flat_map(|(n, l)| l.iter().map(move |e| (n, e))))
        {
            let turn = dealt.entry(name).or_default();
            if *turn % parallelism as usize == index as usize {
                own.lists.entry(name.clone()).or_default().push(element.clone());
            }
            *turn += 1;
        }
        Ok(Self { own, all })
    }

    /// The watermark to go on from.
    pub fn watermark(&self) -> Timestamp {
        self.own.watermark
    }

    /// Whether the input had ended before.
    pub fn ended(&self) -> bool {
        self.own.ended
    }

    /// This subtask's share of a list.
    ///
    /// # Errors
    /// A data error if an element is not of type `T`.
    pub fn list<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>> {
        decode_list(&self.own, name)
    }

    /// The list of all old subtasks together.
    ///
    /// # Errors
    /// A data error if an element is not of type `T`.
    pub fn union_list<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>> {
        let mut union = Vec::new();
        for state in &self.all {
            union.extend(decode_list(state, name)?);
        }
        Ok(union)
    }
}

fn decode_list<T: DeserializeOwned>(state: &OperatorState, name: &str) -> Result<Vec<T>> {
    let elements = state.lists.get(name).map_or(&[][..], Vec::as_slice);
    elements
        .iter()
        .map(|bytes| codec::decode(bytes).map_err(|e| e.at(format!("operator state '{name}'"))))
        .collect()
}

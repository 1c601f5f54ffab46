//! How the operator state of old subtasks is dealt out to new ones.

use crate::error::Result;
use crate::function::{NO_WATERMARK, Redistribution, RestoredList, Timestamp};
use crate::operator::OperatorState;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use tidegate_state::codec;

/// The operator state one new subtask starts from.
#[derive(Clone, Debug, Default)]
pub struct RestoredState {
    own: OperatorState,
    /// Every old subtask's state, in order.
    all: Vec<OperatorState>,
}

impl RestoredState {
    /// Deals out the states of all old subtasks. With unchanged parallelism each keeps its own. Otherwise the watermark
    /// is the lowest, the elements of every list are dealt out in turn, and broadcast states are copied from the old
    /// subtasks in turn.
    ///
    /// If the input of only some old subtasks had ended, it counts as not ended, and their split lists are left out:
    /// what they held back they have put out when their input ended, and what is left belongs to no running subtask.
    pub fn deal(all: Vec<OperatorState>, index: u32, parallelism: u32) -> Self {
        if all.len() == parallelism as usize {
            let own = all.get(index as usize).cloned().unwrap_or_default();
            return Self { own, all };
        }
        let every = |ended: &dyn Fn(&OperatorState) -> bool| !all.is_empty() && all.iter().all(ended);
        let ended = every(&|s| s.ended);
        let mut own = OperatorState {
            watermark: all.iter().map(|s| s.watermark).min().unwrap_or(NO_WATERMARK),
            ended,
            sides_ended: [0, 1].map(|side| every(&|s| s.sides_ended.get(side) == Some(&true))),
            lists: BTreeMap::new(),
        };
        let mut dealt: BTreeMap<&str, usize> = BTreeMap::new();
        let copied = index as usize % all.len().max(1);
        for (old, state) in all.iter().enumerate() {
            for (name, list) in &state.lists {
                let left_out = match list.redistribution {
                    Redistribution::Split => state.ended && !ended,
                    Redistribution::Union => false,
                    Redistribution::Broadcast => old != copied,
                };
                let share = own.lists.entry(name.clone()).or_default();
                share.redistribution = list.redistribution;
                share.element.clone_from(&list.element);
                share.schema.clone_from(&list.schema);
                if left_out {
                    continue;
                }
                if list.redistribution == Redistribution::Broadcast {
                    share.elements.clone_from(&list.elements);
                    continue;
                }
                let turn = dealt.entry(name).or_default();
                for element in &list.elements {
                    if *turn % parallelism as usize == index as usize {
                        share.elements.push(element.clone());
                    }
                    *turn += 1;
                }
            }
        }
        Self { own, all }
    }

    /// The watermark to go on from.
    pub fn watermark(&self) -> Timestamp {
        self.own.watermark
    }

    /// Whether the input had ended before.
    pub fn ended(&self) -> bool {
        self.own.ended
    }

    /// Whether each of two inputs had ended before.
    pub fn sides_ended(&self) -> [bool; 2] {
        self.own.sides_ended
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

    /// All lists, as functions ask for them.
    pub(crate) fn lists(&self) -> BTreeMap<String, RestoredList> {
        let mut lists = BTreeMap::new();
        for (name, list) in self.all.iter().flat_map(|state| &state.lists) {
            let restored: &mut RestoredList = lists.entry(name.clone()).or_default();
            restored.part.redistribution = list.redistribution;
            restored.part.element.clone_from(&list.element);
            restored.part.schema.clone_from(&list.schema);
            if list.redistribution == Redistribution::Union {
                restored.union.extend_from_slice(&list.elements);
            }
        }
        for (name, list) in &self.own.lists {
            lists.entry(name.clone()).or_default().part = list.clone();
        }
        lists
    }
}

fn decode_list<T: DeserializeOwned>(state: &OperatorState, name: &str) -> Result<Vec<T>> {
    let elements = state.lists.get(name).map_or(&[][..], |list| &list.elements);
    elements
        .iter()
        .map(|bytes| codec::decode(bytes).map_err(|e| e.at(format!("operator state '{name}'"))))
        .collect()
}

#[cfg(test)]
#[path = "restored_tests.rs"]
mod tests;

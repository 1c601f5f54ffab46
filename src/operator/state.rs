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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use proptest::prelude::*;

    fn state(watermark: Timestamp, ended: bool, splits: &[u32]) -> OperatorState {
        let mut state = OperatorState { watermark, ended, ..OperatorState::default() };
        state.put_list("splits", splits).unwrap();
        state
    }

    #[test]
    fn with_the_same_parallelism_each_keeps_its_own() {
        let all = vec![state(5, true, &[1, 2]), state(9, false, &[])];
        let second = RestoredState::deal(all.clone(), 1, 2).unwrap();
        assert_eq!((second.watermark(), second.ended()), (9, false));
        assert!(second.list::<u32>("splits").unwrap().is_empty());
        assert_eq!(second.union_list::<u32>("splits").unwrap(), [1, 2]);
        let first = RestoredState::deal(all, 0, 2).unwrap();
        assert_eq!((first.watermark(), first.ended()), (5, true));
        assert_eq!(first.list::<u32>("splits").unwrap(), [1, 2]);
    }

    #[test]
    fn with_another_the_lowest_watermark_counts_and_what_has_ended_must_have_ended_everywhere() {
        let ended = |ended: [bool; 2]| {
            let all = vec![state(5, ended[0], &[]), state(9, ended[1], &[])];
            RestoredState::deal(all, 2, 3)
        };
        let both = ended([true, true]).unwrap();
        assert_eq!((both.watermark(), both.ended()), (5, true));
        assert!(!ended([false, false]).unwrap().ended());
        let e = ended([true, false]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Config);
        assert!(
            e.to_string().contains("1 of 2 old subtasks") && e.to_string().contains("old parallelism"),
            "{e}"
        );
    }

    #[test]
    fn a_list_of_another_type_is_named() {
        let restored = RestoredState::deal(vec![state(0, false, &[1])], 0, 1).unwrap();
        let e = restored.list::<String>("splits").unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Data);
        assert!(e.to_string().contains("operator state 'splits'"), "{e}");
        assert!(restored.list::<u32>("unknown").unwrap().is_empty());
    }

    proptest! {
        /// Whatever the parallelism before and after: every element is in one subtask, and the shares are even.
        #[test]
        fn every_element_is_dealt_out_once(
            old in proptest::collection::vec(proptest::collection::vec(any::<u32>(), 0..5), 1..6),
            parallelism in 1u32..7,
        ) {
            let states: Vec<OperatorState> = old.iter().map(|splits| state(0, false, splits)).collect();
            let mut shares = Vec::new();
            for index in 0..parallelism {
                let restored = RestoredState::deal(states.clone(), index, parallelism).unwrap();
                prop_assert_eq!(restored.union_list::<u32>("splits").unwrap(), old.concat());
                shares.push(restored.list::<u32>("splits").unwrap());
            }
            let (least, most) = (shares.iter().map(Vec::len).min(), shares.iter().map(Vec::len).max());
            prop_assert!(old.len() == parallelism as usize || most.unwrap() - least.unwrap() <= 1);
            let mut dealt = shares.concat();
            let mut all = old.concat();
            dealt.sort();
            all.sort();
            prop_assert_eq!(dealt, all);
        }
    }
}

//! Operator state at rest: what an operator of one subtask keeps that belongs to no key.

use crate::error::Result;
use crate::function::{NO_WATERMARK, Redistribution, StoredList, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tidegate_state::{codec, short_type_name};

/// Non-keyed state of one operator of one subtask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorState {
    /// The watermark it had reached.
    pub watermark: Timestamp,
    /// Whether its input had ended, and everything that follows from that was done.
    pub ended: bool,
    /// The same of each of two inputs.
    pub sides_ended: [bool; 2],
    /// Lists of encoded elements by name.
    pub lists: BTreeMap<String, StoredList>,
}

impl Default for OperatorState {
    fn default() -> Self {
        Self { watermark: NO_WATERMARK, ended: false, sides_ended: [false; 2], lists: BTreeMap::new() }
    }
}

impl OperatorState {
    /// Whether there is anything worth a file.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds a list of encoded elements, each of which belongs to exactly one subtask.
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
        let list = StoredList {
            redistribution: Redistribution::Split,
            // Some callers hand in references.
            element: short_type_name::<T>().trim_start_matches('&').to_owned(),
            schema: String::new(),
            elements: encoded,
        };
        self.lists.insert(name.to_owned(), list);
        Ok(())
    }
}

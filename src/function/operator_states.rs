//! The registry of an operator's non-keyed states: handles by name, what was restored, what a barrier freezes.

use crate::error::{Error, Result};
use crate::function::{BroadcastState, OperatorListState};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use tidegate_state::schema::Schema;
use tidegate_state::{Key, State, short_type_name};

/// Who gets which elements of an operator state after a restore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Redistribution {
    /// Each element goes to one subtask.
    #[default]
    Split,
    /// All elements go to every subtask.
    Union,
    /// Every subtask gets the elements that one old subtask had.
    Broadcast,
}

/// One named operator state at rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredList {
    /// How it is dealt out after a restore.
    pub redistribution: Redistribution,
    /// The type of an element, for checks and messages.
    pub element: String,
    /// The schema of the elements, of the values of a broadcast state; empty if it is not known.
    pub schema: String,
    /// The encoded elements.
    pub elements: Vec<Vec<u8>>,
}

impl StoredList {
    /// The state as people call it.
    fn describe(&self) -> String {
        describe(self.redistribution, &self.element)
    }
}

fn describe(redistribution: Redistribution, element: &str) -> String {
    let word = match redistribution {
        Redistribution::Split => "list",
        Redistribution::Union => "union list",
        Redistribution::Broadcast => "broadcast state",
    };
    format!("{word} of {element}")
}

/// One named operator state as a subtask is given it.
#[derive(Clone, Debug, Default)]
pub(crate) struct RestoredList {
    /// This subtask's part.
    pub(crate) part: StoredList,
    /// The elements of all old subtasks, if it is a union list.
    pub(crate) union: Vec<Vec<u8>>,
}

/// Encodes a frozen state on another thread.
type Encode = Box<dyn FnOnce() -> Result<Vec<Vec<u8>>> + Send>;

/// A state that was registered.
struct Registered {
    redistribution: Redistribution,
    element: String,
    schema: String,
    /// The handle, for a second registration of the same name.
    handle: Box<dyn Any>,
    freeze: Box<dyn Fn() -> Result<Encode>>,
}

/// The operator states of one operator of one subtask.
#[derive(Default)]
pub(crate) struct OperatorStates {
    registered: BTreeMap<String, Registered>,
    /// What was restored and not yet asked for.
    restored: BTreeMap<String, RestoredList>,
    /// Whether the operator has a broadcast input.
    has_broadcast_input: bool,
}

impl OperatorStates {
    pub(crate) fn new(restored: BTreeMap<String, RestoredList>, has_broadcast_input: bool) -> Self {
        Self { registered: BTreeMap::new(), restored, has_broadcast_input }
    }

    pub(crate) fn list<T: State>(
        &mut self,
        name: &str,
        redistribution: Redistribution,
    ) -> Result<OperatorListState<T>> {
        let of = (redistribution, short_type_name::<T>());
        self.register(name, of, Schema::of::<T>, OperatorListState::restore, |state| {
            let frozen = state.freeze()?;
            Ok(Box::new(move || OperatorListState::encode(&frozen)))
        })
    }

    pub(crate) fn broadcast<K: Key, V: State>(&mut self, name: &str) -> Result<BroadcastState<K, V>> {
        if !self.has_broadcast_input {
            return Err(Error::config(format!(
                "broadcast state '{name}' is registered by a function without a broadcast input"
            ))
            .hint("connect the stream with a broadcast stream, or use another kind of state"));
        }
        let of = (Redistribution::Broadcast, short_type_name::<(K, V)>());
        self.register(name, of, Schema::of::<V>, BroadcastState::restore, |state| {
            let frozen = state.freeze()?;
            Ok(Box::new(move || BroadcastState::encode(&frozen)))
        })
    }

    fn register<H: Clone + 'static>(
        &mut self,
        name: &str,
        (redistribution, element): (Redistribution, String),
        schema: fn() -> Result<Schema>,
        restore: impl FnOnce(&[Vec<u8>]) -> Result<H>,
        freeze: impl Fn(&H) -> Result<Encode> + 'static,
    ) -> Result<H> {
        let wanted = describe(redistribution, &element);
        let refuse = |is: String| {
            let message = format!("operator state '{name}' is a {is} and is asked for as a {wanted}");
            Error::config(message).hint("use the same kind and type, or another name for the new state")
        };
        if let Some(state) = self.registered.get(name) {
            let handle = state.handle.downcast_ref::<H>();
            let same = state.redistribution == redistribution && state.element == element;
            return handle
                .filter(|_| same)
                .cloned()
                .ok_or_else(|| refuse(describe(state.redistribution, &state.element)));
        }
        let restored = self.restored.get(name);
        if let Some(RestoredList { part, .. }) = restored
            && (part.redistribution != redistribution || part.element != element)
        {
            return Err(refuse(format!("{} in the checkpoint", part.describe())));
        }
        let elements = restored.map_or(&[][..], |restored| match redistribution {
            Redistribution::Union => &restored.union,
            Redistribution::Split | Redistribution::Broadcast => &restored.part.elements,
        });
        let place = || format!("operator state '{name}'");
        let schema = schema().map_err(|e| e.at(place()))?.to_string();
        let handle = restore(elements).map_err(|e| e.at(place()))?;
        self.restored.remove(name);
        let frozen = handle.clone();
        let state = Registered {
            redistribution,
            element,
            schema,
            handle: Box::new(handle.clone()),
            freeze: Box::new(move || freeze(&frozen)),
        };
        self.registered.insert(name.to_owned(), state);
        Ok(handle)
    }

    /// Takes an image of all states; it visits no element. What was restored and never asked for goes into it as it is.
    pub(crate) fn freeze(&self) -> Result<FrozenLists> {
        let mut lists = Vec::new();
        for (name, state) in &self.registered {
            let list = StoredList {
                redistribution: state.redistribution,
                element: state.element.clone(),
                schema: state.schema.clone(),
                elements: Vec::new(),
            };
            lists.push((name.clone(), list, (state.freeze)()?));
        }
        for (name, RestoredList { part, .. }) in &self.restored {
            let elements = part.elements.clone();
            let list = StoredList { elements: Vec::new(), ..part.clone() };
            lists.push((name.clone(), list, Box::new(move || Ok(elements))));
        }
        Ok(FrozenLists(lists))
    }
}

impl fmt::Debug for OperatorStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorStates")
            .field("registered", &self.registered.keys())
            .field("restored", &self.restored.keys())
            .finish()
    }
}

/// An image of operator states, to be encoded off the task's thread.
#[derive(Default)]
pub struct FrozenLists(Vec<(String, StoredList, Encode)>);

impl FrozenLists {
    /// Encodes the states into `lists`.
    ///
    /// # Errors
    /// A data error if an element cannot be encoded.
    pub fn encode_into(self, lists: &mut BTreeMap<String, StoredList>) -> Result<()> {
        for (name, mut list, encode) in self.0 {
            list.elements = encode().map_err(|e| e.at(format!("operator state '{name}'")))?;
            lists.insert(name, list);
        }
        Ok(())
    }
}

impl fmt::Debug for FrozenLists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _, _)| name)).finish()
    }
}

/// The error of a state that is used while it is being changed.
pub(crate) fn in_use() -> Error {
    Error::config("an operator state is used while it is being changed")
        .hint("take what the change needs out of it first")
}

#[cfg(test)]
#[path = "operator_states_tests.rs"]
mod tests;

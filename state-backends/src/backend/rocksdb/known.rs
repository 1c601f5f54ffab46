//! The states that databases of an operator have had in this process.
//!
//! A column family that is created in an open database costs milliseconds: RocksDB writes the options of all of them to a
//! file, reads it back and compares. Those that are created together with the database cost that once. States are registered
//! after the database is open; but an operator that is restarted, or has several subtasks in a process, has had them before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// By operator.
static STATES: Mutex<BTreeMap<String, BTreeSet<String>>> = Mutex::new(BTreeMap::new());

/// What the operator may be about to register. It need not: a column family without a row is nobody's harm.
pub(super) fn states_of(operator: &str) -> BTreeSet<String> {
    STATES.lock().unwrap_or_else(PoisonError::into_inner).get(operator).cloned().unwrap_or_default()
}

/// The operator has registered this state.
pub(super) fn note(operator: &str, state: &str) {
    let mut states = STATES.lock().unwrap_or_else(PoisonError::into_inner);
    states.entry(operator.to_owned()).or_default().insert(state.to_owned());
}

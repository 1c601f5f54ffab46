//! What there is in a checkpoint, without its content.

use crate::id::OperatorUid;
use serde::Serialize;
use tidegate_state::{StateDescriptor, StateKind, TtlTime};

/// What an operator keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperatorSummary {
    /// Identity that state is matched by.
    pub uid: OperatorUid,
    /// Name shown to people.
    pub name: String,
    /// Number of subtasks that wrote it.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u16,
    /// What Rust calls the type of its keys; absent if it has no keyed state.
    pub key_type: Option<String>,
    /// Its states: those per key by name, then its lists.
    pub states: Vec<StateSummary>,
}

/// One state of an operator, over all its subtasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateSummary {
    /// The name it is registered under.
    pub name: String,
    /// `value`, `list`, `map`, `timer`, `reducing`, `aggregating` per key; `operator-list`, `union-list`, `broadcast` per
    /// subtask; `in-flight`: records that the operator had not processed, see
    /// [`CheckpointConfig::unaligned`](crate::checkpoint::CheckpointConfig::unaligned).
    pub kind: &'static str,
    /// The codec of its values; absent for timers.
    pub codec: Option<String>,
    /// Which time its stamps are of, if it has a time to live: `processing-time`, `processing-time-with-outages`,
    /// `event-time`.
    pub ttl: Option<&'static str>,
    /// The type of its namespaces, if it has some.
    pub namespace_type: Option<String>,
    /// The type of a map's own keys, or of a broadcast state's.
    pub map_key_type: Option<String>,
    /// What Rust calls the type of its values; absent for timers.
    pub value_type: Option<String>,
    /// The schema of its values; absent for timers, and for lists of sources and sinks.
    pub schema: Option<String>,
    /// Values, entries of maps, timers; elements of lists that belong to no key.
    pub rows: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

impl StateSummary {
    /// Whether it is kept per key.
    pub fn is_keyed(&self) -> bool {
        !matches!(self.kind, "operator-list" | "union-list" | "broadcast" | "in-flight")
    }

    /// Of keyed state, without rows.
    pub(super) fn of(state: &StateDescriptor) -> Self {
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let has_values = state.kind != StateKind::Timer;
        Self {
            name: state.name.clone(),
            kind: kind(state.kind),
            codec: has_values.then(|| state.codec.to_string()),
            ttl: state.ttl.map(time),
            namespace_type: named(&state.namespace_type),
            map_key_type: named(&state.user_key_type),
            value_type: has_values.then(|| state.value_type.clone()),
            schema: has_values.then(|| state.schema.to_string()),
            rows: 0,
            bytes: 0,
        }
    }
}

fn kind(kind: StateKind) -> &'static str {
    match kind {
        StateKind::Value => "value",
        StateKind::List => "list",
        StateKind::Map => "map",
        StateKind::Timer => "timer",
        StateKind::Reducing => "reducing",
        StateKind::Aggregating => "aggregating",
        _ => "other",
    }
}

fn time(time: TtlTime) -> &'static str {
    match time {
        TtlTime::Processing => "processing-time",
        TtlTime::ProcessingWithOutages => "processing-time-with-outages",
        TtlTime::Event => "event-time",
        _ => "other",
    }
}

//! What functions are handed while they are built and while they process.

use crate::error::Result;
use crate::function::{
    BroadcastState, Data, NO_TIMESTAMP, OperatorListState, OperatorStates, OutputTag, Redistribution,
    SideReceiver, Timestamp,
};
use crate::id::Attempt;
use std::cell::Ref;
use std::sync::Arc;
use tidegate_state::{
    AggregateFunction, AggregatingState, Key, KeyedBackend, ListState, MapState, ReducingState, State,
    StateOptions, TimerQueue, ValueState,
};

/// Which subtask of which operator runs this.
#[derive(Clone, Debug)]
pub struct SubtaskInfo {
    /// Name of the operator.
    pub operator: Arc<str>,
    /// Zero-based index of the subtask.
    pub index: u32,
    /// Number of subtasks of the operator.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u16,
    /// Which try at running the job this is, from 1.
    pub attempt: Attempt,
}

impl SubtaskInfo {
    /// How errors name the operator; the task adds which subtask it is.
    pub(crate) fn place(&self) -> String {
        format!("operator '{}'", self.operator)
    }
}

impl std::fmt::Display for SubtaskInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "operator '{}', subtask {} of {}", self.operator, self.index + 1, self.parallelism)
    }
}

/// Where time stands for an operator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeView {
    pub(crate) watermark: Timestamp,
    pub(crate) processing_ms: i64,
}

/// The operator states that the two open contexts register.
macro_rules! operator_states {
    () => {
        /// A list of this subtask. After a restore each element is in the list of one subtask: at the same parallelism
        /// in that of the subtask that had it, at another one the elements of all are dealt out in turn.
        ///
        /// # Errors
        /// A config error if the name is taken by an operator state of another kind or type, here or in the restored
        /// checkpoint.
        pub fn operator_list_state<T: State>(&mut self, name: &str) -> Result<OperatorListState<T>> {
            self.operator_states.list(name, Redistribution::Split)
        }

        /// A list of this subtask. After a restore, whatever the parallelism, every subtask finds the elements of all,
        /// in the order of the old subtasks. A subtask that needs only some of them must
        /// [replace](OperatorListState::replace) the list by those: what is left as it is comes back once per subtask
        /// at the next restore.
        ///
        /// # Errors
        /// As [`operator_list_state`](Self::operator_list_state).
        pub fn union_list_state<T: State>(&mut self, name: &str) -> Result<OperatorListState<T>> {
            self.operator_states.list(name, Redistribution::Union)
        }

        /// A map that every subtask has a copy of, for a function with a broadcast input. After a restore a subtask finds
        /// its own copy; subtasks that are new take those of the old ones in turn.
        ///
        /// # Errors
        /// As [`operator_list_state`](Self::operator_list_state), and if the function has no broadcast input.
        pub fn broadcast_state<UK: Key, UV: State>(&mut self, name: &str) -> Result<BroadcastState<UK, UV>> {
            self.operator_states.broadcast(name)
        }
    };
}

/// Handed to the closure that builds a [`ProcessFunction`](crate::function::ProcessFunction): registers operator state
/// by name. A name registered twice with the same kind and type is the same state.
#[derive(Debug)]
pub struct OpenContext<'a> {
    pub(crate) subtask: &'a SubtaskInfo,
    pub(crate) operator_states: &'a mut OperatorStates,
}

impl OpenContext<'_> {
    operator_states!();

    /// Which subtask the function is built for.
    pub fn subtask(&self) -> &SubtaskInfo {
        self.subtask
    }
}

/// Handed to the closure that builds a [`KeyedProcessFunction`](crate::function::KeyedProcessFunction): registers
/// state by name. A name registered twice with the same types is the same state.
#[derive(Debug)]
pub struct KeyedOpenContext<'a, K: Key> {
    pub(crate) subtask: &'a SubtaskInfo,
    pub(crate) backend: &'a mut KeyedBackend<K>,
    pub(crate) operator_states: &'a mut OperatorStates,
}

impl<K: Key> KeyedOpenContext<'_, K> {
    operator_states!();

    /// Which subtask the function is built for.
    pub fn subtask(&self) -> &SubtaskInfo {
        self.subtask
    }

    /// One value per key.
    ///
    /// # Errors
    /// A config error if the name is taken by state of another kind or type, here or in the restored checkpoint.
    pub fn value_state<T: State>(&mut self, name: &str) -> Result<ValueState<T>> {
        self.backend.value_state(name)
    }

    /// One value per key, with options.
    ///
    /// # Errors
    /// As [`KeyedOpenContext::value_state`].
    pub fn value_state_with<T: State>(
        &mut self,
        name: &str,
        options: StateOptions<T>,
    ) -> Result<ValueState<T>> {
        self.backend.value_state_with(name, options)
    }

    /// A list per key.
    ///
    /// # Errors
    /// As [`KeyedOpenContext::value_state`].
    pub fn list_state<T: State>(&mut self, name: &str) -> Result<ListState<T>> {
        self.backend.list_state(name)
    }

    /// A list per key, with options.
    ///
    /// # Errors
    /// As [`KeyedOpenContext::value_state`].
    pub fn list_state_with<T: State>(
        &mut self,
        name: &str,
        options: StateOptions<T>,
    ) -> Result<ListState<T>> {
        self.backend.list_state_with(name, options)
    }

    /// A map per key, ordered by its own keys.
    ///
    /// # Errors
    /// As [`KeyedOpenContext::value_state`].
    pub fn map_state<UK: Key, UV: State>(&mut self, name: &str) -> Result<MapState<UK, UV>> {
        self.backend.map_state(name)
    }

    /// A map per key, ordered by its own keys, with options.
    ///
    /// # Errors
    /// As [`KeyedOpenContext::value_state`].
    pub fn map_state_with<UK: Key, UV: State>(
        &mut self,
        name: &str,
        options: StateOptions<UV>,
    ) -> Result<MapState<UK, UV>> {
        self.backend.map_state_with(name, options)
    }

    /// One value per key, into which `reduce` folds whatever is added.
    ///
    /// # Errors
    /// As [`KeyedOpenContext::value_state`].
    pub fn reducing_state<T: State>(
        &mut self,
        name: &str,
        reduce: impl Fn(&mut T, T) + 'static,
    ) -> Result<ReducingState<T>> {
        self.backend.reducing_state(name, reduce)
    }

    /// One value per key, into which `reduce` folds whatever is added, with options.
    ///
    /// # Errors
    /// As [`KeyedOpenContext::value_state`].
    pub fn reducing_state_with<T: State>(
        &mut self,
        name: &str,
        reduce: impl Fn(&mut T, T) + 'static,
        options: StateOptions<T>,
    ) -> Result<ReducingState<T>> {
        self.backend.reducing_state_with(name, reduce, options)
    }

    /// One accumulator per key, filled by an [`AggregateFunction`].
    ///
    /// # Errors
    /// As [`KeyedOpenContext::value_state`].
    pub fn aggregating_state<A: AggregateFunction>(
        &mut self,
        name: &str,
        function: A,
    ) -> Result<AggregatingState<A>> {
        self.backend.aggregating_state(name, function)
    }

    /// One accumulator per key, filled by an [`AggregateFunction`], with options.
    ///
    /// # Errors
    /// As [`KeyedOpenContext::value_state`].
    pub fn aggregating_state_with<A: AggregateFunction>(
        &mut self,
        name: &str,
        function: A,
        options: StateOptions<A::Accumulator>,
    ) -> Result<AggregatingState<A>> {
        self.backend.aggregating_state_with(name, function, options)
    }
}

/// Handed to a [`ProcessFunction`](crate::function::ProcessFunction) with every record.
pub struct ProcessContext<'a> {
    pub(crate) timestamp: Timestamp,
    pub(crate) time: TimeView,
    pub(crate) subtask: &'a SubtaskInfo,
    pub(crate) side_outputs: &'a mut dyn SideReceiver,
}

/// What the contexts of functions share.
macro_rules! common_context {
    () => {
        /// Event time of the record or timer being processed, in milliseconds; `None` if it has none.
        pub fn timestamp(&self) -> Option<Timestamp> {
            (self.timestamp != NO_TIMESTAMP).then_some(self.timestamp)
        }

        /// The current watermark: no record at or below it is expected any more.
        pub fn watermark(&self) -> Timestamp {
            self.time.watermark
        }

        /// Processing time of the task's clock, in milliseconds since the Unix epoch.
        pub fn processing_time(&self) -> i64 {
            self.time.processing_ms
        }

        /// Which subtask runs this.
        pub fn subtask(&self) -> &SubtaskInfo {
            self.subtask
        }

        /// Emits to a side output, with the timestamp of what is being processed. A side output that the program
        /// never asks for drops its records.
        ///
        /// # Errors
        /// What the operators behind it report, or a config error if the tag's type is not the one asked for.
        pub fn side_output<S: Data>(&mut self, tag: &OutputTag<S>, value: S) -> Result<()> {
            self.side_outputs.emit_to(tag, value, self.timestamp)
        }
    };
}

pub(super) use common_context;

impl ProcessContext<'_> {
    common_context!();
}

/// The two timer queues of a keyed operator.
#[derive(Debug)]
pub(crate) struct TimerQueues<K: Key> {
    pub(crate) event: TimerQueue<K>,
    pub(crate) processing: TimerQueue<K>,
}

impl<K: Key> TimerQueues<K> {
    pub(crate) fn register(backend: &mut KeyedBackend<K>) -> Result<Self> {
        Ok(Self { event: backend.timers("timer/event")?, processing: backend.timers("timer/processing")? })
    }
}

/// Handed to a [`KeyedProcessFunction`](crate::function::KeyedProcessFunction) with every record and timer.
pub struct KeyedContext<'a, K: Key> {
    pub(crate) timestamp: Timestamp,
    pub(crate) time: TimeView,
    pub(crate) subtask: &'a SubtaskInfo,
    pub(crate) side_outputs: &'a mut dyn SideReceiver,
    pub(crate) key: Ref<'a, K>,
    pub(crate) timers: &'a TimerQueues<K>,
    pub(crate) event_timer: bool,
}

impl<K: Key> KeyedContext<'_, K> {
    common_context!();

    /// The current key.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// In `on_timer`: whether it is an event-time timer (otherwise a processing-time one).
    pub fn is_event_timer(&self) -> bool {
        self.event_timer
    }

    /// Calls `on_timer` for this key once the watermark has reached `time` (milliseconds). Registering the same time
    /// again changes nothing. A time that has passed already fires at the next watermark.
    ///
    /// # Errors
    /// A failing state backend.
    pub fn register_event_timer(&mut self, time: Timestamp) -> Result<()> {
        self.timers.event.register(time)
    }

    /// Calls `on_timer` for this key once the task's clock has reached `time` (milliseconds since the Unix epoch). Where
    /// the input ends, what has not come due by then never fires.
    ///
    /// # Errors
    /// A failing state backend.
    pub fn register_processing_timer(&mut self, time: i64) -> Result<()> {
        self.timers.processing.register(time)
    }

    /// Forgets an event-time timer of this key; one that does not exist is no error.
    ///
    /// # Errors
    /// A failing state backend.
    pub fn delete_event_timer(&mut self, time: Timestamp) -> Result<()> {
        self.timers.event.delete(time)
    }

    /// Forgets a processing-time timer of this key; one that does not exist is no error.
    ///
    /// # Errors
    /// A failing state backend.
    pub fn delete_processing_timer(&mut self, time: i64) -> Result<()> {
        self.timers.processing.delete(time)
    }
}

impl std::fmt::Debug for ProcessContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessContext").field("timestamp", &self.timestamp()).finish_non_exhaustive()
    }
}

impl<K: Key> std::fmt::Debug for KeyedContext<'_, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedContext")
            .field("key", &self.key)
            .field("timestamp", &self.timestamp())
            .finish_non_exhaustive()
    }
}

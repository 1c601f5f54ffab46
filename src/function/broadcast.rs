//! Functions over a stream and a broadcast stream: one input's records go to one subtask each, the other's to all.

use crate::error::Result;
use crate::function::context::common_context;
use crate::function::{
    BroadcastState, Collector, Data, KeyedContext, NO_TIMESTAMP, OutputTag, ProcessContext, SideReceiver,
    SubtaskInfo, TimeView, Timestamp, WritableBroadcastState,
};
use tidegate_state::{Key, KeyedBackend, KeyedState, State};

/// Processes the records of a stream by what a broadcast stream has said so far, without keyed state.
///
/// Nothing is said about the order between the two inputs: a record may come before the broadcast record that it
/// needs. Broadcast records of one broadcasting subtask come in their order, those of several may come to each subtask
/// in an order of its own.
pub trait BroadcastProcessFunction<I, B, O> {
    /// Takes one record of the stream. Broadcast states can be read.
    ///
    /// # Errors
    /// Fails the task; the job restarts from the last checkpoint if the error's kind allows.
    fn process_element(
        &mut self,
        value: I,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, O>,
    ) -> Result<()>;

    /// Takes one record of the broadcast stream; every subtask gets each of them. Broadcast states can be written, and
    /// must be written alike by every subtask.
    ///
    /// # Errors
    /// As [`BroadcastProcessFunction::process_element`].
    fn process_broadcast(
        &mut self,
        value: B,
        context: &mut BroadcastContext<'_>,
        out: &mut Collector<'_, O>,
    ) -> Result<()>;

    /// Both inputs have ended: emit what is left. Called once in the life of the job, also across restarts.
    ///
    /// # Errors
    /// As [`BroadcastProcessFunction::process_element`].
    fn finish(&mut self, _out: &mut Collector<'_, O>) -> Result<()> {
        Ok(())
    }
}

/// Processes the records of a keyed stream, with state and timers per key, by what a broadcast stream has said so far.
/// What [`BroadcastProcessFunction`] says of order holds here, too.
pub trait KeyedBroadcastProcessFunction<K: Key, I, B, O> {
    /// Takes one record of the keyed stream; state handles refer to its key. Broadcast states can be read.
    ///
    /// # Errors
    /// Fails the task; the job restarts from the last checkpoint if the error's kind allows.
    fn process_element(
        &mut self,
        value: I,
        context: &mut KeyedContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> Result<()>;

    /// Takes one record of the broadcast stream; every subtask gets each of them. Broadcast states can be written, and
    /// must be written alike by every subtask. There is no current key: keyed state is reached through
    /// [`KeyedBroadcastContext::apply_to_keyed_state`] alone.
    ///
    /// # Errors
    /// As [`KeyedBroadcastProcessFunction::process_element`].
    fn process_broadcast(
        &mut self,
        value: B,
        context: &mut KeyedBroadcastContext<'_, K>,
        out: &mut Collector<'_, O>,
    ) -> Result<()>;

    /// A timer of the current key is due, as in
    /// [`KeyedProcessFunction::on_timer`](crate::function::KeyedProcessFunction::on_timer).
    ///
    /// # Errors
    /// As [`KeyedBroadcastProcessFunction::process_element`].
    fn on_timer(
        &mut self,
        _time: Timestamp,
        _context: &mut KeyedContext<'_, K>,
        _out: &mut Collector<'_, O>,
    ) -> Result<()> {
        Ok(())
    }
}

/// Handed to a [`BroadcastProcessFunction`] with every broadcast record.
pub struct BroadcastContext<'a> {
    pub(crate) timestamp: Timestamp,
    pub(crate) time: TimeView,
    pub(crate) subtask: &'a SubtaskInfo,
    pub(crate) side_outputs: &'a mut dyn SideReceiver,
}

impl BroadcastContext<'_> {
    common_context!();

    /// The view of a broadcast state that writes.
    pub fn writable<'s, UK: Key, UV: State>(
        &'s self,
        state: &'s BroadcastState<UK, UV>,
    ) -> WritableBroadcastState<'s, UK, UV> {
        WritableBroadcastState::new(state)
    }
}

/// Handed to a [`KeyedBroadcastProcessFunction`] with every broadcast record.
pub struct KeyedBroadcastContext<'a, K: Key> {
    pub(crate) timestamp: Timestamp,
    pub(crate) time: TimeView,
    pub(crate) subtask: &'a SubtaskInfo,
    pub(crate) side_outputs: &'a mut dyn SideReceiver,
    pub(crate) backend: &'a KeyedBackend<K>,
}

impl<K: Key> KeyedBroadcastContext<'_, K> {
    common_context!();

    /// The view of a broadcast state that writes.
    pub fn writable<'s, UK: Key, UV: State>(
        &'s self,
        state: &'s BroadcastState<UK, UV>,
    ) -> WritableBroadcastState<'s, UK, UV> {
        WritableBroadcastState::new(state)
    }

    /// Calls `apply` with every key of this subtask that has something in `state`, and with the state's handle. Inside
    /// of it all keyed states refer to that key, and may be changed. The work is proportional to the number of keys,
    /// and the task does nothing else meanwhile.
    ///
    /// # Errors
    /// The first error of `apply`, which ends the visit, or a config error if `state` is not of this operator.
    pub fn apply_to_keyed_state<S: KeyedState>(
        &mut self,
        state: &S,
        mut apply: impl FnMut(&K, &mut S) -> Result<()>,
    ) -> Result<()> {
        let mut handle = state.clone();
        self.backend.for_each_key(state, |key| apply(key, &mut handle))
    }
}

impl std::fmt::Debug for BroadcastContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BroadcastContext").field("timestamp", &self.timestamp()).finish_non_exhaustive()
    }
}

impl<K: Key> std::fmt::Debug for KeyedBroadcastContext<'_, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedBroadcastContext").field("timestamp", &self.timestamp()).finish_non_exhaustive()
    }
}

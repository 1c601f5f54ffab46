//! The operator around a keyed process function: sets the current key, fires timers, freezes keyed state.

use crate::error::Result;
use crate::function::{
    Collector, Data, Emit, KeyedBroadcastContext, KeyedContext, KeyedProcessFunction, OperatorStates,
    SubtaskInfo, TimeView, TimerQueues, Timestamp,
};
use crate::id::OperatorUid;
use crate::operator::{
    Batch, Control, Operator, OperatorSnapshot, OperatorState, RestoredState, SideOutputs, named_panic,
};
use std::marker::PhantomData;
use std::sync::Arc;
use tidegate_state::{Key, KeyedBackend};

/// Records whose state is brought into the processor's caches at once: enough to keep its memory busy, too few to push
/// each other out.
pub(super) const AHEAD: usize = 64;

/// Keys or rows that are looked at per batch for what has expired.
const SWEPT_AT_ONCE: usize = 128;

/// How much of the state an operator without records looks at in a millisecond, for what is to be written to its store.
const IDLE_BUDGET: usize = 512;

/// How the key of a record is found and made current.
pub(crate) trait KeyPart<T, K: Key>: Send + Sync + 'static {
    /// The key's hash.
    fn hash(&self, value: &T) -> u64;
    /// Makes the record's key the current one.
    fn set_current(&self, value: &T, hash: u64, backend: &KeyedBackend<K>) -> Result<()>;
}

/// Runs a [`KeyedProcessFunction`].
pub(crate) struct KeyedOperator<K: Key, S: ?Sized, P, I, O> {
    uid: OperatorUid,
    subtask: SubtaskInfo,
    key: Arc<S>,
    backend: KeyedBackend<K>,
    operator_states: OperatorStates,
    timers: TimerQueues<K>,
    function: P,
    next: Box<dyn Operator<O>>,
    side_outputs: SideOutputs,
    time: TimeView,
    /// The input has ended: nothing may be emitted any more, so that no processing-time timer fires.
    ended: bool,
    input: PhantomData<fn(I)>,
}

impl<K, S, P, I, O> KeyedOperator<K, S, P, I, O>
where
    K: Key,
    S: KeyPart<I, K> + ?Sized,
    P: KeyedProcessFunction<K, I, O>,
    I: Data,
{
    #[expect(clippy::too_many_arguments, reason = "one call site; a struct would repeat the fields")]
    pub(crate) fn new(
        uid: OperatorUid,
        subtask: SubtaskInfo,
        key: Arc<S>,
        backend: KeyedBackend<K>,
        operator_states: OperatorStates,
        timers: TimerQueues<K>,
        function: P,
        next: Box<dyn Operator<O>>,
        side_outputs: SideOutputs,
        restored: &RestoredState,
    ) -> Self {
        let time = TimeView { watermark: restored.watermark(), processing_ms: 0 };
        Self {
            uid,
            subtask,
            key,
            backend,
            operator_states,
            timers,
            function,
            next,
            side_outputs,
            time,
            ended: restored.ended(),
            input: PhantomData,
        }
    }

    /// Announces records that come next, as many as there are hashes of their keys.
    pub(super) fn prefetch<'a>(
        &self,
        records: impl Fn(usize) -> Option<&'a I>,
        hashes: &[u64],
    ) -> Result<()> {
        let set_current = |index: usize| match (records(index), hashes.get(index)) {
            (Some(record), Some(hash)) => {
                named_panic(&self.subtask.operator, || self.key.set_current(record, *hash, &self.backend))
            }
            _ => Ok(()),
        };
        self.backend.prefetch(hashes, set_current).map_err(|e| e.at(self.subtask.place()))
    }

    /// Runs `run` while no key is the current one.
    pub(super) fn between_keys(
        &mut self,
        timestamp: Timestamp,
        run: impl FnOnce(&mut P, &mut KeyedBroadcastContext<'_, K>, &mut Collector<'_, O>) -> Result<()>,
    ) -> Result<()> {
        self.backend.clear_current_key()?;
        let mut context = KeyedBroadcastContext {
            timestamp,
            time: self.time,
            subtask: &self.subtask,
            side_outputs: &mut self.side_outputs,
            backend: &self.backend,
        };
        let mut out = Collector::new(&mut *self.next, timestamp);
        let result = named_panic(&self.subtask.operator, || run(&mut self.function, &mut context, &mut out));
        out.finish()?;
        result.map_err(|e| e.at(self.subtask.place()))
    }

    fn fire_event_timers(&mut self) -> Result<()> {
        while let Some(timer) = self.timers.event.pop_due(self.time.watermark)? {
            // Event time has got as far as the timer, whatever the watermark has jumped over.
            self.backend.set_watermark(timer.time);
            self.fire(timer.key, timer.hash, timer.time, true)?;
        }
        Ok(())
    }

    /// What is done to the state beside records, in small pieces: removes some of what has expired, writes some of what
    /// has not changed for a while, more of it behind many records. Returns after how many milliseconds it should go on.
    pub(super) fn keep_house(&mut self, records: usize) -> Result<Option<i64>> {
        let swept = self.backend.sweep(SWEPT_AT_ONCE);
        swept.and_then(|()| self.backend.write_back(records)).map_err(|e| e.at(self.subtask.place()))
    }

    fn fire(&mut self, key: K, hash: u64, time: Timestamp, event_timer: bool) -> Result<()> {
        self.backend.set_current_key(key, hash)?;
        // What an event-time timer emits happens at the timer's time; a processing-time timer has no event time.
        let timestamp = if event_timer { time } else { crate::function::NO_TIMESTAMP };
        let mut context = KeyedContext {
            timestamp,
            time: self.time,
            subtask: &self.subtask,
            side_outputs: &mut self.side_outputs,
            key: self.backend.current_key()?,
            timers: &self.timers,
            event_timer,
        };
        let mut out = Collector::new(&mut *self.next, timestamp);
        let result =
            named_panic(&self.subtask.operator, || self.function.on_timer(time, &mut context, &mut out));
        out.finish()?;
        result.map_err(|e| e.at(self.subtask.place()))
    }
}

impl<K, S, P, I, O> Emit<I> for KeyedOperator<K, S, P, I, O>
where
    K: Key,
    S: KeyPart<I, K> + ?Sized,
    P: KeyedProcessFunction<K, I, O>,
    I: Data,
{
    fn emit(&mut self, value: I, timestamp: Timestamp) -> Result<()> {
        let hash = self.key.hash(&value);
        self.emit_hashed(value, timestamp, hash)
    }

    #[inline]
    fn emit_hashed(&mut self, value: I, timestamp: Timestamp, hash: u64) -> Result<()> {
        named_panic(&self.subtask.operator, || self.key.set_current(&value, hash, &self.backend))?;
        let mut context = KeyedContext {
            timestamp,
            time: self.time,
            subtask: &self.subtask,
            side_outputs: &mut self.side_outputs,
            key: self.backend.current_key()?,
            timers: &self.timers,
            event_timer: false,
        };
        let mut out = Collector::new(&mut *self.next, timestamp);
        let result =
            named_panic(&self.subtask.operator, || self.function.process(value, &mut context, &mut out));
        out.finish()?;
        result.map_err(|e| e.at(self.subtask.place()))
    }
}

impl<K, S, P, I, O> Operator<I> for KeyedOperator<K, S, P, I, O>
where
    K: Key,
    S: KeyPart<I, K> + ?Sized,
    P: KeyedProcessFunction<K, I, O>,
    I: Data,
{
    fn watermark(&mut self, watermark: Timestamp) -> Result<()> {
        self.time.watermark = self.time.watermark.max(watermark);
        self.fire_event_timers()?;
        self.backend.set_watermark(self.time.watermark);
        self.side_outputs.watermark(watermark)?;
        self.next.watermark(watermark)
    }

    fn control(&mut self, control: &mut Control<'_>) -> Result<()> {
        match control {
            Control::EndOfInput => self.ended = true,
            Control::Time { now_ms, next_ms } if !self.ended => {
                self.time.processing_ms = *now_ms;
                self.backend.set_processing_time(*now_ms);
                let go_on_ms = self.keep_house(IDLE_BUDGET)?.map(|in_ms| now_ms.saturating_add(in_ms));
                while let Some(timer) = self.timers.processing.pop_due(*now_ms)? {
                    self.fire(timer.key, timer.hash, timer.time, false)?;
                }
                let due = self.timers.processing.next_due();
                **next_ms = [**next_ms, due, go_on_ms].into_iter().flatten().min();
            }
            Control::Barrier { barrier, snapshot } => {
                let frozen = self.backend.freeze(barrier.checkpoint.0, barrier.snapshot_mode());
                let keyed = Some(frozen.map_err(|e| e.at(self.subtask.place()))?);
                let lists = self.operator_states.freeze().map_err(|e| e.at(self.subtask.place()))?;
                let state = OperatorState {
                    watermark: self.time.watermark,
                    ended: self.ended,
                    ..OperatorState::default()
                };
                snapshot.operators.push(OperatorSnapshot {
                    uid: self.uid.clone(),
                    keyed,
                    lists,
                    in_flight: None,
                    state,
                });
            }
            _ => {}
        }
        self.side_outputs.control(control)?;
        self.next.control(control)
    }

    /// The state of many keys is waited for at once, not record by record.
    fn batch(&mut self, batch: &mut Batch<I>) -> Result<()> {
        if !batch.is_hashed() {
            return batch.drain_each(|value, timestamp, _| self.emit(value, timestamp));
        }
        let records = batch.len();
        batch.drain_few(
            AHEAD,
            self,
            |this, records, hashes| this.prefetch(|index| records.get(index), hashes),
            |this, value, timestamp, hash| this.emit_hashed(value, timestamp, hash),
        )?;
        self.keep_house(records).map(drop)
    }
}

#[cfg(test)]
#[path = "keyed_tests.rs"]
mod tests;

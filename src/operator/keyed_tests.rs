//! A keyed operator in front of a chain that writes down what it is given.

use super::*;
use crate::function::{NO_TIMESTAMP, NO_WATERMARK};
use crate::id::{Attempt, CheckpointId};
use crate::operator::ChainSnapshot;
use crate::operator::test_chain::{Journal, Recorder, barrier};
use std::sync::atomic::{AtomicUsize, Ordering};
use tidegate_state::{
    BackendOptions, BackendScope, ColdStore, CustomBackend, FrozenStore, KeyGroupRange, RowVisitor,
    WriteBatch,
};

struct Itself;

impl KeyPart<u64, u64> for Itself {
    fn hash(&self, value: &u64) -> u64 {
        value.hash64()
    }

    fn set_current(&self, value: &u64, hash: u64, backend: &KeyedBackend<u64>) -> Result<()> {
        backend.set_current_key(*value, hash)
    }
}

/// Sets both kinds of timer at the time that is the record.
struct Alarm;

impl KeyedProcessFunction<u64, u64, String> for Alarm {
    fn process(
        &mut self,
        n: u64,
        context: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        context.register_event_timer(n as i64)?;
        context.register_processing_timer(n as i64)
    }

    fn on_timer(
        &mut self,
        time: Timestamp,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let kind = if context.is_event_timer() { "event" } else { "processing" };
        out.collect(format!("{kind} {time} of {}", context.key()));
        Ok(())
    }
}

type Alarms = KeyedOperator<u64, Itself, Alarm, u64, String>;

/// The operator, what its output is given, and what its side output is.
fn operator(restored: &RestoredState) -> (Alarms, Journal, Journal) {
    operator_on(&BackendOptions::Memory, restored)
}

fn operator_on(backend: &BackendOptions, restored: &RestoredState) -> (Alarms, Journal, Journal) {
    let scope = BackendScope {
        operator: "alarm".into(),
        subtask: 0,
        max_parallelism: 8,
        range: KeyGroupRange::all(8),
        local_dir: None,
    };
    let mut backend = KeyedBackend::open(backend, scope, &[]).unwrap();
    let timers = TimerQueues {
        event: backend.timers("timer/event").unwrap(),
        processing: backend.timers("timer/processing").unwrap(),
    };
    let subtask = SubtaskInfo {
        operator: "alarm".into(),
        index: 0,
        parallelism: 1,
        max_parallelism: 8,
        attempt: Attempt(1),
    };
    let (log, side_log) = (Journal::default(), Journal::default());
    let next = Box::new(Recorder(log.clone()));
    let mut side_outputs = SideOutputs::default();
    side_outputs.add::<u64>("late", Box::new(Recorder(side_log.clone())));
    let uid = OperatorUid("alarm".into());
    let operator = KeyedOperator::new(
        uid,
        subtask,
        Arc::new(Itself),
        backend,
        OperatorStates::default(),
        timers,
        Alarm,
        next,
        side_outputs,
        restored,
    );
    (operator, log, side_log)
}

/// Tells the operator the time; when it wants to be called again.
fn clock(operator: &mut Alarms, now_ms: i64) -> Option<i64> {
    let mut next_ms = None;
    operator.control(&mut Control::Time { now_ms, next_ms: &mut next_ms }).unwrap();
    next_ms
}

fn freeze(operator: &mut Alarms) -> OperatorState {
    let mut snapshot = ChainSnapshot::default();
    let barrier = barrier(1);
    operator.control(&mut Control::Barrier { barrier, snapshot: &mut snapshot }).unwrap();
    snapshot.operators.pop().unwrap().state
}

#[test]
fn timers_fire_for_their_key_ahead_of_the_watermark_and_at_their_time() {
    let (mut operator, log, _) = operator(&RestoredState::default());
    for n in [30, 10, 20] {
        operator.emit(n, NO_TIMESTAMP).unwrap();
    }
    operator.watermark(20).unwrap();
    assert_eq!(log.take(), ["event 10 of 10", "event 20 of 20", "watermark 20"]);
    assert_eq!(clock(&mut operator, 19), Some(20));
    assert_eq!(clock(&mut operator, 20), Some(30));
    assert_eq!(log.take(), ["processing 10 of 10", "time 19", "processing 20 of 20", "time 20"]);
}

/// Behind the end of the input nothing may be emitted: consumers have finished. A timer of the clock that came due
/// while other parts of the job went on did so, also after a restore of a checkpoint taken behind the end.
#[test]
fn no_timer_fires_behind_the_end_of_the_input() {
    let (mut ended, log, _) = operator(&RestoredState::default());
    assert!(!freeze(&mut ended).ended);
    ended.emit(10, NO_TIMESTAMP).unwrap();
    ended.control(&mut Control::EndOfInput).unwrap();
    assert_eq!(clock(&mut ended, 10), None);
    assert_eq!(log.take(), ["barrier 1", "end of input", "time 10"]);

    let state = freeze(&mut ended);
    let (mut restored, log, _) = operator(&RestoredState::deal(vec![state], 0, 1));
    restored.emit(10, NO_TIMESTAMP).unwrap();
    assert_eq!(clock(&mut restored, 10), None);
    assert_eq!(log.take(), ["time 10"]);
}

#[test]
fn the_watermark_goes_on_from_where_it_was() {
    let (mut before, ..) = operator(&RestoredState::default());
    before.watermark(50).unwrap();
    let state = freeze(&mut before);
    assert_eq!(state.watermark, 50);
    let (mut after, log, _) = operator(&RestoredState::deal(vec![state], 0, 1));
    assert_eq!(after.time.watermark, 50);
    // A watermark from a channel that lags behind takes nothing back.
    after.watermark(NO_WATERMARK + 1).unwrap();
    assert_eq!((after.time.watermark, log.take().len()), (50, 1));
}

#[test]
fn a_side_output_is_told_everything_that_the_output_is_told() {
    let (mut operator, log, side_log) = operator(&RestoredState::default());
    operator.watermark(5).unwrap();
    clock(&mut operator, 7);
    freeze(&mut operator);
    let mut blocked = false;
    for mut control in [
        Control::Completed(CheckpointId(1)),
        Control::Idle(true),
        Control::Flush,
        Control::Drain(&mut blocked),
        Control::EndOfInput,
    ] {
        operator.control(&mut control).unwrap();
    }
    let told = log.take();
    assert_eq!(told.len(), 8, "{told:?}");
    assert_eq!(side_log.take(), told);
}

/// Counts the rows that are written, and keeps none.
#[derive(Clone, Default)]
struct Nowhere(Arc<AtomicUsize>);

impl ColdStore for Nowhere {
    fn create(&mut self, _: &str) -> Result<()> {
        Ok(())
    }

    fn get(&self, _: &str, _: &[u8], _: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, _: &str, batch: &WriteBatch) -> Result<()> {
        self.0.fetch_add(batch.iter().count(), Ordering::Relaxed);
        Ok(())
    }

    fn scan(&self, _: &str, _: &[u8], _: RowVisitor<'_>) -> Result<()> {
        Ok(())
    }

    fn freeze(&mut self) -> Result<Box<dyn FrozenStore>> {
        Ok(Box::new(self.clone()))
    }
}

impl FrozenStore for Nowhere {
    fn scan(&self, _: &str, _: &[u8], _: RowVisitor<'_>) -> Result<()> {
        Ok(())
    }
}

/// What has not changed from one checkpoint to the next is written to the store in pieces, with nothing else to do as well.
#[test]
fn an_idle_operator_is_called_again_until_its_cache_is_written() {
    let store = Nowhere::default();
    let open = {
        let store = store.clone();
        move |_: &BackendScope| -> Result<Box<dyn ColdStore>> { Ok(Box::new(store.clone())) }
    };
    let options = BackendOptions::Custom(CustomBackend { cache_bytes: 1 << 20, open: Arc::new(open) });
    let (mut operator, ..) = operator_on(&options, &RestoredState::default());
    for n in 1_000_000..1_001_000 {
        operator.emit(n, NO_TIMESTAMP).unwrap();
    }
    freeze(&mut operator);
    freeze(&mut operator);
    let mut now_ms = 0;
    while clock(&mut operator, now_ms) == Some(now_ms + 1) {
        now_ms += 1;
    }
    assert_eq!(clock(&mut operator, now_ms), Some(1_000_000), "the first timer");
    assert_eq!(store.0.load(Ordering::Relaxed), 2000, "timers of both kinds");
    assert!((2..100).contains(&now_ms), "{now_ms} pieces");
}

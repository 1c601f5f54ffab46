//! A watermark operator in front of a chain that writes down what it is given.

use super::*;
use crate::operator::ChainSnapshot;
use crate::operator::test_chain::{Journal, Recorder, barrier};

/// Records are their own timestamps.
fn strategy() -> WatermarkStrategy<i64> {
    WatermarkStrategy::monotonous().with_timestamps(|time: &i64| *time)
}

fn operator(strategy: WatermarkStrategy<i64>, restored: &RestoredState) -> (WatermarkOperator<i64>, Journal) {
    let journal = Journal::default();
    let next = Box::new(Recorder(journal.clone()));
    (WatermarkOperator::new(OperatorUid("time".into()), "time".into(), strategy, next, restored), journal)
}

/// Tells the operator the time; when it wants to be called again.
fn clock(operator: &mut WatermarkOperator<i64>, now_ms: i64) -> Option<i64> {
    let mut next_ms = None;
    operator.control(&mut Control::Time { now_ms, next_ms: &mut next_ms }).unwrap();
    next_ms
}

fn freeze(operator: &mut WatermarkOperator<i64>) -> OperatorState {
    let mut snapshot = ChainSnapshot::default();
    let barrier = barrier(1);
    operator.control(&mut Control::Barrier { barrier, snapshot: &mut snapshot }).unwrap();
    snapshot.operators.pop().unwrap().state
}

#[test]
fn watermarks_follow_the_records_with_the_clock_and_never_fall() {
    let (mut operator, journal) = operator(strategy(), &RestoredState::default());
    operator.emit(10, NO_TIMESTAMP).unwrap();
    assert_eq!(clock(&mut operator, 1_000), Some(1_000 + INTERVAL_MS));
    operator.emit(4, NO_TIMESTAMP).unwrap();
    clock(&mut operator, 1_001);
    operator.emit(20, NO_TIMESTAMP).unwrap();
    clock(&mut operator, 1_002);
    let expected = ["10", "watermark 9", "time 1000", "4", "time 1001", "20", "watermark 19", "time 1002"];
    assert_eq!(journal.take(), expected);
    // Those from further up are replaced by its own.
    operator.watermark(15).unwrap();
    operator.control(&mut Control::Idle(true)).unwrap();
    assert!(journal.take().is_empty());
}

#[test]
fn without_records_it_becomes_idle_once_and_the_next_record_ends_that_first() {
    let (mut operator, journal) = operator(strategy().with_idleness(30), &RestoredState::default());
    assert_eq!(clock(&mut operator, 100), Some(130), "from the first look at the clock, records or not");
    clock(&mut operator, 129);
    assert_eq!(journal.take(), ["time 100", "time 129"]);
    clock(&mut operator, 130);
    clock(&mut operator, 170);
    assert_eq!(journal.take(), ["idle true", "time 130", "time 170"]);
    operator.emit(5, NO_TIMESTAMP).unwrap();
    operator.emit(6, NO_TIMESTAMP).unwrap();
    assert_eq!(journal.take(), ["idle false", "5", "6"]);
    assert_eq!(clock(&mut operator, 180), Some(210), "from the last record");
}

#[test]
fn the_end_completes_time_and_nothing_comes_behind_it() {
    let (mut operator, journal) = operator(strategy().with_idleness(30), &RestoredState::default());
    operator.emit(10, NO_TIMESTAMP).unwrap();
    operator.watermark(MAX_WATERMARK).unwrap();
    operator.control(&mut Control::EndOfInput).unwrap();
    assert_eq!(journal.take(), ["10", &format!("watermark {MAX_WATERMARK}"), "end of input"]);
    assert_eq!(clock(&mut operator, 1_000_000), None);
    assert_eq!(journal.take(), ["time 1000000"]);
}

#[test]
fn after_a_restart_the_old_watermark_is_said_again_and_not_undercut() {
    let (mut before, _) = operator(strategy(), &RestoredState::default());
    before.emit(51, NO_TIMESTAMP).unwrap();
    clock(&mut before, 0);
    let state = freeze(&mut before);
    assert_eq!(state.watermark, 50);
    let (mut after, journal) = operator(strategy(), &RestoredState::deal(vec![state], 0, 1));
    after.emit(20, NO_TIMESTAMP).unwrap();
    clock(&mut after, 1);
    clock(&mut after, 2);
    assert_eq!(journal.take(), ["20", "watermark 50", "time 1", "time 2"]);
}

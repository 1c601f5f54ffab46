//! Event time: strategies, idleness, the minimum over channels, and that it never runs back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{Log, gated_list};
use tidegate::cluster::jobmaster::JobResult;
use tidegate::error::Result;
use tidegate::function::WatermarkGenerator;
use tidegate::prelude::*;

/// Sees the watermark: sets the timers that are not due yet and logs them as they fire; logs records, with `late` ones marked.
struct Probe {
    log: Log<String>,
    timers: Vec<i64>,
}

impl KeyedProcessFunction<u64, i64, ()> for Probe {
    fn process(
        &mut self,
        time: i64,
        context: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, ()>,
    ) -> Result<()> {
        assert_eq!(context.timestamp(), Some(time));
        let watermark = context.watermark();
        for timer in self.timers.iter().filter(|timer| **timer > watermark) {
            context.register_event_timer(*timer)?;
        }
        let late = if watermark >= time { "late " } else { "" };
        self.log.push(format!("{late}record {time}"));
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: i64,
        context: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, ()>,
    ) -> Result<()> {
        assert!(context.watermark() >= time && context.is_event_timer());
        self.log.push(format!("timer {time}"));
        Ok(())
    }
}

/// Has all records of `stream` go through one [`Probe`] with these timers.
fn probe(stream: DataStream<i64>, timers: &[i64]) -> Log<String> {
    let (log, timers) = (Log::new(), timers.to_vec());
    let shared = log.clone();
    stream
        .key_by(|_| 0)
        .process(move |_| Ok(Probe { log: shared.clone(), timers: timers.clone() }))
        .parallelism(1)
        .uid("probe");
    log
}

fn by_itself() -> WatermarkStrategy<i64> {
    WatermarkStrategy::monotonous().with_timestamps(|time| *time)
}

/// Lets a stream with `strategy` emit `first`, waits until `timer` has fired, lets it emit `then`.
fn fires(strategy: WatermarkStrategy<i64>, first: &[i64], timers: &[i64], then: &[i64]) -> Vec<String> {
    let env = Environment::new();
    let (source, gate) = gated_list([first, then].concat());
    let log = probe(env.source(source).assign_timestamps_and_watermarks(strategy), timers);
    let job = env.start("fires").unwrap();
    gate.open_to(first.len() as u64);
    // The first timer is to fire before the gate is opened; whether more do shows in the order of the log.
    log.wait_until(|log| log.iter().any(|l| l.starts_with("timer")));
    gate.open();
    assert_eq!(job.wait().unwrap(), JobResult::Finished);
    log.entries()
}

#[test]
fn monotonous_time_is_complete_up_to_just_before_the_latest_record() {
    let log = fires(by_itself(), &[10, 20], &[19, 20], &[20]);
    assert_eq!(log, ["record 10", "record 20", "timer 19", "record 20", "timer 20"]);
}

#[test]
fn bounded_out_of_orderness_waits_for_records_that_are_late_by_no_more() {
    let strategy = WatermarkStrategy::bounded_out_of_orderness(5).with_timestamps(|time: &i64| *time);
    let log = fires(strategy, &[10, 20], &[14, 15], &[15, 14]);
    assert_eq!(log, ["record 10", "record 20", "timer 14", "record 15", "late record 14", "timer 15"]);
}

#[test]
fn a_strategy_of_ones_own_decides() {
    struct Hundreds(i64);
    impl WatermarkGenerator for Hundreds {
        fn on_event(&mut self, timestamp: i64) {
            self.0 = timestamp / 100 * 100;
        }
        fn watermark(&self) -> i64 {
            self.0
        }
    }
    let strategy = || WatermarkStrategy::custom(|| Hundreds(i64::MIN)).with_timestamps(|time: &i64| *time);
    let log = fires(strategy(), &[10, 250], &[200, 201], &[201]);
    assert_eq!(log, ["record 10", "record 250", "timer 200", "record 201", "timer 201"]);
    // A generator that goes back takes nobody with it: 150 stays late.
    let log = fires(strategy(), &[10, 250], &[200], &[110, 150]);
    assert_eq!(log, ["record 10", "record 250", "timer 200", "late record 110", "late record 150"]);
}

#[test]
fn the_end_of_the_input_completes_event_time() {
    let env = Environment::new();
    let stream = env.source(Generator::of(vec![1i64])).assign_timestamps_and_watermarks(by_itself());
    let log = probe(stream, &[1, 1_000, i64::MAX]);
    env.execute("end").unwrap();
    assert_eq!(log.entries(), ["record 1", "timer 1", "timer 1000", "timer 9223372036854775807"]);
}

#[test]
fn the_slowest_channel_decides() {
    let env = Environment::new();
    let ((fast, fast_gate), (slow, slow_gate)) = (gated_list(vec![1i64, 100]), gated_list(vec![50i64, 60]));
    let fast = env.source(fast).assign_timestamps_and_watermarks(by_itself());
    let slow = env.source(slow).assign_timestamps_and_watermarks(by_itself());
    let log = probe(fast.union(slow), &[49, 59, 99]);
    let job = env.start("slowest").unwrap();
    fast_gate.open();
    log.wait_for(2);
    slow_gate.open_to(1);
    log.wait_until(|log| log.contains(&"timer 49".into()));
    slow_gate.open();
    assert_eq!(job.wait().unwrap(), JobResult::Finished);
    let log: Vec<String> = log.entries();
    assert_eq!(log, ["record 1", "record 100", "record 50", "timer 49", "record 60", "timer 59", "timer 99"]);
}

/// A source that has records and one that has none, with or without idleness.
fn beside_a_silent_source(silent_strategy: WatermarkStrategy<i64>, wait_for_timer: bool) -> Vec<String> {
    let env = Environment::new();
    let ((busy, busy_gate), (silent, silent_gate)) = (gated_list(vec![1i64, 100]), gated_list(vec![7i64]));
    let busy = env.source(busy).assign_timestamps_and_watermarks(by_itself());
    let silent = env.source(silent).assign_timestamps_and_watermarks(silent_strategy);
    let log = probe(busy.union(silent), &[99]);
    let job = env.start("silent").unwrap();
    busy_gate.open_to(2);
    log.wait_for(if wait_for_timer { 3 } else { 2 });
    silent_gate.open();
    log.wait_until(|log| log.iter().any(|l| l.ends_with("record 7")));
    busy_gate.open();
    assert_eq!(job.wait().unwrap(), JobResult::Finished);
    log.entries()
}

#[test]
fn an_idle_source_does_not_hold_back_time() {
    let log = beside_a_silent_source(by_itself().with_idleness(20), true);
    assert_eq!(log, ["record 1", "record 100", "timer 99", "late record 7"]);
}

#[test]
fn a_silent_source_that_is_not_declared_idle_holds_it_back() {
    let log = beside_a_silent_source(by_itself(), false);
    assert_eq!(log, ["record 1", "record 100", "record 7", "timer 99"]);
}

#[test]
fn after_a_restart_time_goes_on_where_it_was_although_one_source_is_silent() {
    let mut env = Environment::new();
    env.config_mut().checkpoint.interval_ms = Some(5);
    env.config_mut().restart =
        Some(tidegate::cluster::RestartStrategyConfig::FixedDelay { attempts: 9, delay_ms: 1 });
    let ((far, far_gate), (near, near_gate)) =
        (gated_list(vec![1i64, 1_000]), gated_list(vec![500i64, 900, 450, 901]));
    let far = env.source(far).assign_timestamps_and_watermarks(by_itself());
    let near = env.source(near).assign_timestamps_and_watermarks(by_itself());
    let log = probe(far.union(near), &[499, 899]);
    let job = env.start("silent after restart").unwrap();
    far_gate.open_to(2);
    log.wait_for(2);
    near_gate.open_to(1);
    log.wait_until(|log| log.contains(&"timer 499".into()));
    far_gate.wait_for_checkpoint(1);
    job.controller().crash_taskmanager(0);
    near_gate.wait_until_gone(1);
    // The far source has nothing more to say, but it has been at 999 already.
    near_gate.open_to(2);
    log.wait_until(|log| log.contains(&"timer 899".into()));
    // And the restored time is not undercut: 450 is late.
    near_gate.open();
    far_gate.open();
    assert_eq!(common::run_out(job).0, JobResult::Finished);
    let log = log.entries();
    let since = log.iter().position(|l| l == "timer 499").unwrap() + 1;
    assert_eq!(log.iter().filter(|l| *l == "timer 499").count(), 1, "{log:?}");
    assert_eq!(log[since..], ["record 900", "timer 899", "late record 450", "record 901"], "{log:?}");
}

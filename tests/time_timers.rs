//! Timers of keyed functions: when they fire, in which order, that they can be deleted and survive a crash.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{Gone, Log, gated, gated_list};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate::cluster::RestartStrategyConfig;
use tidegate::cluster::jobmaster::JobResult;
use tidegate::error::Result;
use tidegate::prelude::*;
use tidegate::testing::example;

/// What a record asks for.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Ask {
    key: u64,
    register: Vec<i64>,
    delete: Vec<i64>,
}

fn ask(key: u64, register: &[i64], delete: &[i64]) -> Ask {
    Ask { key, register: register.to_vec(), delete: delete.to_vec() }
}

struct EventTimers;

impl KeyedProcessFunction<u64, Ask, (i64, u64)> for EventTimers {
    fn process(
        &mut self,
        ask: Ask,
        c: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, (i64, u64)>,
    ) -> Result<()> {
        ask.register.iter().try_for_each(|time| c.register_event_timer(*time))?;
        ask.delete.iter().try_for_each(|time| c.delete_event_timer(*time))
    }

    fn on_timer(
        &mut self,
        time: i64,
        c: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, (i64, u64)>,
    ) -> Result<()> {
        assert_eq!(c.timestamp(), Some(time), "what a timer emits happens at its time");
        out.collect((time, *c.key()));
        if time == 30 {
            // Already passed: fires with the next watermark, which for the last one is this one.
            c.register_event_timer(25)?;
        }
        Ok(())
    }
}

fn event_timers(asks: Vec<Ask>) -> Vec<(i64, u64)> {
    example(asks, |s| s.key_by(|ask: &Ask| ask.key).process(|_| Ok(EventTimers))).unwrap()
}

#[test]
fn timers_fire_by_time_then_key_once_each() {
    let fired = event_timers(vec![ask(2, &[20, 10, 10], &[]), ask(1, &[20, 10], &[]), ask(3, &[15], &[])]);
    assert_eq!(fired, [(10, 1), (10, 2), (15, 3), (20, 1), (20, 2)]);
}

#[test]
fn deleted_timers_do_not_fire_and_those_of_other_keys_do() {
    let asks = vec![
        ask(1, &[10, 20], &[]),
        ask(2, &[10, 20], &[]),
        ask(1, &[], &[10, 99]),
        ask(2, &[40], &[20, 40]),
    ];
    assert_eq!(event_timers(asks), [(10, 2), (20, 1)]);
}

#[test]
fn a_timer_may_register_another() {
    assert_eq!(event_timers(vec![ask(1, &[30, 40], &[])]), [(30, 1), (25, 1), (40, 1)]);
}

/// Two processing-time timers per record; the second is deleted by the first.
struct ProcessingTimers;

impl KeyedProcessFunction<u64, u64, u64> for ProcessingTimers {
    fn process(&mut self, _: u64, c: &mut KeyedContext<'_, u64>, _: &mut Collector<'_, u64>) -> Result<()> {
        let now = c.processing_time();
        c.register_processing_timer(now + 2)?;
        c.register_processing_timer(now + 1_000_000_000)
    }

    fn on_timer(
        &mut self,
        time: i64,
        c: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, u64>,
    ) -> Result<()> {
        assert!(c.processing_time() >= time && !c.is_event_timer() && c.timestamp().is_none());
        c.delete_processing_timer(time - 2 + 1_000_000_000)?;
        out.collect(*c.key());
        Ok(())
    }
}

#[test]
fn what_a_processing_time_timer_emits_is_sent_on_though_no_record_follows() {
    let env = Environment::new();
    let (source, gate) = gated_list(vec![7u64, 8]);
    let (log, (sink, out)) = (Log::new(), CollectSink::new());
    let seen = log.clone();
    env.source(source)
        .key_by(|n| *n)
        .process(|_| Ok(ProcessingTimers))
        .rebalance()
        .map(move |n| {
            seen.push(n);
            n
        })
        .sink(sink);
    let job = env.start("processing time").unwrap();
    gate.open_to(2);
    let mut seen = log.wait_for(2);
    seen.sort();
    assert_eq!(seen, [7, 8]);
    gate.open();
    assert_eq!(job.wait().unwrap(), JobResult::Finished);
    assert_eq!(out.len(), 2);
}

/// Sets both kinds of timers at the first record of a key, counts what fires in state.
struct Surviving {
    go: Arc<AtomicU64>,
    log: Log<String>,
    fired: ValueState<u64>,
    _gone: Gone,
}

impl KeyedProcessFunction<u64, u64, String> for Surviving {
    fn process(
        &mut self,
        _: u64,
        c: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        c.register_event_timer(1_000)?;
        c.register_processing_timer(c.processing_time() + 1)?;
        self.log.push(format!("record {}", c.key()));
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: i64,
        c: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        if !c.is_event_timer() && self.go.load(Ordering::SeqCst) == 0 {
            // Not yet: it is to be there at the restart.
            return c.register_processing_timer(c.processing_time() + 1);
        }
        let nth = self.fired.update(
            || 0,
            |n| {
                *n += 1;
                *n
            },
        )?;
        let kind = if c.is_event_timer() { format!("event {time}") } else { "processing".into() };
        self.log.push(format!("timer {}", c.key()));
        out.collect(format!("{} {kind} {nth}", c.key()));
        Ok(())
    }
}

#[test]
fn timers_survive_a_crash() {
    let mut env = Environment::new();
    env.config_mut().parallelism = 2;
    env.config_mut().checkpoint.interval_ms = Some(5);
    env.config_mut().restart = Some(RestartStrategyConfig::FixedDelay { attempts: 9, delay_ms: 1 });
    let (source, gate) = gated(8, 1, |n| n);
    let (log, go, (sink, out)) = (Log::new(), Arc::new(AtomicU64::new(0)), CollectSink::new());
    let gone = Log::new();
    let (shared, going, leaving) = (log.clone(), go.clone(), gone.clone());
    env.source(source)
        .parallelism(1)
        .assign_timestamps_and_watermarks(WatermarkStrategy::monotonous().with_timestamps(|n| *n as i64))
        .parallelism(1)
        .key_by(|n| *n)
        .process(move |open| {
            Ok(Surviving {
                go: going.clone(),
                log: shared.clone(),
                fired: open.value_state("fired")?,
                _gone: Gone(leaving.clone()),
            })
        })
        .sink(sink);
    let job = env.start("timers").unwrap();
    gate.open_to(8);
    log.wait_for(8);
    gate.wait_for_checkpoint(1);
    job.controller().crash_taskmanager(0);
    // Threads of the crashed taskmanager may still be in the middle of a step.
    gone.wait_for(2);
    go.store(1, Ordering::SeqCst);
    log.wait_until(|log| log.iter().filter(|l| l.starts_with("timer")).count() >= 8);
    gate.open();
    let (result, _) = common::run_out(job);
    assert_eq!(result, JobResult::Finished);
    let mut out = out.values();
    out.sort();
    let expected: Vec<String> =
        (0..8).flat_map(|k| [format!("{k} event 1000 2"), format!("{k} processing 1")]).collect();
    assert_eq!(out, expected);
}

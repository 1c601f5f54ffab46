//! Restart strategies, end to end: a closure that panics a number of times.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{assert_error, gated, run_out};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use tidegate::cluster::RestartStrategyConfig as Restart;
use tidegate::cluster::jobmaster::{JobNotice, JobResult};
use tidegate::error::Result;
use tidegate::function::{
    EnumeratorContext, NextSplit, ReaderContext, ReaderStatus, Source, SourceReader, SplitEnumerator,
    SplitQueue,
};
use tidegate::prelude::*;
use tidegate::{Environment, JobSummary};

/// Runs a job whose map panics at record 500, `panics` times; returns what it has published.
fn run(restart: Restart, panics: u32) -> (Result<JobSummary>, Vec<u64>) {
    let mut env = Environment::new();
    env.config_mut().checkpoint.interval_ms = Some(1);
    env.config_mut().restart = Some(restart);
    let (sink, out) = CollectSink::new();
    let left = Arc::new(AtomicU32::new(panics));
    env.source(Generator::sequence(0..1_000))
        .map(move |n| {
            let again = |left: u32| left.checked_sub(1);
            if n == 500 && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, again).is_ok() {
                panic!("record {n} is unlucky");
            }
            n
        })
        .name("unlucky")
        .sink(sink);
    let result = env.execute("restarts");
    (result, out.values())
}

fn assert_recovers(restart: Restart, panics: u32) {
    let (result, out) = run(restart, panics);
    assert_eq!(result.unwrap().restarts, u64::from(panics));
    assert!(out.into_iter().eq(0..1_000), "published other than once, in order");
}

fn assert_gives_up(restart: Restart, panics: u32, why: &str) {
    let (result, out) = run(restart, panics);
    let text = assert_error(
        result,
        ErrorKind::RestartJob,
        &[
            "subtask 1 of 1 of 'source -> unlucky -> sink'",
            "operator 'unlucky'",
            "user code panicked: record 500 is unlucky",
            "not restarted",
            why,
        ],
    );
    assert_eq!(text.matches("unlucky").count(), 3, "says it once: {text}");
    assert!(out.iter().copied().eq(0..out.len() as u64) && out.len() <= 500);
}

#[test]
fn none_gives_up_at_once() {
    assert_gives_up(Restart::None, 1, "the restart strategy is none");
}

#[test]
fn fixed_delay_restarts_as_often_as_it_may() {
    assert_recovers(Restart::FixedDelay { attempts: 3, delay_ms: 1 }, 3);
    assert_gives_up(
        Restart::FixedDelay { attempts: 3, delay_ms: 1 },
        4,
        "all 3 restarts of fixed-delay are used up",
    );
}

#[test]
fn failure_rate_counts_failures_within_the_interval() {
    let rate =
        |max| Restart::FailureRate { max_failures_per_interval: max, interval_ms: 600_000, delay_ms: 1 };
    assert_recovers(rate(2), 2);
    assert_gives_up(rate(2), 3, "more than 2 failures within 600000 ms");
}

#[test]
fn exponential_delay_restarts_until_its_attempts_are_used_up() {
    let exponential = |attempts| Restart::ExponentialDelay {
        initial_backoff_ms: 1,
        max_backoff_ms: 4,
        backoff_multiplier: 2.0,
        reset_backoff_threshold_ms: 3_600_000,
        jitter_factor: 0.1,
        attempts,
    };
    assert_recovers(exponential(None), 5);
    assert_recovers(exponential(Some(2)), 2);
    assert_gives_up(exponential(Some(2)), 3, "all 2 restarts of exponential-delay are used up");
}

#[test]
fn a_config_error_ends_the_job_at_once_whatever_the_strategy() {
    for kind in [ErrorKind::Config, ErrorKind::Data] {
        let mut env = Environment::new();
        env.config_mut().restart = Some(Restart::FixedDelay { attempts: 1_000_000, delay_ms: 0 });
        let built = Arc::new(AtomicU32::new(0));
        let counted = built.clone();
        struct Never;
        impl ProcessFunction<u64, u64> for Never {
            fn process(
                &mut self,
                _: u64,
                _: &mut ProcessContext<'_>,
                _: &mut Collector<'_, u64>,
            ) -> Result<()> {
                Ok(())
            }
        }
        env.source(Generator::sequence(0..1)).process(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Err::<Never, _>(Error::new(kind, "the table is upside down").hint("turn it over"))
        });
        let text = assert_error(
            env.execute("wrong"),
            kind,
            &["subtask 1 of 1", "operator 'process'", "the table is upside down (turn it over)"],
        );
        assert!(!text.contains("not restarted"), "{text}");
        assert_eq!(built.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn a_job_is_cancelled_during_the_pause_before_a_restart() {
    let mut env = Environment::new();
    env.config_mut().restart = Some(Restart::FixedDelay { attempts: 1, delay_ms: 3_600_000 });
    let (source, gate) = gated(1, 1, |n| n);
    env.source(source).map(|_| -> u64 { panic!("no") });
    let job = env.start("cancel").unwrap();
    gate.open();
    assert!(job.notices().any(|n| matches!(n, JobNotice::Restarting { after_ms: 3_600_000, .. })));
    job.controller().cancel();
    assert_eq!(job.wait().unwrap(), JobResult::Canceled);
}

/// A thread cannot be stopped from outside. Its taskmanager used to be given up without a successor, and the job waited for
/// its slots for ever.
#[test]
fn user_code_that_never_returns_costs_its_taskmanager_and_not_the_job() {
    let mut env = Environment::new();
    let config = env.config_mut();
    config.checkpoint.interval_ms = Some(1);
    config.checkpoint.timeout_ms = 200;
    config.cluster.cancel_timeout_ms = 200;
    config.restart = Some(Restart::FixedDelay { attempts: 1_000_000, delay_ms: 1 });
    // The first to come by waits until the test is over.
    let (over, first) = sync_channel::<()>(0);
    let first = Mutex::new(Some(first));
    let (sink, out) = CollectSink::new();
    env.source(Generator::sequence(0..1_000))
        .map(move |n| {
            let waits = if n == 500 { first.lock().unwrap().take() } else { None };
            waits.map(|first| first.recv());
            n
        })
        .name("stuck")
        .sink(sink);
    let (result, notices) = run_out(env.start("stuck").unwrap());
    drop(over);
    assert_eq!(result, JobResult::Finished);
    assert!(out.values().into_iter().eq(0..1_000), "published other than once, in order");
    let said: Vec<String> = notices.iter().map(ToString::to_string).collect();
    for part in ["timed out after 200 ms, not acknowledged by", "is given up: not stopped within 200 ms:"] {
        let text = format!("{part} subtask 1 of 1 of 'source -> stuck -> sink'");
        assert!(said.iter().any(|notice| notice.contains(&text)), "{text} is missing in {said:#?}");
    }
}

/// A source of the numbers below 100 in ten splits, whose enumerator panics at the calls it is told to.
struct Nervous(Arc<Mutex<Vec<&'static str>>>);

struct NervousEnumerator {
    splits: SplitQueue<u64>,
    panics: Arc<Mutex<Vec<&'static str>>>,
}

impl NervousEnumerator {
    fn call(&self, name: &str) {
        let mut panics = self.panics.lock().unwrap();
        if let Some(at) = panics.iter().position(|p| *p == name) {
            let name = panics.remove(at);
            drop(panics);
            panic!("nervous in {name}");
        }
    }
}

impl SplitEnumerator<u64> for NervousEnumerator {
    fn next_split(&mut self, subtask: u32) -> Result<NextSplit<u64>> {
        self.call("next_split");
        self.splits.next_split(subtask)
    }

    fn snapshot(&self) -> Result<Vec<u8>> {
        self.call("snapshot");
        self.splits.snapshot()
    }
}

/// Hands out a split's numbers at once.
struct Tens(Vec<u64>);

impl SourceReader for Tens {
    type Record = u64;
    type Split = u64;

    fn add_split(&mut self, split: u64) -> Result<()> {
        self.0.push(split);
        Ok(())
    }

    fn poll(&mut self, _: i64, out: &mut Collector<'_, u64>) -> Result<ReaderStatus> {
        for split in self.0.drain(..) {
            (0..10).for_each(|n| out.collect(split * 10 + n));
        }
        Ok(ReaderStatus::NeedSplit)
    }

    fn snapshot(&self) -> Result<Vec<u64>> {
        Ok(self.0.clone())
    }
}

impl Source for Nervous {
    type Record = u64;
    type Split = u64;

    fn is_bounded(&self) -> bool {
        true
    }

    fn enumerator(
        &self,
        _: &EnumeratorContext,
        restored: Option<&[u8]>,
    ) -> Result<Box<dyn SplitEnumerator<u64>>> {
        let enumerator = NervousEnumerator {
            splits: SplitQueue::new(restored, || Ok((0..10).collect()))?,
            panics: self.0.clone(),
        };
        enumerator.call("start");
        Ok(Box::new(enumerator))
    }

    fn reader(&self, _: &ReaderContext) -> Result<Box<dyn SourceReader<Record = u64, Split = u64>>> {
        Ok(Box::new(Tens(Vec::new())))
    }
}

#[test]
fn an_enumerator_that_panics_wherever_it_is_called_costs_a_restart_each_time() {
    let mut env = Environment::new();
    env.config_mut().checkpoint.interval_ms = Some(1);
    env.config_mut().restart = Some(Restart::FixedDelay { attempts: 5, delay_ms: 1 });
    let panics = Arc::new(Mutex::new(vec!["start", "next_split", "snapshot", "start", "snapshot"]));
    let (sink, out) = CollectSink::new();
    env.source(Nervous(panics.clone())).uid("nervous").sink(sink);
    let (result, notices) = run_out(env.start("nervous").unwrap());
    assert_eq!((result, panics.lock().unwrap().len()), (JobResult::Finished, 0));
    let mut numbers = out.values();
    numbers.sort();
    assert!(numbers.into_iter().eq(0..100), "published other than once");
    let failures = notices.iter().filter(|n| matches!(n, JobNotice::Failed { .. })).map(ToString::to_string);
    let failures: Vec<_> = failures.collect();
    assert_eq!(failures.len(), 5, "{failures:#?}");
    let named = |f: &&String| f.contains("enumerator of source 'nervous': user code panicked: nervous in");
    assert_eq!(failures.iter().filter(named).count(), 5, "{failures:#?}");
}

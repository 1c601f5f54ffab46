//! Watching counters from outside: rate, longest gap, memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often the counters are looked at.
const EVERY: Duration = Duration::from_millis(1);

/// What one run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Measured {
    /// Records behind the prefill, until the last.
    pub(crate) records: u64,
    /// The time they took.
    pub(crate) seconds: f64,
    /// Longest time in which one subtask with input left processed nothing.
    pub(crate) stall_ms: f64,
}

impl Measured {
    pub(crate) fn rate(&self) -> f64 {
        self.records as f64 / self.seconds.max(1e-9)
    }
}

struct Watched {
    count: u64,
    since: Instant,
}

/// Looks at the counters until `done`, then once more. The first `prefill` records are not measured.
pub(crate) fn watch(counters: impl Fn() -> Vec<u64>, prefill: u64, done: &AtomicBool) -> Measured {
    let mut begun: Option<(Instant, u64)> = None;
    let mut watched: Vec<Watched> = Vec::new();
    let mut last = (Instant::now(), 0);
    let mut stall = Duration::ZERO;
    loop {
        let over = done.load(Ordering::Acquire);
        let (now, counts) = (Instant::now(), counters());
        let total: u64 = counts.iter().sum();
        if total != last.1 {
            last = (now, total);
        }
        if begun.is_none() && total > prefill {
            begun = Some((now, total));
            watched.clear();
        }
        if begun.is_some() {
            for (index, count) in counts.into_iter().enumerate() {
                match watched.get_mut(index) {
                    // Only a gap that ends is one: behind the last record there is nothing to wait for.
                    Some(w) if w.count != count => {
                        stall = stall.max(now - w.since);
                        *w = Watched { count, since: now };
                    }
                    Some(_) => {}
                    None => watched.push(Watched { count, since: now }),
                }
            }
        }
        if over {
            break;
        }
        std::thread::sleep(EVERY);
    }
    let (from, before) = begun.unwrap_or(last);
    Measured {
        records: last.1 - before,
        seconds: (last.0 - from).as_secs_f64(),
        stall_ms: stall.as_secs_f64() * 1e3,
    }
}

/// The most memory this process has had resident, in MB; 0 where the system does not say.
pub(crate) fn peak_rss_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

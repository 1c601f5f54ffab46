//! A rate limit on the task's clock: how many records may be emitted now, or when to ask again.

use crate::error::{Error, Result};

/// At most this many milliseconds of unused allowance are made up for, so that a stall is not followed by a flood.
const CATCH_UP_MS: f64 = 1000.0;

/// Records per second, spread evenly: record `n` is due `n / rate` seconds after the first.
#[derive(Clone, Debug)]
pub(super) struct RateLimit {
    per_ms: f64,
    origin_ms: Option<i64>,
    used: u64,
}

/// What a [`RateLimit`] allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowance {
    /// So many records, at least one.
    Records(u64),
    /// None before this time (milliseconds since the Unix epoch).
    NotBefore(i64),
}

impl RateLimit {
    /// A limit of `per_second` records.
    pub(super) fn new(per_second: f64) -> Result<Self> {
        if per_second.is_finite() && per_second > 0.0 {
            return Ok(Self { per_ms: per_second / 1000.0, origin_ms: None, used: 0 });
        }
        Err(Error::config(format!("a rate of {per_second} records per second is not possible"))
            .hint("give a rate above zero, or none at all for full speed"))
    }

    /// What may be emitted at `now_ms`.
    pub(super) fn allowance(&mut self, now_ms: i64) -> Allowance {
        let mut origin = match self.origin_ms {
            Some(origin) if origin <= now_ms => origin,
            // The first call, or the clock was set back.
            _ => {
                self.used = 0;
                now_ms
            }
        };
        let mut due = self.due((now_ms - origin) as f64);
        if due - self.used > self.due(CATCH_UP_MS) {
            origin = now_ms.saturating_sub(CATCH_UP_MS as i64);
            self.used = 0;
            due = self.due(CATCH_UP_MS);
        }
        self.origin_ms = Some(origin);
        if due > self.used {
            return Allowance::Records(due - self.used);
        }
        let next = origin.saturating_add((self.used as f64 / self.per_ms).ceil() as i64);
        Allowance::NotBefore(next.max(now_ms.saturating_add(1)))
    }

    /// Records that have become due after `elapsed_ms`, the first at once; never less than what was used.
    fn due(&self, elapsed_ms: f64) -> u64 {
        ((elapsed_ms * self.per_ms) as u64).saturating_add(1).max(self.used)
    }

    /// Notes that `records` were emitted.
    pub(super) fn use_up(&mut self, records: u64) {
        self.used = self.used.saturating_add(records);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn emitted(rate: &mut RateLimit, from_ms: i64, to_ms: i64) -> u64 {
        let (mut now, mut total) = (from_ms, 0);
        while now < to_ms {
            match rate.allowance(now) {
                Allowance::Records(n) => {
                    total += n;
                    rate.use_up(n);
                }
                Allowance::NotBefore(next) => {
                    assert!(next > now, "time must go on");
                    now = next;
                }
            }
        }
        total
    }

    #[test]
    fn the_rate_is_kept_over_a_long_time() {
        for per_second in [0.5, 1.0, 3.0, 1000.0, 1e6] {
            let mut rate = RateLimit::new(per_second).unwrap();
            let total = emitted(&mut rate, 5_000, 105_000) as f64;
            assert!((total - per_second * 100.0).abs() <= 1.0 + per_second / 1000.0, "{per_second}: {total}");
        }
    }

    #[test]
    fn a_stall_is_made_up_for_by_one_second_at_most() {
        let mut rate = RateLimit::new(100.0).unwrap();
        emitted(&mut rate, 0, 1_000);
        assert_eq!(rate.allowance(3_600_000), Allowance::Records(101));
    }

    #[test]
    fn a_clock_set_back_does_not_stop_the_stream() {
        let mut rate = RateLimit::new(10.0).unwrap();
        emitted(&mut rate, 1_000_000, 1_001_000);
        assert_eq!(rate.allowance(500), Allowance::Records(1));
        rate.use_up(1);
        assert_eq!(rate.allowance(500), Allowance::NotBefore(600));
    }

    #[test]
    fn impossible_rates_are_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(RateLimit::new(rate).unwrap_err().kind(), ErrorKind::Config);
        }
    }
}

//! Restart strategies: whether and when a failed job is started again.
//!
//! Pure: the clock is the caller's and so is the random number for jitter. A strategy looks at the kind of an
//! error and at nothing else; kinds a restart cannot cure always fail the job.

use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Which strategy, with its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RestartStrategyConfig {
    /// The first failure is final.
    None,
    /// A limited number of restarts, always after the same delay.
    FixedDelay {
        /// Restarts before the job fails.
        attempts: u32,
        /// Pause before each restart.
        delay_ms: u64,
    },
    /// Restarts for ever unless failures come too close together.
    FailureRate {
        /// Failures allowed within the interval.
        max_failures_per_interval: u32,
        /// Length of the sliding interval.
        interval_ms: u64,
        /// Pause before each restart.
        delay_ms: u64,
    },
    /// Restarts with growing, jittered pauses.
    ExponentialDelay {
        /// First pause.
        initial_backoff_ms: u64,
        /// Longest pause.
        max_backoff_ms: u64,
        /// Factor between two pauses.
        backoff_multiplier: f64,
        /// Time without failure after which the pauses start over.
        reset_backoff_threshold_ms: u64,
        /// Share of the pause that is random, in either direction.
        jitter_factor: f64,
        /// Restarts without a reset in between before the job fails; without limit if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempts: Option<u32>,
    },
}

impl Default for RestartStrategyConfig {
    /// Exponential delay: the default for jobs that checkpoint.
    fn default() -> Self {
        Self::ExponentialDelay {
            initial_backoff_ms: 100,
            max_backoff_ms: 60_000,
            backoff_multiplier: 1.5,
            reset_backoff_threshold_ms: 3_600_000,
            jitter_factor: 0.1,
            attempts: None,
        }
    }
}

impl RestartStrategyConfig {
    /// What a job gets that names no strategy: exponential delay if it checkpoints, none otherwise.
    pub fn default_for(checkpointing: bool) -> Self {
        if checkpointing { Self::default() } else { Self::None }
    }

    /// Refuses parameters that make no sense, naming the parameter.
    pub fn validate(&self) -> Result<()> {
        let refuse = |what: &str| Err(Error::config(format!("restart strategy: {what}")));
        match *self {
            Self::None | Self::FixedDelay { .. } => Ok(()),
            Self::FailureRate { max_failures_per_interval: 0, .. } => {
                refuse("max_failures_per_interval must be at least 1")
            }
            Self::FailureRate { interval_ms: 0, .. } => refuse("interval_ms must be at least 1"),
            Self::FailureRate { .. } => Ok(()),
            Self::ExponentialDelay {
                initial_backoff_ms,
                max_backoff_ms,
                backoff_multiplier,
                reset_backoff_threshold_ms,
                jitter_factor,
                attempts,
            } => {
                if initial_backoff_ms == 0 {
                    refuse("initial_backoff_ms must be at least 1")
                } else if max_backoff_ms < initial_backoff_ms {
                    refuse("max_backoff_ms must not be below initial_backoff_ms")
                } else if !(backoff_multiplier.is_finite() && backoff_multiplier >= 1.0) {
                    refuse("backoff_multiplier must be at least 1.0")
                } else if !(0.0..=1.0).contains(&jitter_factor) {
                    refuse("jitter_factor must be between 0.0 and 1.0")
                } else if reset_backoff_threshold_ms < max_backoff_ms {
                    refuse("reset_backoff_threshold_ms must not be below max_backoff_ms")
                } else if attempts == Some(0) {
                    refuse("attempts must be at least 1; use type none to forbid restarts")
                } else {
                    Ok(())
                }
            }
        }
    }
}

/// What to do about a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestartDecision {
    /// Start again after a pause.
    Restart {
        /// The pause.
        after_ms: u64,
    },
    /// Give up.
    Fail {
        /// Why no restart follows; for people.
        why: String,
    },
}

/// A strategy with its memory of past failures.
#[derive(Clone, Debug)]
pub struct RestartStrategy {
    config: RestartStrategyConfig,
    /// Restarts granted since the last reset.
    restarts: u32,
    /// Times of recent failures (failure rate only), oldest first.
    recent: VecDeque<u64>,
    /// When the pause of the last granted restart ends (exponential only).
    backoff_until_ms: Option<u64>,
}

impl RestartStrategy {
    /// A strategy without history; refuses senseless parameters.
    pub fn new(config: RestartStrategyConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { config, restarts: 0, recent: VecDeque::new(), backoff_until_ms: None })
    }

    /// The parameters.
    pub fn config(&self) -> &RestartStrategyConfig {
        &self.config
    }

    /// Decides on a failure of `kind` at `now_ms`. `random` in `[0, 1)` is used for jitter.
    pub fn on_failure(&mut self, kind: ErrorKind, now_ms: u64, random: f64) -> RestartDecision {
        if !kind.is_recoverable() {
            return RestartDecision::Fail {
                why: format!("a restart does not help against an error of kind {kind}"),
            };
        }
        match self.config {
            RestartStrategyConfig::None => {
                RestartDecision::Fail { why: "the restart strategy is none".into() }
            }
            RestartStrategyConfig::FixedDelay { attempts, delay_ms } => {
                if self.restarts >= attempts {
                    return RestartDecision::Fail {
                        why: format!("all {attempts} restarts of fixed-delay are used up"),
                    };
                }
                self.restarts += 1;
                RestartDecision::Restart { after_ms: delay_ms }
            }
            RestartStrategyConfig::FailureRate { max_failures_per_interval, interval_ms, delay_ms } => {
                self.recent.push_back(now_ms);
                while self.recent.front().is_some_and(|&t| now_ms.saturating_sub(t) >= interval_ms) {
                    self.recent.pop_front();
                }
                if self.recent.len() > max_failures_per_interval as usize {
                    return RestartDecision::Fail {
                        why: format!(
                            "more than {max_failures_per_interval} failures within {interval_ms} ms"
                        ),
                    };
                }
                RestartDecision::Restart { after_ms: delay_ms }
            }
            RestartStrategyConfig::ExponentialDelay {
                initial_backoff_ms,
                max_backoff_ms,
                backoff_multiplier,
                reset_backoff_threshold_ms,
                jitter_factor,
                attempts,
            } => {
                if let Some(until) = self.backoff_until_ms {
                    // Failures inside one pause are one failure.
                    if now_ms < until {
                        return RestartDecision::Restart { after_ms: until - now_ms };
                    }
                    if now_ms - until >= reset_backoff_threshold_ms {
                        self.restarts = 0;
                    }
                }
                if let Some(attempts) = attempts
                    && self.restarts >= attempts
                {
                    return RestartDecision::Fail {
                        why: format!("all {attempts} restarts of exponential-delay are used up"),
                    };
                }
                let power = i32::try_from(self.restarts).unwrap_or(i32::MAX);
                let pause =
                    (initial_backoff_ms as f64 * backoff_multiplier.powi(power)).min(max_backoff_ms as f64);
                let jitter = pause * jitter_factor * (2.0 * random.clamp(0.0, 1.0) - 1.0);
                let after_ms = ((pause + jitter) as u64).clamp(initial_backoff_ms, max_backoff_ms);
                self.restarts = self.restarts.saturating_add(1);
                self.backoff_until_ms = Some(now_ms.saturating_add(after_ms));
                RestartDecision::Restart { after_ms }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(config: RestartStrategyConfig, failures: &[u64]) -> Vec<Option<u64>> {
        let mut s = RestartStrategy::new(config).unwrap();
        failures
            .iter()
            .map(|&t| match s.on_failure(ErrorKind::RestartJob, t, 0.5) {
                RestartDecision::Restart { after_ms } => Some(after_ms),
                RestartDecision::Fail { .. } => None,
            })
            .collect()
    }

    fn exponential(attempts: Option<u32>) -> RestartStrategyConfig {
        RestartStrategyConfig::ExponentialDelay {
            initial_backoff_ms: 1_000,
            max_backoff_ms: 4_000,
            backoff_multiplier: 2.0,
            reset_backoff_threshold_ms: 10_000,
            jitter_factor: 0.1,
            attempts,
        }
    }

    #[test]
    fn strategies_by_table() {
        use RestartStrategyConfig as C;
        assert_eq!(pauses(C::None, &[0]), [None]);
        assert_eq!(pauses(C::FixedDelay { attempts: 2, delay_ms: 7 }, &[0, 1, 2]), [Some(7), Some(7), None]);
        let rate = C::FailureRate { max_failures_per_interval: 2, interval_ms: 100, delay_ms: 5 };
        assert_eq!(pauses(rate.clone(), &[0, 50, 99]), [Some(5), Some(5), None]);
        assert_eq!(pauses(rate, &[0, 50, 100, 151]), [Some(5); 4]);
        // Grows, is capped, and starts over after a quiet time counted from the end of the last pause.
        assert_eq!(
            pauses(exponential(None), &[0, 1_000, 3_000, 7_000, 20_999, 34_999]),
            [1_000, 2_000, 4_000, 4_000, 4_000, 1_000].map(Some)
        );
    }

    #[test]
    fn failures_inside_a_pause_count_once() {
        assert_eq!(pauses(exponential(Some(2)), &[0, 400, 900]), [Some(1_000), Some(600), Some(100)]);
        assert_eq!(pauses(exponential(Some(2)), &[0, 1_000, 3_000]), [Some(1_000), Some(2_000), None]);
    }

    #[test]
    fn jitter_stays_within_its_factor_and_bounds() {
        for random in [0.0, 0.25, 0.999] {
            let mut s = RestartStrategy::new(exponential(None)).unwrap();
            let _ = s.on_failure(ErrorKind::Retry, 0, random);
            let RestartDecision::Restart { after_ms } = s.on_failure(ErrorKind::Retry, 5_000, random) else {
                panic!("refused");
            };
            assert!((1_800..=2_200).contains(&after_ms), "{after_ms}");
            assert_eq!(random < 0.5, after_ms < 2_000);
        }
    }

    #[test]
    fn kinds_a_restart_cannot_cure_fail_at_once() {
        let mut s = RestartStrategy::new(RestartStrategyConfig::default()).unwrap();
        for kind in [ErrorKind::Fenced, ErrorKind::Config, ErrorKind::Data, ErrorKind::Bug] {
            assert!(matches!(s.on_failure(kind, 0, 0.0), RestartDecision::Fail { .. }), "{kind}");
        }
    }

    #[test]
    fn senseless_parameters_are_refused_by_name() {
        let base = |f: fn(&mut RestartStrategyConfig)| {
            let mut c = exponential(None);
            f(&mut c);
            c.validate().unwrap_err().to_string()
        };
        type C = RestartStrategyConfig;
        assert!(
            base(|c| if let C::ExponentialDelay { backoff_multiplier: m, .. } = c {
                *m = 0.9
            })
            .contains("backoff_multiplier")
        );
        assert!(
            base(|c| if let C::ExponentialDelay { jitter_factor: j, .. } = c {
                *j = f64::NAN
            })
            .contains("jitter_factor")
        );
        assert!(
            base(|c| if let C::ExponentialDelay { max_backoff_ms: m, .. } = c {
                *m = 1
            })
            .contains("max_backoff_ms")
        );
    }

    #[test]
    fn reads_from_configuration() {
        let c: RestartStrategyConfig =
            serde_json::from_str(r#"{"type":"fixed-delay","attempts":3,"delay_ms":10}"#).unwrap();
        assert_eq!(c, RestartStrategyConfig::FixedDelay { attempts: 3, delay_ms: 10 });
    }
}

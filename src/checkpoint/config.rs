//! How and when checkpoints are taken.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use tidegate_state::envelope::Compression;

/// What happens to a job's checkpoints when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retention {
    /// Deleted when the job finishes, kept when it fails or is cancelled.
    #[default]
    OnFailure,
    /// Always kept.
    Always,
    /// Deleted when the job finishes or is cancelled; kept when it fails, because they are all there is.
    Never,
}

/// What a checkpoint guarantees about records between two barriers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckpointMode {
    /// State covers every record once: inputs that are ahead wait at the barrier.
    #[default]
    ExactlyOnce,
    /// No input waits; after a restore some records are processed a second time. Savepoints are exactly-once all the
    /// same.
    AtLeastOnce,
}

/// Options of a job's checkpoints. Every field has a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// What they guarantee.
    pub mode: CheckpointMode,
    /// Whether barriers overtake records, which then are part of the checkpoint. Savepoints and the final checkpoint are
    /// always aligned.
    pub unaligned: bool,
    /// With `unaligned`: how long a checkpoint is aligned before its barriers overtake, from the trigger on. Zero: they
    /// overtake at once.
    pub aligned_timeout_ms: u64,
    /// How the files of state are compressed. RocksDB's own table files, which are compressed already, stay as they are.
    pub compression: Compression,
    /// Time between two triggers; without it only the final checkpoint is taken.
    pub interval_ms: Option<u64>,
    /// A checkpoint not complete after this long is given up.
    pub timeout_ms: u64,
    /// A call of the checkpoint storage not answered after this long has failed; see
    /// [`CheckpointStore::with_call_timeout`](crate::checkpoint::CheckpointStore::with_call_timeout).
    pub storage_timeout_ms: u64,
    /// Least time between the end of one checkpoint and the trigger of the next.
    pub min_pause_ms: u64,
    /// How many may be under way at once.
    pub max_concurrent: u32,
    /// How many may fail in a row before the job does.
    pub tolerable_failures: u32,
    /// How many completed ones are kept.
    pub retained: u32,
    /// What happens to them when the job ends.
    pub retention: Retention,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            mode: CheckpointMode::default(),
            unaligned: false,
            aligned_timeout_ms: 0,
            compression: Compression::default(),
            interval_ms: None,
            timeout_ms: 600_000,
            storage_timeout_ms: 60_000,
            min_pause_ms: 0,
            max_concurrent: 1,
            tolerable_failures: 0,
            retained: 1,
            retention: Retention::default(),
        }
    }
}

impl CheckpointConfig {
    /// For the barriers of periodic checkpoints, see [`Barrier::unaligned_after_ms`](crate::checkpoint::Barrier).
    pub(crate) fn unaligned_after_ms(&self) -> Option<u64> {
        self.unaligned.then_some(self.aligned_timeout_ms)
    }

    /// The defaults with a checkpoint every `interval_ms`.
    pub fn every_ms(interval_ms: u64) -> Self {
        Self { interval_ms: Some(interval_ms), ..Self::default() }
    }

    /// Refuses values that make no sense, naming the option.
    pub fn validate(&self) -> Result<()> {
        let refuse = |what: &str| Err(Error::config(format!("checkpoint options: {what}")));
        if self.interval_ms == Some(0) {
            return refuse("interval_ms must be at least 1; leave it out to switch periodic checkpoints off");
        }
        if self.timeout_ms == 0 {
            return refuse("timeout_ms must be at least 1");
        }
        if self.storage_timeout_ms == 0 {
            return refuse("storage_timeout_ms must be at least 1");
        }
        if self.max_concurrent == 0 {
            return refuse("max_concurrent must be at least 1");
        }
        if self.min_pause_ms > 0 && self.max_concurrent > 1 {
            return refuse("min_pause_ms implies one checkpoint at a time: set max_concurrent to 1");
        }
        if self.unaligned && self.mode == CheckpointMode::AtLeastOnce {
            return refuse(
                "unaligned goes with mode exactly-once only: at-least-once waits for no barrier anyhow",
            );
        }
        if self.unaligned && self.max_concurrent > 1 {
            return refuse("unaligned implies one checkpoint at a time: set max_concurrent to 1");
        }
        if self.aligned_timeout_ms > 0 && !self.unaligned {
            return refuse("aligned_timeout_ms says when a checkpoint becomes unaligned: set unaligned, too");
        }
        if self.retained == 0 {
            return refuse("retained must be at least 1: the newest checkpoint is what a restart needs");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senseless_options_are_refused_by_name() {
        assert!(CheckpointConfig::every_ms(1_000).validate().is_ok());
        type C = CheckpointConfig;
        let unaligned = || C { unaligned: true, ..C::default() };
        assert!(C { aligned_timeout_ms: 5, ..unaligned() }.validate().is_ok());
        let cases: [(C, &str); 9] = [
            (C { mode: CheckpointMode::AtLeastOnce, ..unaligned() }, "exactly-once"),
            (C { max_concurrent: 2, ..unaligned() }, "max_concurrent"),
            (C { aligned_timeout_ms: 5, ..C::default() }, "aligned_timeout_ms"),
            (C::every_ms(0), "interval_ms"),
            (C { timeout_ms: 0, ..C::default() }, "timeout_ms"),
            (C { storage_timeout_ms: 0, ..C::default() }, "storage_timeout_ms"),
            (C { max_concurrent: 0, ..C::default() }, "max_concurrent"),
            (C { retained: 0, ..C::default() }, "retained"),
            (C { min_pause_ms: 1, max_concurrent: 2, ..C::default() }, "min_pause_ms"),
        ];
        for (config, name) in cases {
            assert!(config.validate().unwrap_err().to_string().contains(name), "{name}");
        }
    }
}

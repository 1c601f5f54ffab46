//! Where the values of a configuration come from.

use std::collections::BTreeMap;
use std::fmt;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// A place in a YAML file.
    File {
        /// The file as it was named.
        path: String,
        /// Line, counted from 1.
        line: u64,
        /// Column, counted from 1.
        column: u64,
    },
    /// The command line; the flag as it was written, without its value.
    Flag(String),
    /// The program.
    Code,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "file {path}:{line}:{column}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Code => f.write_str("code"),
        }
    }
}

/// Remembers which source set which option of a [`Config`](crate::config::Config).
#[derive(Clone, Debug, Default)]
pub struct Origins(BTreeMap<&'static str, Origin>);

#[derive(Clone, Debug)]
struct Origin {
    source: Source,
    /// The value as it was right after it had been set; another one now means that code has changed it.
    value: Option<String>,
}

impl Origins {
    pub(super) fn record(&mut self, key: &'static str, source: Source, value: Option<String>) {
        self.0.insert(key, Origin { source, value });
    }

    /// Whether a loader has set the option `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The source of the option `key`, which is `value` now and `default` unless set.
    pub(super) fn source(&self, key: &str, value: Option<&str>, default: Option<&str>) -> Source {
        match self.0.get(key) {
            Some(origin) if origin.value.as_deref() == value => origin.source.clone(),
            None if value == default => Source::Default,
            _ => Source::Code,
        }
    }
}

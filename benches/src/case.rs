//! What is measured: one piece of work, in one configuration.

use std::fmt;
use std::path::PathBuf;
use tidegate_state::{BackendOptions, RocksDbOptions};

/// What is done with records.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// Lines of text, split into words, a running count per word.
    WordCount {
        /// The directory of the text.
        text: PathBuf,
    },
    /// State per number.
    Keyed {
        /// What is kept.
        kind: Kind,
        /// So many keys; each is seen once before the measurement starts.
        keys: u64,
        /// Records behind that.
        records: u64,
    },
}

/// What is kept per number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A running count.
    Value,
    /// Everything that came.
    List,
    /// Sixteen running counts.
    Map,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Value, Self::List, Self::Map];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::List => "list",
            Self::Map => "map",
        }
    }
}

/// Which of the sixteen counts of a key a record belongs to, if it is the n-th of its subtask.
#[inline]
pub(crate) fn slot(key: u64, n: u64) -> u64 {
    (key ^ n) & 15
}

/// Where keyed state lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Memory,
    RocksDb,
}

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::RocksDb => "rocksdb",
        }
    }

    /// It with the options that a job has if nothing is said.
    pub(crate) fn options(self) -> BackendOptions {
        match self {
            Self::Memory => BackendOptions::Memory,
            Self::RocksDb => BackendOptions::RocksDb(RocksDbOptions::default()),
        }
    }
}

/// One cell of the grid.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) work: Work,
    pub(crate) backend: Backend,
    pub(crate) parallelism: u32,
    /// Time between two checkpoints; none without it.
    pub(crate) checkpoint_ms: Option<u64>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.work {
            Work::WordCount { .. } => write!(f, "word count")?,
            Work::Keyed { kind, keys, .. } => {
                let what = match kind {
                    Kind::Value => "counter",
                    Kind::List => "list append",
                    Kind::Map => "map get and put",
                };
                write!(f, "{what} K={keys:.0e}", keys = *keys as f64)?;
            }
        }
        write!(f, ", {}, p={}, ", self.backend.name(), self.parallelism)?;
        match self.checkpoint_ms {
            Some(ms) => write!(f, "checkpoints {ms} ms"),
            None => write!(f, "checkpoints off"),
        }
    }
}

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contender {
    /// This project.
    Tidegate,
    /// A loop as one writes it by hand.
    Hand,
    /// The same, tuned for the very job.
    Tuned,
    /// Apache Flink with the G1 collector.
    FlinkG1,
    /// Apache Flink with the parallel collector.
    FlinkParallel,
}

impl Contender {
    pub(crate) const ALL: [Self; 5] =
        [Self::Tidegate, Self::Hand, Self::Tuned, Self::FlinkG1, Self::FlinkParallel];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tidegate => "tidegate",
            Self::Hand => "hand",
            Self::Tuned => "tuned",
            Self::FlinkG1 => "flink-g1",
            Self::FlinkParallel => "flink-parallel",
        }
    }
}

/// A case and who runs it as words of a command line, and back: every run has a process of its own.
pub(crate) fn to_words(contender: Contender, case: &Case) -> Vec<String> {
    let mut words = vec![format!("contender={}", contender.name()), format!("p={}", case.parallelism)];
    match &case.work {
        Work::WordCount { text } => words.push(format!("text={}", text.display())),
        Work::Keyed { kind, keys, records } => {
            words.push(format!("kind={}", kind.name()));
            words.push(format!("keys={keys}"));
            words.push(format!("records={records}"));
        }
    }
    words.extend((case.backend == Backend::RocksDb).then(|| "backend=rocksdb".to_owned()));
    words.extend(case.checkpoint_ms.map(|ms| format!("checkpoint_ms={ms}")));
    words
}

/// See [`to_words`].
pub(crate) fn from_words(words: &[String]) -> Option<(Contender, Case)> {
    let value = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let contender = value("contender")?;
    let contender = Contender::ALL.into_iter().find(|c| c.name() == contender)?;
    let work = match value("text") {
        Some(text) => Work::WordCount { text: text.into() },
        None => Work::Keyed {
            kind: Kind::ALL.into_iter().find(|kind| Some(kind.name()) == value("kind"))?,
            keys: value("keys")?.parse().ok()?,
            records: value("records")?.parse().ok()?,
        },
    };
    let backend = if value("backend").is_some() { Backend::RocksDb } else { Backend::Memory };
    let checkpoint_ms = value("checkpoint_ms").and_then(|ms| ms.parse().ok());
    Some((contender, Case { work, backend, parallelism: value("p")?.parse().ok()?, checkpoint_ms }))
}

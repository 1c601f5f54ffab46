//! The one error type of Tidegate.
//!
//! An [`Error`] says what happened, where, and what to do about it; its [`ErrorKind`] prescribes how the
//! runtime reacts. Restart strategies look at the kind and at nothing else.

use std::error::Error as StdError;
use std::fmt;

/// Result with Tidegate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the receiver of an [`Error`] is to do. The kind is the only thing restart decisions look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The same call may succeed if repeated: a busy store, a timeout.
    Retry,
    /// The subtask has lost its footing, for example its local database; restart it from the last checkpoint.
    RestartTask,
    /// User code failed or a peer is gone; restart the job from the last checkpoint.
    RestartJob,
    /// A newer leader or attempt has taken over; stop and touch nothing.
    Fenced,
    /// The program, its options or its environment is wrong; a restart cannot help, a person can.
    Config,
    /// Data is damaged, unreadable or of another shape; a restart cannot help.
    Data,
    /// An invariant of Tidegate itself is broken; please report it.
    Bug,
}

impl ErrorKind {
    /// Whether restarting from the last checkpoint can cure an error of this kind.
    pub fn is_recoverable(self) -> bool {
        matches!(self, Self::Retry | Self::RestartTask | Self::RestartJob)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Retry => "retry",
            Self::RestartTask => "restart-task",
            Self::RestartJob => "restart-job",
            Self::Fenced => "fenced",
            Self::Config => "config",
            Self::Data => "data",
            Self::Bug => "bug",
        })
    }
}

/// What went wrong, where, and what to do. Eight bytes wide, so that `Result<()>` stays cheap per record.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    /// Outermost first once displayed; pushed innermost first.
    places: Vec<String>,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` with a message that says what happened.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), places: Vec::new(), hint: None, source: None }))
    }

    /// An [`ErrorKind::Retry`] error.
    pub fn retry(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Retry, message)
    }

    /// An [`ErrorKind::RestartTask`] error.
    pub fn restart_task(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::RestartTask, message)
    }

    /// An [`ErrorKind::RestartJob`] error: the kind to return from user code.
    pub fn restart_job(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::RestartJob, message)
    }

    /// An [`ErrorKind::Fenced`] error.
    pub fn fenced(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Fenced, message)
    }

    /// An [`ErrorKind::Config`] error.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// An [`ErrorKind::Data`] error.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// An [`ErrorKind::Bug`] error.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Bug, message)
    }

    /// Adds where it happened; call it on the way up, the innermost place first.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.0.places.push(place.to_string());
        self
    }

    /// Says what the reader should do. The innermost hint wins, as it is the most specific.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error under another kind, for borders that know better what is to be done.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// What is to be done about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The bare message, without place, hint and source.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in self.0.places.iter().rev() {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.0.message)?;
        let mut source = self.0.source.as_deref().map(|s| s as &dyn StdError);
        let mut said = String::new();
        while let Some(cause) = source {
            // Many errors repeat their own cause in their text.
            let text = cause.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            source = cause.source();
        }
        if let Some(hint) = &self.0.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {self}", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|s| s as &(dyn StdError + 'static))
    }
}

/// I/O errors reach user code through `?`; they are worth a restart unless a border says otherwise.
impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        Self::restart_job("input/output failed").with_source(e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_place_message_cause_and_remedy_in_that_order() {
        let e = Error::config("cannot write")
            .with_source(std::io::Error::other("disk full"))
            .at("checkpoint 7")
            .at("job wordcount")
            .hint("free some space")
            .hint("ignored, less specific");
        assert_eq!(e.to_string(), "job wordcount: checkpoint 7: cannot write: disk full (free some space)");
        assert!(!e.kind().is_recoverable());
    }

    #[test]
    fn a_cause_that_is_part_of_the_one_before_is_said_once() {
        let disk = Error::retry("disk full");
        let copy = Error::retry("cannot copy").with_source(disk);
        let e = Error::retry("cannot write").with_source(copy).hint("free some space");
        assert_eq!(e.to_string(), "cannot write: cannot copy: disk full (free some space)");
    }

    #[test]
    fn is_one_word_wide() {
        assert_eq!(size_of::<Result<()>>(), size_of::<usize>());
    }
}

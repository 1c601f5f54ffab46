//! Names of things that travel in messages: jobs, operators, subtasks, checkpoints, attempts.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id!(
    /// A completed or pending checkpoint; strictly rising within a job, never reused.
    CheckpointId(u64)
);
/// One try at running the whole job; every restart is a new attempt. Strictly rising within a job, whoever leads it: the
/// upper half is the leader's term less one, the lower half counts from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attempt(pub u64);

impl Attempt {
    /// What stands before the first attempt of a leader.
    pub fn before_first_of(leader: LeaderEpoch) -> Self {
        Self(leader.0.saturating_sub(1) << 32)
    }

    /// Whether it is none at all, but what stands before the first of a leader.
    pub fn is_none(self) -> bool {
        self.0 & u64::from(u32::MAX) == 0
    }
}

/// `2`, or `2 of term 3` if the job has had other leaders before.
impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (term, nth) = (1 + (self.0 >> 32), self.0 & u64::from(u32::MAX));
        if term == 1 { write!(f, "{nth}") } else { write!(f, "{nth} of term {term}") }
    }
}

number_id!(
    /// Term of a job's leader; a message of an older epoch is refused.
    LeaderEpoch(u64)
);
number_id!(
    /// A taskmanager as the jobmanager knows it; a re-registered one gets a new id.
    WorkerId(u32)
);
number_id!(
    /// A vertex of the job graph: one chain of operators.
    VertexId(u32)
);

/// One parallel instance of a vertex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubtaskId {
    /// The vertex.
    pub vertex: VertexId,
    /// Zero-based index among the vertex' parallel instances.
    pub index: u32,
}

impl fmt::Display for SubtaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.vertex, self.index)
    }
}

/// Identity of a job: prefix of every object it writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(String);

impl JobId {
    /// A job id out of a job name and a random part: the name's letters and digits, lower-cased, and eight hex digits.
    pub fn new(name: &str, random: u32) -> Self {
        let slug: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .take(48)
            .collect();
        let slug = slug.trim_matches('-');
        Self(format!("{}-{random:08x}", if slug.is_empty() { "job" } else { slug }))
    }

    /// The id as written in paths.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for JobId {
    fn from(id: String) -> Self {
        Self(id)
    }
}

/// Stable identity of an operator across program versions: the user's `uid`, or one derived from the
/// operator's position in the graph. State is matched by it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OperatorUid(pub String);

impl OperatorUid {
    /// The uid as written in manifests.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OperatorUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Or a file of a zombie's attempt could have the name of one of the attempt that has taken its place.
    #[test]
    fn attempts_rise_from_leader_to_leader_however_many_one_has_made() {
        let first = Attempt::before_first_of(LeaderEpoch(1));
        let last_of_first = Attempt(first.0 + u64::from(u32::MAX));
        let second = Attempt::before_first_of(LeaderEpoch(2));
        assert!(first.is_none() && second.is_none() && !Attempt(second.0 + 1).is_none());
        assert!(last_of_first < second);
        assert_eq!(
            (Attempt(3).to_string(), Attempt(second.0 + 3).to_string()),
            ("3".into(), "3 of term 2".into())
        );
    }
}

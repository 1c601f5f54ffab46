//! The manifest: what a checkpoint consists of. One per checkpoint, written once, never changed.
//!
//! Invariants: it lists every file with length, CRC32, unique id and the checkpoint that brought it; operators are listed once each, with one entry per
//! subtask; every path stays below the job's directory. [`Manifest::decode`] checks all of this, so that what
//! follows need not.

use crate::checkpoint::envelope;
use crate::checkpoint::{CheckpointKind, OperatorHandles, StateHandle, SubtaskTimings};
use crate::error::{Error, Result};
use crate::id::{Attempt, CheckpointId, JobId, LeaderEpoch, OperatorUid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

const KIND: &str = "tidegate-manifest";

/// Version of the manifest's body.
pub const MANIFEST_FORMAT: u32 = 1;

/// A checkpoint, written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this body.
    pub format: u32,
    /// Whose checkpoint.
    pub job: JobId,
    /// Which.
    pub checkpoint: CheckpointId,
    /// The leader that took it.
    pub leader_epoch: LeaderEpoch,
    /// The attempt it was taken in.
    pub attempt: Attempt,
    /// Unique to this manifest: how its writer recognises it.
    pub nonce: String,
    /// Why it was taken.
    pub kind: CheckpointKind,
    /// When it was triggered, in milliseconds of the coordinator's clock.
    pub triggered_at_ms: u64,
    /// When the last subtask had acknowledged it.
    pub completed_at_ms: u64,
    /// Every operator of the job.
    pub operators: Vec<OperatorState>,
    /// Every source's enumerator.
    pub enumerators: Vec<EnumeratorState>,
    /// How long every subtask took.
    pub subtasks: Vec<SubtaskTimes>,
    /// Where the files are if not in the job's own directory: the savepoint with which the job stopped. Never in the
    /// manifest that lies in the savepoint itself, which can be moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// Where the time of one subtask's checkpoint went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskTimes {
    /// Name of its vertex, for people.
    pub vertex: String,
    /// Its number within the vertex, from 0.
    pub index: u32,
    /// The four times.
    #[serde(flatten)]
    pub timings: SubtaskTimings,
}

/// State of one operator over all its subtasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorState {
    /// Identity that state is matched by.
    pub uid: OperatorUid,
    /// Name shown to people.
    pub name: String,
    /// Number of subtasks that wrote it.
    pub parallelism: u32,
    /// Number of key groups it is divided into.
    pub max_parallelism: u16,
    /// Index = subtask.
    pub subtasks: Vec<OperatorHandles>,
}

impl OperatorState {
    /// Whether any subtask had something to keep.
    pub fn has_state(&self) -> bool {
        self.subtasks.iter().any(|s| !s.files.is_empty())
    }
}

/// State of one source's enumerator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnumeratorState {
    /// The source.
    pub operator: OperatorUid,
    /// What the enumerator wrote, in hex.
    #[serde(with = "hex")]
    pub state: Vec<u8>,
}

impl Manifest {
    /// The file's bytes.
    pub fn encode(&self) -> Result<Vec<u8>> {
        envelope::seal(KIND, self)
    }

    /// Reads a file's bytes; every error is of kind `Data` and names `path`.
    pub fn decode(bytes: &[u8], path: &str) -> Result<Self> {
        let manifest: Self = envelope::open(KIND, bytes, path)?;
        manifest.check().map_err(|e| e.at(path))?;
        Ok(manifest)
    }

    /// Reads the JSON body of a file.
    #[cfg(feature = "testing")]
    pub(crate) fn decode_body(body: &[u8], path: &str) -> Result<Self> {
        Self::decode(&envelope::wrap(KIND, body), path)
    }

    /// The manifest's name below the job's directory.
    pub fn path(&self) -> String {
        manifest_path(self.checkpoint)
    }

    /// All files it refers to, without its own.
    pub fn files(&self) -> impl Iterator<Item = &StateHandle> {
        self.operators.iter().flat_map(|o| &o.subtasks).flat_map(|s| &s.files)
    }

    /// The paths of all files it refers to, without its own.
    pub fn file_paths(&self) -> impl Iterator<Item = &str> {
        self.files().map(|f| f.path.as_str())
    }

    /// Bytes of all files it refers to.
    pub fn state_bytes(&self) -> u64 {
        self.files().fold(0, |sum, f| sum.saturating_add(f.length))
    }

    /// Bytes of the files that this checkpoint brought; the others were there.
    pub fn uploaded_bytes(&self) -> u64 {
        let own = self.files().filter(|f| f.checkpoint == self.checkpoint);
        own.fold(0, |sum, f| sum.saturating_add(f.length))
    }

    fn check(&self) -> Result<()> {
        if self.format != MANIFEST_FORMAT {
            return Err(Error::data(format!(
                "manifest format {}; this build reads format {MANIFEST_FORMAT}",
                self.format
            ))
            .hint("written by another release: use a matching build"));
        }
        let mut uids = BTreeSet::new();
        for op in &self.operators {
            let refuse = |what: String| Err(Error::data(format!("operator {}: {what}", op.uid)));
            if !uids.insert(&op.uid) {
                return refuse("listed twice".into());
            }
            if op.subtasks.len() != op.parallelism as usize {
                return refuse(format!("{} subtasks at parallelism {}", op.subtasks.len(), op.parallelism));
            }
            if op.parallelism == 0 || op.parallelism > u32::from(op.max_parallelism) {
                return refuse(format!("parallelism {} of at most {}", op.parallelism, op.max_parallelism));
            }
            for subtask in &op.subtasks {
                if subtask.operator != op.uid {
                    return refuse(format!("holds state of operator {}", subtask.operator));
                }
                if let Some(file) = subtask.files.iter().find(|f| !is_safe_path(&f.path)) {
                    return refuse(format!("path {:?} leaves the job's directory", file.path));
                }
                if let Some(file) = subtask.files.iter().find(|f| f.checkpoint > self.checkpoint) {
                    return refuse(format!("{} was brought by checkpoint {}", file.path, file.checkpoint));
                }
            }
        }
        let mut sources = BTreeSet::new();
        match self.enumerators.iter().find(|e| !sources.insert(&e.operator)) {
            Some(twice) => Err(Error::data(format!("enumerator of {} listed twice", twice.operator))),
            None => Ok(()),
        }
    }
}

/// A manifest's name below the job's directory.
pub fn manifest_path(checkpoint: CheckpointId) -> String {
    format!("chk-{checkpoint}/manifest.json")
}

/// Whether a path found in a file stays below the directory it is relative to.
pub(crate) fn is_safe_path(path: &str) -> bool {
    path.len() <= 1024
        && path.split('/').all(|part| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        })
}

mod hex {
    //! Bytes as a hex string.
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::fmt::Write;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(bytes.len() * 2);
        for b in bytes {
            // Writing to a string cannot fail.
            let _ = write!(text, "{b:02x}");
        }
        s.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(d)?;
        if !text.is_ascii() || text.len() % 2 != 0 {
            return Err(D::Error::custom("not an even number of hex digits"));
        }
        let digit = |b: u8| char::from(b).to_digit(16).ok_or_else(|| D::Error::custom("not a hex digit"));
        text.as_bytes()
            .chunks_exact(2)
            .map(|pair| match *pair {
                [high, low] => Ok((digit(high)? << 4 | digit(low)?) as u8),
                _ => Err(D::Error::custom("not a pair of hex digits")),
            })
            .collect()
    }
}

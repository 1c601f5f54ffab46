//! What a checkpoint remembers of a finished part.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A finished part of a file sink: staged, on the disk, waiting for its checkpoint to complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Absolute path of the sink's directory when the part was written. A part is published where it was staged,
    /// even if the program names another directory by then.
    pub directory: String,
    /// Path of the staged file below `directory`.
    pub staged: String,
    /// Name of the published file in `directory`.
    pub published: String,
    /// Bytes.
    pub length: u64,
    /// CRC-32 (IEEE) of the content.
    pub crc32: u32,
}

impl Part {
    pub(super) fn staged_path(&self) -> PathBuf {
        [&self.directory, &self.staged].iter().collect()
    }

    pub(super) fn published_path(&self) -> PathBuf {
        [&self.directory, &self.published].iter().collect()
    }
}

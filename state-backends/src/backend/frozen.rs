//! An image of a backend's content, on its way to the files of a snapshot.

use std::fmt;

use super::bases::Registration;
use super::native::{NativeImage, StoredFiles};
use crate::Result;
use crate::snapshot::{
    DirectoryWriter, FileWriter, FrozenEntry, Increment, KeyedSnapshot, SnapshotSink, Subject, write_group,
};

/// The form in which an image is stored.
pub(super) enum Form {
    /// Every row, in one file.
    Canonical,
    /// What has changed in the pages of the memory backend.
    Pages(Registration),
    /// The files of a store that has some of its own, and in front of them the rows that lie over these.
    Files(Box<dyn NativeImage>),
}

/// All keyed state of a subtask at the moment of a freeze. Meant to be stored on another thread; dropping it is fine.
pub struct FrozenState {
    subject: Subject,
    /// By name.
    states: Vec<FrozenEntry>,
    form: Form,
}

impl FrozenState {
    pub(super) fn new(subject: Subject, mut states: Vec<FrozenEntry>, form: Form) -> Self {
        states.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        Self { subject, states, form }
    }

    /// The names of the states, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.states.iter().map(|(descriptor, _)| descriptor.name.as_str())
    }

    /// Writes the image into files. May block.
    ///
    /// # Errors
    /// Those of the sink; [`ErrorKind::Data`](crate::ErrorKind::Data) if a value cannot be serialised;
    /// [`ErrorKind::RestartTask`](crate::ErrorKind::RestartTask) if a store on disk cannot be read.
    pub fn store(self, sink: &mut dyn SnapshotSink) -> Result<KeyedSnapshot> {
        let Self { subject, states, form } = self;
        match form {
            Form::Canonical => store_rows(&subject, states, None, sink),
            Form::Pages(registration) => {
                let increment = Increment::new(&subject, registration.checkpoint(), registration.base());
                let (snapshot, placement) = increment.store(states, sink)?;
                registration.stored(placement);
                Ok(snapshot)
            }
            Form::Files(image) => {
                let files = image.store(sink)?;
                store_rows(&subject, states, files, sink)
            }
        }
    }
}

/// Stores rows in the canonical form: all of them, or those that lie over these files.
fn store_rows(
    subject: &Subject,
    mut states: Vec<FrozenEntry>,
    files: Option<StoredFiles>,
    sink: &mut dyn SnapshotSink,
) -> Result<KeyedSnapshot> {
    let mut file = FileWriter::create(sink)?;
    let mut directory = DirectoryWriter::new(subject, false, [].iter());
    let (mut rows, mut block) = (0, Vec::new());
    for (descriptor, table) in &mut states {
        let mut groups = Vec::with_capacity(subject.range.len());
        for group in subject.range.groups() {
            let (placed, count) = write_group(&mut file, &mut block, group, &mut **table)
                .map_err(|e| e.at(format!("state `{}`", descriptor.name)))?;
            groups.push(placed);
            rows += count;
        }
        directory.state(descriptor, subject.range, &groups);
    }
    file.directory(directory)?;
    let mut behind = Vec::new();
    if let Some(StoredFiles { tables, files }) = files {
        file.describe(subject.range, &tables)?;
        behind = files;
    }
    let mut files = vec![file.finish()?];
    files.append(&mut behind);
    Ok(KeyedSnapshot { files, rows })
}

impl fmt::Debug for FrozenState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrozenState")
            .field("range", &self.subject.range)
            .field("states", &self.names().collect::<Vec<_>>())
            .finish()
    }
}

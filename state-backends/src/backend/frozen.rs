//! An image of a backend's content, on its way to the files of a snapshot.

use std::fmt;

use super::native::{NativeImage, StoredFiles};
use crate::Result;
use crate::context::KeyContext;
use crate::descriptor::{StateDescriptor, short_type_name};
use crate::key::Key;
use crate::key_group::KeyGroupRange;
use crate::snapshot::{BodyWriter, FrozenTable, KeyedSnapshot, SnapshotSink};
use crate::ttl::ClockReading;

/// All keyed state of a subtask at the moment of a freeze. Meant to be written on another thread; dropping it
/// unwritten is fine.
pub struct FrozenState {
    key_type: String,
    range: KeyGroupRange,
    max_parallelism: u16,
    clock: ClockReading,
    states: Vec<(StateDescriptor, Box<dyn FrozenTable>)>,
    /// The files of a store that has some of its own, if they are to be stored instead of its rows.
    native: Option<Box<dyn NativeImage>>,
}

impl FrozenState {
    pub(super) fn new<K: Key>(
        context: &KeyContext<K>,
        clock: ClockReading,
        mut states: Vec<(StateDescriptor, Box<dyn FrozenTable>)>,
        native: Option<Box<dyn NativeImage>>,
    ) -> Self {
        states.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        let (range, max_parallelism) = (context.range(), context.max_parallelism());
        Self { key_type: short_type_name::<K>(), range, max_parallelism, clock, states, native }
    }

    /// Writes the image into files. May block.
    ///
    /// # Errors
    /// Those of the sink; [`ErrorKind::Data`](crate::ErrorKind::Data) if a value cannot be serialised;
    /// [`ErrorKind::RestartTask`](crate::ErrorKind::RestartTask) if a store on disk cannot be read.
    pub fn store(self, sink: &mut dyn SnapshotSink) -> Result<KeyedSnapshot> {
        let files = match &self.native {
            Some(native) => native.store(sink)?,
            None => None,
        };
        let mut body = BodyWriter::new(sink, &self.key_type, self.range, self.max_parallelism, self.clock)?;
        for (descriptor, mut table) in self.states {
            body.state(&descriptor, &mut *table).map_err(|e| e.at(format!("state `{}`", descriptor.name)))?;
        }
        match files {
            Some(StoredFiles { tables, files }) => body.finish_native(&tables, files),
            None => body.finish(),
        }
    }
}

impl fmt::Debug for FrozenState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.states.iter().map(|(descriptor, _)| &descriptor.name);
        f.debug_struct("FrozenState")
            .field("range", &self.range)
            .field("states", &names.collect::<Vec<_>>())
            .finish()
    }
}

//! Keyed state for Tidegate: keys and key groups, serializers, state handles, backends and snapshot files.
//!
//! A [`KeyedBackend`] holds all keyed state of one operator subtask. User code gets handles from it
//! ([`ValueState`], [`ListState`], [`MapState`], [`ReducingState`], [`AggregatingState`], [`TimerQueue`]) and uses them
//! under the current key. At a checkpoint the backend is [frozen](KeyedBackend::freeze) in an instant and the image is
//! [stored](FrozenState::store) on another thread, in files that are read back at any parallelism.

mod backend;
pub mod codec;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod context;
mod descriptor;
pub mod envelope;
pub mod error;
mod evolution;
mod handle;
mod key;
mod key_group;
mod migrations;
mod namespace;
pub mod schema;
mod snapshot;
mod snapshot_reader;
mod state_options;
mod table;
mod timer;
mod ttl;
mod work_directory;

pub use backend::{
    BackendOptions, BackendScope, CustomBackend, FrozenState, KeyedBackend, OpenColdStore, RocksDbOptions,
    Within,
};
pub use codec::{Codec, State};
pub use descriptor::{StateDescriptor, StateKind, short_type_name};
pub use error::{Error, ErrorKind, Result};
pub use handle::{
    AggregateFunction, AggregatingState, KeyedState, ListState, MapState, ReducingState, ValueState,
};
pub use key::{BorrowedKey, Key, KeyPrefix, KeyType};
pub use key_group::{KeyGroup, KeyGroupRange, key_group_of, range_of, subtask_of};
pub use migrations::Migrations;
pub use namespace::{Namespaced, Namespaces};
pub use snapshot::{
    FileForm, FileRange, InMemoryFiles, KeyedSnapshot, SnapshotFile, SnapshotMode, SnapshotSink,
    SnapshotSource, SnapshotWriter,
};
pub use snapshot_reader::{Part, SnapshotReader, Stamps, StateEntry};
pub use state_options::StateOptions;
pub use table::cold::{ColdStore, FrozenStore, Operation, RowVisitor, WriteBatch};
pub use timer::{DueTimer, TimerQueue};
pub use ttl::{Ttl, TtlTime};
pub use work_directory::WorkDirectory;

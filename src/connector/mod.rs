//! Sources and sinks that ship with Tidegate.
//!
//! | | replays, or exactly once | for |
//! |---|---|---|
//! | [`FileSource`] | yes | text files, also compressed |
//! | [`Generator`] | yes | records made by a function of their index |
//! | [`SocketSource`] | no | demonstrations |
//! | [`FileSink`] | yes | parts of text, CSV or a format of one's own |
//! | [`CollectSink`] | yes | results in memory, tests |
//! | [`PrintSink`] | no | looking at records |
//! | [`DiscardSink`] | no | measuring |

mod collect;
mod discard;
mod file_sink;
mod file_source;
mod generator;
mod line_buffer;
mod print;
mod rate;
mod single_phase;
mod socket;
#[cfg(test)]
mod test_context;

pub use collect::{CollectHandle, CollectSink, CollectedValues};
pub use discard::{DiscardCounters, DiscardSink};
pub use file_sink::{FileSink, Part};
pub use file_source::{FileRecord, FileSource, FileSplit, InvalidUtf8};
pub use generator::{Generator, GeneratorSplit};
pub use print::PrintSink;
pub use socket::{SocketSource, SocketSplit};

//! Sources and sinks that ship with Tidegate.

mod file_sink;
mod file_source;
mod generator;
mod line_buffer;
mod rate;
mod single_phase;

pub use file_sink::{FileSink, Part};
pub use file_source::{FileRecord, FileSource, FileSplit, InvalidUtf8};
pub use generator::{Generator, GeneratorSplit};

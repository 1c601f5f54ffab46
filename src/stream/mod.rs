//! What a job author calls: streams and their transformations. Nothing runs until the environment executes.

mod broadcast_stream;
mod connected_streams;
mod data_stream;
mod factories;
mod keyed_stream;
mod settings;

pub use broadcast_stream::{BroadcastConnectedStream, BroadcastStream, KeyedBroadcastConnectedStream};
pub use connected_streams::{Connect, ConnectedStreams, KeyedConnectedStreams};
pub(crate) use data_stream::SharedGraph;
pub use data_stream::{DataStream, DataStreamSink};
pub use keyed_stream::KeyedStream;
pub(crate) use keyed_stream::keyed_factory;

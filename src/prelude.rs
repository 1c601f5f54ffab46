//! What most programs need: `use tidegate::prelude::*`.

pub use crate::connector::{CollectSink, FileSink, FileSource, Generator, PrintSink, SocketSource};
pub use crate::environment::Environment;
pub use crate::error::{Error, ErrorKind, Result};
pub use crate::function::{
    BroadcastContext, BroadcastProcessFunction, BroadcastState, CoProcessFunction, Collector,
    KeyedBroadcastContext, KeyedBroadcastProcessFunction, KeyedCoProcessFunction, KeyedContext,
    KeyedOpenContext, KeyedProcessFunction, MAX_WATERMARK, OpenContext, OperatorListState, OutputTag,
    ProcessContext, ProcessFunction, WatermarkStrategy,
};
pub use crate::stream::{DataStream, KeyedStream};
pub use tidegate_state::{
    AggregateFunction, AggregatingState, Codec, ListState, MapState, Migrations, ReducingState, StateOptions,
    Ttl, ValueState,
};

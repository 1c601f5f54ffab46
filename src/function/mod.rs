//! What a job author implements: process functions, sources and sinks, and what these are handed.

mod broadcast;
mod broadcast_state;
mod co_process;
mod collector;
mod context;
mod data;
mod operator_list;
mod operator_states;
mod output_tag;
mod process;
mod sink;
mod source;
mod split_queue;
mod watermark;

pub use broadcast::{
    BroadcastContext, BroadcastProcessFunction, KeyedBroadcastContext, KeyedBroadcastProcessFunction,
};
pub use broadcast_state::{BroadcastState, WritableBroadcastState};
pub use co_process::{CoProcessFunction, KeyedCoProcessFunction};
pub use collector::{Collector, Emit};
pub use context::{KeyedContext, KeyedOpenContext, OpenContext, ProcessContext, SubtaskInfo};
pub(crate) use context::{TimeView, TimerQueues};
pub use data::{Data, MAX_WATERMARK, NO_TIMESTAMP, NO_WATERMARK, Timestamp};
pub use operator_list::OperatorListState;
pub use operator_states::{FrozenLists, Redistribution, StoredList};
pub(crate) use operator_states::{OperatorStates, RestoredList};
pub use output_tag::OutputTag;
pub(crate) use output_tag::SideReceiver;
pub use process::{KeyedProcessFunction, ProcessFunction};
pub use sink::{Committer, Sink, SinkContext, SinkWriter};
pub use source::{
    EnumeratorContext, NextSplit, ReaderContext, ReaderStatus, Source, SourceReader, SplitEnumerator,
};
pub use split_queue::{AssignedSplits, SplitQueue};
pub use watermark::{WatermarkGenerator, WatermarkStrategy};

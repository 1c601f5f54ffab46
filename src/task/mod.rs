//! One subtask: the input gate with barrier alignment, the operator chain, the exchange. A state machine that is
//! stepped, by a thread in production and by the simulator in tests.

mod alignment;
pub(crate) mod channel;
pub(crate) mod ends;
mod exchange;
mod gate;
mod head;
pub(crate) mod hub;
mod in_flight;
mod quiet;
pub(crate) mod remote;
mod source_head;
mod subtask;
mod valve;
mod window;
pub(crate) mod wire;

pub(crate) use exchange::{Exchange, Inlet, SideExchange, TypedExchange};
pub(crate) use gate::{GateChannel, GateHead, GateStart};
pub(crate) use head::{Head, HeadEvent, Progress};
pub(crate) use hub::ExchangeHub;
pub(crate) use in_flight::{
    ChannelName, EdgeName, InFlight, InFlightChannel, InFlightElement, NewSubtask, deal,
};
pub(crate) use source_head::SourceHead;
pub(crate) use subtask::panic_error;
pub use subtask::{Step, Subtask, TaskMessage, TaskOutput};

//! One subtask: the input gate with barrier alignment, the operator chain, the exchange. A state machine that is
//! stepped, by a thread in production and by the simulator in tests.

mod alignment;
pub(crate) mod channel;
mod exchange;
mod gate;
mod head;
mod source_head;
mod subtask;
mod valve;

pub(crate) use exchange::{Exchange, ExchangeHub, Inlet, SideExchange, TypedExchange};
pub(crate) use gate::GateHead;
pub(crate) use head::{Head, HeadEvent, Progress};
pub(crate) use source_head::SourceHead;
pub(crate) use subtask::panic_error;
pub use subtask::{Step, Subtask, TaskMessage, TaskOutput};

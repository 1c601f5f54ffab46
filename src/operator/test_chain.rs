//! For tests: a chain that writes down what it is given.

use crate::checkpoint::{Barrier, CheckpointKind};
use crate::error::Result;
use crate::function::{Emit, Timestamp};
use crate::id::CheckpointId;
use crate::operator::{Control, InputSide, Operator};
use std::cell::RefCell;
use std::fmt::Display;
use std::rc::Rc;

/// What happened, in order.
#[derive(Clone, Default)]
pub(crate) struct Journal(Rc<RefCell<Vec<String>>>);

impl Journal {
    pub(crate) fn add(&self, entry: impl Into<String>) {
        self.0.borrow_mut().push(entry.into());
    }

    /// What happened since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        self.0.take()
    }
}

/// The name of a control, as the journal has it.
pub(crate) fn name_of(control: &Control<'_>) -> String {
    match control {
        Control::Idle(idle) => format!("idle {idle}"),
        Control::Barrier { barrier, .. } => format!("barrier {}", barrier.checkpoint),
        Control::Completed(checkpoint) => format!("completed {checkpoint}"),
        Control::Time { now_ms, .. } => format!("time {now_ms}"),
        Control::EndOfInput => "end of input".into(),
        Control::Flush => "flush".into(),
        Control::Drain(_) => "drain".into(),
    }
}

/// The chain.
pub(crate) struct Recorder(pub(crate) Journal);

impl<T: Display> Emit<T> for Recorder {
    fn emit(&mut self, value: T, _timestamp: Timestamp) -> Result<()> {
        self.0.add(value.to_string());
        Ok(())
    }
}

impl<T: Display> Operator<T> for Recorder {
    fn watermark(&mut self, watermark: Timestamp) -> Result<()> {
        self.0.add(format!("watermark {watermark}"));
        Ok(())
    }

    fn control(&mut self, control: &mut Control<'_>) -> Result<()> {
        self.0.add(name_of(control));
        Ok(())
    }

    fn end_of_side(&mut self, side: InputSide) -> Result<()> {
        self.0.add(format!("end of {side:?}"));
        Ok(())
    }
}

/// The barrier of checkpoint `n`.
pub(crate) fn barrier(n: u64) -> Barrier {
    Barrier::new(CheckpointId(n), CheckpointKind::Periodic, 0)
}

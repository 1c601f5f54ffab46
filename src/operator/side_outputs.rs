//! The side outputs of one operator instance: per name, the typed receiver behind it.

use crate::error::{Error, Result};
use crate::function::{Data, SideReceiver, Timestamp};
use crate::operator::{Control, Operator};
use std::any::Any;
use std::sync::Arc;

/// Side outputs with their consumers.
#[derive(Default)]
pub(crate) struct SideOutputs {
    outputs: Vec<(Arc<str>, Box<dyn SideOutput>)>,
}

/// What is behind a tag, with its record type erased.
trait SideOutput {
    /// Takes the record out of an `Option` of the right type.
    fn emit(&mut self, record: &mut dyn Any, timestamp: Timestamp) -> Option<Result<()>>;
    fn watermark(&mut self, watermark: Timestamp) -> Result<()>;
    fn control(&mut self, control: &mut Control<'_>) -> Result<()>;
    /// Name of the record type, for messages.
    fn record_type(&self) -> &'static str;
}

struct Typed<T>(Box<dyn Operator<T>>);

impl<T: Data> SideOutput for Typed<T> {
    fn emit(&mut self, record: &mut dyn Any, timestamp: Timestamp) -> Option<Result<()>> {
        let value = record.downcast_mut::<Option<T>>()?.take()?;
        Some(self.0.emit(value, timestamp))
    }

    fn watermark(&mut self, watermark: Timestamp) -> Result<()> {
        self.0.watermark(watermark)
    }

    fn control(&mut self, control: &mut Control<'_>) -> Result<()> {
        self.0.control(control)
    }

    fn record_type(&self) -> &'static str {
        std::any::type_name::<T>()
    }
}

impl SideOutputs {
    pub(crate) fn add<T: Data>(&mut self, name: &str, receiver: Box<dyn Operator<T>>) {
        self.outputs.push((name.into(), Box::new(Typed(receiver))));
    }

    pub(crate) fn watermark(&mut self, watermark: Timestamp) -> Result<()> {
        self.outputs.iter_mut().try_for_each(|(_, output)| output.watermark(watermark))
    }

    pub(crate) fn control(&mut self, control: &mut Control<'_>) -> Result<()> {
        self.outputs.iter_mut().try_for_each(|(_, output)| output.control(control))
    }
}

impl SideReceiver for SideOutputs {
    fn emit(
        &mut self,
        tag: &str,
        record: &mut dyn Any,
        emitted: &'static str,
        timestamp: Timestamp,
    ) -> Result<()> {
        let Some((_, output)) = self.outputs.iter_mut().find(|(name, _)| **name == *tag) else {
            return Ok(());
        };
        output.emit(record, timestamp).unwrap_or_else(|| {
            let read_as = output.record_type();
            Err(Error::config(format!("side output '{tag}' is read as {read_as} and emitted as {emitted}"))
                .hint("use the same OutputTag value on both sides"))
        })
    }
}

impl std::fmt::Debug for SideOutputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.outputs.iter().map(|(name, _)| name)).finish()
    }
}

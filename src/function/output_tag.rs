//! Side outputs: named extra streams of a process function.

use crate::error::{Error, Result};
use crate::function::{Data, Timestamp};
use crate::operator::{Control, Operator};
use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

/// Names a side output and its record type. Tags with the same name and type are the same output.
pub struct OutputTag<T> {
    name: Arc<str>,
    record: PhantomData<fn() -> T>,
}

impl<T: Data> OutputTag<T> {
    /// The side output called `name`.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), record: PhantomData }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<T> Clone for OutputTag<T> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), record: PhantomData }
    }
}

impl<T> std::fmt::Debug for OutputTag<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OutputTag").field(&self.name).finish()
    }
}

/// The side outputs of one operator instance: per name, the typed receiver behind it.
#[derive(Default)]
pub(crate) struct SideOutputs {
    outputs: Vec<(Arc<str>, Box<dyn SideOutput>)>,
}

/// What is behind a tag, with its record type erased.
trait SideOutput: Any {
    fn watermark(&mut self, watermark: Timestamp) -> Result<()>;
    fn control(&mut self, control: &mut Control<'_>) -> Result<()>;
    fn as_any(&mut self) -> &mut dyn Any;
    fn record_type(&self) -> &'static str;
}

struct Typed<T>(Box<dyn Operator<T>>);

impl<T: Data> SideOutput for Typed<T> {
    fn watermark(&mut self, watermark: Timestamp) -> Result<()> {
        self.0.watermark(watermark)
    }

    fn control(&mut self, control: &mut Control<'_>) -> Result<()> {
        self.0.control(control)
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
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

    /// Emits to a side output; a tag nobody listens to drops the record, as in Flink.
    pub(crate) fn emit<T: Data>(&mut self, tag: &OutputTag<T>, value: T, timestamp: Timestamp) -> Result<()> {
        let Some((_, output)) = self.outputs.iter_mut().find(|(name, _)| **name == *tag.name) else {
            return Ok(());
        };
        let read_as = output.record_type();
        let Some(output) = output.as_any().downcast_mut::<Typed<T>>() else {
            let emitted = std::any::type_name::<T>();
            return Err(Error::config(format!(
                "side output '{}' is read as {read_as} and emitted as {emitted}",
                tag.name
            ))
            .hint("use the same OutputTag value on both sides"));
        };
        output.0.emit(value, timestamp)
    }
}

impl std::fmt::Debug for SideOutputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.outputs.iter().map(|(name, _)| name)).finish()
    }
}

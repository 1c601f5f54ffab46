//! Side outputs: named extra streams of a process function.

use crate::error::Result;
use crate::function::{Data, Timestamp};
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

/// Takes records of side outputs, whatever their type. What an operator implements for the contexts of its function.
pub(crate) trait SideReceiver {
    /// Takes the record out of `record`, an `Option<S>` where `S` is the type of the tag called `tag`; `emitted` is the
    /// name of that type.
    fn emit(
        &mut self,
        tag: &str,
        record: &mut dyn Any,
        emitted: &'static str,
        timestamp: Timestamp,
    ) -> Result<()>;
}

impl dyn SideReceiver + '_ {
    /// Emits to a side output; a tag nobody listens to drops the record, as in Flink.
    pub(crate) fn emit_to<S: Data>(
        &mut self,
        tag: &OutputTag<S>,
        value: S,
        timestamp: Timestamp,
    ) -> Result<()> {
        self.emit(&tag.name, &mut Some(value), std::any::type_name::<S>(), timestamp)
    }
}

//! Registers states that are kept per key and namespace.

use std::rc::Rc;

use super::KeyedBackend;
use super::opening::Opening;
use crate::codec::State;
use crate::descriptor::{StateDescriptor, StateKind};
use crate::handle::{AggregateFunction, AggregatingState, ListState, MapState, ReducingState, ValueState};
use crate::key::Key;
use crate::namespace::{Namespaced, Namespaces};
use crate::state_options::StateOptions;
use crate::table::{Control, Shared};
use crate::{Error, Result};

/// Registers states within namespaces; made by [`KeyedBackend::within`]. Errors are those of
/// [`KeyedBackend::value_state`], and [`ErrorKind::Config`](crate::ErrorKind::Config) if the namespaces are those of
/// another backend.
#[derive(Debug)]
pub struct Within<'a, K: Key, N: Key> {
    pub(super) backend: &'a mut KeyedBackend<K>,
    pub(super) namespaces: &'a Namespaces<K, N>,
}

impl<K: Key, N: Key> Within<'_, K, N> {
    /// One value per key and namespace.
    pub fn value_state<T: State>(&mut self, name: &str, options: StateOptions<T>) -> Result<ValueState<T>> {
        self.register(options.descriptor(name, StateKind::Value)?, &options, |opening| {
            let (table, control) = opening.table::<T>()?;
            Ok((ValueState::new(table), control))
        })
    }

    /// A list per key and namespace.
    pub fn list_state<T: State>(&mut self, name: &str, options: StateOptions<T>) -> Result<ListState<T>> {
        self.register(options.descriptor(name, StateKind::List)?, &options, |opening| {
            let (table, control) = opening.list_table::<T>()?;
            Ok((ListState::new(table), control))
        })
    }

    /// A map per key and namespace.
    pub fn map_state<UK: Key, UV: State>(
        &mut self,
        name: &str,
        options: StateOptions<UV>,
    ) -> Result<MapState<UK, UV>> {
        let descriptor = options.descriptor(name, StateKind::Map)?.with_user_key::<UK>();
        self.register(descriptor, &options, |opening| {
            let (table, control) = opening.map_table::<UK, UV>()?;
            Ok((MapState::new(table), control))
        })
    }

    /// One value per key and namespace, into which `reduce` folds whatever is added.
    pub fn reducing_state<T: State>(
        &mut self,
        name: &str,
        reduce: impl Fn(&mut T, T) + 'static,
        options: StateOptions<T>,
    ) -> Result<ReducingState<T>> {
        self.register(options.descriptor(name, StateKind::Reducing)?, &options, |opening| {
            let (table, control) = opening.table::<T>()?;
            Ok((ReducingState::new(table, Rc::new(reduce)), control))
        })
    }

    /// One accumulator per key and namespace.
    pub fn aggregating_state<A: AggregateFunction>(
        &mut self,
        name: &str,
        function: A,
        options: StateOptions<A::Accumulator>,
    ) -> Result<AggregatingState<A>> {
        self.register(options.descriptor(name, StateKind::Aggregating)?, &options, |opening| {
            let (table, control) = opening.table::<A::Accumulator>()?;
            Ok((AggregatingState::new(table, Rc::new(function)), control))
        })
    }

    fn register<T: State, H: Clone + 'static>(
        &mut self,
        descriptor: StateDescriptor,
        options: &StateOptions<T>,
        open: impl FnOnce(Opening<'_, Namespaced<K, N>>) -> Result<(H, Shared<dyn Control>)>,
    ) -> Result<H> {
        if !self.namespaces.are_of(&self.backend.context) {
            return Err(Error::config(format!(
                "state `{}` is registered within the namespaces of another operator",
                descriptor.name
            )));
        }
        self.backend.register_under(&self.namespaces.context, descriptor.within::<N>(), options, open)
    }
}

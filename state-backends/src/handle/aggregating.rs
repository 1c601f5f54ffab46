//! [`AggregatingState`]: one accumulator per key, and the [`AggregateFunction`] that fills it.

use std::fmt;
use std::rc::Rc;

use super::identity::Identity;
use crate::Result;
use crate::codec::State;
use crate::table::payload::Single;
use crate::table::{Shared, Table, borrow};

/// How values are gathered in an accumulator, and what comes out of it. An accumulator is usually much smaller than
/// what was added: for an average a sum and a count.
///
/// The function is not part of the state, the accumulator is: a restored job adds on with the function it has then.
pub trait AggregateFunction: 'static {
    /// What is added.
    type Input;
    /// What is kept.
    type Accumulator: State;
    /// What is asked for.
    type Output;

    /// An accumulator to which nothing was added.
    fn create(&self) -> Self::Accumulator;

    /// Adds one value.
    fn add(&self, accumulator: &mut Self::Accumulator, value: Self::Input);

    /// What the accumulator amounts to.
    fn result(&self, accumulator: &Self::Accumulator) -> Self::Output;

    /// Adds all that was added to `other`.
    fn merge(&self, accumulator: &mut Self::Accumulator, other: Self::Accumulator);
}

/// One accumulator per key, to which values are added by the [`AggregateFunction`] `A`.
pub struct AggregatingState<A: AggregateFunction> {
    table: Shared<dyn Table<Single<A::Accumulator>>>,
    function: Rc<A>,
}

impl<A: AggregateFunction> AggregatingState<A> {
    pub(crate) fn new(table: Shared<dyn Table<Single<A::Accumulator>>>, function: Rc<A>) -> Self {
        Self { table, function }
    }

    /// Adds `value` to the key's accumulator, which is created if there is none.
    #[inline]
    pub fn add(&mut self, value: A::Input) -> Result<()> {
        self.change(|function, accumulator| function.add(accumulator, value))
    }

    /// What the key's accumulator amounts to, or `None` if nothing was added.
    #[inline]
    pub fn get(&self) -> Result<Option<A::Output>> {
        Ok(borrow(&self.table)?.get()?.map(|accumulator| self.function.result(&accumulator.0)))
    }

    /// A copy of the key's accumulator, to be [merged](Self::merge) into that of another key or namespace.
    pub fn accumulator(&self) -> Result<Option<A::Accumulator>> {
        Ok(borrow(&self.table)?.get()?.map(|accumulator| accumulator.0.clone()))
    }

    /// Adds all that was added to `other`.
    pub fn merge(&mut self, other: A::Accumulator) -> Result<()> {
        self.change(|function, accumulator| function.merge(accumulator, other))
    }

    /// Removes the accumulator.
    pub fn clear(&mut self) -> Result<()> {
        borrow(&self.table)?.remove()
    }

    #[inline]
    fn change(&mut self, change: impl FnOnce(&A, &mut A::Accumulator)) -> Result<()> {
        let mut table = borrow(&self.table)?;
        if let Some(present) = table.get_mut()? {
            change(&self.function, &mut present.0);
            return Ok(());
        }
        let mut accumulator = self.function.create();
        change(&self.function, &mut accumulator);
        table.put(Single(accumulator))
    }
}

impl<A: AggregateFunction> Identity for AggregatingState<A> {
    fn address(&self) -> *const () {
        Rc::as_ptr(&self.table).cast()
    }
}

impl<A: AggregateFunction> Clone for AggregatingState<A> {
    fn clone(&self) -> Self {
        Self { table: self.table.clone(), function: Rc::clone(&self.function) }
    }
}

impl<A: AggregateFunction> fmt::Debug for AggregatingState<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AggregatingState").finish_non_exhaustive()
    }
}

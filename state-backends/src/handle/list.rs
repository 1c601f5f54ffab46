//! [`ListState`]: a list per key.

use std::fmt;
use std::rc::Rc;

use super::identity::Identity;
use crate::Result;
use crate::codec::State;
use crate::table::payload::Items;
use crate::table::{Shared, Table, borrow};

/// A list of `T` per key, in the order of insertion. A list without elements takes no room.
pub struct ListState<T: State> {
    table: Shared<dyn Table<Items<T>>>,
}

impl<T: State> ListState<T> {
    pub(crate) fn new(table: Shared<dyn Table<Items<T>>>) -> Self {
        Self { table }
    }

    /// Appends an element.
    pub fn push(&mut self, item: T) -> Result<()> {
        let mut item = Some(item);
        self.append(&mut |items| items.extend(item.take()))
    }

    /// Appends all elements, in order.
    pub fn extend(&mut self, items: impl IntoIterator<Item = T>) -> Result<()> {
        let mut items = items.into_iter().peekable();
        // A list in a table is never empty.
        if items.peek().is_none() { Ok(()) } else { self.append(&mut |list| list.extend(&mut items)) }
    }

    /// The elements as they are now; later changes are not seen. All of them are copied.
    pub fn iter(&self) -> Result<impl Iterator<Item = T> + use<T>> {
        let items = borrow(&self.table)?.get()?.map(|items| items.0.clone());
        Ok(items.unwrap_or_default().into_iter())
    }

    /// How many elements there are.
    pub fn len(&self) -> Result<usize> {
        Ok(borrow(&self.table)?.get()?.map_or(0, |items| items.0.len()))
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> Result<bool> {
        self.len().map(|length| length == 0)
    }

    /// Puts these elements in the place of the present ones.
    pub fn replace(&mut self, items: impl IntoIterator<Item = T>) -> Result<()> {
        let items: Vec<T> = items.into_iter().collect();
        if items.is_empty() { self.clear() } else { borrow(&self.table)?.put(Items(items)) }
    }

    /// Removes all elements.
    pub fn clear(&mut self) -> Result<()> {
        borrow(&self.table)?.remove()
    }

    fn append(&mut self, add: &mut dyn FnMut(&mut Vec<T>)) -> Result<()> {
        borrow(&self.table)?.append(Items::default, &mut |items| add(&mut items.0))
    }
}

impl<T: State> Identity for ListState<T> {
    fn address(&self) -> *const () {
        Rc::as_ptr(&self.table).cast()
    }
}

impl<T: State> Clone for ListState<T> {
    fn clone(&self) -> Self {
        Self { table: self.table.clone() }
    }
}

impl<T: State> fmt::Debug for ListState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListState").finish_non_exhaustive()
    }
}

//! [`OperatorListState`]: a list per subtask that belongs to no key.

use crate::error::Result;
use crate::function::operator_states::in_use;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use tidegate_state::{State, codec};

/// A list of `T` per subtask of an operator, in the order of insertion. It is kept in memory and is part of every
/// checkpoint; what a subtask finds in it after a restore depends on how it was registered, see
/// [`OpenContext`](crate::function::OpenContext).
///
/// The handle is cheap to clone; clones are the same list. All methods fail with a config error if they are used while
/// another of them runs, such as in the iterator given to [`extend`](Self::extend).
pub struct OperatorListState<T: State> {
    items: Rc<RefCell<Arc<Vec<T>>>>,
}

impl<T: State> OperatorListState<T> {
    pub(super) fn restore(elements: &[Vec<u8>]) -> Result<Self> {
        let items: Vec<T> = elements.iter().map(|bytes| codec::decode(bytes)).collect::<Result<_>>()?;
        Ok(Self { items: Rc::new(RefCell::new(Arc::new(items))) })
    }

    /// Shares the list as it is; the first change behind it copies the list, if the image is still in use.
    pub(super) fn freeze(&self) -> Result<Arc<Vec<T>>> {
        Ok(self.items.try_borrow().map_err(|_| in_use())?.clone())
    }

    pub(super) fn encode(items: &[T]) -> Result<Vec<Vec<u8>>> {
        let encode = |item: &T| {
            let mut bytes = Vec::new();
            codec::encode(item, &mut bytes).map(|()| bytes)
        };
        items.iter().map(encode).collect()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<T>)) -> Result<()> {
        change(Arc::make_mut(&mut *self.items.try_borrow_mut().map_err(|_| in_use())?));
        Ok(())
    }

    /// Appends an element.
    pub fn push(&mut self, item: T) -> Result<()> {
        self.change(|items| items.push(item))
    }

    /// Appends all elements, in order.
    pub fn extend(&mut self, items: impl IntoIterator<Item = T>) -> Result<()> {
        self.change(|list| list.extend(items))
    }

    /// Puts these elements in the place of all others.
    pub fn replace(&mut self, items: impl IntoIterator<Item = T>) -> Result<()> {
        let items = items.into_iter().collect();
        *self.items.try_borrow_mut().map_err(|_| in_use())? = Arc::new(items);
        Ok(())
    }

    /// Removes all elements.
    pub fn clear(&mut self) -> Result<()> {
        self.replace([])
    }

    /// The elements as they are now; later changes are not seen.
    pub fn iter(&self) -> Result<impl Iterator<Item = T> + use<T>> {
        let items = self.freeze()?;
        Ok((0..items.len()).filter_map(move |index| items.get(index).cloned()))
    }

    /// Number of elements.
    pub fn len(&self) -> Result<usize> {
        Ok(self.items.try_borrow().map_err(|_| in_use())?.len())
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }
}

impl<T: State> Clone for OperatorListState<T> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone() }
    }
}

impl<T: State> fmt::Debug for OperatorListState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorListState").finish_non_exhaustive()
    }
}

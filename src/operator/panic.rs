//! Finds out which operator of a chain a panic came from, at no cost while there is none.

use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    /// The operator whose function panicked last on this thread.
    static PANICKED: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

struct Guard<'a>(&'a Arc<str>);

impl Drop for Guard<'_> {
    /// Runs only while unwinding: the innermost operator comes first and stays.
    fn drop(&mut self) {
        PANICKED.with_borrow_mut(|slot| _ = slot.get_or_insert_with(|| self.0.clone()));
    }
}

/// Runs user code of the operator called `name`.
#[inline]
pub(crate) fn named_panic<R>(name: &Arc<str>, user_code: impl FnOnce() -> R) -> R {
    let guard = Guard(name);
    let result = user_code();
    std::mem::forget(guard);
    result
}

/// The operator whose user code the panic just caught came from, if it came from any.
pub(crate) fn take_panicked_operator() -> Option<Arc<str>> {
    PANICKED.with_borrow_mut(Option::take)
}

//! How much memory the live objects in front of cold stores may take: one bound, in bytes, for many caches.
//!
//! A cache that wants to grow while all of them together are at the bound has to let go of objects of its own, unless
//! it has less than its fair share. So at every moment the caches are at the bound or below, or those that are above
//! their share have not been used since; these shrink at the next freeze.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The bound of some caches, which may be on different threads.
#[derive(Debug)]
pub(crate) struct CacheBudget {
    bytes: usize,
    used: AtomicUsize,
    caches: AtomicUsize,
}

/// The budgets that backends of one process share, by their size in bytes.
static SHARED: Mutex<BTreeMap<usize, Weak<CacheBudget>>> = Mutex::new(BTreeMap::new());

impl CacheBudget {
    /// A budget of its own.
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { bytes, used: AtomicUsize::new(0), caches: AtomicUsize::new(0) })
    }

    /// The budget of this size that all backends of the process share.
    #[cfg_attr(not(feature = "rocksdb"), expect(dead_code, reason = "for RocksDB"))]
    pub(crate) fn shared(bytes: usize) -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(budget) = shared.get(&bytes).and_then(Weak::upgrade) {
            return budget;
        }
        let budget = Self::new(bytes);
        shared.retain(|_, budget| budget.strong_count() > 0);
        shared.insert(bytes, Arc::downgrade(&budget));
        budget
    }
}

/// What one cache takes of a budget; given back on drop.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<CacheBudget>,
    taken: usize,
}

impl Share {
    pub(crate) fn new(budget: Arc<CacheBudget>) -> Self {
        budget.caches.fetch_add(1, Ordering::Relaxed);
        Self { budget, taken: 0 }
    }

    /// Bytes taken.
    #[inline]
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// Takes `after` bytes where it took `before`.
    #[inline]
    pub(crate) fn replace(&mut self, before: usize, after: usize) {
        self.taken = self.taken - before + after;
        if after >= before {
            self.budget.used.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.budget.used.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// How many bytes have to be given back before `room` more may be taken.
    #[inline]
    pub(crate) fn excess(&self, room: usize) -> usize {
        let used = self.budget.used.load(Ordering::Relaxed) + room;
        if used <= self.budget.bytes {
            return 0;
        }
        let fair = self.budget.bytes / self.budget.caches.load(Ordering::Relaxed).max(1);
        let over_fair = (self.taken + room).saturating_sub(fair);
        (used - self.budget.bytes).min(over_fair).min(self.taken)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.taken, Ordering::Relaxed);
        self.budget.caches.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_grows_up_to_the_bound_and_at_the_bound_up_to_its_fair_share() {
        let budget = CacheBudget::new(1000);
        let mut first = Share::new(Arc::clone(&budget));
        let mut second = Share::new(Arc::clone(&budget));
        assert_eq!(first.excess(900), 0, "nobody else needs it");
        first.replace(0, 900);
        assert_eq!(second.excess(100), 0);
        second.replace(0, 100);
        assert_eq!(second.excess(50), 0, "it has less than half");
        second.replace(100, 450);
        assert_eq!(first.excess(0), 350, "all that is too much is its own");
        first.replace(900, 600);
        assert_eq!(first.excess(0), 50);
        assert_eq!(second.excess(100), 50, "down to the fair half");
        drop(first);
        assert_eq!(second.excess(550), 0);
        assert_eq!(second.excess(551), 1);
        drop(second);
        assert_eq!((budget.used.load(Ordering::Relaxed), budget.caches.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn backends_with_the_same_bound_share_it_while_one_of_them_is_there() {
        let one = CacheBudget::shared(77);
        assert!(Arc::ptr_eq(&one, &CacheBudget::shared(77)));
        assert!(!Arc::ptr_eq(&one, &CacheBudget::shared(78)));
        let before = Arc::downgrade(&one);
        drop(one);
        CacheBudget::shared(79);
        assert!(before.upgrade().is_none());
    }
}

//! The smallest cold store: an ordered map of byte strings. It shows what the seam asks for, and lets the cache in
//! front of cold stores be tested without a database.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::{
    BackendScope, ColdStore, CustomBackend, Error, FrozenStore, Operation, Result, RowVisitor, WriteBatch,
};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// A backend that keeps its state as ordered byte strings in memory, behind a cache of `cache_bytes` bytes.
pub fn ordered_store(cache_bytes: usize) -> CustomBackend {
    let open = |_: &BackendScope| -> Result<Box<dyn ColdStore>> { Ok(Box::new(OrderedStore::default())) };
    CustomBackend { cache_bytes, open: Arc::new(open) }
}

#[derive(Clone, Default)]
struct OrderedStore {
    states: BTreeMap<String, Rows>,
}

impl OrderedStore {
    fn rows(&self, state: &str) -> Result<&Rows> {
        self.states.get(state).ok_or_else(|| Error::bug(format!("keyspace {state} was never created")))
    }
}

impl ColdStore for OrderedStore {
    fn create(&mut self, state: &str) -> Result<()> {
        self.states.entry(state.to_owned()).or_default();
        Ok(())
    }

    fn get(&self, state: &str, key: &[u8], found: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.rows(state)?.get(key).map_or(Ok(()), |value| found(value))
    }

    fn write(&mut self, state: &str, batch: &WriteBatch) -> Result<()> {
        self.rows(state)?;
        let rows = self.states.entry(state.to_owned()).or_default();
        for (key, operation) in batch.iter() {
            match operation {
                Operation::Put(value) => drop(rows.insert(key.to_vec(), value.to_vec())),
                Operation::Append(more) => rows.entry(key.to_vec()).or_default().extend_from_slice(more),
                Operation::Delete => drop(rows.remove(key)),
            }
        }
        Ok(())
    }

    fn scan(&self, state: &str, prefix: &[u8], visit: RowVisitor<'_>) -> Result<()> {
        FrozenStore::scan(self, state, prefix, visit)
    }

    fn scan_from(&self, state: &str, prefix: &[u8], start: &[u8], visit: RowVisitor<'_>) -> Result<()> {
        visit_rows(self.rows(state)?.range(start.to_vec()..), prefix, visit)
    }

    fn freeze(&mut self) -> Result<Box<dyn FrozenStore>> {
        Ok(Box::new(self.clone()))
    }
}

impl FrozenStore for OrderedStore {
    fn scan(&self, state: &str, prefix: &[u8], visit: RowVisitor<'_>) -> Result<()> {
        visit_rows(self.rows(state)?.range(prefix.to_vec()..), prefix, visit)
    }
}

fn visit_rows(rows: Range<'_, Vec<u8>, Vec<u8>>, prefix: &[u8], visit: RowVisitor<'_>) -> Result<()> {
    for (key, value) in rows.take_while(|(key, _)| key.starts_with(prefix)) {
        if visit(key, value)? == ControlFlow::Break(()) {
            break;
        }
    }
    Ok(())
}

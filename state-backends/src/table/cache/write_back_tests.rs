//! What is written back, and what images have of it: tables over a store that keeps its rows in a map.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::*;
use crate::key_group::{KeyGroupRange, key_group_of};
use crate::table::cached::CachedTable;
use crate::table::cached_map::CachedMap;
use crate::table::cold::{FrozenStore, Operation, RowVisitor};
use crate::table::payload::{Items, Single};
use crate::table::{Control, MapTable, Table};

const GROUPS: u16 = 4;

type RowMap = BTreeMap<Vec<u8>, Vec<u8>>;

/// Rows, and how many bytes each write had.
#[derive(Clone, Default)]
struct Rows(Rc<RefCell<(RowMap, Vec<usize>)>>);

/// Applies the operations of a batch, and returns how many there were.
fn apply(rows: &mut RowMap, batch: &WriteBatch) -> usize {
    batch.iter().for_each(|(key, operation)| match operation {
        Operation::Put(value) => _ = rows.insert(key.to_vec(), value.to_vec()),
        Operation::Append(more) => rows.entry(key.to_vec()).or_default().extend_from_slice(more),
        Operation::Delete => _ = rows.remove(key),
    });
    batch.iter().count()
}

impl ColdStore for Rows {
    fn create(&mut self, _: &str) -> Result<()> {
        Ok(())
    }
    fn get(&self, _: &str, key: &[u8], found: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.0.borrow().0.get(key).map_or(Ok(()), |value| found(value))
    }
    fn write(&mut self, _: &str, batch: &WriteBatch) -> Result<()> {
        let (rows, writes) = &mut *self.0.borrow_mut();
        apply(rows, batch);
        writes.push(batch.bytes());
        Ok(())
    }
    fn scan(&self, _: &str, prefix: &[u8], visit: RowVisitor<'_>) -> Result<()> {
        let rows = self.0.borrow();
        for (key, value) in rows.0.iter().filter(|(key, _)| key.starts_with(prefix)) {
            if visit(key, value)? == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
    fn freeze(&mut self) -> Result<Box<dyn FrozenStore>> {
        Err(Error::bug("not asked for here"))
    }
}

/// A table under test and what is around it.
struct Lab<T> {
    table: T,
    context: Rc<KeyContext<u64>>,
    store: Rows,
    freezes: u64,
}

/// An image: the rows at the freeze, and what lies over them.
struct Image {
    rows: RowMap,
    overlay: Box<dyn FrozenOverlay>,
    next_group: u16,
}

impl<T: Control> Lab<T> {
    fn new(cache_bytes: usize, table: impl FnOnce(Rc<KeyContext<u64>>, Keyspace) -> T) -> Self {
        let context = Rc::new(KeyContext::new(KeyGroupRange::all(GROUPS), GROUPS));
        let store = Rows::default();
        let keyspace = Keyspace {
            store: Rc::new(RefCell::new(Box::new(store.clone()))),
            state: "s".into(),
            layout: Layout::default(),
            budget: CacheBudget::new(cache_bytes),
        };
        Self { table: table(Rc::clone(&context), keyspace), context, store, freezes: 0 }
    }

    fn at(&mut self, key: u64) -> &mut T {
        self.context.set(key, key.hash64()).unwrap();
        &mut self.table
    }

    fn freeze(&mut self) -> Image {
        self.freezes += 1;
        let Frozen::Overlay(overlay) = self.table.freeze(Mark { number: self.freezes, base: None }).unwrap()
        else {
            panic!("the image of a cache lies over that of a store");
        };
        Image { rows: self.store.0.borrow().0.clone(), overlay, next_group: 0 }
    }

    /// Two freezes of which nothing comes, so that what is there becomes quiet, then all of the writing back.
    fn write_back_quiet(&mut self) {
        drop((self.freeze(), self.freeze()));
        self.write_back();
    }

    fn write_back(&mut self) {
        while self.table.write_back(1000).unwrap() == WriteBack::More {}
    }
}

impl Image {
    /// Lays the next group over the rows; returns of how many there was something to lay over them.
    fn take_group(&mut self) -> usize {
        let mut batch = WriteBatch::default();
        self.overlay.take_group(KeyGroup(self.next_group), &mut batch).unwrap();
        self.next_group += 1;
        apply(&mut self.rows, &batch)
    }

    /// Like [`take_group`](Self::take_group) with all groups that are left.
    fn take_all(&mut self) -> usize {
        (self.next_group..GROUPS).map(|_| self.take_group()).sum()
    }
}

type Values = CachedTable<u64, Single<u64>>;

fn values(cache_bytes: usize) -> Lab<Values> {
    Lab::new(cache_bytes, Values::new)
}

fn row(key: u64, value: u64) -> (Vec<u8>, Vec<u8>) {
    let (mut row, mut bytes) = (Vec::new(), Vec::new());
    row_key(key_group_of(key.hash64(), GROUPS), &key, &mut row);
    Layout::default().encode(&value, &mut bytes).unwrap();
    (row, bytes)
}

#[test]
fn what_does_not_change_is_written_in_pieces_and_left_out_of_the_images_to_come() {
    let mut lab = values(1 << 20);
    (0..10_000).for_each(|key| lab.at(key).put(Single(key)).unwrap());
    assert_eq!(lab.freeze().take_all(), 10_000);
    lab.write_back();
    assert!(lab.store.0.borrow().1.is_empty(), "it may change between any two freezes");
    // What has changed meanwhile is not quiet.
    (0..100).for_each(|key| lab.at(key).put(Single(key + 1)).unwrap());
    assert_eq!(lab.freeze().take_all(), 10_000);
    lab.write_back();
    let writes = lab.store.0.borrow().1.clone();
    assert_eq!(lab.store.0.borrow().0.len(), 9_900);
    let bytes_of_one = row(9_999, 9_999).0.len() + row(9_999, 9_999).1.len();
    let longest = writes.iter().max().copied().unwrap_or(0) / bytes_of_one;
    assert!((50..=126).contains(&longest) && writes.len() < 200, "{longest} in one piece");
    // 50 of those that were written, and as many of the others.
    (50..150).for_each(|key| lab.at(key).put(Single(key + 2)).unwrap());
    let mut image = lab.freeze();
    assert_eq!(image.take_all(), 150);
    let expected: RowMap = (0..10_000)
        .map(|key| {
            row(
                key,
                key + if key < 50 {
                    1
                } else if key < 150 {
                    2
                } else {
                    0
                },
            )
        })
        .collect();
    assert_eq!(image.rows, expected);
    lab.write_back();
    assert_eq!(lab.freeze().take_all(), 100);
    lab.write_back();
    assert_eq!(lab.freeze().take_all(), 0);
    let writes = lab.store.0.borrow().1.len();
    lab.write_back();
    assert_eq!(lab.store.0.borrow().1.len(), writes);
    assert_eq!(lab.table.write_back(1000).unwrap(), WriteBack::Done);
    for key in 0..10_000 {
        assert!(lab.at(key).get().unwrap().is_some());
    }
}

#[test]
fn what_is_large_is_written_in_pieces_as_well() {
    let mut lab = Lab::new(64 << 20, CachedTable::<u64, Single<Vec<u8>>>::new);
    (0..1000).for_each(|key| lab.at(key).put(Single(vec![1; 10_000])).unwrap());
    lab.write_back_quiet();
    let writes = lab.store.0.borrow().1.clone();
    assert_eq!(lab.store.0.borrow().0.len(), 1000);
    assert!(writes.iter().all(|bytes| *bytes < WRITTEN_AT_ONCE + 11_000), "{writes:?}");
    assert_eq!(lab.freeze().take_all(), 0);
}

#[test]
fn an_image_that_is_being_written_has_what_is_written_back_meanwhile() {
    let mut lab = values(1 << 20);
    (0..1000).for_each(|key| lab.at(key).put(Single(key)).unwrap());
    let mut first = lab.freeze();
    let mut second = lab.freeze();
    let third = lab.freeze();
    assert_eq!(lab.table.write_back(1000).unwrap(), WriteBack::Waits, "none is being written");
    let mut taken = [first.take_group(), second.take_group()];
    assert_eq!(lab.table.write_back(1000).unwrap(), WriteBack::Waits, "one waits");
    drop(third);
    lab.write_back();
    assert_eq!(lab.store.0.borrow().0.len(), 1000);
    let mut fourth = lab.freeze();
    // What changes now, or is evicted, is nobody's business.
    (0..500).for_each(|key| lab.at(key).put(Single(0)).unwrap());
    taken[0] += first.take_all();
    taken[1] += second.take_all();
    assert_eq!(taken, [1000, 1000]);
    assert_eq!(fourth.take_all(), 0);
    let expected: RowMap = (0..1000).map(|key| row(key, key)).collect();
    for image in [first, second, fourth] {
        assert_eq!(image.rows, expected);
    }
    assert_eq!(lab.freeze().take_all(), 500);
}

#[test]
fn what_was_written_back_is_evicted_without_another_write() {
    let mut lab = values(1 << 20);
    (0..1000).for_each(|key| lab.at(key).put(Single(key)).unwrap());
    lab.write_back_quiet();
    (0..10).for_each(|key| lab.at(key).put(Single(1)).unwrap());
    lab.store.0.borrow_mut().1.clear();
    (1000..100_000).for_each(|key| _ = lab.at(key).get().unwrap());
    let written = lab.store.0.borrow().1.iter().sum::<usize>();
    let bytes: usize = (0..10).map(|key| row(key, 1)).map(|(key, value)| key.len() + value.len()).sum();
    assert_eq!(written, bytes);
    for key in 0..1000 {
        assert_eq!(lab.at(key).get().unwrap().map(|value| value.0), Some(if key < 10 { 1 } else { key }));
    }
}

#[test]
fn what_was_written_back_and_is_removed_goes_from_the_store() {
    let mut lab = values(1 << 20);
    // As timers are: known to have no row.
    (0..100).for_each(|key| lab.at(key).put_new(Single(key)).unwrap());
    (0..50).for_each(|key| lab.at(key).remove().unwrap());
    lab.write_back_quiet();
    assert_eq!(lab.store.0.borrow().0.len(), 50);
    (40..60).for_each(|key| lab.at(key).remove().unwrap());
    let mut image = lab.freeze();
    assert_eq!(image.take_all(), 10, "where there is a row");
    assert_eq!(image.rows.len(), 40);
    drop(lab.freeze());
    lab.write_back();
    assert_eq!(lab.store.0.borrow().0.len(), 40);
    assert_eq!(lab.freeze().take_all(), 0);
}

#[test]
fn the_tail_of_a_list_is_appended_once() {
    let mut lab = Lab::new(1 << 20, CachedTable::<u64, Items<u64>>::new);
    let push = |lab: &mut Lab<CachedTable<u64, Items<u64>>>, key: u64, item: u64| {
        lab.at(key).append(Items::default, &mut |items| items.0.push(item)).unwrap();
    };
    (0..1000).for_each(|key| push(&mut lab, key, 1));
    // Some are known as a whole.
    (0..100).for_each(|key| assert_eq!(lab.at(key).get().unwrap().map(|items| items.0.len()), Some(1)));
    lab.write_back_quiet();
    assert_eq!(lab.freeze().take_all(), 0);
    (50..200).for_each(|key| push(&mut lab, key, 2));
    let mut image = lab.freeze();
    assert_eq!(image.take_all(), 150);
    drop(lab.freeze());
    lab.write_back();
    assert_eq!(image.rows, lab.store.0.borrow().0);
    assert_eq!(lab.freeze().take_all(), 0);
    for key in 0..1000 {
        let expected: &[u64] = if (50..200).contains(&key) { &[1, 2] } else { &[1] };
        assert_eq!(lab.at(key).get().unwrap().map(|items| &*items.0), Some(expected), "of {key}");
    }
}

#[test]
fn of_a_map_that_was_written_back_only_the_entries_that_change_lie_over_the_rows() {
    let mut lab = Lab::new(1 << 20, CachedMap::<u64, u64, u64>::new);
    for key in 0..100 {
        (0..100).for_each(|n| lab.at(key).insert(n, n).unwrap());
    }
    lab.write_back_quiet();
    assert_eq!(lab.store.0.borrow().0.len(), 10_000);
    assert_eq!(lab.freeze().take_all(), 0);
    lab.at(1).insert(5, 0).unwrap();
    lab.at(2).remove(&5).unwrap();
    // What is only looked at makes nothing dirty.
    assert_eq!(lab.at(3).get(&1000).unwrap(), None);
    let mut image = lab.freeze();
    assert_eq!(image.take_all(), 2);
    assert_eq!(image.rows.len(), 9_999);
    lab.at(1).clear().unwrap();
    drop(lab.freeze());
    lab.write_back();
    assert_eq!(lab.store.0.borrow().0.len(), 9_899);
}

//! Tests of the paged table.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::key_group::{KeyGroup, key_group_of};

fn at(key: u64, groups: u16) -> Position {
    let hash = key.hash64();
    let group = key_group_of(hash, groups);
    Position { hash, group, group_index: usize::from(group.0) }
}

fn mark(number: u64, base: Option<u64>) -> Mark {
    Mark { number, base }
}

fn add(map: &mut PagedMap<u64, u64>, key: u64, by: u64, groups: u16) {
    let sum = map.get(at(key, groups), &key).copied().unwrap_or(0) + by;
    map.put(at(key, groups), &key, sum);
}

#[test]
fn splits_keep_every_entry_and_pages_stay_small() {
    let mut map = PagedMap::new(3);
    for key in 0..100_000 {
        add(&mut map, key, key, 3);
    }
    for key in 0..100_000 {
        assert_eq!(map.get(at(key, 3), &key), Some(&key));
    }
    assert_eq!(map.get(at(100_000, 3), &100_000), None);
    let pages: Vec<usize> = map.groups.iter().flat_map(|g| &g.pages).map(|p| p.page.base().len()).collect();
    assert_eq!(pages.iter().sum::<usize>(), 100_000);
    assert!(pages.iter().all(|n| *n < PagedMap::<u64, u64>::SPLIT_AT));
    let half_full = 100_000 / (PagedMap::<u64, u64>::SPLIT_AT / 2);
    assert!(pages.len() < half_full, "{} pages for 100000 entries", pages.len());
    for key in (0..100_000).step_by(2) {
        map.remove(at(key, 3), &key);
        assert_eq!(map.get(at(key, 3), &key), None);
        map.remove(at(key, 3), &key);
    }
    assert_eq!(map.get(at(7, 3), &7), Some(&7));
}

#[test]
fn an_image_does_not_see_later_writes_and_only_touched_pages_are_copied() {
    let mut map = PagedMap::new(1);
    for key in 0..10_000 {
        add(&mut map, key, 1, 1);
    }
    let image = map.freeze(mark(1, None));
    add(&mut map, 5, 10, 1);
    map.remove(at(6, 1), &6);
    map.remove(at(77_777, 1), &77_777);
    let owned = |map: &PagedMap<u64, u64>| {
        map.groups[0].pages.iter().filter(|p| matches!(p.page, Page::Owned(_))).count()
    };
    assert!((1..=2).contains(&owned(&map)));
    for key in 0..20_000 {
        add(&mut map, key, 1, 1);
    }
    let seen: Vec<u64> =
        image[0].iter().flat_map(|page| page.entries.iter().map(|(_, value)| *value)).collect();
    assert_eq!(seen.len(), 10_000);
    assert!(seen.iter().all(|v| *v == 1));
    assert_eq!(map.get(at(5, 1), &5), Some(&12));
    assert_eq!(map.get(at(6, 1), &6), Some(&1));
}

#[test]
fn a_page_of_a_dropped_image_is_taken_back_without_a_copy() {
    let mut map = PagedMap::new(1);
    add(&mut map, 1, 1, 1);
    let before = std::ptr::from_ref(map.get(at(1, 1), &1).unwrap());
    drop(map.freeze(mark(1, None)));
    add(&mut map, 1, 1, 1);
    assert_eq!(std::ptr::from_ref(map.get(at(1, 1), &1).unwrap()), before);
    assert_eq!(KeyGroup(0), at(1, 1).group);
}

#[test]
fn equal_page_bits_grow_one_page_instead_of_splitting_for_ever() {
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Same(u64);
    impl Key for Same {
        fn encode_ordered(&self, out: &mut Vec<u8>) {
            self.0.encode_ordered(out);
        }
        fn decode_ordered(bytes: &mut &[u8]) -> crate::Result<Self> {
            u64::decode_ordered(bytes).map(Self)
        }
        fn least() -> Self {
            Self(0)
        }
        fn hash64(&self) -> u64 {
            42
        }
    }
    let mut map = PagedMap::new(1);
    let at = Position { hash: 42, group: KeyGroup(0), group_index: 0 };
    for n in 0..1000 {
        map.put(at, &Same(n), n);
    }
    assert!((0..1000).all(|n| map.get(at, &Same(n)) == Some(&n)));
    assert!(map.groups[0].pages.len() <= 17);
}

/// Whether an image says that `key` may have changed.
fn says(map: &PagedMap<u64, u64>, image: &[FrozenPages<u64, u64>], key: u64) -> bool {
    let page = map.groups[0].page_number(key.hash64());
    image[0][page].changed.contains(Slices::slice_of(key.hash64()))
}

#[test]
fn every_image_knows_what_changed_since_its_base_and_little_else() {
    let mut map = PagedMap::new(1);
    (0..10_000).for_each(|key| add(&mut map, key, 1, 1));
    // Per freeze: its base, and the keys changed before it. Checkpoints overlap, fail, and bases come late.
    let bases =
        [None, None, Some(1), Some(3), Some(3), Some(4), Some(5), Some(6), Some(8), Some(8), None, Some(11)];
    for (number, base) in (1..).zip(bases) {
        for key in number * 100..number * 100 + 10 {
            add(&mut map, key, 1, 1);
        }
        let image = map.freeze(mark(number, base));
        let known = (0..10_000).filter(|key| says(&map, &image, *key)).count();
        for since in base.unwrap_or(0) + 1..=number {
            for key in since * 100..since * 100 + 10 {
                assert!(says(&map, &image, key), "freeze {number}, base {base:?}, key {key}");
            }
        }
        if number > 2 && base.is_some() {
            assert!(known < 200, "freeze {number}: {known} of 10000 keys");
        }
    }
}

#[test]
fn every_way_to_change_a_table_is_noticed() {
    let mut map = PagedMap::new(1);
    (0..1000).for_each(|key| add(&mut map, key, 1, 1));
    map.freeze(mark(1, None));
    map.get_mut(at(1, 1), &1);
    map.put(at(2, 1), &2, 7);
    map.remove(at(3, 1), &3);
    map.insert(at(5000, 1), 5000, 1);
    let spot = map.find(at(4, 1), &4).unwrap();
    map.at_mut(at(4, 1), spot, &4);
    map.remove(at(6000, 1), &6000);
    let image = map.freeze(mark(2, Some(1)));
    assert!([1, 2, 3, 4, 5000].into_iter().all(|key| says(&map, &image, key)));
    assert!((10..1000).filter(|key| says(&map, &image, *key)).count() < 100);
}

#[test]
fn a_page_header_fits_into_a_cache_line() {
    assert_eq!(size_of::<Slot<u64, u64>>(), 64);
}

#[derive(Clone, Debug)]
enum Step {
    Put(u64, String),
    Change(u64),
    Spot(u64),
    Insert(u64),
    Remove(u64),
    Retain(u64),
    Freeze,
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    // Few keys, so that most are written more than once while an image lives, and some pages' worth of others.
    let key = || prop_oneof![3 => 0..40u64, 1 => 0..2000u64];
    prop_oneof![
        8 => (key(), "[a-z]{0,3}").prop_map(|(key, value)| Step::Put(key, value)),
        4 => key().prop_map(Step::Change),
        4 => key().prop_map(Step::Spot),
        4 => key().prop_map(Step::Insert),
        4 => key().prop_map(Step::Remove),
        1 => (2..9u64).prop_map(Step::Retain),
        2 => Just(Step::Freeze),
        2 => any::<usize>().prop_map(Step::Drop),
    ]
}

/// What an image, or the table, has, and what it should have.
type Images = Vec<(Vec<FrozenPages<u64, String>>, BTreeMap<u64, String>)>;

/// The entries of an image, which also says how many they are.
fn entries(image: &[FrozenPages<u64, String>]) -> BTreeMap<u64, String> {
    let pages = image.iter().flatten();
    let count: usize = pages.clone().map(|page| page.entries.len()).sum();
    let entries: Vec<(u64, String)> =
        pages.flat_map(|page| page.entries.iter()).map(|(k, v)| (*k, v.clone())).collect();
    assert_eq!(count, entries.len());
    let map: BTreeMap<u64, String> = entries.into_iter().collect();
    assert_eq!(map.len(), count, "an entry twice");
    map
}

proptest! {
    /// Values that are dear to copy: the pages that images share have changes laid over them.
    #[test]
    fn a_table_and_its_images_have_what_they_should(
        steps in prop::collection::vec(step(), 0..300),
        filled in prop_oneof![Just(0), Just(600u64)],
    ) {
        const GROUPS: u16 = 2;
        let (mut map, mut model) = (PagedMap::<u64, String>::new(GROUPS.into()), BTreeMap::new());
        let mut images: Images = Vec::new();
        for key in 0..filled {
            map.put(at(key, GROUPS), &key, "first".into());
            model.insert(key, String::from("first"));
        }
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put(key, value) => {
                    map.put(at(key, GROUPS), &key, value.clone());
                    model.insert(key, value);
                }
                Step::Change(key) => {
                    let (ours, other) = (map.get_mut(at(key, GROUPS), &key), model.get_mut(&key));
                    prop_assert_eq!(&ours, &other);
                    ours.into_iter().chain(other).for_each(|value| value.push('+'));
                }
                Step::Spot(key) => {
                    let spot = map.find(at(key, GROUPS), &key);
                    prop_assert_eq!(spot.and_then(|spot| map.at(at(key, GROUPS), spot)), model.get(&key));
                    if let Some(spot) = spot {
                        map.at_mut(at(key, GROUPS), spot, &key).unwrap().push('-');
                        model.get_mut(&key).unwrap().push('-');
                    }
                }
                Step::Insert(key) => {
                    if map.get(at(key, GROUPS), &key).is_none() {
                        prop_assert!(!model.contains_key(&key));
                        map.insert(at(key, GROUPS), key, "new".into());
                        model.insert(key, "new".into());
                    }
                }
                Step::Remove(key) => {
                    map.remove(at(key, GROUPS), &key);
                    model.remove(&key);
                }
                Step::Retain(part) => {
                    let mut hand = Hand::default();
                    for _ in 0..map.pages() {
                        map.advance(&mut hand);
                        let life = |key: &u64, _: &String| match key % part {
                            0 => Life::Gone,
                            1 => Life::Part,
                            _ => Life::Whole,
                        };
                        map.retain(hand, life, |value| value.push('|'));
                    }
                    model.retain(|key, value| {
                        if key % part == 1 {
                            value.push('|');
                        }
                        key % part != 0
                    });
                }
                Step::Freeze => images.push((map.freeze(mark(number as u64, None)), model.clone())),
                Step::Drop(which) if !images.is_empty() => {
                    let (image, should) = images.swap_remove(which % images.len());
                    prop_assert_eq!(entries(&image), should);
                }
                Step::Drop(_) => {}
            }
            prop_assert_eq!(map.entries, model.len());
        }
        let ours: BTreeMap<u64, String> = map.iter().map(|(key, value)| (*key, value.clone())).collect();
        prop_assert_eq!(map.iter().count(), ours.len(), "an entry twice");
        prop_assert_eq!(&ours, &model);
        for (image, should) in images {
            prop_assert_eq!(entries(&image), should);
        }
        // Without images every page is owned again once it is written.
        for key in 0..2000 {
            map.put(at(key, GROUPS), &key, "last".into());
        }
        let pages = || map.groups.iter().flat_map(|group| &group.pages);
        prop_assert!(pages().all(|slot| matches!(slot.page, Page::Owned(_))));
        let most = PagedMap::<u64, String>::SPLIT_AT;
        prop_assert!(pages().all(|slot| slot.page.base().len() < most), "a page was not split");
    }
}

thread_local! {
    static COPIES: Cell<usize> = const { Cell::new(0) };
}

/// Counts its copies.
#[derive(Debug)]
struct Dear(String);

impl Clone for Dear {
    fn clone(&self) -> Self {
        COPIES.set(COPIES.get() + 1);
        Self(self.0.clone())
    }
}

#[test]
fn a_write_beside_an_image_copies_at_most_the_value_it_changes() {
    let mut map = PagedMap::new(1);
    (0..1000u64).for_each(|key| map.put(at(key, 1), &key, Dear("x".into())));
    let image = map.freeze(mark(1, None));
    let change = |map: &mut PagedMap<u64, Dear>, key: u64| {
        map.get_mut(at(key, 1), &key).unwrap().0.push('y');
    };
    (0..100).for_each(|key| change(&mut map, key));
    assert_eq!(COPIES.take(), 100);
    (0..100).for_each(|key| change(&mut map, key));
    (100..200).for_each(|key| map.put(at(key, 1), &key, Dear("z".into())));
    (200..300).for_each(|key| map.remove(at(key, 1), &key));
    assert_eq!(COPIES.take(), 0, "copied before, replaced, removed");
    drop(image);
    (0..1000).filter(|key| !(200..300).contains(key)).for_each(|key| change(&mut map, key));
    assert_eq!(COPIES.take(), 0, "nobody else has it");
}

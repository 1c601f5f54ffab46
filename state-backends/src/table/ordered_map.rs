//! The map of one key: a sorted vector while it has few entries, a tree when it has more.
//!
//! Most keys' maps are small. In a vector they take half the memory of a tree's nodes and one visit to memory instead of
//! one per level.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::Bound;

use super::Bounds;

/// How many entries are brought into the processor's caches ahead of a use.
const TOUCHED: usize = 8;

/// What a cache of the processor brings at once, in bytes.
const LINE_BYTES: usize = 64;

/// An ordered map. One that has become a tree stays one.
#[derive(Clone, Debug)]
pub(crate) struct OrderedMap<K, V>(Form<K, V>);

#[derive(Clone, Debug)]
enum Form<K, V> {
    /// In the order of the keys.
    Few(Vec<(K, V)>),
    #[expect(clippy::box_collection, reason = "makes the map as small as a vector in its table")]
    Many(Box<BTreeMap<K, V>>),
}

impl<K, V> Default for OrderedMap<K, V> {
    fn default() -> Self {
        Self(Form::Few(Vec::new()))
    }
}

impl<K: Ord, V> OrderedMap<K, V> {
    /// A vector has at most so many entries: what an insertion moves stays within some cache lines.
    const FEW: usize = match size_of::<(K, V)>() {
        0..=32 => 32,
        33..=128 => 16,
        _ => 8,
    };

    #[inline]
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        match &self.0 {
            Form::Few(few) => {
                let index = few.binary_search_by(|entry| entry.0.cmp(key)).ok()?;
                few.get(index).map(|entry| &entry.1)
            }
            Form::Many(many) => many.get(key),
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match &mut self.0 {
            Form::Few(few) => {
                let index = few.binary_search_by(|entry| entry.0.cmp(key)).ok()?;
                few.get_mut(index).map(|entry| &mut entry.1)
            }
            Form::Many(many) => many.get_mut(key),
        }
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Puts `value` in the place of what `key` had, which is returned.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match &mut self.0 {
            Form::Few(few) => match few.binary_search_by(|entry| entry.0.cmp(&key)) {
                Ok(index) => few.get_mut(index).map(|entry| std::mem::replace(&mut entry.1, value)),
                Err(index) if few.len() < Self::FEW => {
                    few.insert(index, (key, value));
                    None
                }
                Err(_) => {
                    let mut many: BTreeMap<K, V> = std::mem::take(few).into_iter().collect();
                    many.insert(key, value);
                    self.0 = Form::Many(Box::new(many));
                    None
                }
            },
            Form::Many(many) => many.insert(key, value),
        }
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        match &mut self.0 {
            Form::Few(few) => {
                let index = few.binary_search_by(|entry| entry.0.cmp(key)).ok()?;
                Some(few.remove(index).1)
            }
            Form::Many(many) => many.remove(key),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Form::Few(few) => few.len(),
            Form::Many(many) => many.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries in the order of their keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let (few, many) = (self.few(), self.many());
        few.iter().map(|entry| (&entry.0, &entry.1)).chain(many.into_iter().flatten())
    }

    /// The values in the order of their keys.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The entries within `bounds`, which must not be [nothing](super::is_nothing), in the order of their keys.
    pub(crate) fn range<'a>(&'a self, bounds: Bounds<'a, K>) -> impl Iterator<Item = (&'a K, &'a V)> {
        let (few, many) = (self.few(), self.many());
        let start = match bounds.0 {
            Bound::Included(start) => few.partition_point(|entry| entry.0 < *start),
            Bound::Excluded(start) => few.partition_point(|entry| entry.0 <= *start),
            Bound::Unbounded => 0,
        };
        let end = match bounds.1 {
            Bound::Included(end) => few.partition_point(|entry| entry.0 <= *end),
            Bound::Excluded(end) => few.partition_point(|entry| entry.0 < *end),
            Bound::Unbounded => few.len(),
        };
        let few = few.get(start..end).unwrap_or_default().iter().map(|entry| (&entry.0, &entry.1));
        few.chain(many.into_iter().flat_map(move |many| many.range::<K, _>(bounds)))
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        match &mut self.0 {
            Form::Few(few) => few.retain_mut(|entry| keep(&entry.0, &mut entry.1)),
            Form::Many(many) => many.retain(keep),
        }
    }

    fn few(&self) -> &[(K, V)] {
        match &self.0 {
            Form::Few(few) => few,
            Form::Many(_) => &[],
        }
    }

    fn many(&self) -> Option<&BTreeMap<K, V>> {
        match &self.0 {
            Form::Few(_) => None,
            Form::Many(many) => Some(many),
        }
    }

    /// Brings entries into the processor's caches: all of a small vector, the first ones of a tree.
    #[inline]
    pub(crate) fn touch(&self) {
        match &self.0 {
            Form::Few(few) => {
                let step = (LINE_BYTES / size_of::<(K, V)>().max(1)).max(1);
                let Some((last, _)) = few.last() else { return };
                for (key, _) in few.iter().step_by(step).take(TOUCHED) {
                    black_box(key == last);
                }
            }
            Form::Many(many) => _ = black_box(many.first_key_value().map(|(key, _)| key)),
        }
    }

    /// What the map takes beyond its own size, keys and values without what they hold elsewhere, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Few(few) => few.capacity() * size_of::<(K, V)>(),
            // Nodes are two thirds full.
            Form::Many(many) => many.len() * size_of::<(K, V)>() * 3 / 2 + size_of::<BTreeMap<K, V>>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::table::is_nothing;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8, u16),
        Remove(u8),
        Change(u8),
        Retain(u8),
        Range(Bound<u8>, Bound<u8>),
    }

    fn bound() -> impl Strategy<Value = Bound<u8>> {
        prop_oneof![
            any::<u8>().prop_map(Bound::Included),
            any::<u8>().prop_map(Bound::Excluded),
            Just(Bound::Unbounded)
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (any::<u8>(), any::<u16>()).prop_map(|(key, value)| Step::Insert(key, value)),
            4 => any::<u8>().prop_map(Step::Remove),
            2 => any::<u8>().prop_map(Step::Change),
            1 => (2..20u8).prop_map(Step::Retain),
            2 => (bound(), bound()).prop_map(|(start, end)| Step::Range(start, end)),
        ]
    }

    proptest! {
        #[test]
        fn it_does_what_a_tree_does(steps in prop::collection::vec(step(), 0..200)) {
            let (mut map, mut tree) = (OrderedMap::default(), BTreeMap::new());
            for step in steps {
                match step {
                    Step::Insert(key, value) => prop_assert_eq!(map.insert(key, value), tree.insert(key, value)),
                    Step::Remove(key) => prop_assert_eq!(map.remove(&key), tree.remove(&key)),
                    Step::Change(key) => {
                        prop_assert_eq!(map.contains_key(&key), tree.contains_key(&key));
                        prop_assert_eq!(map.get(&key), tree.get(&key));
                        let (ours, other) = (map.get_mut(&key), tree.get_mut(&key));
                        prop_assert_eq!(&ours, &other);
                        ours.into_iter().chain(other).for_each(|value| *value = value.wrapping_add(1));
                    }
                    Step::Retain(part) => {
                        map.retain(|key, _| key % part != 0);
                        tree.retain(|key, _| key % part != 0);
                    }
                    Step::Range(start, end) => {
                        let bounds = (start.as_ref(), end.as_ref());
                        if !is_nothing(&bounds) {
                            let ours: Vec<_> = map.range(bounds).collect();
                            prop_assert_eq!(ours, tree.range(bounds).collect::<Vec<_>>());
                        }
                    }
                }
                map.touch();
                prop_assert_eq!(map.len(), tree.len());
                prop_assert_eq!(map.is_empty(), tree.is_empty());
                prop_assert!(map.iter().eq(tree.iter()));
                prop_assert!(map.values().eq(tree.values()));
            }
        }
    }

    #[test]
    fn it_takes_no_more_room_in_a_table_than_a_vector() {
        assert_eq!(size_of::<OrderedMap<u64, u64>>(), size_of::<Vec<u64>>());
    }
}

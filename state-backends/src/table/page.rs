//! One page of a [paged table](super::paged): a small hash table that is owned, or shared with images of it.
//!
//! The first write to a shared page takes it back if no image has it any more. If one has it, plain entries are copied,
//! all of them. Entries that hold memory elsewhere are dear to copy: those are copied one by one, when they are changed,
//! into a second table that is laid over the shared one. The first write after the images are gone makes one table of
//! the two.

use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::payload::Life;
use crate::key::Key;

pub(super) type Entries<K, V> = HashTable<(K, V)>;

/// What has changed in a shared page: no value is a removed entry.
type Changes<K, V> = HashTable<(K, Option<V>)>;

#[derive(Debug)]
pub(super) enum Page<K, V> {
    Owned(Entries<K, V>),
    Shared(Layers<K, V>),
}

/// A page as images have it: entries, and perhaps changes laid over them. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Layers<K, V> {
    base: Arc<Entries<K, V>>,
    /// Only pages whose entries hold memory elsewhere have any.
    over: Option<Arc<Changes<K, V>>>,
}

impl<K, V> Clone for Layers<K, V> {
    fn clone(&self) -> Self {
        Self { base: Arc::clone(&self.base), over: self.over.clone() }
    }
}

impl<K, V> Default for Layers<K, V> {
    fn default() -> Self {
        Self { base: Arc::default(), over: None }
    }
}

/// Where an entry is in its page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    bucket: usize,
    is_over: bool,
}

impl<K: Key, V: Clone> Layers<K, V> {
    const LAYERED: bool = std::mem::needs_drop::<(K, V)>();

    fn over(&self) -> Option<&Changes<K, V>> {
        if Self::LAYERED { self.over.as_deref() } else { None }
    }

    fn place(&self, hash: u64, key: &K) -> Option<Place> {
        if let Some(bucket) = self.over().and_then(|over| over.find_bucket_index(hash, |e| e.0 == *key)) {
            return Some(Place { bucket, is_over: true });
        }
        let bucket = self.base.find_bucket_index(hash, |e| e.0 == *key)?;
        Some(Place { bucket, is_over: false })
    }

    fn at(&self, place: Place) -> Option<&V> {
        if place.is_over {
            return self.over()?.get_bucket(place.bucket)?.1.as_ref();
        }
        self.base.get_bucket(place.bucket).map(|e| &e.1)
    }

    fn find(&self, hash: u64, key: &K) -> Option<&V> {
        self.at(self.place(hash, key)?)
    }

    /// Every entry.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let over = self.over();
        let is_current =
            move |key: &K| over.is_none_or(|over| over.find(key.hash64(), |e| e.0 == *key).is_none());
        let changed = over.into_iter().flatten().filter_map(|(key, value)| Some((key, value.as_ref()?)));
        self.base.iter().filter(move |e| is_current(&e.0)).map(|e| (&e.0, &e.1)).chain(changed)
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        if self.over().is_none() { self.base.len() } else { self.iter().count() }
    }

    /// The value of `key`, to be changed.
    #[cold]
    fn find_mut(&mut self, hash: u64, key: &K) -> Option<&mut V> {
        let Self { base, over } = self;
        let over = Arc::make_mut(over.get_or_insert_default());
        match over.entry(hash, |e| e.0 == *key, |e| e.0.hash64()) {
            Entry::Occupied(changed) => changed.into_mut().1.as_mut(),
            Entry::Vacant(vacant) => {
                let value = base.find(hash, |e| e.0 == *key)?.1.clone();
                vacant.insert((key.clone(), Some(value))).into_mut().1.as_mut()
            }
        }
    }

    /// Gives `key` this value; returns whether it had none.
    #[cold]
    pub(super) fn put(&mut self, hash: u64, key: &K, value: V) -> bool {
        let is_new = self.find(hash, key).is_none();
        self.change(hash, key, Some(value));
        is_new
    }

    /// Gives `key` this value, or none.
    fn change(&mut self, hash: u64, key: &K, value: Option<V>) {
        // Those that an image has too are copied.
        let over = Arc::make_mut(self.over.get_or_insert_default());
        match over.entry(hash, |e| e.0 == *key, |e| e.0.hash64()) {
            Entry::Occupied(mut changed) => changed.get_mut().1 = value,
            Entry::Vacant(vacant) => _ = vacant.insert((key.clone(), value)),
        }
    }

    /// One owned table again, or still shared if it cannot be had without copying dear entries that nobody changes.
    fn take_back(self) -> Page<K, V> {
        if !Self::LAYERED {
            return Page::Owned(Arc::unwrap_or_clone(self.base));
        }
        let mut entries = match Arc::try_unwrap(self.base) {
            Ok(entries) => entries,
            Err(base) => return Page::Shared(Self { base, over: self.over }),
        };
        for (key, value) in self.over.map(Arc::unwrap_or_clone).into_iter().flatten() {
            match (entries.entry(key.hash64(), |e| e.0 == key, |e| e.0.hash64()), value) {
                (Entry::Occupied(mut entry), Some(value)) => entry.get_mut().1 = value,
                (Entry::Occupied(entry), None) => _ = entry.remove(),
                (Entry::Vacant(vacant), Some(value)) => _ = vacant.insert((key, value)),
                (Entry::Vacant(_), None) => {}
            }
        }
        Page::Owned(entries)
    }

    fn is_shared(&self) -> bool {
        Arc::strong_count(&self.base) > 1
    }
}

impl<K: Key, V: Clone> Page<K, V> {
    pub(super) fn new() -> Self {
        Self::Owned(HashTable::new())
    }

    /// The table that most entries are in.
    #[inline]
    pub(super) fn base(&self) -> &Entries<K, V> {
        match self {
            Self::Owned(entries) => entries,
            Self::Shared(layers) => &layers.base,
        }
    }

    /// The page if it is shared and has changes.
    #[inline]
    fn layered(&self) -> Option<&Layers<K, V>> {
        match self {
            Self::Shared(layers) if Layers::<K, V>::LAYERED && layers.over.is_some() => Some(layers),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, key: &K) -> Option<&V> {
        if let Some(layers) = self.layered() {
            return layers.find(hash, key);
        }
        self.base().find(hash, |e| e.0 == *key).map(|e| &e.1)
    }

    /// Where the entry of `key` is, until the page is changed.
    #[inline]
    pub(super) fn place(&self, hash: u64, key: &K) -> Option<Place> {
        if let Some(layers) = self.layered() {
            return layers.place(hash, key).filter(|place| layers.at(*place).is_some());
        }
        let bucket = self.base().find_bucket_index(hash, |e| e.0 == *key)?;
        Some(Place { bucket, is_over: false })
    }

    /// The value at `place`.
    #[inline]
    pub(super) fn at(&self, place: Place) -> Option<&V> {
        if let Some(layers) = self.layered() {
            return layers.at(place);
        }
        self.base().get_bucket(place.bucket).map(|e| &e.1)
    }

    /// The value at `place` of an owned page, to be changed.
    #[inline]
    pub(super) fn at_mut(&mut self, place: Place) -> Option<&mut V> {
        match self {
            Self::Owned(entries) => entries.get_bucket_mut(place.bucket).map(|e| &mut e.1),
            Self::Shared(_) => None,
        }
    }

    /// The value of `key`, to be changed.
    #[inline]
    pub(super) fn find_mut(&mut self, hash: u64, key: &K) -> Option<&mut V> {
        match self {
            Self::Owned(entries) => entries.find_mut(hash, |e| e.0 == *key).map(|e| &mut e.1),
            Self::Shared(layers) => layers.find_mut(hash, key),
        }
    }

    /// Makes one owned table of a shared page, if it can be had.
    #[cold]
    pub(super) fn take_back(&mut self) {
        match self {
            Self::Shared(layers) if !Layers::<K, V>::LAYERED || !layers.is_shared() => {
                if let Self::Shared(layers) = std::mem::replace(self, Self::new()) {
                    *self = layers.take_back();
                }
            }
            _ => {}
        }
    }

    /// Adds an entry for a key that has none. Returns how many entries there are if the page may be split.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, key: K, value: V) -> Option<usize> {
        if let Self::Shared(_) = self {
            self.take_back();
        }
        match self {
            Self::Owned(entries) => {
                entries.insert_unique(hash, (key, value), |e| e.0.hash64());
                Some(entries.len())
            }
            Self::Shared(layers) => {
                layers.change(hash, &key, Some(value));
                None
            }
        }
    }

    /// Removes the entry of `key`; returns whether there was one.
    pub(super) fn remove(&mut self, hash: u64, key: &K) -> bool {
        if self.find(hash, key).is_none() {
            return false;
        }
        self.take_back();
        match self {
            Self::Owned(entries) => {
                if let Ok(entry) = entries.find_entry(hash, |e| e.0 == *key) {
                    entry.remove();
                }
            }
            Self::Shared(layers) => layers.change(hash, key, None),
        }
        true
    }

    /// Every entry.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let (entries, layers) = match self {
            Self::Owned(entries) => (Some(entries), None),
            Self::Shared(layers) => (None, Some(layers)),
        };
        let entries = entries.into_iter().flatten().map(|e| (&e.0, &e.1));
        entries.chain(layers.into_iter().flat_map(Layers::iter))
    }

    /// Removes the entries that `life` says are gone, and has `change` change those of which a part is. Returns how many
    /// went.
    pub(super) fn retain(
        &mut self,
        mut life: impl FnMut(&K, &V) -> Life,
        mut change: impl FnMut(&mut V),
    ) -> usize {
        self.take_back();
        let mut gone = 0;
        let mut stays = |key: &K, value: &mut V| {
            let life = life(key, value);
            match life {
                Life::Whole => {}
                Life::Part => change(value),
                Life::Gone => gone += 1,
            }
            life != Life::Gone
        };
        match self {
            Self::Owned(entries) => entries.retain(|(key, value)| stays(key, value)),
            Self::Shared(layers) => {
                let Layers { base, over } = layers;
                let over = Arc::make_mut(over.get_or_insert_default());
                for (key, value) in over.iter_mut() {
                    if value.as_mut().is_some_and(|value| !stays(key, value)) {
                        *value = None;
                    }
                }
                for (key, value) in base.iter() {
                    let Entry::Vacant(vacant) = over.entry(key.hash64(), |e| e.0 == *key, |e| e.0.hash64())
                    else {
                        continue;
                    };
                    match life(key, value) {
                        Life::Whole => {}
                        Life::Part => {
                            let mut value = value.clone();
                            change(&mut value);
                            vacant.insert((key.clone(), Some(value)));
                        }
                        Life::Gone => {
                            gone += 1;
                            vacant.insert((key.clone(), None));
                        }
                    }
                }
            }
        }
        gone
    }

    /// The page as an image has it; what is written from now on the image does not see.
    pub(super) fn freeze(&mut self) -> Layers<K, V> {
        let layers = match std::mem::replace(self, Self::new()) {
            Self::Owned(entries) => Layers { base: Arc::new(entries), over: None },
            Self::Shared(layers) => layers,
        };
        *self = Self::Shared(layers.clone());
        layers
    }
}

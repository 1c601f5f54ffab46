//! What a table keeps per key and how it becomes the rows of a snapshot.
//!
//! A row is a pair of byte strings, the row key and the value. Most states have one row per key (and namespace), whose
//! row key is the ordered form of the key (followed by that of the namespace); a map has one row per entry, whose row
//! key goes on with that of the user key, and a timer is a row whose row key goes on with its time.

use std::hint::black_box;

use super::cache::ALLOCATION_BYTES;
use super::layout::Layout;
use super::ordered_map::OrderedMap;
use crate::codec::{self, State};
use crate::key::Key;
use crate::snapshot::RowWriter;
use crate::ttl::Horizon;
use crate::{Error, Result};

/// What can be brought into the processor's caches ahead of its use.
pub(crate) trait Reach {
    /// How many objects lie behind each other outside of the table.
    const STEPS: usize = 0;

    /// Reads what the next step needs of the object of this one, from 0 on.
    #[inline]
    fn reach(&self, _step: usize) {}
}

/// The live content of one key.
pub(crate) trait Payload: Reach + Clone + Send + Sync + 'static {
    /// Writes the rows of this key, whose ordered form is `key`.
    fn write_rows(&self, layout: &Layout, key: &[u8], rows: &mut RowWriter<'_>) -> Result<()>;

    /// The content that has this one row: `user_key` is what follows the key in the row key.
    fn of_row(layout: &Layout, user_key: &[u8], value: &[u8]) -> Result<Self>;

    /// Adds another row.
    fn add_row(&mut self, layout: &Layout, user_key: &[u8], value: &[u8]) -> Result<()>;

    /// What has expired of it.
    fn life(&self, _: Horizon) -> Life {
        Life::Whole
    }

    /// Removes the part that has expired.
    fn expire(&mut self, _: Horizon) {}
}

#[cold]
fn two_rows() -> Error {
    Error::data("two rows for one key of a state that has one value per key")
}

/// How much of something still lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Whole,
    Part,
    Gone,
}

impl Life {
    /// That of something with this stamp.
    #[inline]
    pub(crate) fn of(stamp: i64, horizon: Horizon) -> Self {
        if horizon.is_behind(stamp) { Self::Gone } else { Self::Whole }
    }
}

/// What a map state keeps per entry: a value, perhaps with a stamp.
pub(crate) trait Form: Clone + Send + Sync + 'static {
    /// Roughly how many bytes it holds beyond its own size.
    fn heap_bytes(&self) -> usize;
    fn write(&self, layout: &Layout, out: &mut Vec<u8>) -> Result<()>;
    fn read(layout: &Layout, bytes: &[u8]) -> Result<Self>;

    /// Whether it has expired.
    #[inline]
    fn life(&self, _: Horizon) -> Life {
        Life::Whole
    }
}

impl<T: State> Form for T {
    fn heap_bytes(&self) -> usize {
        heap_bytes(self)
    }

    #[inline]
    fn write(&self, layout: &Layout, out: &mut Vec<u8>) -> Result<()> {
        layout.encode(self, out)
    }

    #[inline]
    fn read(layout: &Layout, bytes: &[u8]) -> Result<Self> {
        layout.decode(bytes)
    }
}

/// A payload of exactly one row.
pub(crate) trait Cell: Reach + Clone + Send + Sync + 'static {
    /// Whether it may hold memory beyond its own size.
    const HAS_HEAP: bool;
    /// Puts a value behind another one, where the form of the result is that of the one with that of the other behind.
    const APPEND: Option<fn(&mut Self, Self)> = None;
    /// Roughly how many bytes it holds beyond its own size.
    fn heap_bytes(&self) -> usize;
    fn encode(&self, layout: &Layout, out: &mut Vec<u8>) -> Result<()>;
    fn decode(layout: &Layout, bytes: &[u8]) -> Result<Self>;

    /// As [`Payload::life`].
    fn life(&self, _: Horizon) -> Life {
        Life::Whole
    }

    /// As [`Payload::expire`].
    fn expire(&mut self, _: Horizon) {}
}

impl<C: Cell> Payload for C {
    fn write_rows(&self, layout: &Layout, key: &[u8], rows: &mut RowWriter<'_>) -> Result<()> {
        if Cell::life(self, layout.horizon()) == Life::Gone {
            return Ok(());
        }
        rows.row(key, &[], |out| self.encode(layout, out))
    }

    fn of_row(layout: &Layout, user_key: &[u8], value: &[u8]) -> Result<Self> {
        if user_key.is_empty() { Self::decode(layout, value) } else { Err(two_rows()) }
    }

    fn add_row(&mut self, _: &Layout, _: &[u8], _: &[u8]) -> Result<()> {
        Err(two_rows())
    }

    fn life(&self, horizon: Horizon) -> Life {
        Cell::life(self, horizon)
    }

    fn expire(&mut self, horizon: Horizon) {
        Cell::expire(self, horizon);
    }
}

/// The content of a value state: codec bytes.
#[derive(Clone, Debug)]
pub(crate) struct Single<T>(pub(crate) T);

/// Where it holds what is unknown.
impl<T> Reach for Single<T> {}

impl<T: State> Cell for Single<T> {
    const HAS_HEAP: bool = std::mem::needs_drop::<T>();

    fn heap_bytes(&self) -> usize {
        heap_bytes(&self.0)
    }

    fn encode(&self, layout: &Layout, out: &mut Vec<u8>) -> Result<()> {
        layout.encode(&self.0, out)
    }

    fn decode(layout: &Layout, bytes: &[u8]) -> Result<Self> {
        layout.decode(bytes).map(Self)
    }
}

/// The content of a list state: the elements, each with its length in front, so that a store can append.
#[derive(Clone, Debug)]
pub(crate) struct Items<T>(pub(crate) Vec<T>);

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: State> Items<T> {
    fn append(&mut self, mut more: Self) {
        self.0.append(&mut more.0);
    }
}

impl<T: State> Reach for Items<T> {
    const STEPS: usize = 1;

    #[inline]
    fn reach(&self, _: usize) {
        if !std::mem::needs_drop::<T>() {
            // Where the next one goes.
            black_box(self.0.last().cloned());
        }
    }
}

impl<T: State> Cell for Items<T> {
    const HAS_HEAP: bool = true;
    const APPEND: Option<fn(&mut Self, Self)> = Some(Self::append);

    /// Takes the last element for all of them.
    fn heap_bytes(&self) -> usize {
        let last = self.0.last().map_or(0, heap_bytes);
        self.0.capacity() * size_of::<T>() + self.0.len() * last + ALLOCATION_BYTES
    }

    fn encode(&self, layout: &Layout, out: &mut Vec<u8>) -> Result<()> {
        self.0.iter().try_for_each(|item| codec::put_with_length(out, |out| layout.encode(item, out)))
    }

    fn decode(layout: &Layout, mut bytes: &[u8]) -> Result<Self> {
        let mut items = Vec::new();
        while !bytes.is_empty() {
            items.push(layout.decode(codec::take_bytes(&mut bytes)?)?);
        }
        Ok(Self(items))
    }
}

/// Nothing, but there: a timer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Presence;

impl Reach for Presence {}

impl Cell for Presence {
    const HAS_HEAP: bool = false;

    fn heap_bytes(&self) -> usize {
        0
    }

    fn encode(&self, _: &Layout, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    fn decode(_: &Layout, bytes: &[u8]) -> Result<Self> {
        if bytes.is_empty() { Ok(Self) } else { Err(Error::data("a timer has a value")) }
    }
}

/// The content of a map state, as the memory backend holds it.
#[derive(Clone, Debug)]
pub(crate) struct Entries<UK, UV>(pub(crate) OrderedMap<UK, UV>);

impl<UK: Key, F: Form> Reach for Entries<UK, F> {
    const STEPS: usize = 1;

    #[inline]
    fn reach(&self, _: usize) {
        self.0.touch();
    }
}

impl<UK: Key, F: Form> Payload for Entries<UK, F> {
    fn write_rows(&self, layout: &Layout, key: &[u8], rows: &mut RowWriter<'_>) -> Result<()> {
        let horizon = layout.horizon();
        let mut user_key_bytes = Vec::new();
        self.0.iter().filter(|(_, value)| value.life(horizon) == Life::Whole).try_for_each(
            |(user_key, value)| {
                user_key_bytes.clear();
                user_key.encode_ordered(&mut user_key_bytes);
                rows.row(key, &user_key_bytes, |out| value.write(layout, out))
            },
        )
    }

    fn of_row(layout: &Layout, user_key: &[u8], value: &[u8]) -> Result<Self> {
        let mut entries = Self(OrderedMap::default());
        entries.add_row(layout, user_key, value)?;
        Ok(entries)
    }

    fn add_row(&mut self, layout: &Layout, user_key: &[u8], value: &[u8]) -> Result<()> {
        if self.0.insert(decode_key(user_key)?, F::read(layout, value)?).is_some() {
            return Err(Error::data("two rows for one entry of a map state"));
        }
        Ok(())
    }

    fn life(&self, horizon: Horizon) -> Life {
        let dead = self.0.values().filter(|value| value.life(horizon) == Life::Gone).count();
        match dead {
            0 => Life::Whole,
            _ if dead == self.0.len() => Life::Gone,
            _ => Life::Part,
        }
    }

    fn expire(&mut self, horizon: Horizon) {
        self.0.retain(|_, value| value.life(horizon) == Life::Whole);
    }
}

/// Roughly how many bytes a value holds beyond its own size: as many as its form has, if it holds any.
pub(crate) fn heap_bytes<T: State>(value: &T) -> usize {
    if !std::mem::needs_drop::<T>() {
        return 0;
    }
    let mut form = Vec::new();
    // What cannot be encoded is refused where it is written.
    let _ = codec::encode(value, &mut form);
    form.len() + ALLOCATION_BYTES
}

/// Reads a key that takes up all of `bytes`.
pub(crate) fn decode_key<K: Key>(mut bytes: &[u8]) -> Result<K> {
    let key = K::decode_ordered(&mut bytes)?;
    if bytes.is_empty() { Ok(key) } else { Err(Error::data("bytes are left over behind a key")) }
}

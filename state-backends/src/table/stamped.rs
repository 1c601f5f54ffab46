//! Values, map entries and list elements with the time of their last update in front.

use super::layout::Layout;
use super::payload::{Cell, Form, Items, Life, Reach};
use crate::Result;
use crate::codec::{self, State};
use crate::ttl::{Expiry, Horizon, STAMP_BYTES};

/// A value and its stamp: in bytes the stamp, 8 bytes little endian, then the value.
#[derive(Clone, Debug)]
pub(crate) struct Stamped<V> {
    pub(crate) stamp: i64,
    pub(crate) value: V,
}

impl<C: Reach> Reach for Stamped<C> {
    const STEPS: usize = C::STEPS;

    #[inline]
    fn reach(&self, step: usize) {
        self.value.reach(step);
    }
}

impl<C: Cell> Cell for Stamped<C> {
    const HAS_HEAP: bool = C::HAS_HEAP;

    fn heap_bytes(&self) -> usize {
        self.value.heap_bytes()
    }

    fn encode(&self, layout: &Layout, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(&self.stamp.to_le_bytes());
        self.value.encode(layout, out)
    }

    fn decode(layout: &Layout, mut bytes: &[u8]) -> Result<Self> {
        let stamp = layout.take_stamp(&mut bytes)?;
        Ok(Self { stamp, value: C::decode(layout, bytes)? })
    }

    fn life(&self, horizon: Horizon) -> Life {
        Life::of(self.stamp, horizon)
    }
}

impl<T: State> Form for Stamped<T> {
    fn heap_bytes(&self) -> usize {
        self.value.heap_bytes()
    }

    fn write(&self, layout: &Layout, out: &mut Vec<u8>) -> Result<()> {
        out.extend_from_slice(&self.stamp.to_le_bytes());
        layout.encode(&self.value, out)
    }

    fn read(layout: &Layout, mut bytes: &[u8]) -> Result<Self> {
        let stamp = layout.take_stamp(&mut bytes)?;
        Ok(Self { stamp, value: layout.decode(bytes)? })
    }

    fn life(&self, horizon: Horizon) -> Life {
        Life::of(self.stamp, horizon)
    }
}

/// A list whose elements have stamps: in bytes each element with its length in front, as of [`Stamped`].
#[derive(Clone, Debug)]
pub(crate) struct StampedItems<T> {
    pub(crate) items: Items<T>,
    /// The stamps of the first elements. Those of the others, which were added last, are `newest`.
    stamps: Vec<i64>,
    newest: i64,
}

impl<T: State> StampedItems<T> {
    pub(crate) fn new(items: Items<T>, stamp: i64) -> Self {
        Self { items, stamps: Vec::new(), newest: stamp }
    }

    fn stamps(&self) -> impl Iterator<Item = i64> {
        let others = self.items.0.len() - self.stamps.len();
        self.stamps.iter().copied().chain(std::iter::repeat_n(self.newest, others))
    }

    /// Gives what is added from now on this stamp.
    pub(crate) fn stamp_next(&mut self, stamp: i64) {
        if stamp != self.newest {
            let length = self.items.0.len();
            self.stamps.resize(length, self.newest);
            self.newest = stamp;
        }
    }

    /// Whether a read gives an element another stamp.
    pub(crate) fn refreshes(&self, expiry: &Expiry) -> bool {
        self.stamps().any(|stamp| expiry.refreshes(stamp))
    }

    /// Gives what was read the stamp of now.
    pub(crate) fn refresh(&mut self, expiry: &Expiry) {
        let now = expiry.now();
        let refreshed = |stamp| if expiry.refreshes(stamp) { now } else { stamp };
        self.stamps = self.stamps().map(refreshed).collect();
    }
}

impl<T: State> Reach for StampedItems<T> {
    const STEPS: usize = Items::<T>::STEPS;

    #[inline]
    fn reach(&self, step: usize) {
        self.items.reach(step);
    }
}

impl<T: State> Cell for StampedItems<T> {
    const HAS_HEAP: bool = true;

    fn heap_bytes(&self) -> usize {
        Cell::heap_bytes(&self.items) + self.stamps.capacity() * STAMP_BYTES
    }

    fn encode(&self, layout: &Layout, out: &mut Vec<u8>) -> Result<()> {
        let horizon = layout.horizon();
        self.items.0.iter().zip(self.stamps()).filter(|(_, stamp)| !horizon.is_behind(*stamp)).try_for_each(
            |(item, stamp)| {
                codec::put_with_length(out, |out| {
                    out.extend_from_slice(&stamp.to_le_bytes());
                    layout.encode(item, out)
                })
            },
        )
    }

    fn decode(layout: &Layout, mut bytes: &[u8]) -> Result<Self> {
        let (mut items, mut stamps) = (Vec::new(), Vec::new());
        while !bytes.is_empty() {
            let mut element = codec::take_bytes(&mut bytes)?;
            stamps.push(layout.take_stamp(&mut element)?);
            items.push(layout.decode(element)?);
        }
        let newest = stamps.last().copied().unwrap_or_default();
        Ok(Self { items: Items(items), stamps, newest })
    }

    fn life(&self, horizon: Horizon) -> Life {
        let (mut dead, mut alive) = (false, false);
        for stamp in self.stamps() {
            if horizon.is_behind(stamp) { dead = true } else { alive = true }
        }
        match (dead, alive) {
            (false, _) => Life::Whole,
            (true, true) => Life::Part,
            (true, false) => Life::Gone,
        }
    }

    fn expire(&mut self, horizon: Horizon) {
        let stamps: Vec<i64> = self.stamps().collect();
        let mut of_items = stamps.iter();
        self.items.0.retain(|_| of_items.next().is_none_or(|stamp| !horizon.is_behind(*stamp)));
        self.stamps = stamps.into_iter().filter(|stamp| !horizon.is_behind(*stamp)).collect();
    }
}

//! What the state must be: ordinary maps.

use std::collections::{BTreeMap, BTreeSet};

/// How long state lives that has a time to live, in milliseconds.
pub(crate) const TTL_MS: i64 = 10;

/// Keys there are.
pub(crate) const KEYS: u8 = 12;

/// What one key has.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Content {
    pub(crate) value: Option<u16>,
    pub(crate) list: Vec<u8>,
    pub(crate) map: BTreeMap<i8, u16>,
    pub(crate) sum: Option<u64>,
    /// Sum and count.
    pub(crate) mean: Option<(u64, u32)>,
    /// By namespace.
    pub(crate) windows: BTreeMap<i8, u16>,
    pub(crate) timers: BTreeSet<i64>,
    /// With the watermark at its last update.
    pub(crate) fading_value: Option<(u16, i64)>,
    /// Each with the processing time it came at.
    pub(crate) fading_list: Vec<(u8, i64)>,
    /// Each with the watermark at its last update.
    pub(crate) fading_map: BTreeMap<i8, (u16, i64)>,
    /// With the processing time of its last update.
    pub(crate) fading_sum: Option<(u64, i64)>,
}

/// What all keys have, and what time it is.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) keys: BTreeMap<u8, Content>,
    pub(crate) watermark: i64,
    /// Processing time without the time between a checkpoint and its restore.
    pub(crate) running: i64,
}

impl Model {
    pub(crate) fn new(now: i64) -> Self {
        Self { keys: (0..KEYS).map(|key| (key, Content::default())).collect(), watermark: now, running: now }
    }

    pub(crate) fn at(&mut self, key: u8) -> &mut Content {
        self.keys.entry(key).or_default()
    }

    /// Lets time pass, and forgets what has expired.
    pub(crate) fn pass(&mut self, ms: i64) {
        self.watermark += ms;
        self.running += ms;
        let (watermark, running) = (self.watermark, self.running);
        for content in self.keys.values_mut() {
            content.fading_value = content.fading_value.filter(|(_, at)| at + TTL_MS > watermark);
            content.fading_list.retain(|(_, at)| at + TTL_MS > running);
            content.fading_map.retain(|_, (_, at)| *at + TTL_MS > watermark);
            content.fading_sum = content.fading_sum.filter(|(_, at)| at + TTL_MS > running);
        }
    }

    /// All timers, by time and name of the key.
    pub(crate) fn timers(&self) -> BTreeSet<(i64, String)> {
        let of = |(key, content): (&u8, &Content)| {
            let name = name(*key);
            content.timers.iter().map(|time| (*time, name.clone())).collect::<Vec<_>>()
        };
        self.keys.iter().flat_map(of).collect()
    }
}

/// Some names are prefixes of others, one is empty, one has a zero byte.
pub(crate) fn name(key: u8) -> String {
    match key {
        0 => String::new(),
        1 => "\0".into(),
        _ => "k".repeat(usize::from(key) / 2) + if key.is_multiple_of(2) { "" } else { "-" },
    }
}

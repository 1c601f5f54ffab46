//! The operator under test: a backend per subtask with state of every kind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidegate_state::{
    AggregateFunction, AggregatingState, BackendOptions, BackendScope, BorrowedKey, KeyedBackend, ListState,
    MapState, Namespaces, ReducingState, Result, SnapshotSource, StateOptions, TimerQueue, Ttl, ValueState,
    key_group_of, range_of, subtask_of,
};

use crate::content::{Content, KEYS, Model, TTL_MS, name};
use crate::fault::Local;

/// Key groups.
const GROUPS: u16 = 16;

/// Namespaces there are.
pub(crate) const WINDOWS: std::ops::Range<i8> = -1..2;

/// Keys of maps there are.
pub(crate) const SLOTS: std::ops::Range<i8> = -4..5;

/// Sum and count.
#[derive(Clone, Copy, Debug)]
struct Mean;

impl AggregateFunction for Mean {
    type Input = u16;
    type Accumulator = (u64, u32);
    type Output = (u64, u32);

    fn create(&self) -> (u64, u32) {
        (0, 0)
    }

    fn add(&self, mean: &mut (u64, u32), value: u16) {
        *mean = (mean.0 + u64::from(value), mean.1 + 1);
    }

    fn result(&self, mean: &(u64, u32)) -> (u64, u32) {
        *mean
    }

    fn merge(&self, mean: &mut (u64, u32), other: (u64, u32)) {
        *mean = (mean.0 + other.0, mean.1 + other.1);
    }
}

pub(crate) struct Subtask {
    pub(crate) backend: KeyedBackend<String>,
    pub(crate) value: ValueState<u16>,
    pub(crate) list: ListState<u8>,
    pub(crate) map: MapState<i8, u16>,
    pub(crate) sum: ReducingState<u64>,
    mean: AggregatingState<Mean>,
    windows: Namespaces<String, i8>,
    window: ValueState<u16>,
    pub(crate) timers: TimerQueue<String>,
    pub(crate) fading_value: ValueState<u16>,
    pub(crate) fading_list: ListState<u8>,
    pub(crate) fading_map: MapState<i8, u16>,
    pub(crate) fading_sum: ReducingState<u64>,
}

impl Subtask {
    fn open(mut backend: KeyedBackend<String>) -> Result<Self> {
        let ttl = Ttl::new(Duration::from_millis(TTL_MS.unsigned_abs()));
        let windows = backend.namespaces::<i8>();
        let window = backend.within(&windows).value_state("window", StateOptions::default())?;
        Ok(Self {
            value: backend.value_state("value")?,
            list: backend.list_state("list")?,
            map: backend.map_state("map")?,
            sum: backend.reducing_state("sum", |sum, n| *sum += n)?,
            mean: backend.aggregating_state("mean", Mean)?,
            windows,
            window,
            timers: backend.timers("timers")?,
            fading_value: backend.value_state_with("f-value", StateOptions::new().ttl(ttl.event_time()))?,
            fading_list: backend.list_state_with("f-list", StateOptions::new().ttl(ttl))?,
            fading_map: backend.map_state_with("f-map", StateOptions::new().ttl(ttl.event_time()))?,
            fading_sum: backend.reducing_state_with("f-sum", |s, n| *s += n, StateOptions::new().ttl(ttl))?,
            backend,
        })
    }

    pub(crate) fn add_to_mean(&mut self, value: u16) -> Result<()> {
        self.mean.add(value)
    }

    pub(crate) fn clear_mean(&mut self) -> Result<()> {
        self.mean.clear()
    }

    pub(crate) fn set_in(&mut self, window: i8, value: Option<u16>) -> Result<()> {
        self.windows.set_current(window)?;
        match value {
            Some(value) => self.window.set(value),
            None => self.window.clear(),
        }
    }

    /// What the current key has, but for its timers.
    fn content(&self) -> Result<Content> {
        let mut windows = BTreeMap::new();
        for window in WINDOWS {
            self.windows.set_current(window)?;
            windows.extend(self.window.get()?.map(|value| (window, value)));
        }
        // Stamps are not to be seen.
        let unstamped = |value| (value, 0);
        let content = Content {
            value: self.value.get()?,
            list: self.list.iter()?.collect(),
            map: self.map.iter()?.collect(),
            sum: self.sum.get()?,
            mean: self.mean.get()?,
            windows,
            timers: BTreeSet::new(),
            fading_value: self.fading_value.get()?.map(unstamped),
            fading_list: self.fading_list.iter()?.map(|item| (item, 0)).collect(),
            fading_map: self.fading_map.iter()?.map(|(slot, value)| (slot, (value, 0))).collect(),
            fading_sum: self.fading_sum.get()?.map(|sum| (sum, 0)),
        };
        assert_eq!(self.list.len()?, content.list.len());
        assert_eq!(self.map.is_empty()?, content.map.is_empty());
        assert_eq!(self.fading_map.is_empty()?, content.fading_map.is_empty());
        assert_eq!(self.fading_list.len()?, content.fading_list.len());
        for slot in SLOTS {
            assert_eq!(self.map.get(&slot)?, content.map.get(&slot).copied());
            let fading = content.fading_map.get(&slot).map(|(value, _)| *value);
            assert_eq!(self.fading_map.get(&slot)?, fading);
        }
        Ok(content)
    }
}

/// All subtasks of the operator.
pub(crate) struct Operator(pub(crate) Vec<Subtask>, pub(crate) Local);

impl Operator {
    pub(crate) fn open(
        options: &BackendOptions,
        parallelism: u32,
        files: &[Arc<dyn SnapshotSource>],
        wall: i64,
        watermark: i64,
    ) -> Result<Self> {
        let local = Local::new();
        let open = |subtask| {
            let range = range_of(subtask, parallelism, GROUPS)?;
            let operator = "model".to_owned();
            let local_dir = Some(local.path().to_owned());
            let scope = BackendScope { operator, subtask, max_parallelism: GROUPS, range, local_dir };
            let backend = KeyedBackend::open(options, scope, files)?;
            backend.set_processing_time(wall);
            backend.set_watermark(watermark);
            Subtask::open(backend)
        };
        (0..parallelism).map(open).collect::<Result<_>>().map(|subtasks| Self(subtasks, local.clone()))
    }

    fn owner(&self, key: u8) -> usize {
        let group = key_group_of(BorrowedKey::hash64(name(key).as_str()), GROUPS);
        subtask_of(group, self.0.len() as u32, GROUPS) as usize
    }

    /// Makes a key the current one of its subtask.
    pub(crate) fn at(&mut self, key: u8) -> Result<&mut Subtask> {
        let subtask = self.owner(key);
        let name = name(key);
        self.0[subtask].backend.set_current_key_ref(name.as_str(), BorrowedKey::hash64(name.as_str()))?;
        Ok(&mut self.0[subtask])
    }

    /// Has the rows of all keys read ahead.
    pub(crate) fn prefetch(&self) -> Result<()> {
        for (index, subtask) in self.0.iter().enumerate() {
            let names: Vec<_> = (0..KEYS).filter(|key| self.owner(*key) == index).map(name).collect();
            let hashes: Vec<_> = names.iter().map(|name| BorrowedKey::hash64(name.as_str())).collect();
            let backend = &subtask.backend;
            backend.prefetch(&hashes, |at| backend.set_current_key_ref(names[at].as_str(), hashes[at]))?;
        }
        Ok(())
    }

    pub(crate) fn set_time(&self, wall: i64, watermark: i64) {
        for subtask in &self.0 {
            subtask.backend.set_processing_time(wall);
            subtask.backend.set_watermark(watermark);
        }
    }

    /// Checks that it has everything the model has, and nothing else.
    pub(crate) fn check(&mut self, model: &Model) -> Result<()> {
        for (key, content) in &model.keys {
            let mut due = Content { timers: BTreeSet::new(), ..content.clone() };
            due.fading_value = due.fading_value.map(|(value, _)| (value, 0));
            due.fading_list.iter_mut().for_each(|(_, at)| *at = 0);
            due.fading_map.values_mut().for_each(|(_, at)| *at = 0);
            due.fading_sum = due.fading_sum.map(|(sum, _)| (sum, 0));
            assert_eq!(self.at(*key)?.content()?, due, "key {key}");
        }
        let timers = model.timers();
        let next = timers.first().map(|(time, _)| *time);
        assert_eq!(self.0.iter().filter_map(|subtask| subtask.timers.next_due()).min(), next);
        assert_eq!(self.0.iter().map(|subtask| subtask.timers.len()).sum::<usize>(), timers.len());
        Ok(())
    }
}

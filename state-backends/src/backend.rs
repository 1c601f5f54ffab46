//! The keyed backend: all keyed state of one operator subtask.

mod bases;
mod cold;
mod frozen;
mod native;
mod opening;
mod options;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod row_prefix;
mod unclaimed;
mod within;

pub use frozen::FrozenState;
pub use options::{BackendOptions, BackendScope, CustomBackend, OpenColdStore, RocksDbOptions};

pub(crate) use unclaimed::Unclaimed;
pub use within::Within;

use bases::Bases;
use cold::Cold;
use frozen::Form;
use opening::Opening;
use row_prefix::RowPrefix;
use std::any::{Any, TypeId};
use std::cell::Ref;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use crate::codec::State;
use crate::context::KeyContext;
use crate::descriptor::{StateDescriptor, StateKind, short_type_name};
use crate::handle::{
    AggregateFunction, AggregatingState, KeyedState, ListState, MapState, ReducingState, ValueState,
};
use crate::key::{BorrowedKey, Key};
use crate::namespace::Namespaces;
use crate::snapshot::{FrozenEntry, RestoredState, SnapshotMode, SnapshotSource, Subject};
use crate::state_options::StateOptions;
use crate::table::layout::Restamp;
use crate::table::paged::Mark;
use crate::table::payload::Presence;
use crate::table::{Control, Frozen, Shared, WriteBack, borrow};
use crate::timer::{DueTimer, TimerIndex, TimerKey, TimerQueue};
use crate::ttl::{Clock, Expiry, Horizon, Ttl, TtlTime, UNSTAMPED};
use crate::{Error, Result};

/// A step of writing back looks at a page at least, so it has to be worth that.
const LEAST_WRITE_BACK: usize = 256;

/// From one step of writing back to the next one, if there is nothing else to do.
const WRITE_BACK_MS: i64 = 1;

/// From one look at an image that waits to be written to the next one, if there is nothing else to do.
const WAIT_MS: i64 = 10;

/// A state that user code has registered.
struct Registered {
    descriptor: StateDescriptor,
    /// The handle, for a second registration of the same name.
    handle: Box<dyn Any>,
    control: Shared<dyn Control>,
    /// Whether it is kept under the keys themselves.
    is_plain: bool,
    ttl: Option<Ttl>,
    /// The row of the store that is looked at next for what has expired.
    cursor: Vec<u8>,
}

/// All keyed state of one operator subtask. Lives on the subtask's thread.
pub struct KeyedBackend<K: Key> {
    context: Rc<KeyContext<K>>,
    /// The store behind the tables; none for the memory backend.
    cold: Option<Cold>,
    registered: BTreeMap<String, Registered>,
    /// What was restored and not yet asked for.
    restored: BTreeMap<String, RestoredState>,
    /// One `Namespaces` per type.
    namespaces: Vec<Box<dyn Any>>,
    /// States whose conversion to a new type in the cold store has failed on the way.
    half_converted: BTreeSet<String>,
    bases: Bases,
    clock: Rc<Clock>,
    /// The states with a time to live, and which of them is swept next.
    expiring: Vec<String>,
    next_swept: usize,
    /// How much writing back may look at.
    owed: usize,
}

impl<K: Key> KeyedBackend<K> {
    /// Opens the state of a subtask, from the snapshots `restored` of old subtasks or, if there are none, empty. They
    /// may cover other key groups too; together they must cover those of the subtask. Everything that is needed is read
    /// and verified before this returns.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for options this build cannot serve and for a maximum
    /// parallelism or key type other than the restored one; [`ErrorKind::Data`](crate::ErrorKind::Data) for damaged
    /// or missing files.
    pub fn open(
        options: &BackendOptions,
        scope: BackendScope,
        restored: &[Arc<dyn SnapshotSource>],
    ) -> Result<Self> {
        let place = format!("keyed state of operator '{}'", scope.operator);
        Self::open_inner(options, &scope, restored).map_err(|e| e.at(place))
    }

    fn open_inner(
        options: &BackendOptions,
        scope: &BackendScope,
        restored: &[Arc<dyn SnapshotSource>],
    ) -> Result<Self> {
        let Unclaimed { states: restored, cold, clock, .. } =
            Unclaimed::load(options, scope, Some(RowPrefix::of::<K>()), restored)?;
        let clock = Rc::new(Clock::new(clock));
        let context = Rc::new(KeyContext::new(scope.range, scope.max_parallelism));
        Ok(Self {
            context,
            cold,
            registered: BTreeMap::new(),
            restored,
            namespaces: Vec::new(),
            half_converted: BTreeSet::new(),
            bases: Bases::default(),
            clock,
            expiring: Vec::new(),
            next_swept: 0,
            owed: 0,
        })
    }

    /// Makes `key` the one that all handles act on. `hash` is its [`Key::hash64`], which travels with the record.
    ///
    /// # Errors
    /// [`ErrorKind::Bug`](crate::ErrorKind::Bug) if the key does not belong to this subtask.
    #[inline]
    pub fn set_current_key(&self, key: K, hash: u64) -> Result<()> {
        self.context.set(key, hash)
    }

    /// Like [`set_current_key`](Self::set_current_key) from a borrowed key, re-using the memory of the one before.
    ///
    /// # Errors
    /// [`ErrorKind::Bug`](crate::ErrorKind::Bug) if the key does not belong to this subtask.
    #[inline]
    pub fn set_current_key_ref<Q: BorrowedKey<Owned = K> + ?Sized>(&self, key: &Q, hash: u64) -> Result<()> {
        self.context.set_ref(key, hash)
    }

    /// Leaves no key current: until the next one is set, handles fail instead of acting on the key before.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the current key is in use.
    pub fn clear_current_key(&self) -> Result<()> {
        self.context.replace(None).map(drop)
    }

    /// Says what the task's clock shows, in milliseconds, for states with a time to live in processing time.
    pub fn set_processing_time(&self, now: i64) {
        self.clock.set_processing_time(now);
    }

    /// Says how far event time has got, in milliseconds, for states with a time to live in event time. After a restore
    /// it should be said before states are registered.
    pub fn set_watermark(&self, watermark: i64) {
        self.clock.set_watermark(watermark);
    }

    /// Removes some of what has expired, if any state has a time to live: looks at about `budget` keys or rows, where
    /// the call before has stopped. Meant to be called every now and then.
    ///
    /// # Errors
    /// [`ErrorKind::RestartTask`](crate::ErrorKind::RestartTask) if a store on disk fails.
    pub fn sweep(&mut self, budget: usize) -> Result<()> {
        if self.expiring.is_empty() {
            return Ok(());
        }
        self.next_swept = (self.next_swept + 1) % self.expiring.len();
        let Some(state) = self.registered.get_mut(&self.expiring[self.next_swept]) else { return Ok(()) };
        let Some(horizon) = state.ttl.map(|ttl| Expiry::new(ttl, &self.clock).horizon()) else {
            return Ok(());
        };
        match &self.cold {
            Some(cold) => cold.sweep(&state.descriptor, horizon, &mut state.cursor, budget),
            None => {
                borrow(&state.control)?.sweep(horizon, budget);
                Ok(())
            }
        }
    }

    /// Writes some of the objects that have not changed for a while to the store on disk, if there is one, so that the
    /// checkpoints to come need not have them again. Looks at about `budget` objects and writes one in eight, 128 KiB at
    /// most; less than 256 add up. Meant to be called with the number of records after each batch of them. Without
    /// records, it is worth calling it again after so many milliseconds as it returns; `None`: not before the next
    /// [`freeze`](Self::freeze).
    ///
    /// # Errors
    /// [`ErrorKind::RestartTask`](crate::ErrorKind::RestartTask) if a store on disk fails.
    pub fn write_back(&mut self, budget: usize) -> Result<Option<i64>> {
        if self.cold.is_none() {
            return Ok(None);
        }
        self.owed = self.owed.saturating_add(budget);
        if self.owed < LEAST_WRITE_BACK {
            return Ok(Some(WRITE_BACK_MS));
        }
        let (budget, mut again) = (std::mem::take(&mut self.owed), None);
        for state in self.registered.values() {
            match borrow(&state.control)?.write_back(budget)? {
                WriteBack::Done => {}
                WriteBack::More => return Ok(Some(WRITE_BACK_MS)),
                WriteBack::Waits => again = Some(WAIT_MS),
            }
        }
        Ok(again)
    }

    /// Announces keys whose state is about to be used, by their [`Key::hash64`]. What is in memory of it moves into the
    /// processor's caches, for all of them at the same time instead of one after the other; what is in a store and is
    /// likely to be asked for is read, all at once. `set_current` makes the key of the hash of an index the current one;
    /// it is called for those that are read. Which key is the current one afterwards is open.
    ///
    /// Worth a call with the next 32 to 64 records of a batch, before the first of them is processed; more do not fit the
    /// fastest cache. Small states are left alone, absent keys and those of other subtasks cost little and do no harm.
    ///
    /// # Errors
    /// Those of `set_current`, and of the store.
    pub fn prefetch(&self, hashes: &[u64], mut set_current: impl FnMut(usize) -> Result<()>) -> Result<()> {
        const AT_ONCE: usize = u64::BITS as usize;
        for (hashes, first) in hashes.chunks(AT_ONCE).zip((0..).step_by(AT_ONCE)) {
            let mut missing = 0;
            for state in self.registered.values().filter(|state| state.is_plain) {
                // A state in use by its caller is in the caches anyway.
                if let Ok(mut control) = state.control.try_borrow_mut() {
                    missing |= control.touch(hashes);
                }
            }
            if missing != 0 {
                self.read_ahead(missing, |index| set_current(first + index))?;
            }
        }
        Ok(())
    }

    #[cold]
    fn read_ahead(&self, mut missing: u64, mut set_current: impl FnMut(usize) -> Result<()>) -> Result<()> {
        let states = || self.registered.values().filter(|state| state.is_plain);
        while missing != 0 {
            set_current(missing.trailing_zeros() as usize)?;
            missing &= missing - 1;
            states().try_for_each(|state| borrow(&state.control)?.want())?;
        }
        states().try_for_each(|state| borrow(&state.control)?.read_ahead())
    }

    /// The current key. Do not keep it while the key changes.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if no key has been set yet.
    pub fn current_key(&self) -> Result<Ref<'_, K>> {
        self.context.current()
    }

    /// The value state `name`, the same one for the same name.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if `name` is a state of another kind or type here, if the values
    /// restored cannot become those of this type, or if values of this type cannot be read back at all;
    /// [`ErrorKind::Data`](crate::ErrorKind::Data) if what was restored cannot be read.
    pub fn value_state<T: State>(&mut self, name: &str) -> Result<ValueState<T>> {
        self.value_state_with(name, StateOptions::default())
    }

    /// The value state `name` with options. Errors as for [`value_state`](Self::value_state).
    pub fn value_state_with<T: State>(
        &mut self,
        name: &str,
        options: StateOptions<T>,
    ) -> Result<ValueState<T>> {
        self.register(options.descriptor(name, StateKind::Value)?, &options, |opening| {
            let (table, control) = opening.table::<T>()?;
            Ok((ValueState::new(table), control))
        })
    }

    /// The list state `name`. Errors as for [`value_state`](Self::value_state).
    pub fn list_state<T: State>(&mut self, name: &str) -> Result<ListState<T>> {
        self.list_state_with(name, StateOptions::default())
    }

    /// The list state `name` with options, which are those of its elements. Errors as for
    /// [`value_state`](Self::value_state).
    pub fn list_state_with<T: State>(
        &mut self,
        name: &str,
        options: StateOptions<T>,
    ) -> Result<ListState<T>> {
        self.register(options.descriptor(name, StateKind::List)?, &options, |opening| {
            let (table, control) = opening.list_table::<T>()?;
            Ok((ListState::new(table), control))
        })
    }

    /// The map state `name`. Errors as for [`value_state`](Self::value_state).
    pub fn map_state<UK: Key, UV: State>(&mut self, name: &str) -> Result<MapState<UK, UV>> {
        self.map_state_with(name, StateOptions::default())
    }

    /// The map state `name` with options, which are those of its values. Errors as for
    /// [`value_state`](Self::value_state).
    pub fn map_state_with<UK: Key, UV: State>(
        &mut self,
        name: &str,
        options: StateOptions<UV>,
    ) -> Result<MapState<UK, UV>> {
        let descriptor = options.descriptor(name, StateKind::Map)?.with_user_key::<UK>();
        self.register(descriptor, &options, |opening| {
            let (table, control) = opening.map_table::<UK, UV>()?;
            Ok((MapState::new(table), control))
        })
    }

    /// The reducing state `name`, which folds by `reduce`; registered twice, it keeps the first function. Errors as for
    /// [`value_state`](Self::value_state).
    pub fn reducing_state<T: State>(
        &mut self,
        name: &str,
        reduce: impl Fn(&mut T, T) + 'static,
    ) -> Result<ReducingState<T>> {
        self.reducing_state_with(name, reduce, StateOptions::default())
    }

    /// The reducing state `name` with options. Errors as for [`value_state`](Self::value_state).
    pub fn reducing_state_with<T: State>(
        &mut self,
        name: &str,
        reduce: impl Fn(&mut T, T) + 'static,
        options: StateOptions<T>,
    ) -> Result<ReducingState<T>> {
        self.register(options.descriptor(name, StateKind::Reducing)?, &options, |opening| {
            let (table, control) = opening.table::<T>()?;
            Ok((ReducingState::new(table, Rc::new(reduce)), control))
        })
    }

    /// The aggregating state `name`; registered twice, it keeps the first function. Errors as for
    /// [`value_state`](Self::value_state).
    pub fn aggregating_state<A: AggregateFunction>(
        &mut self,
        name: &str,
        function: A,
    ) -> Result<AggregatingState<A>> {
        self.aggregating_state_with(name, function, StateOptions::default())
    }

    /// The aggregating state `name` with options, which are those of its accumulators. Errors as for
    /// [`value_state`](Self::value_state).
    pub fn aggregating_state_with<A: AggregateFunction>(
        &mut self,
        name: &str,
        function: A,
        options: StateOptions<A::Accumulator>,
    ) -> Result<AggregatingState<A>> {
        self.register(options.descriptor(name, StateKind::Aggregating)?, &options, |opening| {
            let (table, control) = opening.table::<A::Accumulator>()?;
            Ok((AggregatingState::new(table, Rc::new(function)), control))
        })
    }

    /// The timers `name`. Errors as for [`value_state`](Self::value_state).
    pub fn timers(&mut self, name: &str) -> Result<TimerQueue<K>> {
        self.timer_queue(name, |descriptor| descriptor)
    }

    /// The timers `name` in namespaces of type `N`. Errors as for [`value_state`](Self::value_state).
    pub fn namespaced_timers<N: Key>(&mut self, name: &str) -> Result<TimerQueue<K, N>> {
        self.timer_queue(name, StateDescriptor::within::<N>)
    }

    fn timer_queue<N: Key>(
        &mut self,
        name: &str,
        within: impl FnOnce(StateDescriptor) -> StateDescriptor,
    ) -> Result<TimerQueue<K, N>> {
        let context = Rc::clone(&self.context);
        let address = Rc::new(KeyContext::spaced(&context));
        let options = StateOptions::<i64>::new();
        let descriptor = within(options.descriptor(name, StateKind::Timer)?);
        self.register_under(&address.clone(), descriptor, &options, |opening| {
            let mut index = TimerIndex::new();
            let (table, control) =
                opening.visited_table::<Presence>(Some(&mut |timer: &TimerKey<K, N>, _| {
                    let (namespace, time) = timer.namespace.clone();
                    let hash = timer.key.hash64();
                    index.insert(DueTimer { time, key: timer.key.clone(), namespace, hash });
                }))?;
            Ok((TimerQueue::new(context, address, table, index), control))
        })
    }

    /// The namespaces of type `N`, the same ones for the same type.
    pub fn namespaces<N: Key>(&mut self) -> Namespaces<K, N> {
        if let Some(namespaces) = self.namespaces.iter().find_map(|of_a_type| of_a_type.downcast_ref()) {
            return Namespaces::clone(namespaces);
        }
        let namespaces = Namespaces::new(&self.context);
        self.namespaces.push(Box::new(namespaces.clone()));
        namespaces
    }

    /// Registers states that are kept per key and namespace and act on the current one of `namespaces`.
    pub fn within<'a, N: Key>(&'a mut self, namespaces: &'a Namespaces<K, N>) -> Within<'a, K, N> {
        Within { backend: self, namespaces }
    }

    /// Calls `visit` with every key that has something in `state`, a handle of this backend. Inside of it that key is
    /// the current one, and all states may be used and changed. Afterwards the current key is the one before.
    ///
    /// The keys come in the order of their key groups and, within a group, in their own order, whatever the backend; the
    /// keys of one group at a time are held in memory.
    ///
    /// # Errors
    /// The first error of `visit`, which ends the visit; [`ErrorKind::Config`](crate::ErrorKind::Config) if `state` is
    /// not of this backend or is in use.
    pub fn for_each_key(
        &self,
        state: &impl KeyedState,
        mut visit: impl FnMut(&K) -> Result<()>,
    ) -> Result<()> {
        let table = state.address();
        let of_state = |r: &&Registered| std::ptr::eq(Rc::as_ptr(&r.control).cast::<()>(), table);
        let Some(registered) = self.registered.values().find(of_state) else {
            return Err(Error::config("the state whose keys are asked for is not of this operator")
                .hint("register it while the function is built"));
        };
        if !registered.is_plain {
            return Err(Error::config("the state whose keys are asked for is kept within namespaces"));
        }
        let before = self.context.replace(None)?;
        let visited = self.visit_keys(&registered.control, &mut visit);
        self.context.replace(before)?;
        visited
    }

    fn visit_keys(
        &self,
        control: &Shared<dyn Control>,
        visit: &mut dyn FnMut(&K) -> Result<()>,
    ) -> Result<()> {
        for group in self.context.range().groups() {
            let keys = borrow(control)?.keys(group)?.downcast::<Vec<K>>();
            let mut keys =
                *keys.map_err(|_| Error::bug("a state has keys of another type than its backend"))?;
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                let hash = key.hash64();
                self.context.set(key.clone(), hash)?;
                if borrow(control)?.is_present()? {
                    visit(&key)?;
                }
            }
        }
        Ok(())
    }

    /// Names of the states that were restored and that nothing has registered. They are kept and go into the next
    /// snapshot.
    pub fn unclaimed_states(&self) -> impl Iterator<Item = &str> {
        self.restored.keys().map(String::as_str)
    }

    /// Takes an image of the present content for a checkpoint, whose number is higher than those before. This is the
    /// part of a checkpoint that holds up records; it visits no entry and writes nothing, whatever the backend.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) inside the update of a state;
    /// [`ErrorKind::RestartTask`](crate::ErrorKind::RestartTask) if a store on disk has failed.
    pub fn freeze(&mut self, checkpoint: u64, mode: SnapshotMode) -> Result<FrozenState> {
        let registration = match mode {
            SnapshotMode::Native { base } if self.cold.is_none() => {
                Some(self.bases.freeze_on(checkpoint, base))
            }
            _ => None,
        };
        let (number, base) = match &registration {
            Some(registration) => registration.freezes(),
            None => (self.bases.freeze(), None),
        };
        let mark = Mark { number, base };
        let mut form = registration.map_or(Form::Canonical, Form::Pages);
        let mut states: Vec<FrozenEntry> = Vec::new();
        let mut overlays = Vec::new();
        for state in self.registered.values() {
            let descriptor = state.descriptor.clone();
            let horizon = state.ttl.map(|ttl| Expiry::new(ttl, &self.clock).horizon());
            let mut control = borrow(&state.control)?;
            control.set_horizon(horizon.unwrap_or(Horizon::NOTHING));
            match control.freeze(mark)? {
                Frozen::Whole(image) => states.push((descriptor, image)),
                Frozen::Overlay(overlay) => overlays.push((descriptor, Some(overlay), horizon)),
            }
        }
        match &self.cold {
            Some(cold) => {
                let unclaimed = self.restored.values().map(|state| (state.descriptor.clone(), None, None));
                let (images, files) = cold.freeze(checkpoint, mode, overlays.into_iter().chain(unclaimed))?;
                states.extend(images);
                form = files.map_or(Form::Canonical, Form::Files);
            }
            None => states.extend(self.restored.values().map(RestoredState::image)),
        }
        let subject = Subject {
            key_type: short_type_name::<K>(),
            range: self.context.range(),
            max_parallelism: self.context.max_parallelism(),
            clock: self.clock.reading(),
        };
        Ok(FrozenState::new(subject, states, form))
    }

    /// Opens a state whose values are `T`, or finds it among those that are open.
    fn register<T: State, H: Clone + 'static>(
        &mut self,
        descriptor: StateDescriptor,
        options: &StateOptions<T>,
        open: impl FnOnce(Opening<'_, K>) -> Result<(H, Shared<dyn Control>)>,
    ) -> Result<H> {
        let context = Rc::clone(&self.context);
        self.register_under(&context, descriptor, options, open)
    }

    /// Registers a state whose keys are those of `context`.
    fn register_under<A: Key, T: State, H: Clone + 'static>(
        &mut self,
        context: &Rc<KeyContext<A>>,
        mut descriptor: StateDescriptor,
        options: &StateOptions<T>,
        open: impl FnOnce(Opening<'_, A>) -> Result<(H, Shared<dyn Control>)>,
    ) -> Result<H> {
        let ttl = options.time_to_live();
        descriptor.ttl = ttl.map(Ttl::time);
        let name = &*descriptor.name;
        if let Some(state) = self.registered.get(name) {
            state.descriptor.expect(&descriptor)?;
            if state.ttl != ttl {
                return Err(Error::config(format!(
                    "state `{name}` is registered twice, with two different times to live"
                )));
            }
            return state.handle.downcast_ref::<H>().cloned().ok_or_else(|| {
                Error::config(format!(
                    "state `{name}` is registered twice, with two types both called {}",
                    descriptor.describe()
                ))
            });
        }
        if self.half_converted.contains(name) {
            return Err(Error::data(format!(
                "state `{name}` could not be converted and is of no use any more"
            )));
        }
        let restored = self.restored.get(name);
        let layout = options.layout();
        let reading = match restored {
            Some(restored) => {
                let restamp = self.restamp(restored.descriptor.ttl, descriptor.ttl);
                options.reading(&restored.descriptor, &descriptor)?.restamping(restamp)
            }
            None => layout.clone(),
        };
        let expiry = ttl.map(|ttl| Expiry::new(ttl, &self.clock));
        let converts = self.cold.is_some() && reading.converts();
        let opening = Opening::new(context, self.cold.as_ref(), restored, name, &layout, &reading, expiry);
        let (handle, control) = open(opening).map_err(|e| {
            if converts {
                self.half_converted.insert(name.to_owned());
            }
            e.at(format!("state `{name}`"))
        })?;
        self.restored.remove(name);
        if ttl.is_some() {
            self.expiring.push(name.to_owned());
        }
        let state = Registered {
            descriptor: descriptor.clone(),
            handle: Box::new(handle.clone()),
            control,
            is_plain: TypeId::of::<A>() == TypeId::of::<K>(),
            ttl,
            cursor: Vec::new(),
        };
        self.registered.insert(descriptor.name, state);
        Ok(handle)
    }

    /// What becomes of restored stamps: of one time, wanted of another.
    fn restamp(&self, restored: Option<TtlTime>, wanted: Option<TtlTime>) -> Restamp {
        let (running, wall) =
            (self.clock.now(TtlTime::Processing), self.clock.now(TtlTime::ProcessingWithOutages));
        let outages = if running == UNSTAMPED { 0 } else { wall - running };
        match (restored, wanted) {
            (None, None) => Restamp::Keep,
            (None, Some(time)) => Restamp::Give(self.clock.now(time)),
            (Some(_), None) => Restamp::Drop,
            (Some(old), Some(new)) if old == new => Restamp::Keep,
            (Some(TtlTime::Processing), Some(TtlTime::ProcessingWithOutages)) => Restamp::Shift(outages),
            (Some(TtlTime::ProcessingWithOutages), Some(TtlTime::Processing)) => Restamp::Shift(-outages),
            (Some(_), Some(time)) => Restamp::Replace(self.clock.now(time)),
        }
    }
}

impl<K: Key> fmt::Debug for KeyedBackend<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBackend")
            .field("range", &self.context.range())
            .field("states", &self.registered.keys())
            .finish_non_exhaustive()
    }
}

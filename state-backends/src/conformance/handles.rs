//! Checks of what handles and timers do under a current key.

use super::{MakeOptions, expect, expect_error, open_all, snapshot, switch};
use crate::{AggregateFunction, ErrorKind, KeyGroupRange, Result};

pub(super) fn value_state(options: MakeOptions<'_>) -> Result<()> {
    let mut backend = open_all(options)?;
    let mut state = backend.value_state::<String>("v")?;
    expect_error("a state without a key", state.get(), ErrorKind::Config)?;
    switch(&backend, "a")?;
    expect("an unset value", state.get()?, None)?;
    state.set("one".into())?;
    expect("a set value", state.get()?, Some("one".into()))?;
    expect("what the key is", backend.current_key()?.as_str(), "a")?;
    switch(&backend, "b")?;
    expect("the value of another key", state.get()?, None)?;
    let length = state.update(
        || "x".into(),
        |s| {
            s.push('y');
            s.len()
        },
    )?;
    expect("what an update returns", length, 2)?;
    expect("an update from the initial value", state.get()?, Some("xy".into()))?;
    state.update(|| "no".into(), |s| s.push('z'))?;
    expect("an update of a value", state.with(|s| s.cloned())?, Some("xyz".into()))?;
    state.clear()?;
    expect("a cleared value", state.get()?, None)?;
    state.update(String::new, |s| s.push('1'))?;
    expect("an update after a clear", state.get()?, Some("1".into()))?;
    switch(&backend, "a")?;
    expect("the first key's value", state.get()?, Some("one".into()))?;
    let other = state.clone();
    let inner = state.update(String::new, |_| other.get().map_err(|e| e.kind()))?;
    expect("a state inside its own update", inner, Err(ErrorKind::Config))
}

pub(super) fn list_state(options: MakeOptions<'_>) -> Result<()> {
    let mut backend = open_all(options)?;
    let mut list = backend.list_state::<u32>("l")?;
    switch(&backend, "a")?;
    expect("an empty list", (list.len()?, list.is_empty()?, list.iter()?.count()), (0, true, 0))?;
    list.push(3)?;
    list.extend([1, 2])?;
    let before = list.iter()?;
    list.push(9)?;
    expect("an iterator made before a push", before.collect::<Vec<_>>(), vec![3, 1, 2])?;
    expect("a list", (list.len()?, list.iter()?.collect::<Vec<_>>()), (4, vec![3, 1, 2, 9]))?;
    switch(&backend, "b")?;
    expect("another key's list", list.len()?, 0)?;
    list.replace([7])?;
    switch(&backend, "a")?;
    expect("the first key's list", list.len()?, 4)?;
    list.replace([])?;
    expect("a list replaced by nothing", list.is_empty()?, true)?;
    switch(&backend, "b")?;
    list.push(8)?;
    expect("a replaced list", list.iter()?.collect::<Vec<_>>(), vec![7, 8])?;
    list.clear()?;
    list.extend([])?;
    expect("a cleared list", list.is_empty()?, true)
}

/// The average of what is added, and how much that was.
pub(super) struct Average;

impl AggregateFunction for Average {
    type Input = u32;
    type Accumulator = (u64, u32);
    type Output = (f64, u32);

    fn create(&self) -> (u64, u32) {
        (0, 0)
    }

    fn add(&self, (sum, count): &mut (u64, u32), value: u32) {
        *sum += u64::from(value);
        *count += 1;
    }

    fn result(&self, (sum, count): &(u64, u32)) -> (f64, u32) {
        (*sum as f64 / f64::from(*count), *count)
    }

    fn merge(&self, (sum, count): &mut (u64, u32), other: (u64, u32)) {
        *sum += other.0;
        *count += other.1;
    }
}

pub(super) fn folding_state(options: MakeOptions<'_>) -> Result<()> {
    let mut backend = open_all(options)?;
    let mut most = backend.reducing_state::<u32>("most", |most, n| *most = n.max(*most))?;
    let mut average = backend.aggregating_state("average", Average)?;
    for (key, n) in [("a", 5), ("b", 1), ("a", 3), ("a", 10), ("b", 2)] {
        switch(&backend, key)?;
        most.add(n)?;
        average.add(n)?;
    }
    expect("a fold", (most.get()?, average.get()?), (Some(2), Some((1.5, 2))))?;
    let other = average.accumulator()?.unwrap_or_default();
    most.clear()?;
    average.clear()?;
    expect("a cleared fold", (most.get()?, average.get()?, average.accumulator()?), (None, None, None))?;
    let file = snapshot(&mut backend)?;
    switch(&backend, "a")?;
    average.merge(other)?;
    expect("a merged accumulator", average.get()?, Some((4.2, 5)))?;
    let mut backend = super::open(options, KeyGroupRange::all(super::GROUPS), &[file])?;
    expect_error("a fold as a value", backend.value_state::<u32>("most"), ErrorKind::Config)?;
    expect_error(
        "an accumulator as a fold",
        backend.reducing_state::<(u64, u32)>("average", |_, _| ()),
        ErrorKind::Config,
    )?;
    let mut most = backend.reducing_state::<u32>("most", |most, n| *most += n)?;
    let average = backend.aggregating_state("average", Average)?;
    switch(&backend, "b")?;
    expect("a restored cleared fold", (most.get()?, average.get()?), (None, None))?;
    switch(&backend, "a")?;
    expect("a restored fold", (most.get()?, average.get()?), (Some(10), Some((6.0, 3))))?;
    most.add(7)?;
    expect("a fold by the function of now", most.get()?, Some(17))?;
    most = backend.reducing_state::<u32>("most", |_, _| ())?;
    most.add(1)?;
    expect("the first function stays", most.get()?, Some(18))
}

pub(super) fn registration(options: MakeOptions<'_>) -> Result<()> {
    let mut backend = open_all(options)?;
    let mut state = backend.value_state::<u64>("s")?;
    switch(&backend, "a")?;
    state.set(1)?;
    expect("a state registered twice", backend.value_state::<u64>("s")?.get()?, Some(1))?;
    let e = expect_error("another type", backend.value_state::<i64>("s"), ErrorKind::Config)?.to_string();
    expect("both types in the message", e.contains("<u64>") && e.contains("<i64>"), true)?;
    expect_error("another kind", backend.list_state::<u64>("s"), ErrorKind::Config)?;
    expect_error("another kind", backend.map_state::<u64, u64>("s"), ErrorKind::Config)?;
    let file = snapshot(&mut backend)?;
    let mut restored = super::open(options, KeyGroupRange::all(super::GROUPS), &[file])?;
    expect_error("another restored type", restored.value_state::<i64>("s"), ErrorKind::Config)?;
    expect_error("another restored kind", restored.timers("s"), ErrorKind::Config)?;
    switch(&restored, "a")?;
    expect("the state after refusals", restored.value_state::<u64>("s")?.get()?, Some(1))
}

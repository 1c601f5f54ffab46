//! Checks of time to live: what expires when, and what becomes of it across restores.

use std::time::Duration;

use super::{GROUPS, MakeOptions, Stored, expect, expect_error, open, open_all, snapshot, switch};
use crate::{
    ErrorKind, KeyGroupRange, KeyedBackend, ListState, MapState, ReducingState, Result, StateOptions,
};
use crate::{InMemoryFiles, SnapshotMode, Ttl, ValueState};

/// 100 ms.
fn ttl() -> Ttl {
    Ttl::new(Duration::from_millis(100))
}

struct States {
    value: ValueState<u32>,
    list: ListState<u32>,
    map: MapState<u32, u32>,
    sum: ReducingState<u32>,
}

fn register(backend: &mut KeyedBackend<String>, ttl: Option<Ttl>) -> Result<States> {
    let options = || ttl.map_or_else(StateOptions::new, |ttl| StateOptions::new().ttl(ttl));
    Ok(States {
        value: backend.value_state_with("value", options())?,
        list: backend.list_state_with("list", options())?,
        map: backend.map_state_with("map", options())?,
        sum: backend.reducing_state_with("sum", |sum, n| *sum += n, options())?,
    })
}

type Content = (Option<u32>, Vec<u32>, Vec<(u32, u32)>, Option<u32>);

impl States {
    fn add(&mut self, n: u32) -> Result<()> {
        self.value.set(n)?;
        self.list.push(n)?;
        self.map.insert(n, n)?;
        self.sum.add(n)
    }

    fn content(&self) -> Result<Content> {
        let list: Vec<u32> = self.list.iter()?.collect();
        expect("the length of a list", self.list.len()?, list.len())?;
        let map: Vec<(u32, u32)> = self.map.iter()?.collect();
        expect("whether a map is empty", self.map.is_empty()?, map.is_empty())?;
        expect("the first of a map", self.map.first()?, map.first().copied())?;
        Ok((self.value.get()?, list, map, self.sum.get()?))
    }
}

/// All of these and nothing else.
fn of(value: Option<u32>, items: &[u32], sum: Option<u32>) -> Content {
    (value, items.to_vec(), items.iter().map(|n| (*n, *n)).collect(), sum)
}

/// Lets the objects of other keys push those of "a" out of a small cache.
fn disturb(backend: &KeyedBackend<String>, states: &mut States) -> Result<()> {
    for n in 0..10 {
        switch(backend, &format!("other{n}"))?;
        states.add(n)?;
    }
    switch(backend, "a")
}

pub(super) fn expiry(options: MakeOptions<'_>) -> Result<()> {
    for event_time in [false, true] {
        let mut backend = open_all(options)?;
        let ttl = if event_time { ttl().event_time() } else { ttl() };
        let advance = |backend: &KeyedBackend<String>, now| {
            // The other clock runs far ahead and must not matter.
            if event_time {
                backend.set_watermark(now);
                backend.set_processing_time(now * 1000);
            } else {
                backend.set_processing_time(now);
                backend.set_watermark(now * 1000);
            }
        };
        let mut states = register(&mut backend, Some(ttl))?;
        advance(&backend, 1000);
        switch(&backend, "a")?;
        states.add(1)?;
        advance(&backend, 1050);
        states.list.push(2)?;
        states.map.insert(2, 2)?;
        disturb(&backend, &mut states)?;
        advance(&backend, 1099);
        expect("what lives to the last", states.content()?, of(Some(1), &[1, 2], Some(1)))?;
        expect("a part of a map", states.map.range(2..)?.count(), 1)?;
        advance(&backend, 1100);
        expect("one by one", states.content()?, of(None, &[2], None))?;
        expect(
            "an entry that has expired",
            (states.map.get(&1)?, states.map.contains_key(&1)?),
            (None, false),
        )?;
        states.map.update(1, || 10, |n| *n += 1)?;
        expect("an update of what has expired", states.map.get(&1)?, Some(11))?;
        states.value.update(|| 20, |n| *n += 1)?;
        states.sum.add(5)?;
        states.list.push(3)?;
        advance(&backend, 1150);
        expect("the last updates", (states.value.get()?, states.sum.get()?), (Some(21), Some(5)))?;
        expect("the last updates", states.list.iter()?.collect::<Vec<_>>(), vec![3])?;
        expect("the last updates", states.map.iter()?.collect::<Vec<_>>(), vec![(1, 11)])?;
        advance(&backend, 1200);
        expect("everything", states.content()?, of(None, &[], None))?;
        expect("a list that expired", (states.list.is_empty()?, states.list.len()?), (true, 0))?;
    }
    Ok(())
}

pub(super) fn kinds_of_expiry(options: MakeOptions<'_>) -> Result<()> {
    // Reads count.
    let mut backend = open_all(options)?;
    let mut states = register(&mut backend, Some(ttl().refresh_on_read()))?;
    backend.set_processing_time(0);
    switch(&backend, "a")?;
    states.add(1)?;
    for now in [60, 120, 180] {
        backend.set_processing_time(now);
        expect("what is read", states.content()?, of(Some(1), &[1], Some(1)))?;
        disturb(&backend, &mut states)?;
    }
    backend.set_processing_time(280);
    expect("what is no longer read", states.content()?, of(None, &[], None))?;

    // What was not removed is still returned; a sweep removes it.
    let mut backend = open_all(options)?;
    let mut states = register(&mut backend, Some(ttl().return_if_not_cleaned()))?;
    backend.set_processing_time(0);
    switch(&backend, "a")?;
    states.add(1)?;
    backend.set_processing_time(500);
    expect("what was not removed", states.content()?, of(Some(1), &[1], Some(1)))?;

    let mut again = StateOptions::<u32>::new();
    expect_error("without", backend.value_state_with("value", again.clone()), ErrorKind::Config)?;
    again = again.ttl(ttl());
    expect_error("another", backend.value_state_with("value", again), ErrorKind::Config)?;
    Ok(())
}

/// A sweep in small steps removes what has expired and nothing else; a snapshot leaves it out.
pub(super) fn cleaning(options: MakeOptions<'_>) -> Result<()> {
    let mut backend = open_all(options)?;
    let mut states = register(&mut backend, Some(ttl().return_if_not_cleaned()))?;
    let add = |backend: &KeyedBackend<String>, states: &mut States, keys: std::ops::Range<u32>| {
        keys.into_iter().try_for_each(|n| {
            switch(backend, &n.to_string())?;
            states.add(n)
        })
    };
    backend.set_processing_time(0);
    add(&backend, &mut states, 0..300)?;
    backend.set_processing_time(90);
    add(&backend, &mut states, 200..500)?;
    backend.set_processing_time(110);
    let files = InMemoryFiles::new();
    let file = files.store(1, backend.freeze(1, SnapshotMode::Canonical)?)?;
    // 0..200 are gone; of the lists of 200..300 the second element is left.
    expect("rows without what has expired", file.rows, 300 * 4)?;
    let mut restored = open(options, KeyGroupRange::all(GROUPS), &[files.source(&file, None)])?;
    let states_again = register(&mut restored, Some(ttl().return_if_not_cleaned()))?;
    for n in [0, 199, 200, 299, 300, 499] {
        switch(&restored, &n.to_string())?;
        let expected = match n {
            0..200 => of(None, &[], None),
            200..300 => of(Some(n), &[n], Some(2 * n)),
            _ => of(Some(n), &[n], Some(n)),
        };
        expect("what a snapshot kept", states_again.content()?, expected)?;
    }
    for _ in 0..5000 {
        backend.sweep(16)?;
    }
    backend.set_processing_time(150);
    for n in 200..500 {
        switch(&backend, &n.to_string())?;
        expect("what a sweep kept", states.value.get()?, Some(n))?;
        expect("what a sweep kept", states.map.get(&n)?, Some(n))?;
    }
    Ok(())
}

/// From this time to live to that one, when nothing was written since.
fn migrate(
    file: &Stored,
    options: MakeOptions<'_>,
    ttl: Option<Ttl>,
) -> Result<(KeyedBackend<String>, States)> {
    let mut backend = open(options, KeyGroupRange::all(GROUPS), std::slice::from_ref(file))?;
    backend.set_watermark(5000);
    let states = register(&mut backend, ttl)?;
    switch(&backend, "a")?;
    Ok((backend, states))
}

pub(super) fn restores(options: MakeOptions<'_>) -> Result<()> {
    let all = || of(Some(1), &[1], Some(1));
    let nothing = || of(None, &[], None);
    let written = |ttl: Option<Ttl>| {
        let mut backend = open_all(options)?;
        let mut states = register(&mut backend, ttl)?;
        backend.set_processing_time(1000);
        switch(&backend, "a")?;
        states.add(1)?;
        backend.set_processing_time(1060);
        snapshot(&mut backend)
    };
    let short = |millis| Ttl::new(Duration::from_millis(millis));

    // The clock goes on where it stood, however long the outage.
    let file = written(Some(ttl()))?;
    let (backend, states) = migrate(&file, options, Some(ttl()))?;
    expect("before the clock is known", states.content()?, all())?;
    backend.set_processing_time(1_000_000);
    expect("after an outage", states.content()?, all())?;
    backend.set_processing_time(1_000_039);
    expect("the rest of the time", states.content()?, all())?;
    backend.set_processing_time(1_000_040);
    expect("after the rest of the time", states.content()?, nothing())?;

    // Unless it is wanted otherwise.
    let (backend, states) = migrate(&file, options, Some(ttl().count_outages()))?;
    backend.set_processing_time(1099);
    expect("an outage that counts", states.content()?, all())?;
    backend.set_processing_time(1100);
    expect("an outage that counts", states.content()?, nothing())?;

    // Another duration counts from the stamps that there are.
    let (backend, states) = migrate(&file, options, Some(short(50)))?;
    expect("a shorter duration", states.content()?, nothing())?;
    drop(backend);
    let (backend, states) = migrate(&file, options, Some(short(1000)))?;
    backend.set_processing_time(0);
    backend.set_processing_time(939);
    expect("a longer duration", states.content()?, all())?;
    backend.set_processing_time(940);
    expect("a longer duration", states.content()?, nothing())?;

    // Without: nothing expires.
    let (mut backend, mut states) = migrate(&file, options, None)?;
    backend.set_processing_time(1_000_000_000);
    expect("no time to live any more", states.content()?, all())?;
    states.list.push(2)?;
    let without = snapshot(&mut backend)?;
    let (_, states) = migrate(&without, options, None)?;
    expect("no stamps any more", states.list.iter()?.collect::<Vec<_>>(), vec![1, 2])?;

    // With: from the restore on.
    let file = written(None)?;
    let (backend, states) = migrate(&file, options, Some(ttl()))?;
    backend.set_processing_time(2000);
    backend.set_processing_time(2099);
    expect("a new time to live", states.content()?, all())?;
    backend.set_processing_time(2100);
    expect("a new time to live", states.content()?, nothing())?;
    let (backend, states) = migrate(&file, options, Some(ttl().event_time()))?;
    backend.set_watermark(5099);
    expect("a new time to live in event time", states.content()?, all())?;
    backend.set_watermark(5100);
    expect("a new time to live in event time", states.content()?, nothing())?;

    // Of another time: anew.
    let file = written(Some(ttl()))?;
    let (mut backend, states) = migrate(&file, options, Some(ttl().event_time()))?;
    backend.set_watermark(5099);
    expect("another time", states.content()?, all())?;
    let file = snapshot(&mut backend)?;
    backend.set_watermark(5100);
    expect("another time", states.content()?, nothing())?;
    // Event time needs no clock to go on.
    let mut backend = open(options, KeyGroupRange::all(GROUPS), &[file])?;
    let states = register(&mut backend, Some(ttl().event_time()))?;
    switch(&backend, "a")?;
    backend.set_watermark(5099);
    expect("restored event time", states.content()?, all())?;
    backend.set_watermark(5100);
    expect("restored event time", states.content()?, nothing())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BackendOptions;
    use crate::conformance::ordered_store;

    /// What is returned until it is removed shows what a sweep removes.
    #[test]
    fn a_sweep_removes_what_has_expired_within_one_round() {
        for options in [BackendOptions::Memory, BackendOptions::Custom(ordered_store(1))] {
            let mut backend = open_all(&|| options.clone()).unwrap();
            let mut states = register(&mut backend, Some(ttl().return_if_not_cleaned())).unwrap();
            backend.set_processing_time(0);
            for n in 0..500 {
                switch(&backend, &n.to_string()).unwrap();
                states.add(n).unwrap();
            }
            backend.set_processing_time(50);
            for n in 0..100 {
                switch(&backend, &n.to_string()).unwrap();
                states.add(n + 1000).unwrap();
            }
            disturb(&backend, &mut states).unwrap();
            backend.set_processing_time(100);
            let left = |backend: &KeyedBackend<String>| {
                let is_left = |n: &u32| {
                    switch(backend, &n.to_string()).unwrap();
                    states.content().unwrap() != of(None, &[], None)
                };
                (0..500).filter(is_left).count()
            };
            assert_eq!(left(&backend), 500, "nothing removes it by itself");
            backend.sweep(20).unwrap();
            assert!(left(&backend) > 400, "one step is a small one");
            for _ in 0..4 * 40 {
                backend.sweep(20).unwrap();
            }
            assert_eq!(left(&backend), 100);
            switch(&backend, "7").unwrap();
            assert_eq!(states.value.get().unwrap(), Some(1007));
        }
    }
}

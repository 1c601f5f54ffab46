//! Checks of timers.

use super::{GROUPS, MakeOptions, expect, open, open_all, snapshot, switch};
use crate::{BorrowedKey, DueTimer, KeyGroupRange, Result};

pub(super) fn timers(options: MakeOptions<'_>) -> Result<()> {
    let mut backend = open_all(options)?;
    let (event, processing) = (backend.timers("event")?, backend.timers("processing")?);
    expect("no timer", (event.next_due(), event.pop_due(i64::MAX)?), (None, None))?;
    for (key, time) in [("b", 10), ("a", 10), ("c", -5), ("a", 30), ("b", 10), ("a", 20), ("c", 11)] {
        switch(&backend, key)?;
        event.register(time)?;
    }
    expect("the other queue", processing.is_empty(), true)?;
    expect("how many timers are set", event.len(), 6)?;
    switch(&backend, "a")?;
    event.delete(20)?;
    event.delete(21)?;
    switch(&backend, "b")?;
    event.delete(30)?;
    expect("the first due", event.next_due(), Some(-5))?;
    let mut popped = Vec::new();
    while let Some(DueTimer { key, hash, time, .. }) = event.pop_due(11)? {
        expect("the hash of a timer", hash, BorrowedKey::hash64(key.as_str()))?;
        popped.push((time, key));
    }
    let expected = [(-5, "c"), (10, "a"), (10, "b"), (11, "c")].map(|(time, key)| (time, key.to_string()));
    expect("what came due", popped, expected.to_vec())?;
    expect("the current key after popping", backend.current_key()?.as_str(), "b")?;
    expect("the next due", event.next_due(), Some(30))?;
    switch(&backend, "c")?;
    event.register(11)?;
    let file = snapshot(&mut backend)?;
    expect(
        "a timer set again",
        event.pop_due(11)?.map(|timer| (timer.key, timer.time)),
        Some(("c".into(), 11)),
    )?;
    let mut restored = open(options, KeyGroupRange::all(GROUPS), &[file])?;
    let event = restored.timers("event")?;
    expect("restored timers", (event.len(), event.next_due()), (2, Some(11)))?;
    let popped =
        [event.pop_due(100)?, event.pop_due(100)?].map(|timer| timer.map(|timer| (timer.key, timer.time)));
    expect("restored timers", popped, [Some(("c".into(), 11)), Some(("a".into(), 30))])
}

/// Timers that are set, fired and deleted without the store being asked, more of one key than the cache holds.
pub(super) fn many(options: MakeOptions<'_>) -> Result<()> {
    let mut backend = open_all(options)?;
    let timers = backend.timers("t")?;
    for key in ["a", "b"] {
        switch(&backend, key)?;
        for time in (0..700).rev() {
            timers.register(time)?;
            timers.register(time)?;
        }
    }
    expect("timers of two keys", timers.len(), 1400)?;
    for time in (0..700).step_by(2) {
        timers.delete(time)?;
    }
    // Fired before it was deleted, deleted before it was set again.
    expect("the earliest", timers.pop_due(0)?.map(|timer| (timer.time, timer.key)), Some((0, "a".into())))?;
    switch(&backend, "a")?;
    timers.delete(0)?;
    switch(&backend, "b")?;
    timers.register(0)?;
    timers.register(2)?;
    timers.delete(2)?;
    let file = snapshot(&mut backend)?;
    timers.register(2)?;
    let mut restored = open(options, KeyGroupRange::all(GROUPS), &[file])?;
    let timers = restored.timers("t")?;
    let mut found = Vec::new();
    while let Some(timer) = timers.pop_due(i64::MAX)? {
        found.push((timer.time, timer.key));
    }
    let expected = (0..700).flat_map(|time| {
        let a = (time > 0).then(|| (time, "a".to_string()));
        let b = (time % 2 == 1 || time == 0).then(|| (time, "b".to_string()));
        a.into_iter().chain(b)
    });
    expect("restored timers", found, expected.collect())
}

//! Checks of freezing, restoring, rescaling and of damaged files.

use super::{
    GROUPS, MakeOptions, body, expect, expect_error, open, open_all, open_subtasks, owner, snapshot,
    snapshots, stored, switch,
};
use crate::{ErrorKind, InMemoryFiles, KeyGroupRange, KeyedBackend, Result, SnapshotMode};

const KEYS: u64 = 600;

fn key(n: u64) -> String {
    format!("key-{n}")
}

/// A value, a list, a map and timers for every key, all derived from its number.
fn fill(backend: &mut KeyedBackend<String>, numbers: impl Iterator<Item = u64>) -> Result<()> {
    let (mut value, mut list) = (backend.value_state::<u64>("value")?, backend.list_state::<String>("list")?);
    let (mut map, timers) = (backend.map_state::<String, u64>("map")?, backend.timers("timers")?);
    for n in numbers {
        switch(backend, &key(n))?;
        value.set(n)?;
        list.extend((0..n % 4).map(|i| i.to_string()))?;
        map.insert(format!("\0{n}"), n)?;
        map.insert("x".into(), n + 1)?;
        timers.register(n as i64 % 100)?;
    }
    Ok(())
}

/// Checks what [`fill`] put in.
fn verify(backends: &mut [KeyedBackend<String>]) -> Result<()> {
    let parallelism = backends.len() as u32;
    let mut found = 0;
    for (number, backend) in backends.iter_mut().enumerate() {
        let (value, list) = (backend.value_state::<u64>("value")?, backend.list_state::<String>("list")?);
        let (map, timers) = (backend.map_state::<String, u64>("map")?, backend.timers("timers")?);
        expect("states left over", backend.unclaimed_states().count(), 0)?;
        let mine: Vec<u64> = (0..KEYS).filter(|n| owner(&key(*n), parallelism) == number).collect();
        for n in &mine {
            switch(backend, &key(*n))?;
            expect("a restored value", value.get()?, Some(*n))?;
            let items: Vec<String> = (0..n % 4).map(|i| i.to_string()).collect();
            expect("a restored list", list.iter()?.collect(), items)?;
            let entries = vec![(format!("\0{n}"), *n), ("x".into(), n + 1)];
            expect("a restored map", map.iter()?.collect(), entries)?;
        }
        let mut due: Vec<(i64, String)> = mine.iter().map(|n| (*n as i64 % 100, key(*n))).collect();
        due.sort();
        let mut popped = Vec::new();
        while let Some(timer) = timers.pop_due(i64::MAX)? {
            popped.push((timer.time, timer.key));
        }
        expect("restored timers", popped, due)?;
        found += mine.len() as u64;
    }
    expect("keys over all subtasks", found, KEYS)
}

pub(super) fn isolation(options: MakeOptions<'_>) -> Result<()> {
    let mut backend = open_all(options)?;
    fill(&mut backend, 0..KEYS)?;
    let frozen = backend.freeze(1, SnapshotMode::Canonical)?;
    let second = backend.freeze(2, SnapshotMode::Canonical)?;
    let (mut value, mut list) = (backend.value_state::<u64>("value")?, backend.list_state::<String>("list")?);
    let (mut map, timers) = (backend.map_state::<String, u64>("map")?, backend.timers("timers")?);
    for n in 0..KEYS + 100 {
        switch(&backend, &key(n))?;
        if n % 2 == 0 {
            value.set(n + 1)?
        } else {
            value.clear()?
        }
        list.push("late".into())?;
        map.insert("late".into(), 0)?;
        map.remove(&"x".to_string())?;
        timers.delete(n as i64 % 100)?;
        timers.register(5000)?;
    }
    drop(second);
    let files = InMemoryFiles::new();
    let snapshot = files.store(1, frozen)?;
    let lists = (0..KEYS).filter(|n| n % 4 != 0).count() as u64;
    expect("rows", snapshot.rows, KEYS * 4 + lists)?;
    verify(&mut [open(options, KeyGroupRange::all(GROUPS), &[files.source(&snapshot, None)])?])?;
    switch(&backend, &key(2))?;
    expect("the live value", value.get()?, Some(3))?;
    expect("the live map", map.keys()?.collect::<Vec<_>>(), vec!["\u{0}2".to_string(), "late".into()])
}

pub(super) fn rescaling(options: MakeOptions<'_>) -> Result<()> {
    let mut one = open_all(options)?;
    fill(&mut one, 0..KEYS)?;
    let mut files = vec![snapshot(&mut one)?];
    for parallelism in [3, 2, 5, 1] {
        let mut backends = open_subtasks(options, parallelism, &files)?;
        // Half of the states are never registered at this parallelism and must come through all the same.
        for backend in &mut backends {
            backend.value_state::<u64>("value")?;
            backend.timers("timers")?;
        }
        files = snapshots(&mut backends)?;
        verify(&mut open_subtasks(options, parallelism, &files)?)?;
    }
    Ok(())
}

pub(super) fn unregistered(options: MakeOptions<'_>) -> Result<()> {
    let mut backend = open_all(options)?;
    fill(&mut backend, 0..KEYS)?;
    let mut file = snapshot(&mut backend)?;
    for _ in 0..2 {
        let mut idle = open(options, KeyGroupRange::all(GROUPS), &[file])?;
        let names: Vec<String> = idle.unclaimed_states().map(String::from).collect();
        expect("unclaimed states", names, ["list", "map", "timers", "value"].map(String::from).to_vec())?;
        file = snapshot(&mut idle)?;
    }
    verify(&mut [open(options, KeyGroupRange::all(GROUPS), &[file])?])
}

pub(super) fn damage(options: MakeOptions<'_>) -> Result<()> {
    let mut backend = open_all(options)?;
    fill(&mut backend, 0..5)?;
    let body = body(&snapshot(&mut backend)?)?;
    let all = KeyGroupRange::all(GROUPS);
    for at in 0..body.len() {
        let mut bad = body.to_vec();
        bad[at] ^= 0x10;
        expect_error(&format!("byte {at} changed"), open(options, all, &[stored(bad)]), ErrorKind::Data)?;
    }
    for length in (0..body.len()).step_by(7) {
        let cut = stored(body.slice(..length));
        expect_error(&format!("cut to {length} bytes"), open(options, all, &[cut]), ErrorKind::Data)?;
    }
    Ok(())
}

pub(super) fn incomplete(options: MakeOptions<'_>) -> Result<()> {
    let mut backends = open_subtasks(options, 4, &[])?;
    let files = snapshots(&mut backends)?;
    let all = KeyGroupRange::all(GROUPS);
    open(options, all, &files)?;
    let e = expect_error("a missing file", open(options, all, &files[..3]), ErrorKind::Data)?;
    expect("the missing group in the message", e.to_string().contains("key group 12"), true)?;
    let twice = [files.clone(), files[..1].to_vec()].concat();
    expect_error("a file handed over twice", open(options, all, &twice), ErrorKind::Data)?;
    open(options, KeyGroupRange { start: 5, end: 7 }, &files[1..2])?;
    let half = KeyGroupRange { start: 0, end: 8 };
    expect_error("files of other key groups", open(options, half, &files[2..]), ErrorKind::Data)?;
    let scope = crate::BackendScope {
        operator: "conformance".into(),
        subtask: 0,
        max_parallelism: GROUPS * 2,
        range: half,
        local_dir: None,
    };
    let other_maximum = KeyedBackend::<String>::open(&options(), scope.clone(), &files);
    expect_error("another maximum parallelism", other_maximum, ErrorKind::Config)?;
    let scope = crate::BackendScope { max_parallelism: GROUPS, ..scope };
    expect_error(
        "another key type",
        KeyedBackend::<u64>::open(&options(), scope, &files),
        ErrorKind::Config,
    )?;
    Ok(())
}

//! Checks of state and timers within namespaces.

use super::handles::Average;
use super::{
    GROUPS, MakeOptions, expect, expect_error, open, open_all, open_subtasks, owner, snapshots, switch,
};
use crate::{BorrowedKey, ErrorKind, KeyGroupRange, KeyedBackend, Result, StateOptions};

type Window = (i64, String);

fn window(start: i64, name: &str) -> Window {
    (start, name.into())
}

const WINDOWS: [i64; 3] = [-10, 0, 10];

/// Something of every kind, derived from the number of the key and the window.
fn fill(backend: &mut KeyedBackend<String>, numbers: impl Iterator<Item = u32>) -> Result<()> {
    let windows = backend.namespaces::<Window>();
    let timers = backend.namespaced_timers::<Window>("timers")?;
    let mut within = backend.within(&windows);
    let mut value = within.value_state::<i64>("value", StateOptions::default())?;
    let mut list = within.list_state::<i64>("list", StateOptions::default())?;
    let mut map = within.map_state::<u32, i64>("map", StateOptions::default())?;
    let mut sum = within.reducing_state::<i64>("sum", |sum, n| *sum += n, StateOptions::default())?;
    let mut average = within.aggregating_state("average", Average, StateOptions::default())?;
    for n in numbers {
        switch(backend, &format!("k{n}"))?;
        for start in WINDOWS {
            windows.set_current(window(start, "w"))?;
            value.set(start + i64::from(n))?;
            list.extend([start, i64::from(n)])?;
            map.insert(n, start)?;
            map.insert(n + 1, start + 1)?;
            sum.add(start)?;
            sum.add(1)?;
            average.add(n)?;
            timers.register_in(window(start, "w"), start + i64::from(n))?;
        }
    }
    Ok(())
}

fn verify(backends: &mut [KeyedBackend<String>], numbers: std::ops::Range<u32>) -> Result<()> {
    let parallelism = backends.len() as u32;
    for (number, backend) in backends.iter_mut().enumerate() {
        let windows = backend.namespaces::<Window>();
        let timers = backend.namespaced_timers::<Window>("timers")?;
        let mut within = backend.within(&windows);
        let value = within.value_state::<i64>("value", StateOptions::default())?;
        let list = within.list_state::<i64>("list", StateOptions::default())?;
        let map = within.map_state::<u32, i64>("map", StateOptions::default())?;
        let sum = within.reducing_state::<i64>("sum", |sum, n| *sum += n, StateOptions::default())?;
        let average = within.aggregating_state("average", Average, StateOptions::default())?;
        let mut expected_timers = Vec::new();
        for n in numbers.clone().filter(|n| owner(&format!("k{n}"), parallelism) == number) {
            let key = format!("k{n}");
            switch(backend, &key)?;
            for start in WINDOWS {
                windows.set_current(window(start, "w"))?;
                let long = i64::from(n);
                expect("a value", value.get()?, Some(start + long))?;
                expect("a list", list.iter()?.collect(), vec![start, long])?;
                expect("a map", map.iter()?.collect(), vec![(n, start), (n + 1, start + 1)])?;
                expect("a sum", sum.get()?, Some(start + 1))?;
                expect("an average", average.get()?, Some((f64::from(n), 1)))?;
                expected_timers.push((start + long, key.clone(), window(start, "w")));
            }
            windows.set_current(window(0, "v"))?;
            expect("another window", (value.get()?, map.is_empty()?, list.len()?), (None, true, 0))?;
        }
        expected_timers.sort();
        let mut popped = Vec::new();
        while let Some(timer) = timers.pop_due(i64::MAX)? {
            expect("the hash of a timer's key", timer.hash, BorrowedKey::hash64(timer.key.as_str()))?;
            popped.push((timer.time, timer.key, timer.namespace));
        }
        expect("timers of windows", popped, expected_timers)?;
    }
    Ok(())
}

pub(super) fn namespaces(options: MakeOptions<'_>) -> Result<()> {
    let mut backend = open_all(options)?;
    let windows = backend.namespaces::<Window>();
    let mut value = backend.within(&windows).value_state::<i64>("value", StateOptions::default())?;
    expect_error("a namespace without a key", windows.set_current(window(0, "w")), ErrorKind::Config)?;
    switch(&backend, "a")?;
    let e = expect_error("no namespace", value.get(), ErrorKind::Config)?.to_string();
    expect("what is missing", e.contains("namespace"), true)?;
    windows.set_current(window(0, "w"))?;
    value.set(1)?;
    switch(&backend, "b")?;
    expect_error("the namespace of the key before", value.get(), ErrorKind::Config)?;
    windows.set_current(window(0, "w"))?;
    expect("the window of another key", value.get()?, None)?;
    switch(&backend, "a")?;
    windows.set_current(window(1, "w"))?;
    expect("another window", value.get()?, None)?;
    value.set(2)?;
    let again = backend.namespaces::<Window>();
    again.set_current(window(0, "w"))?;
    expect("the same namespaces", value.get()?, Some(1))?;
    value.clear()?;
    expect("a cleared window", value.get()?, None)?;
    windows.set_current(window(1, "w"))?;
    expect("the window beside a cleared one", value.get()?, Some(2))?;
    value.clear()?;

    expect_error(
        "a namespaced state as a plain one",
        backend.value_state::<i64>("value"),
        ErrorKind::Config,
    )?;
    let others = backend.namespaces::<u64>();
    let other = backend.within(&others).value_state::<i64>("value", StateOptions::default());
    let e = expect_error("other namespaces", other, ErrorKind::Config)?.to_string();
    expect("both in the message", e.contains("(i64, String)") && e.contains("namespaces u64"), true)?;
    let foreign = open_all(options)?.namespaces::<Window>();
    let foreign = backend.within(&foreign).value_state::<i64>("foreign", StateOptions::default());
    expect_error("namespaces of another backend", foreign, ErrorKind::Config)?;

    fill(&mut backend, 0..300)?;
    let files = snapshots(&mut [backend])?;
    for parallelism in [3, 1] {
        let mut backends = open_subtasks(options, parallelism, &files)?;
        verify(&mut backends, 0..300)?;
    }
    let mut backend = open(options, KeyGroupRange::all(GROUPS), &files)?;
    expect_error("restored as a plain state", backend.list_state::<i64>("list"), ErrorKind::Config)?;
    expect_error("restored as plain timers", backend.timers("timers"), ErrorKind::Config)?;
    verify(&mut [backend], 0..300)
}

//! Checks of visits of all keys.

use super::{GROUPS, MakeOptions, expect, expect_error, open, open_all, snapshot, switch};
use crate::{BorrowedKey, Error, ErrorKind, KeyGroupRange, Result, key_group_of};

pub(super) fn all_keys(options: MakeOptions<'_>) -> Result<()> {
    let mut backend = open_all(options)?;
    let mut value = backend.value_state::<u64>("v")?;
    let mut list = backend.list_state::<u64>("l")?;
    let mut map = backend.map_state::<u64, u64>("m")?;
    for (n, key) in (0u64..).zip(["a", "ab", "b", "c", "d", "e"]) {
        switch(&backend, key)?;
        value.set(n)?;
        map.insert(n, n)?;
        map.insert(n + 1, n)?;
        if n % 2 == 0 {
            list.push(n)?;
        }
    }
    let file = snapshot(&mut backend)?;
    switch(&backend, "c")?;
    value.clear()?;
    map.remove(&3)?;
    map.remove(&4)?;
    switch(&backend, "f")?;
    value.set(5)?;
    let mut seen = Vec::new();
    let mut inside = value.clone();
    backend.for_each_key(&value, |key| {
        expect("the current key of a visit", &*backend.current_key()?, key)?;
        inside.update(|| 0, |n| *n += 10)?;
        list.push(99)?;
        seen.push(key.clone());
        Ok(())
    })?;
    expect("the current key behind a visit", backend.current_key()?.as_str(), "f")?;
    let group = |key: &String| key_group_of(BorrowedKey::hash64(key.as_str()), GROUPS);
    let ordered = seen.is_sorted_by(|a, b| (group(a), a) < (group(b), b));
    seen.sort();
    expect("the keys of a value state, in order", (ordered, seen.join(" ")), (true, "a ab b d e f".into()))?;
    expect("a value changed by a visit", value.get()?, Some(15))?;
    let keys_of = |visit: &dyn Fn(&mut Vec<String>) -> Result<()>| {
        let mut keys = Vec::new();
        visit(&mut keys)?;
        keys.sort();
        Ok::<_, Error>(keys.join(" "))
    };
    let of_map = keys_of(&|keys| {
        backend.for_each_key(&map, |key| {
            keys.push(key.clone());
            Ok(())
        })
    })?;
    expect("the keys of a map state", of_map, "a ab b d e".into())?;
    let of_list = keys_of(&|keys| {
        backend.for_each_key(&list, |key| {
            keys.push(key.clone());
            Ok(())
        })
    })?;
    expect("the keys of a list state", of_list, "a ab b d e f".into())?;
    let stopped = backend.for_each_key(&value, |_| Err(Error::data("enough")));
    expect_error("a visit that fails", stopped, ErrorKind::Data)?;
    expect("the current key behind a failed visit", backend.current_key()?.as_str(), "f")?;
    backend.clear_current_key()?;
    expect_error("a state when no key is current any more", value.get(), ErrorKind::Config)?;
    let mut restored = open(options, KeyGroupRange::all(GROUPS), &[file])?;
    expect_error("another backend's handle", restored.for_each_key(&value, |_| Ok(())), ErrorKind::Config)?;
    let value = restored.value_state::<u64>("v")?;
    let mut sum = 0;
    restored.for_each_key(&value, |_| {
        sum += value.get()?.unwrap_or(100);
        Ok(())
    })?;
    expect("the values of restored keys", sum, 15)?;
    expect_error("the current key where there was none", restored.current_key(), ErrorKind::Config).map(drop)
}

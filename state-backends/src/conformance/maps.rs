//! Checks of map state.

use std::ops::{Bound, ControlFlow};

use super::{MakeOptions, expect, open_all, snapshot, switch};
use crate::Result;

pub(super) fn map_state(options: MakeOptions<'_>) -> Result<()> {
    let mut backend = open_all(options)?;
    let mut map = backend.map_state::<i32, String>("m")?;
    switch(&backend, "a")?;
    expect("an empty map", (map.is_empty()?, map.get(&1)?, map.iter()?.count()), (true, None, 0))?;
    for n in [5, -3, 0, 2] {
        map.insert(n, n.to_string())?;
    }
    expect("the order of a map", map.keys()?.collect::<Vec<_>>(), vec![-3, 0, 2, 5])?;
    switch(&backend, "ab")?;
    map.insert(1, "other".into())?;
    // A key whose form starts like another's must not see its entries.
    switch(&backend, "a")?;
    expect("a map", map.values()?.collect::<Vec<_>>(), ["-3", "0", "2", "5"].map(String::from).to_vec())?;
    map.remove(&0)?;
    map.remove(&77)?;
    map.insert(2, "two".into())?;
    map.update(5, String::new, |s| s.push('!'))?;
    map.update(6, || "six".into(), |s| s.push('?'))?;
    let expected = [(-3, "-3"), (2, "two"), (5, "5!"), (6, "six?")].map(|(k, v)| (k, v.to_string()));
    expect("a changed map", map.iter()?.collect::<Vec<_>>(), expected.to_vec())?;
    expect("contains", (map.contains_key(&2)?, map.contains_key(&0)?), (true, false))?;
    expect("get", (map.get(&2)?, map.get(&0)?), (Some("two".into()), None))?;
    for n in [-3, 2, 5, 6] {
        expect("emptiness on the way", map.is_empty()?, false)?;
        map.remove(&n)?;
    }
    expect("a map emptied by removal", (map.is_empty()?, map.iter()?.count()), (true, 0))?;
    map.insert(1, "1".into())?;
    map.clear()?;
    expect("a cleared map", (map.is_empty()?, map.get(&1)?), (true, None))?;
    switch(&backend, "ab")?;
    expect("the other key's map", map.iter()?.collect::<Vec<_>>(), vec![(1, "other".into())])
}

pub(super) fn large_map(options: MakeOptions<'_>) -> Result<()> {
    let mut backend = open_all(options)?;
    let mut map = backend.map_state::<u32, u32>("m")?;
    for key in ["a", "b"] {
        switch(&backend, key)?;
        for n in (0..500).rev() {
            map.insert(n, n)?;
        }
    }
    snapshot(&mut backend)?;
    for n in (0..500).step_by(3) {
        map.remove(&n)?;
        map.update(n + 1, || 0, |v| *v += 1000)?;
    }
    let expected = (0..500).filter(|n| n % 3 != 0).map(|n| (n, if n % 3 == 1 { n + 1000 } else { n }));
    let expected: Vec<_> = expected.collect();
    expect("a large map", map.iter()?.collect::<Vec<_>>(), expected)?;
    switch(&backend, "a")?;
    expect("the other large map", map.iter()?.count(), 500)?;
    map.clear()?;
    expect("a cleared large map", (map.is_empty()?, map.get(&7)?, map.iter()?.count()), (true, None, 0))?;
    map.insert(7, 7)?;
    expect("an entry after a clear", map.iter()?.collect::<Vec<_>>(), vec![(7, 7)])
}

/// Ranges over what is in the cache only, in the store only, in both, and removed in the cache.
pub(super) fn ranges(options: MakeOptions<'_>) -> Result<()> {
    let mut backend = open_all(options)?;
    let mut map = backend.map_state::<u32, u32>("m")?;
    let mut other = backend.map_state::<u32, u32>("other")?;
    for key in ["a", "ab", "b"] {
        switch(&backend, key)?;
        for n in (0..1000).step_by(2) {
            map.insert(n, n)?;
        }
    }
    // What lay in the cache goes to the store, if there is one and the cache is small.
    switch(&backend, "c")?;
    for n in 0..1000 {
        other.insert(n, n)?;
        map.insert(n, n)?;
    }
    switch(&backend, "ab")?;
    for n in (0..1000).step_by(6) {
        map.remove(&n)?;
        map.insert(n + 1, 7)?;
    }
    let content = |n: &u32| match n % 6 {
        1 => Some((*n, 7)),
        2 | 4 => Some((*n, *n)),
        _ => None,
    };
    let between =
        |start: u32, end: u32| (start..end.min(1000)).filter_map(|n| content(&n)).collect::<Vec<_>>();
    for (start, end) in [(0, 1001), (0, 0), (500, 517), (501, 517), (6, 7), (995, 1005), (2000, 3000)] {
        expect("a range", map.range(start..end)?.collect(), between(start, end))?;
        expect("a closed range", map.range(start..=end)?.collect(), between(start, end + 1))?;
        let open = (Bound::Excluded(start), Bound::Excluded(end));
        expect("an open range", map.range(open)?.collect(), between(start + 1, end))?;
        expect("a range to", map.range(..end)?.collect(), between(0, end))?;
        expect("a range from", map.range(start..)?.collect(), between(start, 1001))?;
        let mut visited = Vec::new();
        map.for_each(start..end, |k, v| {
            visited.push((k, v));
            Ok(ControlFlow::Continue(()))
        })?;
        expect("a visit", visited, between(start, end))?;
    }
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is checked")]
    let backwards = map.range(9..3)?.count();
    expect("a range that ends before it starts", backwards, 0)?;
    expect("the first entry", map.first()?, Some((1, 7)))?;
    let mut changed = map.clone();
    let mut visited = 0;
    map.for_each(.., |k, _| {
        visited += 1;
        changed.remove(&k)?;
        Ok(if k < 500 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    expect("a visit that stops", visited, between(0, 500).len() + 1)?;
    expect("what a visit left", map.iter()?.collect(), between(501, 1001))?;
    snapshot(&mut backend)?;
    expect("what is left after a freeze", map.first()?, Some((502, 502)))?;
    switch(&backend, "b")?;
    expect("another key's first", map.first()?, Some((0, 0)))?;
    map.clear()?;
    expect("the first of nothing", (map.first()?, map.range(1..)?.count()), (None, 0))?;
    prefixes(options)
}

fn prefixes(options: MakeOptions<'_>) -> Result<()> {
    let mut backend = open_all(options)?;
    let mut words = backend.map_state::<String, usize>("words")?;
    let mut bytes = backend.map_state::<Vec<u8>, ()>("bytes")?;
    let mut pairs = backend.map_state::<(u8, String), ()>("pairs")?;
    let mut triples = backend.map_state::<(i8, i8, i8), ()>("triples")?;
    switch(&backend, "k")?;
    let all = ["", "a", "a\0", "a\0b", "ab", "abc", "abd", "b", "\u{10ffff}"];
    for word in all.iter().rev() {
        words.insert(word.to_string(), word.len())?;
        bytes.insert(word.as_bytes().to_vec(), ())?;
        for n in [0, 1, 255] {
            pairs.insert((n, word.to_string()), ())?;
        }
    }
    for prefix in ["", "a", "a\0", "ab", "abd", "abdx", "b", "c", "\u{10ffff}"] {
        let expected: Vec<&str> = all.into_iter().filter(|word| word.starts_with(prefix)).collect();
        expect(
            "words with a prefix",
            words.prefix(prefix)?.map(|(word, _)| word).collect::<Vec<_>>(),
            expected.iter().map(ToString::to_string).collect(),
        )?;
        let expected = expected.into_iter().map(|word| word.as_bytes().to_vec()).collect();
        expect(
            "bytes with a prefix",
            bytes.prefix(prefix.as_bytes())?.map(|(word, ())| word).collect::<Vec<_>>(),
            expected,
        )?;
    }
    for n in [0, 1, 2, 255] {
        let found = pairs.prefix(&(n,))?.map(|((_, word), ())| word).collect::<Vec<_>>();
        let expected = if n == 2 { vec![] } else { all.map(String::from).to_vec() };
        expect("pairs with a first field", found, expected)?;
    }
    for a in -3..3 {
        for b in -3..3 {
            triples.insert((a, b, i8::MAX), ())?;
            triples.insert((a, b, i8::MIN), ())?;
        }
    }
    expect("triples with a first field", triples.prefix(&(-1,))?.count(), 12)?;
    let found = triples.prefix(&(-1, 2))?.map(|(triple, ())| triple).collect::<Vec<_>>();
    expect("triples with two fields", found, vec![(-1, 2, i8::MIN), (-1, 2, i8::MAX)])
}

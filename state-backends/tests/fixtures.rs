//! Snapshot files that were written once stay readable: by the types that wrote them, and by later ones.
//!
//! The files are committed. After a change of the format, and not after any other, they are written anew by
//! `cargo run -p tidegate-state --example write_fixtures`.

#![allow(clippy::unwrap_used, reason = "a test outside of #[test] functions")]

mod fixture;

use fixture::{FILES, KEYS, Order, at, open, order};
use serde::{Deserialize, Serialize};
use tidegate_state::{InMemoryFiles, KeyedBackend, State, StateOptions};

fn restored(file: &str) -> KeyedBackend<u64> {
    let path = format!("{}/tests/fixtures/{file}", env!("CARGO_MANIFEST_DIR"));
    let files = InMemoryFiles::new();
    let snapshot = files.insert(std::fs::read(path).unwrap());
    open(&[files.source(&snapshot, None)]).unwrap()
}

/// Every value of the file, read as `T`, is what `expected` makes of what was written.
fn check<T: State + PartialEq + std::fmt::Debug>(expected: fn(Order) -> T) {
    for (codec, file) in FILES {
        let mut backend = restored(file);
        let options = StateOptions::<T>::new().codec(codec);
        let value = backend.value_state_with("value", options.clone()).unwrap();
        let list = backend.list_state_with("list", options.clone()).unwrap();
        let map = backend.map_state_with::<String, T>("map", options).unwrap();
        let timers = backend.timers("timer").unwrap();
        for key in 0..KEYS {
            at(&backend, key).unwrap();
            let (own, next) = (expected(order(key)), expected(order(key + 1)));
            assert_eq!(value.get().unwrap().as_ref(), Some(&own), "{file}");
            assert_eq!(list.iter().unwrap().collect::<Vec<_>>(), [own.clone(), next.clone()], "{file}");
            let entries: Vec<_> = map.iter().unwrap().collect();
            assert_eq!(entries, [("a".to_owned(), own), ("b".to_owned(), next)], "{file}");
        }
        for time in 0..KEYS as i64 {
            let due = timers.pop_due(i64::MAX).unwrap().unwrap();
            assert_eq!((due.key as i64, due.time), (time, time));
        }
    }
}

#[test]
fn the_types_that_wrote_them_read_them() {
    check::<Order>(|order| order);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Later {
    customer: String,
    id: u64,
    paid: Option<f64>,
    #[serde(default)]
    added: Vec<u8>,
}

#[test]
fn later_types_read_them() {
    check::<Later>(|old| Later {
        customer: old.customer,
        id: old.id.into(),
        paid: old.paid.map(f64::from),
        added: vec![],
    });
}

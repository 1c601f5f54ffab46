//! Writes the snapshot files that `tests/fixtures.rs` reads, after a change of the format.

#[path = "../tests/fixture/mod.rs"]
mod fixture;

use fixture::{FILES, KEYS, at, open, order};
use tidegate_state::{Codec, Error, InMemoryFiles, Result, SnapshotMode, StateOptions};

fn main() -> Result<()> {
    for (codec, file) in FILES {
        let path = format!("{}/tests/fixtures/{file}", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(path, write(codec)?)?;
    }
    Ok(())
}

/// A snapshot body with the values of this codec.
fn write(codec: Codec) -> Result<Vec<u8>> {
    let mut backend = open(&[])?;
    let options = StateOptions::new().codec(codec);
    let mut value = backend.value_state_with("value", options.clone())?;
    let mut list = backend.list_state_with("list", options.clone())?;
    let mut map = backend.map_state_with::<String, _>("map", options)?;
    let timers = backend.timers("timer")?;
    for key in 0..KEYS {
        at(&backend, key)?;
        value.set(order(key))?;
        list.extend([order(key), order(key + 1)])?;
        map.insert("a".into(), order(key))?;
        map.insert("b".into(), order(key + 1))?;
        timers.register(key as i64)?;
    }
    let files = InMemoryFiles::new();
    let snapshot = files.store(1, backend.freeze(1, SnapshotMode::Canonical)?)?;
    let body = snapshot.files.first().and_then(|file| files.bytes(file));
    Ok(body.ok_or_else(|| Error::bug("nothing was stored"))?.to_vec())
}

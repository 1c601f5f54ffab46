//! Writes the snapshot files that `tests/fixtures.rs` reads, after a change of the format.

#[path = "../tests/fixture/mod.rs"]
mod fixture;

fn main() -> tidegate_state::Result<()> {
    for (codec, file) in fixture::FILES {
        let path = format!("{}/tests/fixtures/{file}", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(path, fixture::write(codec)?)?;
    }
    Ok(())
}

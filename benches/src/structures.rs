//! Structures that the memory backend could be made of: what an update costs, how long a freeze holds the task up, what
//! updates cost while the image of the freeze is alive, and the memory of an entry.

use crate::keys::key_of;
use crate::measure::peak_rss_mb;
use crate::state_ops::open;
use hashbrown::HashMap;
use std::error::Error;
use std::hint::black_box;
use std::process::Command;
use std::time::Instant;
use tidegate::error::Result;
use tidegate_state::{BackendOptions, FrozenState, Key, KeyedBackend, SnapshotMode, ValueState};

const KEYS: u64 = 4_000_000;
const OPERATIONS: u64 = 4_000_000;

/// A map from numbers to counts that can be frozen.
trait Structure {
    type Image;

    fn new() -> Result<Self>
    where
        Self: Sized;
    fn add(&mut self, key: u64);
    fn freeze(&mut self) -> Self::Image;
}

/// The backend as it is: pages that an image shares until they are written to.
struct Paged(KeyedBackend<u64>, ValueState<u64>);

impl Structure for Paged {
    type Image = Option<FrozenState>;

    fn new() -> Result<Self> {
        let mut backend = open(&BackendOptions::Memory, None)?;
        let value = backend.value_state("value")?;
        Ok(Self(backend, value))
    }

    fn add(&mut self, key: u64) {
        _ = self.0.set_current_key(key, key.hash64());
        _ = self.1.update(|| 0, |count| *count += 1);
    }

    fn freeze(&mut self) -> Self::Image {
        self.0.freeze(1, SnapshotMode::Canonical).ok()
    }
}

/// A hash table per key group that a freeze copies.
struct Copied(Vec<HashMap<u64, u64>>);

impl Structure for Copied {
    type Image = Vec<HashMap<u64, u64>>;

    fn new() -> Result<Self> {
        Ok(Self(vec![HashMap::new(); 128]))
    }

    fn add(&mut self, key: u64) {
        let group = (key.hash64() >> 32) as usize % self.0.len();
        *self.0[group].entry(key).or_insert(0) += 1;
    }

    fn freeze(&mut self) -> Self::Image {
        self.0.clone()
    }
}

/// A persistent hash trie per key group: a freeze shares the root, and every write behind it copies a path.
struct Trie(Vec<imbl::HashMap<u64, u64>>);

impl Structure for Trie {
    type Image = Vec<imbl::HashMap<u64, u64>>;

    fn new() -> Result<Self> {
        Ok(Self(vec![imbl::HashMap::new(); 128]))
    }

    fn add(&mut self, key: u64) {
        let group = (key.hash64() >> 32) as usize % self.0.len();
        *self.0[group].entry(key).or_insert(0) += 1;
    }

    fn freeze(&mut self) -> Self::Image {
        self.0.clone()
    }
}

fn measure<S: Structure>(name: &str) -> Result<()> {
    let before = peak_rss_mb();
    let mut table = S::new()?;
    (0..KEYS).for_each(|key| table.add(key));
    let bytes = (peak_rss_mb() - before) * 1_000_000 / KEYS;
    let mut rounds = 0;
    let mut update = |table: &mut S| {
        rounds += 1;
        let began = Instant::now();
        (0..OPERATIONS).for_each(|n| table.add(key_of(KEYS + rounds * OPERATIONS + n, KEYS)));
        began.elapsed().as_secs_f64() * 1e9 / OPERATIONS as f64
    };
    let plain = update(&mut table).min(update(&mut table));
    let began = Instant::now();
    let image = table.freeze();
    let freeze_ms = began.elapsed().as_secs_f64() * 1e3;
    let shared = update(&mut table);
    black_box(&image);
    drop(image);
    println!("| {name} | {plain:.0} | {freeze_ms:.2} | {shared:.0} | {bytes} |");
    Ok(())
}

/// Measures each in a process of its own and prints a table.
pub(crate) fn run(words: &[String]) -> std::result::Result<(), Box<dyn Error>> {
    match words.first().map(String::as_str) {
        Some("paged") => measure::<Paged>("pages, shared until written (the memory backend)")?,
        Some("copied") => measure::<Copied>("hash tables, copied by a freeze")?,
        Some("trie") => measure::<Trie>("persistent hash tries")?,
        _ => {
            println!("{KEYS} counts by number, updated at random");
            println!(
                "| structure | update, ns | freeze, ms | update while the image lives, ns | bytes per entry |"
            );
            println!("|---|---|---|---|---|");
            for who in ["paged", "copied", "trie"] {
                Command::new(std::env::current_exe()?).args(["structures", who]).status()?;
            }
        }
    }
    Ok(())
}

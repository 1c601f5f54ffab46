//! Bytes that nobody vouches for: seeds of real files, changed in every way that is known to hurt. Nothing panics, and
//! nothing takes memory because of what the bytes announce. `make fuzz` begins with the same seeds.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use object_store::local::LocalFileSystem;
use peak_alloc::PeakAlloc;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidegate::Environment;
use tidegate::cluster::jobmaster::{JobNotice, JobResult};
use tidegate::error::Result;
use tidegate::testing::hostile;
use tidegate::testing::simulation::{SeededRng, Simulation};
use tidegate_recovery_tests::connected;
use tidegate_recovery_tests::workload::Workload;
use tidegate_state::envelope::{BLOCK_BYTES, Compression, open};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// What a reader may take whatever it is given: the structures it works with, zstd's among them.
const FIXED_BYTES: usize = 256 << 10;

/// Changes of each seed.
const CHANGES: u64 = 15_000;

type Reader = fn(&[u8]) -> Result<()>;

/// serde makes room for so much at most on the word of a length, before it has seen an element.
const SERDE_BYTES: usize = 1 << 20;

/// A body is read in steps of so much.
const FRAME_BYTES: usize = 1 << 20;

/// Name, reader, and what it may take besides. A compressed block is given the room that it announces, a block at most;
/// operator state has lists in lists.
const READERS: [(&str, Reader, usize); 6] = [
    ("manifest", hostile::manifest, FIXED_BYTES),
    ("state_file", hostile::state_file, FIXED_BYTES + BLOCK_BYTES),
    ("keyed_snapshot", hostile::keyed_snapshot, FIXED_BYTES),
    ("operator_state", hostile::operator_state, FIXED_BYTES + 2 * SERDE_BYTES),
    ("in_flight", hostile::in_flight, FIXED_BYTES + 2 * SERDE_BYTES),
    ("data_frame", hostile::data_frames, FIXED_BYTES + FRAME_BYTES),
];

fn seeds_of(reader: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(reader)
}

/// Runs a job and puts the files of a savepoint with the seeds.
fn write_seeds(name: &str, compression: Compression, declare: impl Fn(&Workload, &Environment, &Path)) {
    let directory = tempfile::tempdir().unwrap();
    let workload = Workload::new(5, 4_000, 12, 20_000);
    let mut env = Environment::new();
    let config = env.config_mut();
    config.checkpoint_dir = Some(directory.path().join("checkpoints").to_string_lossy().into_owned());
    config.checkpoint.interval_ms = Some(20);
    config.checkpoint.compression = compression;
    config.parallelism = 1;
    declare(&workload, &env, &directory.path().join("out"));
    let job = env.start("seeds").unwrap();
    let completed = job.notices().filter(|n| matches!(n, JobNotice::CheckpointCompleted(_))).nth(5);
    assert!(completed.is_some());
    // Of one file per subtask, with everything in it.
    let savepoint = job.controller().stop(None, false).unwrap();
    assert_eq!(job.wait().unwrap(), JobResult::Finished);
    let place = PathBuf::from(savepoint.location.trim_start_matches("file://"));
    let put = |reader: &str, number: usize, bytes: &[u8]| {
        fs::create_dir_all(seeds_of(reader)).unwrap();
        fs::write(seeds_of(reader).join(format!("{name}-{number}")), bytes).unwrap();
    };
    let manifest = fs::read(place.join("manifest.json")).unwrap();
    let body = manifest.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    put("manifest", 0, &manifest[body..]);
    let directory =
        fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir());
    let mut files: Vec<_> =
        fs::read_dir(directory.unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for (number, path) in files.iter().enumerate() {
        let file = fs::read(path).unwrap();
        let identity = usize::from(file[8]) + (usize::from(file[9]) << 8);
        let identity = String::from_utf8(file[10..10 + identity].to_vec()).unwrap();
        put("state_file", number, &file);
        let is_keyed = path.extension().unwrap() == "keyed";
        let reader = if is_keyed { "keyed_snapshot" } else { "operator_state" };
        put(reader, number, &open(&file, file[6], &identity).unwrap());
    }
}

/// Runs a simulated job under backpressure and puts files of records in flight with the seeds.
fn write_in_flight_seeds(name: &str, declare: impl Fn(&Workload, &Environment, &Path)) {
    let directory = tempfile::tempdir().unwrap();
    let workload = Workload::new(5, 1_000, 12, 300);
    let mut env = Environment::new();
    let config = env.config_mut();
    config.checkpoint.interval_ms = Some(20);
    config.checkpoint.unaligned = true;
    config.checkpoint.retained = 8;
    config.parallelism = 2;
    declare(&workload, &env, &directory.path().join("out"));
    let store = directory.path().join("store");
    fs::create_dir(&store).unwrap();
    let mut simulation = Simulation::new(5);
    simulation.faults.slow_step_us = Some(20_000);
    simulation.channel_bytes = Some(500);
    // It is cut short: a job that ends has a checkpoint without records in flight.
    simulation.max_virtual_ms = 400;
    simulation.store = Some(Arc::new(LocalFileSystem::new_with_prefix(&store).unwrap()));
    simulation.run(env, "seeds").unwrap();
    let mut files: Vec<PathBuf> = Vec::new();
    let mut left = vec![store];
    while let Some(directory) = left.pop() {
        for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|kind| kind == "in-flight") {
                files.push(path);
            }
        }
    }
    files.sort();
    fs::create_dir_all(seeds_of("in_flight")).unwrap();
    assert!(files.len() > 3, "{files:?}");
    for (number, path) in files.iter().take(4).enumerate() {
        let file = fs::read(path).unwrap();
        let identity = usize::from(file[8]) + (usize::from(file[9]) << 8);
        let identity = String::from_utf8(file[10..10 + identity].to_vec()).unwrap();
        let body = open(&file, file[6], &identity).unwrap();
        fs::write(seeds_of("in_flight").join(format!("{name}-{number}")), body).unwrap();
    }
}

/// Puts what goes through a connection with the seeds, in one seed per direction.
fn write_data_frame_seeds() {
    fs::create_dir_all(seeds_of("data_frame")).unwrap();
    for (number, bytes) in hostile::examples_of_data_frames().unwrap().iter().enumerate() {
        fs::write(seeds_of("data_frame").join(format!("connection-{number}")), bytes).unwrap();
    }
}

/// Numbers that lengths and counts are set to.
const NUMBERS: [u64; 10] =
    [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, u64::MAX / 2, u64::MAX];

fn changed(seed: &[u8], other: &[u8], rng: &mut SeededRng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..rng.between(1, 4) {
        let length = bytes.len().max(1) as u64;
        // Most formats have their lengths at the beginning or at the end.
        let at = match rng.between(0, 4) {
            0 => rng.between(0, length.min(64)),
            1 => length - 1 - rng.between(0, length.min(64)),
            _ => rng.between(0, length),
        } as usize;
        match rng.between(0, 6) {
            0 => bytes.truncate(at),
            1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.between(0, 8)),
            2 => {
                let number = rng.pick(&NUMBERS).unwrap().to_le_bytes();
                let width = *rng.pick(&[1, 2, 4, 8]).unwrap();
                bytes.iter_mut().skip(at).zip(&number[..width]).for_each(|(byte, new)| *byte = *new);
            }
            3 => {
                // Lengths of variable size, in codec 1: a marker and the number.
                let number = rng.pick(&NUMBERS).unwrap().to_le_bytes();
                let at = at.min(bytes.len());
                bytes.splice(at..(at + 1).min(bytes.len()), [253].into_iter().chain(number));
            }
            4 => {
                let from = rng.between(0, other.len().max(1) as u64) as usize;
                let part: Vec<u8> =
                    other.iter().skip(from).take(rng.between(1, 200) as usize).copied().collect();
                let at = at.min(bytes.len());
                bytes.splice(at..(at + part.len() / 2).min(bytes.len()), part);
            }
            _ => drop(bytes.drain(at.min(bytes.len())..(at + 9).min(bytes.len()))),
        }
    }
    bytes
}

fn check((name, read, fixed): (&str, Reader, usize), bytes: &[u8]) -> bool {
    ALLOCATED.reset_peak_usage();
    let before = ALLOCATED.current_usage();
    let is_read = read(bytes).is_ok();
    let taken = ALLOCATED.peak_usage().saturating_sub(before);
    if taken > 2 * bytes.len() + fixed {
        let path = std::env::temp_dir().join("tidegate-hostile-bytes");
        fs::write(&path, bytes).unwrap();
        panic!("{name}: {taken} bytes of memory for {} bytes, which are in {}", bytes.len(), path.display());
    }
    is_read
}

/// One test, since the allocator counts what the process takes.
#[test]
fn whatever_a_file_says_nothing_panics_and_nothing_takes_more_memory_than_it_is_worth() {
    if std::env::var_os("TIDEGATE_WRITE_SEEDS").is_some() {
        write_seeds("union", Compression::None, Workload::declare);
        write_seeds("connected", Compression::Zstd, connected::declare);
        write_in_flight_seeds("union", Workload::declare);
        write_in_flight_seeds("connected", connected::declare);
        write_data_frame_seeds();
    }
    for reader in READERS {
        let (name, ..) = reader;
        let mut paths: Vec<_> = fs::read_dir(seeds_of(name)).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        let seeds: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(!seeds.is_empty());
        let mut rng = SeededRng::new(1);
        let (mut read_whole, mut refused) = (0, 0);
        for (number, seed) in seeds.iter().enumerate() {
            assert!(check(reader, seed), "{} is whole", paths[number].display());
            for _ in 0..CHANGES {
                let other = rng.pick(&seeds).unwrap();
                match check(reader, &changed(seed, other, &mut rng)) {
                    true => read_whole += 1,
                    false => refused += 1,
                }
            }
        }
        println!("{name}: {} seeds, {refused} changed ones refused, {read_whole} read", seeds.len());
        assert!(refused > read_whole);
    }
}

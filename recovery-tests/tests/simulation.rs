//! The simulated lane: seeded runs of the whole cluster on virtual time.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tidegate::Environment;
use tidegate::checkpoint::{StateFileKind, StoredCheckpoint};
use tidegate::cluster::jobmaster::{JobNotice, JobResult};
use tidegate::error::Result;
use tidegate::id::CheckpointId;
use tidegate::testing::simulation::{SeededRng, Simulation, SimulationFaults, SimulationReport};
use tidegate_recovery_tests::counting::{Counting, KEYS};
use tidegate_recovery_tests::workload::{Traced, Workload};
use tidegate_recovery_tests::{connected, leavings, oracle, snapshots};
use tidegate_state::BackendOptions;
use tidegate_state::envelope::Compression;

#[cfg(feature = "rocksdb")]
fn rocksdb() -> BackendOptions {
    BackendOptions::RocksDb(tidegate_state::RocksDbOptions::small())
}

/// Which program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Union,
    Connected,
    /// The union and the counting program, which have nothing to do with each other.
    Apart,
}

impl Program {
    fn declare(self, workload: &Workload, env: &Environment, output: &Path) {
        match self {
            Self::Union => workload.declare(env, output),
            Self::Connected => connected::declare(workload, env, output),
            Self::Apart => {
                workload.declare(env, output);
                counting(workload).declare(env, &output.with_file_name(COUNTS));
            }
        }
    }

    fn check(self, stored: StoredCheckpoint, workload: &Workload, output: &Path) -> Result<()> {
        match self {
            Self::Union => snapshots::check_union_and_output(stored, workload, output),
            Self::Connected => snapshots::check_connected(stored, workload),
            Self::Apart => {
                snapshots::check_counting(stored.clone(), counting(workload).records, KEYS)?;
                snapshots::check_union_and_output(stored, workload, output)
            }
        }
    }

    fn expected(self, workload: &Workload) -> Vec<String> {
        match self {
            Self::Union | Self::Apart => workload.expected(),
            Self::Connected => connected::expected(workload),
        }
    }
}

/// Where the counting program publishes.
const COUNTS: &str = "counts";

/// The second program of [`Program::Apart`]; its function fails now and then.
fn counting(workload: &Workload) -> Counting {
    let records = workload.input.len() as u64;
    let rate = records as f64 * 1_000.0 / workload.lasts_ms.max(1) as f64;
    let trips = (1..5).map(|n| n * records / 5).collect();
    Counting {
        slot_sharing_group: "counting",
        trips: Arc::new(Mutex::new(trips)),
        ..Counting::new(records, Some(rate))
    }
}

/// How barriers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Barriers {
    /// They wait for the records in front of them.
    Aligned,
    /// They overtake, at once or after a while, and there is backpressure.
    Overtake,
}

/// Everything about a run follows from its seed. Output goes to `directory`, and the files of a backend on disk.
fn run(
    program: Program,
    seed: u64,
    backend: &BackendOptions,
    faulty: bool,
    barriers: Barriers,
    directory: &Path,
    overtaken: &mut BTreeSet<CheckpointId>,
) -> (Workload, SimulationReport) {
    let mut rng = SeededRng::new(seed);
    let records = rng.between(200, 3_000);
    let workload = Workload::new(rng.next_u64(), records, 40, rng.between(300, 5_000));
    let mut env = Environment::new();
    let mut simulation = Simulation::new(seed);
    let config = env.config_mut();
    config.parallelism = *rng.pick(&[1, 2, 4]).unwrap();
    config.state.backend = backend.clone();
    config.state.local_dir = Some(directory.join("local"));
    config.cluster.taskmanagers = rng.between(1, 4) as u32;
    config.checkpoint.interval_ms = Some(rng.between(20, 500));
    config.checkpoint.timeout_ms = 5_000;
    config.checkpoint.tolerable_failures = 3;
    config.checkpoint.max_concurrent = rng.between(1, 4) as u32;
    config.checkpoint.retained = rng.between(1, 3) as u32;
    config.checkpoint.compression = *rng.pick(&[Compression::None, Compression::Zstd]).unwrap();
    if faulty {
        simulation.faults = SimulationFaults::swarm(&mut rng);
    }
    if barriers == Barriers::Overtake {
        config.checkpoint.unaligned = true;
        config.checkpoint.aligned_timeout_ms = *rng.pick(&[0, 0, 20, 200]).unwrap();
        config.checkpoint.max_concurrent = 1;
        simulation.channel_bytes = rng.pick(&[1, 500, 4_000]).copied();
        simulation.faults.slow_step_us = Some(rng.between(2_000, 60_000));
    }
    // Two splits in one reader, which another parallelism brings about, are not in the order of their timestamps together:
    // for the other program, which refuses late records, that is wrong.
    let may_rescale = faulty && program == Program::Connected;
    if may_rescale && rng.between(0, 2) == 0 {
        config.cluster.slots = Some(4);
        let rescale = |_| (rng.between(20, 2_000), rng.between(1, 5) as u32);
        simulation.rescales = (0..3).map(rescale).collect();
    } else if may_rescale {
        config.min_parallelism = Some(1);
        config.cluster.settle_time_ms = rng.between(0, 300);
    }
    program.declare(&workload, &env, &directory.join("out"));
    let mut inspect = |stored: StoredCheckpoint| {
        let id = stored.manifest.checkpoint;
        if stored.manifest.files().any(|file| file.kind == StateFileKind::InFlight) {
            overtaken.insert(id);
        }
        program
            .check(stored, &workload, &directory.join("out"))
            .map_err(|e| e.at(format!("seed {seed}, {program:?}, checkpoint {id}")))
    };
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    simulation.store = Some(Arc::clone(&store));
    let report = simulation.run_inspected(env, "simulated", &mut inspect).unwrap();
    leavings::check(&store).unwrap_or_else(|e| panic!("seed {seed}, {program:?}: {e}"));
    (workload, report)
}

/// A run that did what it had to.
struct Checked {
    report: SimulationReport,
    /// Checkpoints with records in flight.
    overtaken: BTreeSet<CheckpointId>,
}

fn check(program: Program, seed: u64, backend: &BackendOptions, faulty: bool, barriers: Barriers) -> Checked {
    let directory = tempfile::tempdir().unwrap();
    let mut overtaken = BTreeSet::new();
    let (workload, report) = run(program, seed, backend, faulty, barriers, directory.path(), &mut overtaken);
    let verdict = match &report.result {
        Some(JobResult::Finished) => {
            let published = oracle::published(&directory.path().join("out")).unwrap();
            let counts = oracle::published(&directory.path().join(COUNTS)).unwrap();
            let counted = if program == Program::Apart { counting(&workload).expected() } else { Vec::new() };
            oracle::difference(&program.expected(&workload), &published)
                .or_else(|| oracle::difference(&counted, &counts))
        }
        other => Some(format!("the job ended as {other:?} after {} virtual ms", report.virtual_ms)),
    };
    if let Some(verdict) = verdict {
        let tail: Vec<&str> = report.log.text().lines().rev().take(60).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        panic!(
            "seed {seed}, {program:?}, {backend:?}, {barriers:?}: {verdict}\nreplay: TIDEGATE_SEEDS={seed} cargo nextest run -p tidegate-recovery-tests\n{}",
            tail.join("\n")
        );
    }
    Checked { report, overtaken }
}

/// Seeds to run: those named in TIDEGATE_SEEDS, or a fixed range.
fn seeds(default: std::ops::Range<u64>) -> Vec<u64> {
    match std::env::var("TIDEGATE_SEEDS") {
        Ok(list) => list.split(',').map(|s| s.trim().parse().unwrap()).collect(),
        Err(_) => default.collect(),
    }
}

fn check_quiet(seeds: impl IntoIterator<Item = u64>, backend: &BackendOptions) {
    for seed in seeds {
        check(Program::Union, seed, backend, false, Barriers::Aligned);
        check(Program::Connected, seed, backend, false, Barriers::Aligned);
    }
}

fn check_faulty(program: Program, seeds: impl IntoIterator<Item = u64>, backend: &BackendOptions) {
    let (mut kills, mut runs, mut restores, mut incremental, mut rescaled) = (0, 0, 0, 0, 0);
    for seed in seeds {
        let report = check(program, seed, backend, true, Barriers::Aligned).report;
        kills += report.kills;
        rescaled += report.notices.iter().filter(|n| matches!(n, JobNotice::Rescaled { .. })).count();
        restores += report.notices.iter().filter(|n| matches!(n, JobNotice::Restored { .. })).count();
        runs += 1;
        let shares = |notice: &&JobNotice| matches!(notice, JobNotice::CheckpointCompleted(done) if done.uploaded_bytes < done.state_bytes);
        incremental += report.notices.iter().filter(shares).count();
    }
    println!(
        "{runs} runs on {backend:?}, {kills} processes killed, {restores} restores, {rescaled} times another parallelism, {incremental} incremental checkpoints"
    );
    assert!(runs < 20 || restores > runs / 2, "{restores} restores in {runs} runs prove little");
    let proves = program != Program::Connected || runs < 20 || rescaled > runs / 4;
    assert!(proves, "{rescaled} times another parallelism in {runs} runs prove little");
    assert!(runs < 20 || incremental > 0, "no checkpoint shares files with another");
}

/// Backpressure, crashes, and barriers that overtake: enough of the checkpoints must have had records in flight, and
/// enough of the restores must have begun with some.
fn check_overtaking(program: Program, seeds: impl IntoIterator<Item = u64>, backend: &BackendOptions) {
    let (mut runs, mut checkpoints, mut restores) = (0, 0, 0);
    for seed in seeds {
        let Checked { report, overtaken } = check(program, seed, backend, true, Barriers::Overtake);
        runs += 1;
        checkpoints += overtaken.len();
        let from_there = |notice: &&JobNotice| matches!(notice, JobNotice::Restored { checkpoint, .. } if overtaken.contains(checkpoint));
        restores += report.notices.iter().filter(from_there).count();
    }
    println!(
        "{runs} runs on {backend:?}, {checkpoints} checkpoints with records in flight, {restores} restored"
    );
    assert!(
        runs < 20 || checkpoints > runs * 3,
        "{checkpoints} checkpoints with records in flight prove little"
    );
    assert!(runs < 20 || restores > runs / 4, "{restores} restores of records in flight prove little");
}

/// One region fails, the other one goes on: often enough, and at every parallelism.
fn check_regions(seeds: impl IntoIterator<Item = u64>, backend: &BackendOptions, faulty: bool) {
    let (mut runs, mut regional, mut whole) = (0, 0, 0);
    for seed in seeds {
        let report = check(Program::Apart, seed, backend, faulty, Barriers::Aligned).report;
        runs += 1;
        let deployed = report.notices.iter().filter_map(|n| match n {
            JobNotice::Deployed { placement, .. } => Some(placement.len()),
            _ => None,
        });
        let deployed: Vec<usize> = deployed.collect();
        let all = deployed.iter().max().copied().unwrap_or(0);
        regional += deployed.iter().filter(|subtasks| **subtasks < all).count();
        whole += deployed.iter().filter(|subtasks| **subtasks == all).count() - 1;
    }
    println!("{runs} runs on {backend:?}, {regional} restarts of a region, {whole} of the whole job");
    assert!(runs < 10 || regional > runs * 2, "{regional} restarts of a region in {runs} runs prove little");
    assert!(
        runs < 10 || !faulty || whole > runs / 4,
        "{whole} restarts of the whole in {runs} runs prove little"
    );
}

/// Runs every seed twice and compares what happened, event by event.
fn check_repeatable(seeds: std::ops::Range<u64>, backend: &BackendOptions, at_least_events: u64) {
    let mut events = 0;
    for seed in seeds {
        // The same directory both times: its name is in the sink's committables.
        let directory = tempfile::tempdir().unwrap();
        let again = || {
            for name in ["out", "local"] {
                _ = std::fs::remove_dir_all(directory.path().join(name));
            }
            run(
                Program::Union,
                seed,
                backend,
                true,
                Barriers::Aligned,
                directory.path(),
                &mut BTreeSet::new(),
            )
            .1
            .log
        };
        let (first, second) = (again(), again());
        let differs = first.text().lines().zip(second.text().lines()).find(|(x, y)| x != y);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first, second, "seed {seed}");
        events += first.len();
    }
    assert!(events > at_least_events, "{events} events prove nothing");
}

#[test]
fn a_quiet_run_publishes_exactly_the_expected_output() {
    check_quiet(seeds(0..10), &BackendOptions::Memory);
}

#[test]
fn crashes_and_a_failing_store_change_nothing_in_the_output() {
    check_faulty(Program::Union, seeds(1_000..1_200), &BackendOptions::Memory);
}

#[test]
fn crashes_change_nothing_for_connected_streams_and_operator_state() {
    check_faulty(Program::Connected, seeds(3_000..3_080), &BackendOptions::Memory);
}

#[test]
fn a_region_that_fails_changes_nothing_in_the_output_of_either() {
    check_regions(seeds(7_000..7_012), &BackendOptions::Memory, false);
    check_regions(seeds(7_030..7_070), &BackendOptions::Memory, true);
}

#[test]
fn barriers_that_overtake_change_nothing_in_the_output() {
    check_overtaking(Program::Union, seeds(5_000..5_040), &BackendOptions::Memory);
}

#[test]
fn barriers_that_overtake_change_nothing_for_connected_streams() {
    check_overtaking(Program::Connected, seeds(6_000..6_040), &BackendOptions::Memory);
}

#[test]
fn the_same_seed_gives_the_same_event_log() {
    check_repeatable(1_000..1_020, &BackendOptions::Memory, 5_000);
}

// There is no test of equal event logs on RocksDB: its files hold the time and the random names of their databases, and
// its compactions run beside the simulation, so checkpoints differ in bytes. What comes out must not.
#[cfg(feature = "rocksdb")]
#[test]
fn a_quiet_run_on_rocksdb_publishes_exactly_the_expected_output() {
    check_quiet(seeds(0..4), &rocksdb());
}

#[cfg(feature = "rocksdb")]
#[test]
fn crashes_and_a_failing_store_change_nothing_in_the_output_on_rocksdb() {
    check_faulty(Program::Union, seeds(2_000..2_030), &rocksdb());
}

#[cfg(feature = "rocksdb")]
#[test]
fn barriers_that_overtake_change_nothing_in_the_output_on_rocksdb() {
    check_overtaking(Program::Union, seeds(9_000..9_010), &rocksdb());
}

#[cfg(feature = "rocksdb")]
#[test]
fn crashes_change_nothing_for_connected_streams_and_operator_state_on_rocksdb() {
    check_faulty(Program::Connected, seeds(4_000..4_010), &rocksdb());
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_region_that_fails_changes_nothing_in_the_output_of_either_on_rocksdb() {
    check_regions(seeds(8_000..8_010), &rocksdb(), true);
}

/// Or the look into checkpoints would prove nothing.
#[test]
fn a_checkpoint_that_holds_a_record_more_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let workload = Workload::new(7, 400, 20, 300);
    let last = workload.input[..100].iter().rfind(|record| record.partition == 0).unwrap().clone();
    let other: Vec<_> = workload
        .input
        .iter()
        .map(|r| if *r == last { Traced { key: 1_000, ..r.clone() } } else { r.clone() })
        .collect();
    let other = Workload { input: other.into(), lasts_ms: workload.lasts_ms };
    let mut env = Environment::new();
    env.config_mut().checkpoint.interval_ms = Some(20);
    workload.declare(&env, &directory.path().join("out"));
    let (mut whole, mut found) = (0, 0);
    let mut inspect = |stored: StoredCheckpoint| {
        whole += u32::from(snapshots::check_union(stored.clone(), &workload).is_ok());
        found += u32::from(snapshots::check_union(stored, &other).is_err());
        Ok(())
    };
    Simulation::new(7).run_inspected(env, "inspected", &mut inspect).unwrap();
    assert!(whole > 10 && (5..whole).contains(&found), "{found} of {whole}: the record is in the later ones");
}

//! Many restarts leave nothing behind: no threads, open files, memory, temporary files or objects.

use crate::cluster::{Cluster, FIXED_DELAY, Setup};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Child;

/// Restarts before the first look, while caches and pools fill.
const WARM_UP: usize = 4;
const RESTARTS: usize = 16;

/// What a process holds.
#[derive(Debug)]
struct Held {
    threads: usize,
    files: usize,
    resident_kb: usize,
}

fn held(process: &Child) -> Held {
    let proc = Path::new("/proc").join(process.id().to_string());
    let count = |name: &str| std::fs::read_dir(proc.join(name)).unwrap().count();
    let status = std::fs::read_to_string(proc.join("status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident_kb = resident.trim().trim_end_matches(" kB").parse().unwrap();
    Held { threads: count("task"), files: count("fd"), resident_kb }
}

/// How many files there are below, by the first part of their paths without digits.
fn files(directory: &Path) -> BTreeMap<String, usize> {
    fn visit(directory: &Path, name: &str, counts: &mut BTreeMap<String, usize>) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => visit(&entry.path(), name, counts),
                _ => *counts.entry(name.to_owned()).or_default() += 1,
            }
        }
    }
    let mut counts = BTreeMap::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().replace(|c: char| c.is_ascii_digit(), "");
        visit(&entry.path(), &name, &mut counts);
    }
    counts
}

/// Kills the second taskmanager so often, and has it replaced; the first one survives all of it.
fn restart(cluster: &mut Cluster, times: usize) {
    for _ in 0..times {
        let restored = cluster.log().matches("restored from checkpoint").count();
        cluster.kill_taskmanager(1);
        cluster.wait_for("restored from checkpoint", restored + 1);
        cluster.wait_for_output();
    }
}

#[test]
fn restarts_leave_nothing_behind() {
    let setup = Setup { records: 6_000_000, keeps_all: false, flags: FIXED_DELAY, ..Setup::default() };
    let mut cluster = Cluster::of_jobmanager(setup, None);
    for index in 0..2 {
        cluster.taskmanagers.push(cluster.spawn_taskmanager(None));
        cluster.wait_for("takes records at", index + 1);
    }
    cluster.wait_for_output();
    restart(&mut cluster, WARM_UP);
    let look = |cluster: &Cluster| {
        let local = std::env::temp_dir();
        let own = |process: &Child| {
            let ours = format!("-{}-", process.id());
            let names = std::fs::read_dir(&local).into_iter().flatten().flatten();
            names.filter(|e| e.file_name().to_string_lossy().contains(&ours)).count()
        };
        let processes = [held(&cluster.jobmanager), held(&cluster.taskmanagers[0])];
        (
            processes,
            files(&cluster.directory.path().join("checkpoints/counting-1")),
            own(&cluster.taskmanagers[0]),
        )
    };
    let (before, objects_before, local_before) = look(&cluster);
    restart(&mut cluster, RESTARTS);
    let (after, objects, local) = look(&cluster);
    for (before, after) in before.iter().zip(&after) {
        let what = format!("{before:?}, and after {RESTARTS} restarts {after:?}");
        // A pause between two looks decides about a few.
        assert!(after.threads <= before.threads + 4, "{what}");
        assert!(after.files <= before.files + 4, "{what}");
        assert!(after.resident_kb <= before.resident_kb + RESTARTS * 512, "{what}");
    }
    assert!(local <= local_before + 2, "{local_before} directories, then {local}");
    let kept = |counts: &BTreeMap<String, usize>| counts.get("chk-").copied().unwrap_or_default();
    let what = format!("{objects_before:?}, and after {RESTARTS} restarts {objects:?}");
    assert!(kept(&objects) <= kept(&objects_before) + 16, "{what}");
    // Entries of the commit log go in time; leaders and terminal records are few.
    assert!(objects.get("epochs").is_some_and(|count| *count <= 64 + 2 * 16 + RESTARTS), "{what}");
}

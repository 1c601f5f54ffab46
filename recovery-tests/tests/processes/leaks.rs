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

/// What a cluster holds, wherever it is.
struct Look {
    /// Of members that live through all of it.
    processes: Vec<Held>,
    objects: BTreeMap<String, usize>,
    /// Directories below `state.local-dir`, those of the dead included.
    local: usize,
}

impl Look {
    fn at(cluster: &Cluster, processes: &[&Child]) -> Self {
        let directory = cluster.directory.path();
        Self {
            processes: processes.iter().map(|process| held(process)).collect(),
            objects: files(&directory.join("checkpoints/counting-1")),
            local: std::fs::read_dir(directory.join("local")).map_or(0, Iterator::count),
        }
    }

    /// Fails if so many restarts have left something behind.
    fn check_since(&self, before: &Self, restarts: usize) {
        for (before, after) in before.processes.iter().zip(&self.processes) {
            let what = format!("{before:?}, and after {restarts} restarts {after:?}");
            // A pause between two looks decides about a few.
            assert!(after.threads <= before.threads + 4, "{what}");
            assert!(after.files <= before.files + 4, "{what}");
            assert!(after.resident_kb <= before.resident_kb + restarts * 512, "{what}");
        }
        assert!(self.local <= before.local + 2, "{} directories, then {}", before.local, self.local);
        let kept = |look: &Self| look.objects.get("chk-").copied().unwrap_or_default();
        let what = format!("{:?}, and after {restarts} restarts {:?}", before.objects, self.objects);
        assert!(kept(self) <= kept(before) + 16, "{what}");
        // Entries of the commit log go in time; leaders and terminal records are few.
        let epochs = self.objects.get("epochs");
        assert!(epochs.is_some_and(|count| *count <= 64 + 2 * 16 + restarts), "{what}");
    }
}

/// Two taskmanagers on a job that does not end by itself.
fn endless() -> Cluster {
    let setup = Setup { records: 6_000_000, keeps_all: false, flags: FIXED_DELAY, ..Setup::default() };
    let mut cluster = Cluster::of_jobmanager(setup, None);
    for index in 0..2 {
        cluster.taskmanagers.push(cluster.spawn_taskmanager(None));
        cluster.wait_for("takes records at", index + 1);
    }
    cluster.wait_for_output();
    cluster
}

#[test]
fn restarts_of_a_taskmanager_leave_nothing_behind() {
    let mut cluster = endless();
    restart(&mut cluster, WARM_UP);
    let look = |cluster: &Cluster| Look::at(cluster, &[&cluster.taskmanagers[0], &cluster.jobmanager]);
    let before = look(&cluster);
    restart(&mut cluster, RESTARTS);
    look(&cluster).check_since(&before, RESTARTS);
}

#[test]
fn restarts_of_the_jobmanager_leave_nothing_behind() {
    const RESTARTS: usize = 8;
    let mut cluster = endless();
    let restart = |cluster: &mut Cluster, times: usize| {
        for _ in 0..times {
            let restored = cluster.log().matches("restored from checkpoint").count();
            cluster.kill_jobmanager();
            cluster.wait_for("restored from checkpoint", restored + 1);
            cluster.wait_for_output();
        }
    };
    restart(&mut cluster, WARM_UP);
    let look = |cluster: &Cluster| Look::at(cluster, &[&cluster.taskmanagers[0], &cluster.taskmanagers[1]]);
    let before = look(&cluster);
    restart(&mut cluster, RESTARTS);
    let after = look(&cluster);
    after.check_since(&before, RESTARTS);
    let leaders = |look: &Look| look.objects.get("leader").copied();
    assert_eq!(leaders(&after), leaders(&before).map(|terms| terms + RESTARTS), "one term for each life");
}

//! Members are killed and frozen by chance, at moments of chance. The seed is printed; `TIDEGATE_SEED` repeats the choices.

use crate::cluster::{Cluster, FIXED_DELAY, Setup, signal};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tidegate::testing::simulation::SeededRng;

/// How long things go wrong.
const TROUBLE: Duration = Duration::from_secs(35);
/// Lasts longer than that, undisturbed.
const SETUP: Setup = Setup {
    job: "counting-1",
    records: 300_000,
    rate: 6_000,
    checkpoint_interval: "200ms",
    keeps_all: false,
    beside: false,
    flags: FIXED_DELAY,
};

#[derive(Clone, Copy, Debug)]
enum Fate {
    Killed,
    /// For so many milliseconds; a second is the heartbeat timeout.
    Frozen(u64),
}

fn strike(cluster: &mut Cluster, jobmanager: bool, taskmanager: Option<usize>, fate: Fate) {
    match fate {
        Fate::Killed => {
            if jobmanager {
                cluster.kill_jobmanager();
            }
            if let Some(index) = taskmanager {
                cluster.kill_taskmanager(index);
            }
        }
        Fate::Frozen(ms) => {
            let mut frozen = Vec::new();
            frozen.extend(jobmanager.then_some(&cluster.jobmanager));
            frozen.extend(taskmanager.map(|index| &cluster.taskmanagers[index]));
            frozen.iter().for_each(|process| signal(process, "-STOP"));
            std::thread::sleep(Duration::from_millis(ms));
            frozen.iter().for_each(|process| signal(process, "-CONT"));
        }
    }
}

#[test]
fn members_are_killed_and_frozen_at_random() {
    let by_chance = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = std::env::var("TIDEGATE_SEED").map_or_else(|_| by_chance(), |seed| seed.parse().unwrap());
    println!("TIDEGATE_SEED={seed}");
    let mut rng = SeededRng::new(seed);
    let mut cluster = Cluster::of_jobmanager(SETUP, None);
    cluster.taskmanagers = (0..2).map(|_| cluster.spawn_taskmanager(None)).collect();
    cluster.wait_for_output();
    let start = Instant::now();
    while start.elapsed() < TROUBLE {
        std::thread::sleep(Duration::from_millis(rng.between(0, 1500)));
        let victims = rng.between(0, 3);
        let taskmanager = (victims != 0).then(|| rng.between(0, 2) as usize);
        let fate = match rng.between(0, 3) {
            0 => Fate::Killed,
            1 => Fate::Frozen(rng.between(50, 600)),
            _ => Fate::Frozen(rng.between(1500, 3500)),
        };
        println!("{:?}: {victims} {taskmanager:?} {fate:?}", start.elapsed());
        strike(&mut cluster, victims != 1, taskmanager, fate);
        cluster.wait_for_output();
    }
    cluster.finish();
}

/// Nobody takes over: its taskmanagers give it up, wait for it, and go on with it when it wakes up.
#[test]
fn a_jobmanager_without_a_standby_is_frozen() {
    let cluster = Cluster::start(2);
    cluster.wait_for_output();
    signal(&cluster.jobmanager, "-STOP");
    cluster.wait_for("lost the jobmanager, looking for one", 2);
    signal(&cluster.jobmanager, "-CONT");
    cluster.wait_for("restored from checkpoint", 1);
    cluster.wait_for_output();
    cluster.finish();
}

//! What goes wrong in a simulation.

use crate::checkpoint::CrashAction;
use crate::environment::CrashSite;
use crate::testing::simulation::SeededRng;

/// Fault kinds and their rates.
#[derive(Clone, Debug, Default)]
pub struct SimulationFaults {
    /// Mean virtual milliseconds between crashes of a random taskmanager.
    pub crash_taskmanager_every_ms: Option<u64>,
    /// Virtual time after which no more random faults happen, in milliseconds: the job must then come to its end.
    pub heal_after_ms: u64,
    /// From when to when every store operation fails, in virtual milliseconds.
    pub store_outage_ms: Option<(u64, u64)>,
    /// Of a thousand store operations so many fail, before or after they have had their effect.
    pub store_failures_per_mille: u64,
    /// Listings of the store do not show so many of the objects written last.
    pub stale_listings: usize,
    /// Longest delay of a message between processes, in virtual microseconds.
    pub message_delay_us: u64,
    /// Longest delay of a store operation, in virtual microseconds.
    pub store_delay_us: u64,
    /// Longest time that a subtask needs for a step, in virtual microseconds, in about half of the vertices; none is slow
    /// if it is absent.
    pub slow_step_us: Option<u64>,
    /// Crash points to arm in the first life of a process.
    pub armed: Vec<ArmedPoint>,
}

/// A crash point that will act.
#[derive(Clone, Debug)]
pub struct ArmedPoint {
    /// In which process.
    pub site: CrashSite,
    /// Its name in [`CRASH_POINTS`](crate::checkpoint::CRASH_POINTS).
    pub name: String,
    /// At which visit, from 1.
    pub nth: u64,
    /// What it does.
    pub action: CrashAction,
}

impl SimulationFaults {
    /// Draws which kinds of faults are on and how often they strike: every seed is another kind of bad day.
    pub fn swarm(rng: &mut SeededRng) -> Self {
        let mut faults = Self {
            crash_taskmanager_every_ms: rng.chance(0.8).then(|| rng.between(150, 3_000)),
            store_outage_ms: None,
            heal_after_ms: rng.between(2_000, 20_000),
            store_failures_per_mille: if rng.chance(0.6) { rng.between(5, 100) } else { 0 },
            stale_listings: 0,
            message_delay_us: rng.between(10, 20_000),
            store_delay_us: rng.between(10, 200_000),
            slow_step_us: None,
            armed: Vec::new(),
        };
        // Drawn last, so that older seeds stay the days they were but for this.
        if rng.chance(0.3) {
            faults.stale_listings = rng.between(1, 12) as usize;
        }
        faults
    }
}

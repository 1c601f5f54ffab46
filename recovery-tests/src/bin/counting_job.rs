//! The program of the process lane: counts records by key and publishes every count, as a user's binary would.

use std::path::Path;
use tidegate::CrashSite;
use tidegate::checkpoint::{CrashAction, CrashPoints};
use tidegate::config::{Arguments, Role};
use tidegate::prelude::*;
use tidegate_recovery_tests::counting::Counting;

/// Where this process is to die: a crash point and which visit to it, as in `upload.file_k:2`.
const CRASH_POINT: &str = "TIDEGATE_CRASH_POINT";

/// From which number on the function of this process does not come back any more.
const BLOCK_AT: &str = "TIDEGATE_BLOCK_AT";
/// Set: a taskmanager dies as soon as it starts, as one does that gets no memory.
const NO_MEMORY: &str = "TIDEGATE_NO_MEMORY";

fn main() -> Result<()> {
    let parsed = Arguments::new("counting_job", "Counts numbers by their last two digits.")
        .option("output", "DIR", None, "directory to write the counts to")
        .option("records", "N", Some("100000"), "numbers to count")
        .option("rate", "N", Some("0"), "numbers per second; 0 for as fast as it goes")
        .option("beside", "DIR", None, "count them once more, apart from it, into this directory")
        .parse_or_exit()?;
    let records: u64 = parsed.number("records")?;
    let rate: f64 = parsed.number("rate")?;
    let output = parsed.required("output")?.to_owned();
    let mut env = Environment::from_parsed(&parsed);
    if let Ok(crash_point) = std::env::var(CRASH_POINT) {
        let site = match env.config_mut().cluster.role {
            Role::TaskManager => CrashSite::TaskManager(0),
            _ => CrashSite::JobManager,
        };
        let (point, visit) = crash_point.split_once(':').unwrap_or((&crash_point, "1"));
        let points = CrashPoints::armable();
        points.arm(point, visit.parse().unwrap_or(1), CrashAction::Abort)?;
        env.set_crash_points(site, points);
    }
    if std::env::var_os(NO_MEMORY).is_some() && env.config_mut().cluster.role == Role::TaskManager {
        std::process::abort();
    }
    let mut counting = Counting::new(records, (rate > 0.0).then_some(rate));
    counting.blocks_at = std::env::var(BLOCK_AT).ok().and_then(|at| at.parse().ok());
    counting.declare(&env, Path::new(&output));
    if let Some(beside) = parsed.value("beside") {
        let apart = Counting { name: "beside-", slot_sharing_group: "beside", ..counting };
        apart.declare(&env, Path::new(beside));
    }
    env.execute("counting").map(drop)
}

//! The program of the process lane: counts records by key and publishes every count, as a user's binary would.

use tidegate::CrashSite;
use tidegate::checkpoint::{CrashAction, CrashPoints};
use tidegate::config::{Arguments, Role};
use tidegate::prelude::*;

/// Where this process is to die: a crash point and which visit to it, as in `upload.file_k:2`.
const CRASH_POINT: &str = "TIDEGATE_CRASH_POINT";

/// Different keys.
const KEYS: u64 = 100;

fn main() -> Result<()> {
    let parsed = Arguments::new("counting_job", "Counts numbers by their last two digits.")
        .option("output", "DIR", None, "directory to write the counts to")
        .option("records", "N", Some("100000"), "numbers to count")
        .option("rate", "N", Some("0"), "numbers per second; 0 for as fast as it goes")
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
    let numbers = Generator::sequence(0..records);
    let numbers = if rate == 0.0 { numbers } else { numbers.with_rate(rate) };
    env.source(numbers)
        .uid("numbers")
        .key_by(|n: &u64| n % KEYS)
        .process(|open| Ok(Count { total: open.value_state("total")? }))
        .uid("count")
        .sink(FileSink::csv(&output))
        .uid("write");
    env.execute("counting").map(drop)
}

/// Emits key and count for every record.
struct Count {
    total: ValueState<u64>,
}

impl KeyedProcessFunction<u64, u64, (u64, u64)> for Count {
    fn process(
        &mut self,
        _number: u64,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, (u64, u64)>,
    ) -> Result<()> {
        let total = self.total.get()?.unwrap_or(0) + 1;
        self.total.set(total)?;
        out.collect((*context.key(), total));
        Ok(())
    }
}

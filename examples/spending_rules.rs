//! Watches what accounts spend by rules that change while the program runs.
//!
//! A rule names a limit and a span of time: an account that spends more than the limit within the span raises an alert.
//! Rules are broadcast, so that every subtask knows all of them; the payments of an account are state of its key.
//!
//! ```sh
//! cargo run --release --example spending_rules -- --parallelism 2 --checkpoint.interval 1s
//! ```

use serde::{Deserialize, Serialize};
use tidegate::prelude::*;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Payment {
    account: u64,
    /// Milliseconds.
    time: i64,
    cents: u64,
}

/// Replaces the rule of the same name.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Rule {
    name: String,
    within_ms: i64,
    /// No limit any more if there is none.
    limit_cents: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Alert {
    rule: String,
    account: u64,
    time: i64,
    cents: u64,
}

/// Payments older than this are forgotten: no rule may look further back.
const REMEMBERED_MS: i64 = 3_600_000;

struct Watch {
    /// Cents spent by time.
    payments: MapState<i64, u64>,
    rules: BroadcastState<String, Rule>,
}

impl KeyedBroadcastProcessFunction<u64, Payment, Rule, Alert> for Watch {
    fn process_element(
        &mut self,
        payment: Payment,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, Alert>,
    ) -> Result<()> {
        let Payment { account, time, cents } = payment;
        self.payments.update(time, || 0, |sum| *sum += cents)?;
        context.register_event_timer(time + REMEMBERED_MS)?;
        let payments: Vec<(i64, u64)> = self.payments.iter()?.collect();
        self.rules.with_all(|rules| {
            for rule in rules.values() {
                let recent = payments.iter().filter(|(at, _)| (time - rule.within_ms..=time).contains(at));
                let spent: u64 = recent.map(|(_, cents)| cents).sum();
                if rule.limit_cents.is_some_and(|limit| spent > limit) {
                    out.collect(Alert { rule: rule.name.clone(), account, time, cents: spent });
                }
            }
        })
    }

    fn process_broadcast(
        &mut self,
        rule: Rule,
        context: &mut KeyedBroadcastContext<'_, u64>,
        _out: &mut Collector<'_, Alert>,
    ) -> Result<()> {
        let mut rules = context.writable(&self.rules);
        if rule.limit_cents.is_some() {
            rules.insert(rule.name.clone(), rule)
        } else {
            rules.remove(&rule.name)
        }
    }

    fn on_timer(
        &mut self,
        time: i64,
        _context: &mut KeyedContext<'_, u64>,
        _out: &mut Collector<'_, Alert>,
    ) -> Result<()> {
        self.payments.remove(&(time - REMEMBERED_MS))
    }
}

fn main() -> Result<()> {
    let env = Environment::from_args()?;
    // A payment every second of event time; a few accounts spend a lot.
    let payment = |n: u64| {
        let account = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57;
        Payment { account, time: n as i64 * 1000, cents: if account < 3 { 90_000 } else { 2_000 + n % 50 } }
    };
    let rule = |name: &str, minutes: i64, limit_cents| Rule {
        name: name.to_owned(),
        within_ms: minutes * 60_000,
        limit_cents,
    };
    let rules = vec![
        rule("quick", 5, Some(200_000)),
        rule("hourly", 60, Some(300_000)),
        rule("quick", 5, Some(150_000)),
    ];
    let payments = env
        .source(Generator::new(Some(20_000), payment).with_rate(5_000.0))
        .name("payments")
        .uid("payments")
        .assign_timestamps_and_watermarks(
            WatermarkStrategy::bounded_out_of_orderness(5_000).with_timestamps(|p: &Payment| p.time),
        );
    // Rules have no event time: between them they must not hold back that of the payments.
    let rules = env
        .source(Generator::of(rules).with_rate(1.0))
        .parallelism(1)
        .name("rules")
        .uid("rules")
        .assign_timestamps_and_watermarks(WatermarkStrategy::monotonous().with_idleness(100))
        .parallelism(1);
    payments
        .key_by(|payment| payment.account)
        .connect(rules.broadcast_state())
        .process(|open| {
            Ok(Watch { payments: open.map_state("payments")?, rules: open.broadcast_state("rules")? })
        })
        .uid("watch")
        .sink(FileSink::csv("alerts"));
    env.execute("spending-rules")?;
    Ok(())
}

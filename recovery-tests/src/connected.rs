//! A program of connected streams, a broadcast stream and operator states, and its input.
//!
//! - *Pairs*: the even and the odd partitions as two keyed streams that share the state of a key.
//! - *Rules*: a broadcast stream that settles what keys have counted since the rule before.
//! - *Held*: every record is kept in an operator list until both streams have ended.
//!
//! Each checks on the way what it can, and puts out at the end what no order of arrival changes.

use crate::workload::{Traced, Workload};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tidegate::Environment;
use tidegate::function::OpenContext;
use tidegate::prelude::*;

/// Rules there are in all.
pub const RULES: u64 = 12;

/// An odd record, of another type than the even ones.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Odd(Traced);

/// Declares the program, which publishes in `output`.
pub fn declare(workload: &Workload, env: &Environment, output: &Path) {
    let even = env.source(workload.half(0)).uid("even");
    let odd = env.source(workload.half(1)).uid("odd").map(Odd).uid("other type");
    let per_second = RULES as f64 * 1000.0 / workload.lasts_ms.max(1) as f64;
    let rules = env.source(Generator::sequence(0..RULES).with_rate(per_second)).uid("rules").parallelism(1);
    let pairs = even
        .clone()
        .key_by(|record| record.key)
        .connect(odd.clone().key_by(|record: &Odd| record.0.key))
        .process(|open| {
            Ok(Pairs {
                even: open.value_state("even")?,
                odd: open.value_state("odd")?,
                next: open.map_state("next")?,
            })
        })
        .uid("pairs");
    let ruled = even
        .key_by(|record| record.key)
        .connect(rules.clone().broadcast_state())
        .process(|open| {
            Ok(Ruled {
                open: open.value_state("open")?,
                settled: open.value_state("settled")?,
                rules: open.broadcast_state("rules")?,
            })
        })
        .uid("ruled");
    let held = odd.rebalance().connect(rules.broadcast_state()).process(Held::open).uid("held");
    pairs.union(ruled).union(held).sink(FileSink::lines(output)).uid("sink");
}

/// The lines the sink must publish, sorted.
pub fn expected(workload: &Workload) -> Vec<String> {
    let mut counts: BTreeMap<u64, [u64; 2]> = BTreeMap::new();
    let mut lines = Vec::new();
    for record in &*workload.input {
        let side = record.partition % 2;
        counts.entry(record.key).or_default()[side as usize] += 1;
        if side == 1 {
            lines.push(format!("held,{},{RULES}", record.offset));
        }
    }
    for (key, [even, odd]) in counts {
        lines.push(format!("pair,{key},{even},{odd}"));
        if even > 0 {
            lines.push(format!("ruled,{key},{even},{RULES}"));
        }
    }
    lines.sort();
    lines
}

/// Counts per key and side, and checks the sequence of each partition.
struct Pairs {
    even: ValueState<u64>,
    odd: ValueState<u64>,
    next: MapState<u64, u64>,
}

impl Pairs {
    fn check(&mut self, r: &Traced) -> Result<()> {
        let due = self.next.get(&r.partition)?.unwrap_or(0);
        if r.sequence != due {
            return Err(Error::data(format!("{r:?} came where number {due} was due")));
        }
        self.next.insert(r.partition, due + 1)
    }
}

impl KeyedCoProcessFunction<u64, Traced, Odd, String> for Pairs {
    fn process_first(
        &mut self,
        r: Traced,
        context: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        self.check(&r)?;
        self.even.update(|| 0, |n| *n += 1)?;
        context.register_event_timer(MAX_WATERMARK)
    }

    fn process_second(
        &mut self,
        Odd(r): Odd,
        context: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        self.check(&r)?;
        self.odd.update(|| 0, |n| *n += 1)?;
        context.register_event_timer(MAX_WATERMARK)
    }

    fn on_timer(
        &mut self,
        _: i64,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let (even, odd) = (self.even.get()?.unwrap_or(0), self.odd.get()?.unwrap_or(0));
        out.collect(format!("pair,{},{even},{odd}", context.key()));
        Ok(())
    }
}

/// Counts per key what no rule has settled yet; a rule settles the counts of all keys.
struct Ruled {
    open: ValueState<u64>,
    settled: ValueState<u64>,
    rules: BroadcastState<u64, ()>,
}

impl KeyedBroadcastProcessFunction<u64, Traced, u64, String> for Ruled {
    fn process_element(
        &mut self,
        _: Traced,
        context: &mut KeyedContext<'_, u64>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        self.open.update(|| 0, |n| *n += 1)?;
        context.register_event_timer(MAX_WATERMARK)
    }

    fn process_broadcast(
        &mut self,
        rule: u64,
        context: &mut KeyedBroadcastContext<'_, u64>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        check_rule(&self.rules, rule)?;
        context.writable(&self.rules).insert(rule, ())?;
        context.apply_to_keyed_state(&self.open, |_, open| {
            let count = open.get()?.unwrap_or(0);
            open.clear()?;
            self.settled.update(|| 0, |n| *n += count)
        })
    }

    fn on_timer(
        &mut self,
        _: i64,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let total = self.open.get()?.unwrap_or(0) + self.settled.get()?.unwrap_or(0);
        out.collect(format!("ruled,{},{total},{}", context.key(), self.rules.len()?));
        Ok(())
    }
}

/// Rules come in their order, each once.
fn check_rule(rules: &BroadcastState<u64, ()>, rule: u64) -> Result<()> {
    let due = rules.with_all(|all| all.last_key_value().map_or(0, |(last, ())| last + 1))?;
    if rule == due { Ok(()) } else { Err(Error::data(format!("rule {rule} came where {due} was due"))) }
}

/// Keeps offsets until the end; a union list says to every subtask what all have kept.
struct Held {
    held: OperatorListState<u64>,
    known: OperatorListState<u64>,
    rules: BroadcastState<u64, ()>,
}

impl Held {
    fn open(open: &mut OpenContext<'_>) -> Result<Self> {
        let held = open.operator_list_state::<u64>("held")?;
        let mut known = open.union_list_state::<u64>("known")?;
        let all: Vec<u64> = known.iter()?.collect();
        let distinct: BTreeSet<u64> = all.iter().copied().collect();
        if distinct.len() != all.len() || !held.iter()?.all(|offset| distinct.contains(&offset)) {
            return Err(Error::data(format!("{} known, {} of them distinct", all.len(), distinct.len())));
        }
        known.replace(held.iter()?)?;
        Ok(Self { held, known, rules: open.broadcast_state("rules")? })
    }
}

impl BroadcastProcessFunction<Odd, u64, String> for Held {
    fn process_element(
        &mut self,
        Odd(record): Odd,
        _: &mut ProcessContext<'_>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        self.known.push(record.offset)?;
        self.held.push(record.offset)
    }

    fn process_broadcast(
        &mut self,
        rule: u64,
        context: &mut BroadcastContext<'_>,
        _: &mut Collector<'_, String>,
    ) -> Result<()> {
        check_rule(&self.rules, rule)?;
        context.writable(&self.rules).insert(rule, ())
    }

    fn finish(&mut self, out: &mut Collector<'_, String>) -> Result<()> {
        let rules = self.rules.len()?;
        for offset in self.held.iter()? {
            out.collect(format!("held,{offset},{rules}"));
        }
        self.known.clear()?;
        self.held.clear()
    }
}

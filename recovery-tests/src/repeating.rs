//! A program whose output may hold a record more than once, and what must be so nevertheless.

use crate::workload::{Traced, Workload, record_line};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tidegate::Environment;
use tidegate::prelude::*;

/// Declares two sources in union, a count per key, and a file sink in `output`. Nothing in it minds what comes again.
pub fn declare(workload: &Workload, env: &Environment, output: &Path) {
    workload
        .union(env)
        .key_by(|record| record.key)
        .process(|open| Ok(Count(open.value_state("total")?)))
        .uid("count")
        .sink(FileSink::lines(output))
        .uid("sink");
}

struct Count(ValueState<u64>);

impl KeyedProcessFunction<u64, Traced, String> for Count {
    fn process(
        &mut self,
        record: Traced,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        self.0.update(|| 0, |n| *n += 1)?;
        context.register_event_timer(i64::MAX)?;
        out.collect(record_line(&record));
        Ok(())
    }

    fn on_timer(
        &mut self,
        _: i64,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        out.collect(format!("total,{},{}", context.key(), self.0.get()?.unwrap_or(0)));
        Ok(())
    }
}

fn totals(workload: &Workload) -> BTreeMap<u64, u64> {
    let mut totals: BTreeMap<u64, u64> = BTreeMap::new();
    workload.input.iter().for_each(|record| *totals.entry(record.key).or_default() += 1);
    totals
}

/// How many lines came once too often.
///
/// # Errors
/// A line that is missing, one that nothing in the input stands for, or a count that is too small.
pub fn repeated(workload: &Workload, published: &[String]) -> std::result::Result<usize, String> {
    let expected: BTreeSet<String> = workload.input.iter().map(record_line).collect();
    let totals = totals(workload);
    let mut missing = expected.clone();
    let mut uncounted = totals.clone();
    for line in published {
        match line.strip_prefix("total,").and_then(|rest| rest.split_once(',')) {
            Some((key, total)) => {
                let (key, total) = (key.parse().unwrap_or(u64::MAX), total.parse().unwrap_or(0));
                let least = *totals.get(&key).ok_or_else(|| format!("{line}: there is no such key"))?;
                if total < least {
                    return Err(format!("{line}: it has {least} records"));
                }
                uncounted.remove(&key);
            }
            None if expected.contains(line) => _ = missing.remove(line),
            None => return Err(format!("{line}: there is no such record")),
        }
    }
    match (missing.first(), uncounted.first_key_value()) {
        (None, None) => Ok(published.len() - expected.len() - totals.len()),
        (line, key) => {
            Err(format!("{} lines are lost, such as {line:?}; no total of {key:?}", missing.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_line_a_foreign_one_and_a_count_that_is_too_small_are_seen() {
        let workload = Workload::new(1, 50, 5, 10);
        let totals = totals(&workload);
        let mut whole: Vec<String> = workload.input.iter().map(record_line).collect();
        whole.extend(totals.iter().map(|(key, total)| format!("total,{key},{total}")));
        assert_eq!(repeated(&workload, &whole), Ok(0));
        let with = |line: &str| [&whole[..], &[line.to_owned()]].concat();
        assert_eq!(repeated(&workload, &with(&whole[3])), Ok(1));
        assert!(repeated(&workload, &whole[1..]).is_err());
        assert!(repeated(&workload, &whole[..whole.len() - 1]).is_err());
        assert!(repeated(&workload, &with("record,1,2,3,400")).is_err());
        assert!(repeated(&workload, &with("total,0,0")).is_err());
    }
}

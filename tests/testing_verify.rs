//! The helper that checks a keyed function against restores.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::assert_error;
use tidegate::error::Result;
use tidegate::prelude::*;
use tidegate::testing::verify_keyed;

/// Sums per key until a timer; with `forgetful` also counts in a field.
struct Sums {
    forgetful: bool,
    in_field: u64,
    sum: ValueState<u64>,
    seen: ListState<u64>,
    per_parity: MapState<bool, u64>,
}

impl KeyedProcessFunction<u64, u64, String> for Sums {
    fn process(
        &mut self,
        n: u64,
        c: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        self.in_field += 1;
        self.sum.update(|| 0, |sum| *sum += n)?;
        self.seen.push(n)?;
        let parity = self.per_parity.get(&n.is_multiple_of(2))?.unwrap_or(0);
        self.per_parity.insert(n.is_multiple_of(2), parity + 1)?;
        let time = c.timestamp().unwrap_or(0);
        c.register_event_timer(time / 10 * 10 + 10)?;
        c.register_processing_timer(time + 15)?;
        if self.forgetful {
            out.collect(format!("field {}", self.in_field));
        }
        Ok(())
    }

    fn on_timer(
        &mut self,
        time: i64,
        c: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, String>,
    ) -> Result<()> {
        let seen: Vec<u64> = self.seen.iter()?.collect();
        let even = self.per_parity.get(&true)?;
        let kind = if c.is_event_timer() { "event" } else { "processing" };
        out.collect(format!(
            "{} {kind} {time}: {:?} {seen:?} {even:?} at {}",
            c.key(),
            self.sum.get()?,
            c.watermark()
        ));
        self.seen.clear()
    }
}

fn verify(forgetful: bool) -> Result<Vec<String>> {
    let input = (0..40u64).map(|n| (n, n as i64)).collect();
    verify_keyed(
        input,
        |n| n % 3,
        move |open| {
            let (sum, seen, per_parity) =
                (open.value_state("sum")?, open.list_state("seen")?, open.map_state("per parity")?);
            Ok(Sums { forgetful, in_field: 0, sum, seen, per_parity })
        },
    )
}

#[test]
fn a_function_that_keeps_everything_in_state_is_fine() {
    let out = verify(false).unwrap();
    assert_eq!(out[0], "0 event 10: Some(18) [0, 3, 6, 9] Some(2) at 10");
    assert!(out.iter().any(|line| line.contains("processing 15")), "{out:?}");
}

#[test]
fn a_function_that_keeps_something_in_a_field_is_found_out() {
    let names = ["output 1 is Some(\"field 2\"), and Some(\"field 1\") if", "keep what has to last in state"];
    assert_error(verify(true), ErrorKind::Config, &names);
}

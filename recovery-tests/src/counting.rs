//! A program that counts numbers by their last two digits and publishes every count.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tidegate::Environment;
use tidegate::prelude::*;

/// Different keys.
pub const KEYS: u64 = 100;

/// The numbers below `records`, counted.
#[derive(Clone, Debug)]
pub struct Counting {
    /// How many numbers.
    pub records: u64,
    /// How many a second; none for as fast as it goes.
    pub rate: Option<f64>,
    /// What its operators' uids begin with.
    pub name: &'static str,
    /// Only subtasks of the same group share a slot.
    pub slot_sharing_group: &'static str,
    /// Numbers at which the function fails, once each.
    pub trips: Arc<Mutex<BTreeSet<u64>>>,
    /// The function never comes back from this number, or from a higher one.
    pub blocks_at: Option<u64>,
}

impl Counting {
    /// Without trips, in the group of everything else.
    pub fn new(records: u64, rate: Option<f64>) -> Self {
        Self {
            records,
            rate,
            name: "",
            slot_sharing_group: "default",
            trips: Arc::default(),
            blocks_at: None,
        }
    }

    /// Declares the program, which publishes in `output`.
    pub fn declare(&self, env: &Environment, output: &Path) {
        let numbers = Generator::sequence(0..self.records);
        let numbers = match self.rate {
            Some(rate) => numbers.with_rate(rate),
            None => numbers,
        };
        let (trips, blocks_at) = (self.trips.clone(), self.blocks_at);
        env.source(numbers)
            .slot_sharing_group(self.slot_sharing_group)
            .uid(&self.uid("numbers"))
            .key_by(|n: &u64| n % KEYS)
            .process(move |open| {
                Ok(Count { total: open.value_state("total")?, trips: trips.clone(), blocks_at })
            })
            .uid(&self.uid("count"))
            .sink(FileSink::csv(output))
            .uid(&self.uid("write"));
    }

    fn uid(&self, of: &str) -> String {
        format!("{}{of}", self.name)
    }

    /// The lines the sink must publish, sorted.
    pub fn expected(&self) -> Vec<String> {
        let mut lines: Vec<_> = (0..self.records).map(|n| format!("{},{}", n % KEYS, n / KEYS + 1)).collect();
        lines.sort();
        lines
    }
}

/// Emits key and count for every record.
struct Count {
    total: ValueState<u64>,
    trips: Arc<Mutex<BTreeSet<u64>>>,
    blocks_at: Option<u64>,
}

impl KeyedProcessFunction<u64, u64, (u64, u64)> for Count {
    fn process(
        &mut self,
        number: u64,
        context: &mut KeyedContext<'_, u64>,
        out: &mut Collector<'_, (u64, u64)>,
    ) -> Result<()> {
        if self.trips.lock().unwrap_or_else(PoisonError::into_inner).remove(&number) {
            return Err(Error::restart_task(format!("tripped over {number}")));
        }
        while self.blocks_at.is_some_and(|at| number >= at) {
            std::thread::park();
        }
        let total = self.total.get()?.unwrap_or(0) + 1;
        self.total.set(total)?;
        out.collect((*context.key(), total));
        Ok(())
    }
}

//! Records made by a function of their index.

use super::rate::{Allowance, RateLimit};
use crate::error::Result;
use crate::function::{
    AssignedSplits, Collector, Data, EnumeratorContext, ReaderContext, ReaderStatus, Source, SourceReader,
    SplitEnumerator,
};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// What one call of `poll` hands out at most.
const POLL_RECORDS: u64 = 512;

/// A replayable source whose record `i` is `f(i)`, for `i` from 0.
///
/// The indices are dealt out to as many splits as the job has readers when it first starts; that number is part of
/// the splits and survives every later change of parallelism.
#[derive(Clone)]
pub struct Generator<F> {
    count: Option<u64>,
    per_second: Option<f64>,
    f: Arc<F>,
}

/// Every `step`-th index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeneratorSplit {
    /// The next index; `None` once the last one there can be was emitted.
    pub next: Option<u64>,
    /// Distance to the index after it: the number of splits.
    pub step: u64,
    /// First index that is not emitted any more; `None` if there is no end.
    pub end: Option<u64>,
}

impl<F> Generator<F> {
    /// `count` records, or records without end. `f` must give the same record for the same index every time, or
    /// what is read again after a failure is not what was read before.
    pub fn new<T>(count: Option<u64>, f: F) -> Self
    where
        F: Fn(u64) -> T + Send + Sync + 'static,
    {
        Self { count, per_second: None, f: Arc::new(f) }
    }

    /// Emits so many records per second in total, evenly spread; what could not be emitted in time is made up for, one
    /// second's worth at most. Must be above zero.
    #[must_use]
    pub fn with_rate(mut self, records_per_second: f64) -> Self {
        self.per_second = Some(records_per_second);
        self
    }
}

impl Generator<()> {
    /// The numbers of `range`.
    pub fn sequence(range: Range<u64>) -> Generator<impl Fn(u64) -> u64 + Send + Sync + 'static> {
        Generator::new(Some(range.end.saturating_sub(range.start)), move |index| range.start + index)
    }

    /// The elements of a list.
    pub fn of<T: Data + Sync>(values: Vec<T>) -> Generator<impl Fn(u64) -> T + Send + Sync + 'static> {
        // An index is below the count, so there is always an element.
        Generator::new(Some(values.len() as u64), move |index| values[index as usize].clone())
    }
}

impl<F> std::fmt::Debug for Generator<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generator")
            .field("count", &self.count)
            .field("per_second", &self.per_second)
            .finish_non_exhaustive()
    }
}

impl<T, F> Source for Generator<F>
where
    T: Data,
    F: Fn(u64) -> T + Send + Sync + 'static,
{
    type Record = T;
    type Split = GeneratorSplit;

    fn is_bounded(&self) -> bool {
        self.count.is_some()
    }

    fn enumerator(
        &self,
        context: &EnumeratorContext,
        restored: Option<&[u8]>,
    ) -> Result<Box<dyn SplitEnumerator<GeneratorSplit>>> {
        self.per_second.map(RateLimit::new).transpose().map_err(|e| e.at("generator source"))?;
        let step = u64::from(context.parallelism.max(1));
        let end = self.count;
        let list = || {
            let firsts = (0..step).filter(|first| end.is_none_or(|end| *first < end));
            Ok(firsts.map(|first| GeneratorSplit { next: Some(first), step, end }).collect())
        };
        let splits = AssignedSplits::new(context.parallelism, restored, list);
        Ok(Box::new(splits.map_err(|e| e.at("generator source"))?))
    }

    fn reader(
        &self,
        _context: &ReaderContext,
    ) -> Result<Box<dyn SourceReader<Record = T, Split = GeneratorSplit>>> {
        Ok(Box::new(GeneratorReader {
            f: Arc::clone(&self.f),
            per_second: self.per_second,
            rate: None,
            splits: VecDeque::new(),
        }))
    }
}

struct GeneratorReader<F> {
    f: Arc<F>,
    per_second: Option<f64>,
    /// Made anew whenever the splits change, since each brings its share of the rate.
    rate: Option<RateLimit>,
    splits: VecDeque<GeneratorSplit>,
}

impl<T, F: Fn(u64) -> T> SourceReader for GeneratorReader<F> {
    type Record = T;
    type Split = GeneratorSplit;

    fn add_split(&mut self, split: GeneratorSplit) -> Result<()> {
        self.splits.push_back(split);
        self.rate = None;
        Ok(())
    }

    fn poll(&mut self, now_ms: i64, out: &mut Collector<'_, T>) -> Result<ReaderStatus> {
        let shares: f64 = self.splits.iter().map(|split| 1.0 / split.step.max(1) as f64).sum();
        // Splits take turns: with more than one, as after a restart at lower parallelism, none waits for another.
        let Some(mut split) = self.splits.pop_front() else { return Ok(ReaderStatus::NeedSplit) };
        let mut allowed = POLL_RECORDS;
        if let Some(per_second) = self.per_second {
            let rate = match &mut self.rate {
                Some(rate) => rate,
                none => none.insert(RateLimit::new(per_second * shares)?),
            };
            match rate.allowance(now_ms) {
                Allowance::Records(records) => allowed = allowed.min(records),
                Allowance::NotBefore(next) => {
                    self.splits.push_front(split);
                    return Ok(ReaderStatus::WaitUntil(next));
                }
            }
        }
        let mut emitted = 0;
        while emitted < allowed
            && let Some(index) = split.next.filter(|next| split.end.is_none_or(|end| *next < end))
        {
            out.collect_untimed((self.f)(index));
            split.next = index.checked_add(split.step);
            emitted += 1;
        }
        if let Some(rate) = &mut self.rate {
            rate.use_up(emitted);
        }
        if split.next.is_some_and(|next| split.end.is_none_or(|end| next < end)) {
            self.splits.push_back(split);
        } else {
            self.rate = None;
        }
        Ok(if self.splits.is_empty() { ReaderStatus::NeedSplit } else { ReaderStatus::More })
    }

    fn snapshot(&self) -> Result<Vec<GeneratorSplit>> {
        Ok(self.splits.iter().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::function::{NextSplit, SubtaskInfo};
    use crate::id::Attempt;

    type Reader = Box<dyn SourceReader<Record = u64, Split = GeneratorSplit>>;

    fn new_reader(
        source: &impl Source<Record = u64, Split = GeneratorSplit>,
        splits: Vec<GeneratorSplit>,
    ) -> Reader {
        let operator = "numbers".into();
        let subtask =
            SubtaskInfo { operator, index: 0, parallelism: 1, max_parallelism: 128, attempt: Attempt(1) };
        let mut reader = source.reader(&ReaderContext { subtask }).unwrap();
        splits.into_iter().for_each(|split| reader.add_split(split).unwrap());
        reader
    }

    fn splits(source: &impl Source<Split = GeneratorSplit>, parallelism: u32) -> Vec<GeneratorSplit> {
        let mut queue = source.enumerator(&EnumeratorContext { parallelism }, None).unwrap();
        let mut next = |subtask| match queue.next_split(subtask).unwrap() {
            NextSplit::Split(split) => Some(split),
            _ => None,
        };
        let splits: Vec<_> = (0..parallelism).filter_map(&mut next).collect();
        assert_eq!((0..parallelism).find_map(&mut next), None, "one split for each reader");
        splits
    }

    fn poll(reader: &mut Reader, now_ms: i64, into: &mut Vec<u64>) -> ReaderStatus {
        let mut out = Collector::new(into, 0);
        let status = reader.poll(now_ms, &mut out).unwrap();
        out.finish().unwrap();
        status
    }

    #[test]
    fn every_index_once_across_a_restart_at_another_parallelism() {
        let source = Generator::sequence(10..5_010);
        let mut readers: Vec<Reader> =
            splits(&source, 3).into_iter().map(|split| new_reader(&source, vec![split])).collect();
        let (mut found, mut positions) = (Vec::new(), Vec::new());
        for (polls, reader) in readers.iter_mut().enumerate() {
            (0..polls).for_each(|_| assert_eq!(poll(reader, 0, &mut found), ReaderStatus::More));
            positions.extend(reader.snapshot().unwrap());
        }
        assert_eq!(found.len(), 3 * 512);
        let mut reader = new_reader(&source, positions);
        while poll(&mut reader, 0, &mut found) == ReaderStatus::More {}
        assert_eq!(reader.snapshot().unwrap(), []);
        found.sort_unstable();
        assert!(found.into_iter().eq(10..5_010));
    }

    #[test]
    fn splits_without_end_take_turns() {
        let source = Generator::new(None, |index| index);
        assert!(!source.is_bounded());
        let mut reader = new_reader(&source, splits(&source, 2));
        let mut found = Vec::new();
        (0..4).for_each(|_| assert_eq!(poll(&mut reader, 0, &mut found), ReaderStatus::More));
        found.sort_unstable();
        assert!(found.into_iter().eq(0..2_048));
    }

    #[test]
    fn the_rate_is_that_of_all_splits_together() {
        let source = Generator::new(None, |index| index).with_rate(1_000.0);
        let mut found = Vec::new();
        for split in splits(&source, 4) {
            let (mut reader, mut now) = (new_reader(&source, vec![split]), 0);
            while now < 10_000 {
                if let ReaderStatus::WaitUntil(next) = poll(&mut reader, now, &mut found) {
                    assert!(next > now);
                    now = next;
                }
            }
        }
        assert!((9_990..=10_010).contains(&found.len()), "{}", found.len());
    }

    #[test]
    fn few_records_many_readers_and_the_last_index_there_is() {
        assert_eq!(splits(&Generator::sequence(5..7), 4).len(), 2);
        assert!(splits(&Generator::sequence(7..7), 4).is_empty());
        let source = Generator::new(None, |index| index);
        let mut found = Vec::new();
        let last = GeneratorSplit { next: Some(u64::MAX - 1), step: 2, end: None };
        assert_eq!(poll(&mut new_reader(&source, vec![last]), 0, &mut found), ReaderStatus::NeedSplit);
        assert_eq!(found, [u64::MAX - 1]);
    }

    #[test]
    fn impossible_rates_are_refused() {
        let source = Generator::sequence(0..1).with_rate(-1.0);
        let e = source.enumerator(&EnumeratorContext { parallelism: 1 }, None).err().unwrap();
        assert_eq!(e.kind(), ErrorKind::Config);
    }
}

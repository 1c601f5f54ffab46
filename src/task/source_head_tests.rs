//! A source head over a reader that counts, in front of a chain that writes down what it is given.

use super::*;
use crate::error::Error;
use crate::operator::test_chain::{Journal, Recorder, barrier};

/// A split is the next number and the one after the last; a poll emits one number of the first split.
type Range = (u64, u64);

#[derive(Default)]
struct Counter {
    splits: Vec<Range>,
    fails: bool,
}

impl SourceReader for Counter {
    type Record = u64;
    type Split = Range;

    fn add_split(&mut self, split: Range) -> Result<()> {
        self.splits.push(split);
        Ok(())
    }

    fn poll(&mut self, _now_ms: i64, out: &mut Collector<'_, u64>) -> Result<ReaderStatus> {
        if self.fails {
            return Err(Error::data("torn"));
        }
        if let Some((next, _)) = self.splits.first_mut() {
            out.collect(*next);
            *next += 1;
        }
        self.splits.retain(|(next, end)| next < end);
        Ok(if self.splits.is_empty() { ReaderStatus::NeedSplit } else { ReaderStatus::More })
    }

    fn snapshot(&self) -> Result<Vec<Range>> {
        Ok(self.splits.clone())
    }
}

fn head(reader: Counter, restored: &RestoredState) -> (SourceHead<u64, Range>, Journal) {
    let journal = Journal::default();
    let chain = Box::new(Recorder(journal.clone()));
    let uid = OperatorUid("numbers".into());
    (SourceHead::new(uid, "numbers".into(), Box::new(reader), chain, restored).unwrap(), journal)
}

fn split(range: Range) -> HeadEvent {
    let mut bytes = Vec::new();
    codec::encode(&range, &mut bytes).unwrap();
    HeadEvent::Split(Some(bytes))
}

/// The head's own part of a checkpoint.
fn cut(head: &mut SourceHead<u64, Range>) -> OperatorState {
    let mut snapshot = ChainSnapshot::default();
    let barrier = barrier(1);
    head.barrier(barrier, &mut snapshot).unwrap();
    assert_eq!(snapshot.operators.len(), 1);
    snapshot.operators.remove(0).state
}

#[test]
fn it_asks_once_for_each_split_and_ends_behind_the_last_watermark() {
    let (mut head, journal) = head(Counter::default(), &RestoredState::default());
    assert_eq!(head.step(0).unwrap(), Progress::NeedSplit);
    assert_eq!(head.step(0).unwrap(), Progress::Idle(None), "asked already");
    head.event(split((7, 9))).unwrap();
    assert_eq!(head.step(0).unwrap(), Progress::Worked);
    assert_eq!(head.step(0).unwrap(), Progress::Worked);
    assert_eq!(head.step(0).unwrap(), Progress::NeedSplit);
    head.event(HeadEvent::Split(None)).unwrap();
    assert_eq!(head.step(0).unwrap(), Progress::Ended);
    assert_eq!(journal.take(), ["7", "8", &format!("watermark {MAX_WATERMARK}"), "end of input"]);
    // The final checkpoint still goes through.
    assert_eq!(head.step(0).unwrap(), Progress::Idle(None));
    cut(&mut head);
    assert_eq!(journal.take(), ["barrier 1"]);
}

#[test]
fn positions_are_those_at_the_barrier_and_reading_goes_on_from_them() {
    let (mut before, journal) = head(Counter::default(), &RestoredState::default());
    before.event(split((0, 3))).unwrap();
    before.event(split((10, 12))).unwrap();
    before.step(0).unwrap();
    let state = cut(&mut before);
    before.step(0).unwrap();
    assert_eq!(journal.take(), ["0", "barrier 1", "1"], "what follows the barrier is not covered");

    let (mut after, journal) = head(Counter::default(), &RestoredState::deal(vec![state], 0, 1));
    let steps: Vec<Progress> = (0..5).map(|_| after.step(0).unwrap()).collect();
    assert_eq!(journal.take(), ["1", "2", "10", "11"]);
    assert_eq!(steps.last(), Some(&Progress::NeedSplit), "what it had comes before what it asks for");
}

#[test]
fn a_failing_reader_is_named() {
    let reader = Counter { splits: Vec::new(), fails: true };
    let (mut head, _) = head(reader, &RestoredState::default());
    head.event(split((0, 1))).unwrap();
    assert_eq!(head.step(0).unwrap_err().to_string(), "source 'numbers': torn");
}

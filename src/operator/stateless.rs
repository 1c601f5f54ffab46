//! Operators without state: map, filter and flat map in one form, forks, and the end of a stream nobody reads.

use crate::error::Result;
use crate::function::{Collector, Data, Emit, Timestamp};
use crate::operator::{Control, Operator, named_panic};
use std::sync::Arc;

/// Map, filter and flat map: a function from one record to any number.
pub(crate) struct FlatOperator<F, U> {
    pub(crate) name: Arc<str>,
    pub(crate) function: Arc<F>,
    pub(crate) next: Box<dyn Operator<U>>,
}

impl<T, U, F: Fn(T, &mut Collector<'_, U>)> Emit<T> for FlatOperator<F, U> {
    #[inline]
    fn emit(&mut self, value: T, timestamp: Timestamp) -> Result<()> {
        let mut out = Collector::new(&mut *self.next, timestamp);
        named_panic(&self.name, || (self.function)(value, &mut out));
        out.finish()
    }
}

impl<T, U, F: Fn(T, &mut Collector<'_, U>)> Operator<T> for FlatOperator<F, U> {
    fn watermark(&mut self, watermark: Timestamp) -> Result<()> {
        self.next.watermark(watermark)
    }

    fn control(&mut self, control: &mut Control<'_>) -> Result<()> {
        self.next.control(control)
    }
}

/// Hands everything to several operators.
pub(crate) struct Fork<T> {
    pub(crate) branches: Vec<Box<dyn Operator<T>>>,
}

impl<T: Data> Emit<T> for Fork<T> {
    fn emit(&mut self, value: T, timestamp: Timestamp) -> Result<()> {
        if let Some((last, others)) = self.branches.split_last_mut() {
            for branch in others {
                branch.emit(value.clone(), timestamp)?;
            }
            last.emit(value, timestamp)?;
        }
        Ok(())
    }
}

impl<T: Data> Operator<T> for Fork<T> {
    fn watermark(&mut self, watermark: Timestamp) -> Result<()> {
        self.branches.iter_mut().try_for_each(|b| b.watermark(watermark))
    }

    fn control(&mut self, control: &mut Control<'_>) -> Result<()> {
        self.branches.iter_mut().try_for_each(|b| b.control(control))
    }
}

/// Where a stream ends that nobody reads.
pub(crate) struct Discard;

impl<T> Emit<T> for Discard {
    fn emit(&mut self, _value: T, _timestamp: Timestamp) -> Result<()> {
        Ok(())
    }
}

impl<T> Operator<T> for Discard {
    fn watermark(&mut self, _watermark: Timestamp) -> Result<()> {
        Ok(())
    }

    fn control(&mut self, _control: &mut Control<'_>) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::CheckpointId;
    use crate::operator::test_chain::{Journal, Recorder};

    #[test]
    fn every_branch_of_a_fork_is_told_everything() {
        let journals = [Journal::default(), Journal::default(), Journal::default()];
        let branch = |journal: &Journal| -> Box<dyn Operator<u64>> { Box::new(Recorder(journal.clone())) };
        let mut fork = Fork { branches: journals.iter().map(branch).collect() };
        fork.emit(7, 1).unwrap();
        fork.watermark(5).unwrap();
        fork.control(&mut Control::Completed(CheckpointId(3))).unwrap();
        fork.control(&mut Control::EndOfInput).unwrap();
        for journal in journals {
            assert_eq!(journal.take(), ["7", "watermark 5", "completed 3", "end of input"]);
        }
    }
}

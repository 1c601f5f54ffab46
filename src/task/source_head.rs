//! The head of a chain that starts with a source: asks for splits, reads them, keeps their positions.

use crate::checkpoint::Barrier;
use crate::error::Result;
use crate::function::{Collector, Data, MAX_WATERMARK, NO_TIMESTAMP, ReaderStatus, SourceReader};
use crate::id::OperatorUid;
use crate::operator::{
    ChainSnapshot, Control, Operator, OperatorSnapshot, OperatorState, RestoredState, named_panic,
};
use crate::task::{Head, HeadEvent, Progress};
use std::sync::Arc;
use tidegate_state::codec;

/// Name of the list in operator state that holds splits with their positions.
const SPLITS: &str = "splits";

/// A reader with the chain behind it.
pub(crate) struct SourceHead<T, S> {
    uid: OperatorUid,
    name: Arc<str>,
    reader: Box<dyn SourceReader<Record = T, Split = S>>,
    chain: Box<dyn Operator<T>>,
    /// The reader has splits to read.
    reading: bool,
    /// A split was asked for and has not come yet.
    asked: bool,
    /// The enumerator has nothing left for this reader.
    no_more: bool,
    /// What is left to read is not to be read.
    draining: bool,
    ended: bool,
}

impl<T: Data, S: Data> SourceHead<T, S> {
    /// A head that goes on with the restored splits.
    pub(crate) fn new(
        uid: OperatorUid,
        name: Arc<str>,
        mut reader: Box<dyn SourceReader<Record = T, Split = S>>,
        chain: Box<dyn Operator<T>>,
        restored: &RestoredState,
    ) -> Result<Self> {
        let splits: Vec<S> = restored.list(SPLITS)?;
        let reading = !splits.is_empty();
        for split in splits {
            reader.add_split(split)?;
        }
        Ok(Self {
            uid,
            name,
            reader,
            chain,
            reading,
            asked: false,
            no_more: false,
            draining: false,
            ended: false,
        })
    }

    fn end(&mut self) -> Result<Progress> {
        self.ended = true;
        self.chain.watermark(MAX_WATERMARK)?;
        self.chain.control(&mut Control::EndOfInput)?;
        Ok(Progress::Ended)
    }
}

impl<T: Data, S: Data> Head for SourceHead<T, S> {
    fn step(&mut self, now_ms: i64) -> Result<Progress> {
        if self.ended {
            return Ok(Progress::Idle(None));
        }
        if self.draining {
            return self.end();
        }
        if !self.reading {
            if self.no_more {
                return self.end();
            }
            if self.asked {
                return Ok(Progress::Idle(None));
            }
            self.asked = true;
            return Ok(Progress::NeedSplit);
        }
        let mut out = Collector::new(&mut *self.chain, NO_TIMESTAMP);
        let status = named_panic(&self.name, || self.reader.poll(now_ms, &mut out));
        out.finish()?;
        match status.map_err(|e| e.at(format_args!("source '{}'", self.name)))? {
            ReaderStatus::More => Ok(Progress::Worked),
            ReaderStatus::WaitUntil(time) => Ok(Progress::Idle(Some(time))),
            ReaderStatus::NeedSplit => {
                self.reading = false;
                Ok(Progress::Worked)
            }
        }
    }

    fn control(&mut self, control: &mut Control<'_>) -> Result<()> {
        self.chain.control(control)
    }

    fn barrier(&mut self, barrier: Barrier, snapshot: &mut ChainSnapshot) -> Result<()> {
        let mut state = OperatorState::default();
        state.put_list(SPLITS, self.reader.snapshot()?)?;
        snapshot.operators.push(OperatorSnapshot::new(self.uid.clone(), state));
        self.chain.control(&mut Control::Barrier { barrier, snapshot })
    }

    fn event(&mut self, event: HeadEvent) -> Result<()> {
        match event {
            HeadEvent::Split(Some(split)) => {
                self.asked = false;
                self.reading = true;
                self.reader
                    .add_split(codec::decode(&split)?)
                    .map_err(|e| e.at(format_args!("source '{}'", self.name)))
            }
            HeadEvent::Split(None) => {
                self.no_more = true;
                Ok(())
            }
            HeadEvent::Drain => {
                self.draining = true;
                Ok(())
            }
            HeadEvent::Aborted(_) => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "source_head_tests.rs"]
mod tests;

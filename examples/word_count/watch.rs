//! An operator behind the source that tells what is read, and panics when it is asked to.

use crate::screen::{Screen, grouped};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use tidegate::connector::FileRecord;
use tidegate::function::OpenContext;
use tidegate::prelude::*;

/// What all probes of all attempts know together. It is no state of the job: a restart does not set it back.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) screen: Screen,
    lines: AtomicU64,
    /// Per reader: the position of the line read last.
    positions: Vec<AtomicU64>,
    panic_after: Option<u64>,
    panicked: AtomicBool,
}

impl Watch {
    pub(crate) fn new(panic_after: Option<u64>, readers: u32) -> Arc<Self> {
        Arc::new(Self {
            screen: Screen::new(),
            lines: AtomicU64::new(0),
            positions: (0..readers).map(|_| AtomicU64::new(0)).collect(),
            panic_after,
            panicked: AtomicBool::new(false),
        })
    }

    /// Lines read by all attempts: those that were read again count again.
    pub(crate) fn lines(&self) -> u64 {
        self.lines.load(Relaxed)
    }

    /// Where the readers are.
    pub(crate) fn positions(&self) -> String {
        let reader = |(index, position): (usize, &AtomicU64)| {
            format!("reader {} at byte {}", index + 1, grouped(position.load(Relaxed)))
        };
        self.positions.iter().enumerate().map(reader).collect::<Vec<_>>().join(", ")
    }

    /// The probe of one subtask.
    pub(crate) fn probe(self: &Arc<Self>, open: &OpenContext<'_>) -> Probe {
        let subtask = open.subtask();
        Probe { watch: self.clone(), reader: subtask.index, is_first: subtask.attempt.0 > 1 }
    }
}

/// Hands records on as they are.
#[derive(Debug)]
pub(crate) struct Probe {
    watch: Arc<Watch>,
    reader: u32,
    /// Whether the next record is the first one after a restart.
    is_first: bool,
}

impl ProcessFunction<FileRecord, FileRecord> for Probe {
    fn process(
        &mut self,
        record: FileRecord,
        _context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, FileRecord>,
    ) -> Result<()> {
        let watch = &*self.watch;
        if let Some(position) = watch.positions.get(self.reader as usize) {
            let before = position.swap(record.offset, Relaxed);
            if std::mem::take(&mut self.is_first) {
                watch.screen.event(&format!(
                    "REPLAY  reader {} goes on at byte {}; before the crash it had got to byte {}",
                    self.reader + 1,
                    grouped(record.offset),
                    grouped(before),
                ));
            }
        }
        let lines = watch.lines.fetch_add(1, Relaxed) + 1;
        if watch.panic_after.is_some_and(|after| lines >= after) && !watch.panicked.swap(true, Relaxed) {
            panic!("injected, after {} lines", grouped(lines));
        }
        out.collect(record);
        Ok(())
    }
}

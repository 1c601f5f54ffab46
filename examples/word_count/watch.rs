//! An operator behind the source that tells what is read, and makes the job crash when it is asked to.

use crate::screen::{Screen, grouped};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use tidegate::cluster::JobController;
use tidegate::connector::FileRecord;
use tidegate::function::OpenContext;
use tidegate::prelude::*;

/// With `--crash`: user code panics at this line.
const PANIC_AT_LINE: u64 = 9_000;
/// With `--crash`: a taskmanager crashes at this line.
const CRASH_AT_LINE: u64 = 22_000;

/// What all probes of all attempts know together. It is no state of the job: a restart does not set it back.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) screen: Screen,
    crash: bool,
    lines: AtomicU64,
    /// Per reader: the position of the line read last.
    positions: Vec<AtomicU64>,
    /// The running job and which of its taskmanagers is to crash.
    victim: OnceLock<(JobController, u32)>,
}

impl Watch {
    pub(crate) fn new(crash: bool, readers: u32) -> Arc<Self> {
        Arc::new(Self {
            screen: Screen::new(),
            crash,
            lines: AtomicU64::new(0),
            positions: (0..readers).map(|_| AtomicU64::new(0)).collect(),
            victim: OnceLock::new(),
        })
    }

    /// Says which taskmanager of which job is to crash when the time comes.
    pub(crate) fn set_victim(&self, job: JobController, taskmanager: u32) {
        _ = self.victim.set((job, taskmanager));
    }

    /// Lines read by all attempts: those that were read again count again.
    pub(crate) fn lines(&self) -> u64 {
        self.lines.load(Relaxed)
    }

    /// Whether the job has ended before all that was to happen did.
    pub(crate) fn ended_early(&self) -> bool {
        self.crash && self.lines() < CRASH_AT_LINE
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

    /// Crashes what is to crash at this line. No line has its number twice, also after a restart.
    #[expect(clippy::panic, reason = "asked for with --crash")]
    fn crash_at(&self, line: u64) {
        match (line, self.victim.get()) {
            (PANIC_AT_LINE, _) => panic!("injected at line {}", grouped(line)),
            (CRASH_AT_LINE, Some((job, taskmanager))) => {
                self.screen
                    .event(&format!("CRASH   taskmanager {taskmanager} goes down at line {}", grouped(line)));
                job.crash_taskmanager(*taskmanager);
            }
            _ => {}
        }
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
                let reader = self.reader + 1;
                let mut text = format!("REPLAY  reader {reader} goes on at byte {}", grouped(record.offset));
                // A process that was not there before the crash does not know.
                if before > 0 {
                    text += &format!("; before the crash it had got to byte {}", grouped(before));
                }
                watch.screen.event(&text);
            }
        }
        let line = watch.lines.fetch_add(1, Relaxed) + 1;
        if watch.crash {
            watch.crash_at(line);
        }
        out.collect(record);
        Ok(())
    }
}

//! The operator around a sink: writes, hands committables to the checkpoint, publishes them when it is durable.

use crate::checkpoint::CrashPoints;
use crate::error::Result;
use crate::function::{Committer, Data, Emit, SinkWriter, SubtaskInfo, Timestamp};
use crate::id::{CheckpointId, OperatorUid};
use crate::operator::{Control, Operator, OperatorSnapshot, OperatorState, RestoredState, named_panic};

/// Name of the list in operator state that holds committables not known to be published.
const PENDING: &str = "pending";

/// A writer with its committer.
pub(crate) struct SinkOperator<T, C> {
    uid: OperatorUid,
    subtask: SubtaskInfo,
    writer: Box<dyn SinkWriter<Record = T, Committable = C>>,
    committer: Box<dyn Committer<C>>,
    /// Handed to a checkpoint and not published yet, oldest first.
    pending: Vec<(CheckpointId, C)>,
    crash_points: CrashPoints,
}

impl<T: Data, C: Data> SinkOperator<T, C> {
    /// Publishes what the restored checkpoint covers and removes what no checkpoint covers, before any record.
    pub(crate) fn new(
        uid: OperatorUid,
        subtask: SubtaskInfo,
        writer: Box<dyn SinkWriter<Record = T, Committable = C>>,
        mut committer: Box<dyn Committer<C>>,
        restored: &RestoredState,
        crash_points: CrashPoints,
    ) -> Result<Self> {
        for committable in restored.list::<C>(PENDING)? {
            committer.commit(&committable).map_err(|e| e.at(subtask.place()))?;
        }
        committer.clean_up(&restored.union_list::<C>(PENDING)?).map_err(|e| e.at(subtask.place()))?;
        Ok(Self { uid, subtask, writer, committer, pending: Vec::new(), crash_points })
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> Result<OperatorState> {
        self.crash_points.reach_sync("sink.before_prepare")?;
        let prepared = named_panic(&self.subtask.operator, || self.writer.prepare_commit())?;
        self.crash_points.reach_sync("sink.prepared")?;
        self.pending.extend(prepared.into_iter().map(|c| (checkpoint, c)));
        let mut state = OperatorState::default();
        // A sink that publishes as it writes needs no file for nothing.
        if size_of::<C>() > 0 || !self.pending.is_empty() {
            state.put_list(PENDING, self.pending.iter().map(|(_, c)| c))?;
        }
        Ok(state)
    }

    /// Publishes everything up to and including `checkpoint`: what an aborted checkpoint prepared is covered by the
    /// next one that completes.
    fn commit(&mut self, checkpoint: CheckpointId) -> Result<()> {
        let due = self.pending.iter().take_while(|(of, _)| *of <= checkpoint).count();
        if due == 0 {
            return Ok(());
        }
        self.crash_points.reach_sync("sink.before_commit")?;
        for (_, committable) in self.pending.iter().take(due) {
            named_panic(&self.subtask.operator, || self.committer.commit(committable))?;
            self.crash_points.reach_sync("sink.commit_unrecorded")?;
        }
        self.pending.drain(..due);
        Ok(())
    }
}

impl<T: Data, C: Data> Emit<T> for SinkOperator<T, C> {
    #[inline]
    fn emit(&mut self, value: T, timestamp: Timestamp) -> Result<()> {
        let result = named_panic(&self.subtask.operator, || self.writer.write(value, timestamp));
        result.map_err(|e| e.at(self.subtask.place()))
    }
}

impl<T: Data, C: Data> Operator<T> for SinkOperator<T, C> {
    fn watermark(&mut self, _watermark: Timestamp) -> Result<()> {
        Ok(())
    }

    fn control(&mut self, control: &mut Control<'_>) -> Result<()> {
        match control {
            Control::Barrier { barrier, snapshot } => {
                let state = self.prepare(barrier.checkpoint).map_err(|e| e.at(self.subtask.place()))?;
                snapshot.operators.push(OperatorSnapshot::new(self.uid.clone(), state));
            }
            Control::Completed(checkpoint) => {
                self.commit(*checkpoint).map_err(|e| e.at(self.subtask.place()))?
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "sink_tests.rs"]
mod tests;

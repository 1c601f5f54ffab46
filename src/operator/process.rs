//! The operator around a process function without keyed state.

use crate::error::Result;
use crate::function::{
    Collector, Emit, NO_TIMESTAMP, ProcessContext, ProcessFunction, SubtaskInfo, TimeView, Timestamp,
};
use crate::id::OperatorUid;
use crate::operator::{
    Control, Operator, OperatorSnapshot, OperatorState, RestoredState, SideOutputs, named_panic,
};
use std::marker::PhantomData;

/// Runs a [`ProcessFunction`].
pub(crate) struct ProcessOperator<P, I, O> {
    uid: OperatorUid,
    subtask: SubtaskInfo,
    function: P,
    next: Box<dyn Operator<O>>,
    side_outputs: SideOutputs,
    time: TimeView,
    ended: bool,
    input: PhantomData<fn(I)>,
}

impl<P, I, O> ProcessOperator<P, I, O> {
    pub(crate) fn new(
        uid: OperatorUid,
        subtask: SubtaskInfo,
        function: P,
        next: Box<dyn Operator<O>>,
        side_outputs: SideOutputs,
        restored: &RestoredState,
    ) -> Self {
        let time = TimeView { watermark: restored.watermark(), processing_ms: 0 };
        Self { uid, subtask, function, next, side_outputs, time, ended: restored.ended(), input: PhantomData }
    }
}

impl<P: ProcessFunction<I, O>, I, O> Emit<I> for ProcessOperator<P, I, O> {
    #[inline]
    fn emit(&mut self, value: I, timestamp: Timestamp) -> Result<()> {
        let mut context = ProcessContext {
            timestamp,
            time: self.time,
            subtask: &self.subtask,
            side_outputs: &mut self.side_outputs,
        };
        let mut out = Collector::new(&mut *self.next, timestamp);
        let result =
            named_panic(&self.subtask.operator, || self.function.process(value, &mut context, &mut out));
        out.finish()?;
        result.map_err(|e| e.at(self.subtask.place()))
    }
}

impl<P: ProcessFunction<I, O>, I, O> Operator<I> for ProcessOperator<P, I, O> {
    fn watermark(&mut self, watermark: Timestamp) -> Result<()> {
        self.time.watermark = self.time.watermark.max(watermark);
        self.side_outputs.watermark(watermark)?;
        self.next.watermark(watermark)
    }

    fn control(&mut self, control: &mut Control<'_>) -> Result<()> {
        match control {
            Control::Time { now_ms, .. } => self.time.processing_ms = *now_ms,
            Control::EndOfInput if !self.ended => {
                let mut out = Collector::new(&mut *self.next, NO_TIMESTAMP);
                let result = named_panic(&self.subtask.operator, || self.function.finish(&mut out));
                out.finish()?;
                result.map_err(|e| e.at(self.subtask.place()))?;
                self.ended = true;
            }
            Control::Barrier { snapshot, .. } => {
                let state = OperatorState {
                    watermark: self.time.watermark,
                    ended: self.ended,
                    ..OperatorState::default()
                };
                snapshot.operators.push(OperatorSnapshot { uid: self.uid.clone(), keyed: None, state });
            }
            _ => {}
        }
        self.side_outputs.control(control)?;
        self.next.control(control)
    }
}

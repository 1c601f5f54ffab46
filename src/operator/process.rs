//! The operator around a process function without keyed state, of one input or of two.

use crate::error::Result;
use crate::function::{
    Collector, Emit, NO_TIMESTAMP, OperatorStates, ProcessContext, SubtaskInfo, TimeView, Timestamp,
};
use crate::id::OperatorUid;
use crate::operator::{
    Control, InputSide, Operator, OperatorSnapshot, OperatorState, RestoredState, SideOutputs, named_panic,
};
use std::marker::PhantomData;

/// A process function as its operator sees it, whatever its inputs are.
pub(crate) trait Steps<I, O> {
    fn process(
        &mut self,
        value: I,
        context: &mut ProcessContext<'_>,
        out: &mut Collector<'_, O>,
    ) -> Result<()>;

    /// All input has ended.
    fn finish(&mut self, _out: &mut Collector<'_, O>) -> Result<()> {
        Ok(())
    }

    /// One of two inputs has ended.
    fn finish_side(&mut self, _side: InputSide, _out: &mut Collector<'_, O>) -> Result<()> {
        Ok(())
    }
}

/// Runs a process function.
pub(crate) struct ProcessOperator<P, I, O> {
    uid: OperatorUid,
    subtask: SubtaskInfo,
    function: P,
    operator_states: OperatorStates,
    next: Box<dyn Operator<O>>,
    side_outputs: SideOutputs,
    time: TimeView,
    ended: bool,
    sides_ended: [bool; 2],
    input: PhantomData<fn(I)>,
}

impl<P: Steps<I, O>, I, O> ProcessOperator<P, I, O> {
    pub(crate) fn new(
        uid: OperatorUid,
        subtask: SubtaskInfo,
        function: P,
        operator_states: OperatorStates,
        next: Box<dyn Operator<O>>,
        side_outputs: SideOutputs,
        restored: &RestoredState,
    ) -> Self {
        Self {
            uid,
            subtask,
            function,
            operator_states,
            next,
            side_outputs,
            time: TimeView { watermark: restored.watermark(), processing_ms: 0 },
            ended: restored.ended(),
            sides_ended: restored.sides_ended(),
            input: PhantomData,
        }
    }

    /// Lets the function emit what is left.
    fn finish(&mut self, finish: impl FnOnce(&mut P, &mut Collector<'_, O>) -> Result<()>) -> Result<()> {
        let mut out = Collector::new(&mut *self.next, NO_TIMESTAMP);
        let result = named_panic(&self.subtask.operator, || finish(&mut self.function, &mut out));
        out.finish()?;
        result.map_err(|e| e.at(self.subtask.place()))
    }
}

impl<P: Steps<I, O>, I, O> Emit<I> for ProcessOperator<P, I, O> {
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

impl<P: Steps<I, O>, I, O> Operator<I> for ProcessOperator<P, I, O> {
    fn watermark(&mut self, watermark: Timestamp) -> Result<()> {
        self.time.watermark = self.time.watermark.max(watermark);
        self.side_outputs.watermark(watermark)?;
        self.next.watermark(watermark)
    }

    fn control(&mut self, control: &mut Control<'_>) -> Result<()> {
        match control {
            Control::Time { now_ms, .. } => self.time.processing_ms = *now_ms,
            Control::EndOfInput if !self.ended => {
                self.finish(P::finish)?;
                self.ended = true;
            }
            Control::Barrier { snapshot, .. } => {
                let lists = self.operator_states.freeze().map_err(|e| e.at(self.subtask.place()))?;
                let state = OperatorState {
                    watermark: self.time.watermark,
                    ended: self.ended,
                    sides_ended: self.sides_ended,
                    ..OperatorState::default()
                };
                let uid = self.uid.clone();
                snapshot.operators.push(OperatorSnapshot { uid, keyed: None, lists, in_flight: None, state });
            }
            _ => {}
        }
        self.side_outputs.control(control)?;
        self.next.control(control)
    }

    fn end_of_side(&mut self, side: InputSide) -> Result<()> {
        if self.sides_ended.get(side.index()) == Some(&false) {
            self.finish(|function, out| function.finish_side(side, out))?;
            self.sides_ended[side.index()] = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::{NO_WATERMARK, ProcessFunction};
    use crate::id::{Attempt, CheckpointId};
    use crate::operator::test_chain::{Journal, Recorder, barrier};
    use crate::operator::{ChainSnapshot, PlainSteps};

    /// Says where time stands with every record, and once more when it finishes.
    struct Clock;

    impl ProcessFunction<u64, String> for Clock {
        fn process(
            &mut self,
            n: u64,
            context: &mut ProcessContext<'_>,
            out: &mut Collector<'_, String>,
        ) -> Result<()> {
            out.collect(format!("{n} at {} and {}", context.watermark(), context.processing_time()));
            Ok(())
        }

        fn finish(&mut self, out: &mut Collector<'_, String>) -> Result<()> {
            out.collect("finished".to_owned());
            Ok(())
        }
    }

    type Clocks = ProcessOperator<PlainSteps<Clock>, u64, String>;

    /// The operator, what its output is given, and what its side output is.
    fn operator(restored: &RestoredState) -> (Clocks, Journal, Journal) {
        let subtask = SubtaskInfo {
            operator: "clock".into(),
            index: 0,
            parallelism: 1,
            max_parallelism: 8,
            attempt: Attempt(1),
        };
        let (log, side_log) = (Journal::default(), Journal::default());
        let mut side_outputs = SideOutputs::default();
        side_outputs.add::<u64>("late", Box::new(Recorder(side_log.clone())));
        let next = Box::new(Recorder(log.clone()));
        let uid = OperatorUid("clock".into());
        let (clock, states) = (PlainSteps(Clock), OperatorStates::default());
        (ProcessOperator::new(uid, subtask, clock, states, next, side_outputs, restored), log, side_log)
    }

    fn restart(mut operator: Clocks) -> (Clocks, Journal, Journal) {
        let mut snapshot = ChainSnapshot::default();
        let barrier = barrier(1);
        operator.control(&mut Control::Barrier { barrier, snapshot: &mut snapshot }).unwrap();
        let states = snapshot.operators.into_iter().map(|o| o.state).collect();
        self::operator(&RestoredState::deal(states, 0, 1))
    }

    #[test]
    fn what_is_left_is_emitted_once_ahead_of_the_end_also_across_a_restart() {
        let (before, ..) = operator(&RestoredState::default());
        let (mut running, log, _) = restart(before);
        running.control(&mut Control::EndOfInput).unwrap();
        assert_eq!(log.take(), ["finished", "end of input"]);
        let (mut ended, log, _) = restart(running);
        ended.control(&mut Control::EndOfInput).unwrap();
        assert_eq!(log.take(), ["end of input"], "it had finished before the checkpoint");
    }

    #[test]
    fn time_goes_on_across_a_restart() {
        let (mut before, log, _) = operator(&RestoredState::default());
        before.emit(1, NO_TIMESTAMP).unwrap();
        before.watermark(50).unwrap();
        assert_eq!(log.take(), [format!("1 at {NO_WATERMARK} and 0"), "watermark 50".to_owned()]);
        let (mut after, log, _) = restart(before);
        after.control(&mut Control::Time { now_ms: 9, next_ms: &mut None }).unwrap();
        after.emit(2, NO_TIMESTAMP).unwrap();
        assert_eq!(log.take(), ["time 9", "2 at 50 and 9"]);
    }

    #[test]
    fn a_side_output_is_told_everything_that_the_output_is_told() {
        let (mut operator, log, side_log) = operator(&RestoredState::default());
        operator.watermark(5).unwrap();
        for mut control in [Control::Completed(CheckpointId(1)), Control::Idle(true), Control::Flush] {
            operator.control(&mut control).unwrap();
        }
        let told = log.take();
        assert_eq!(told, ["watermark 5", "completed 1", "idle true", "flush"]);
        assert_eq!(side_log.take(), told);
    }
}

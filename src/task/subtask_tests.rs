//! The state machine of a subtask, over a head that does what it is told.

use super::*;
use crate::checkpoint::CheckpointKind;
use crate::error::ErrorKind;
use crate::id::VertexId;
use crate::operator::test_chain::{Journal, name_of};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// What the head is to do next.
#[derive(Default)]
struct Script {
    steps: VecDeque<Progress>,
    ahead: VecDeque<Progress>,
    blocked: bool,
    next_timer_ms: Option<i64>,
    panics: bool,
}

#[derive(Clone, Default)]
struct Scripted {
    script: Rc<RefCell<Script>>,
    journal: Journal,
}

impl Head for Scripted {
    fn look_ahead(&mut self, _now_ms: i64) -> Result<Progress> {
        Ok(self.script.borrow_mut().ahead.pop_front().unwrap_or(Progress::Idle(None)))
    }

    fn put_in_flight(&mut self, _snapshot: &mut ChainSnapshot) {
        self.journal.add("in flight");
    }

    fn step(&mut self, _now_ms: i64) -> Result<Progress> {
        assert!(!self.script.borrow().panics, "told to panic");
        self.journal.add("step");
        Ok(self.script.borrow_mut().steps.pop_front().unwrap_or(Progress::Idle(None)))
    }

    fn control(&mut self, control: &mut Control<'_>) -> Result<()> {
        match control {
            // Too many to be written down.
            Control::Drain(blocked) => {
                **blocked = self.script.borrow().blocked;
                return Ok(());
            }
            Control::Time { next_ms, .. } => **next_ms = self.script.borrow().next_timer_ms,
            _ => {}
        }
        self.journal.add(name_of(control));
        Ok(())
    }

    fn barrier(&mut self, barrier: Barrier, _snapshot: &mut ChainSnapshot) -> Result<()> {
        self.journal.add(format!("barrier {}", barrier.checkpoint));
        Ok(())
    }

    fn event(&mut self, event: HeadEvent) -> Result<()> {
        self.journal.add(format!("{event:?}"));
        Ok(())
    }
}

struct Rig {
    task: Subtask,
    head: Scripted,
    outputs: Vec<TaskOutput>,
}

impl Rig {
    fn new(steps: impl IntoIterator<Item = Progress>) -> Self {
        let head = Scripted::default();
        head.script.borrow_mut().steps.extend(steps);
        let id = SubtaskId { vertex: VertexId(3), index: 1 };
        let uid = Some(OperatorUid("read".into()));
        let label = "subtask 2 of 2 of 'read'".to_owned();
        let task = Subtask::new(id, label, uid, Box::new(head.clone()), CrashPoints::none());
        let mut rig = Self { task, head, outputs: Vec::new() };
        rig.deliver(TaskMessage::Start);
        rig
    }

    /// A step, in words, with what it led to.
    fn step(&mut self, now_ms: i64) -> (String, Vec<String>) {
        let step = self.task.step(now_ms, &mut self.outputs).unwrap();
        (format!("{step:?}"), self.head.journal.take())
    }

    fn deliver(&mut self, message: TaskMessage) -> Vec<String> {
        self.task.deliver(message, 7, &mut self.outputs).unwrap();
        self.head.journal.take()
    }
}

fn barrier(n: u64) -> Barrier {
    Barrier::new(CheckpointId(n), CheckpointKind::Periodic, 0)
}

fn said(step: &str, journal: &[&str]) -> (String, Vec<String>) {
    (step.to_owned(), journal.iter().map(|s| (*s).to_owned()).collect())
}

#[test]
fn nothing_is_touched_before_the_start() {
    let mut rig = Rig::new([Progress::Worked]);
    rig.task.started = false;
    rig.head.script.borrow_mut().next_timer_ms = Some(0);
    assert_eq!(rig.step(50), said("Wait(None)", &[]));
    rig.deliver(TaskMessage::Start);
    assert_eq!(rig.step(51).0, "Ready");
    // A job that had stopped ends without one.
    let mut rig = Rig::new([Progress::Worked]);
    rig.task.started = false;
    assert_eq!(rig.deliver(TaskMessage::Finish), Vec::<String>::new());
    assert_eq!(rig.step(52), said("Finished", &[]));
}

#[test]
fn a_task_that_goes_idle_hands_on_everything_first_also_what_its_timers_emit() {
    let mut rig = Rig::new([Progress::Worked, Progress::Idle(None), Progress::Idle(Some(50))]);
    assert_eq!(rig.step(1), said("Ready", &["time 1", "step", "time 1"]));
    assert_eq!(rig.step(2), said("Wait(None)", &["step", "time 2", "flush"]));
    // Nothing was read since the last flush, and still a timer or the reader may have emitted.
    assert_eq!(rig.step(3), said("Wait(Some(50))", &["step", "time 3", "flush"]));
}

#[test]
fn under_load_a_partly_filled_batch_waits_no_longer_than_the_buffer_timeout() {
    let mut rig = Rig::new((0..4).map(|_| Progress::Worked));
    rig.step(100);
    assert_eq!(rig.step(100 + BUFFER_TIMEOUT_MS - 1), said("Ready", &["step"]));
    assert_eq!(rig.step(100 + BUFFER_TIMEOUT_MS), said("Ready", &["step", "flush"]));
    // The next period begins with a look at the clock: records may have registered timers.
    assert_eq!(rig.step(120), said("Ready", &["step", "time 120"]));
}

#[test]
fn with_output_that_does_not_fit_nothing_is_read() {
    let mut rig = Rig::new([Progress::Worked]);
    rig.head.script.borrow_mut().blocked = true;
    assert_eq!(rig.step(1), said("Wait(None)", &[]));
    rig.head.script.borrow_mut().blocked = false;
    assert_eq!(rig.step(2), said("Ready", &["time 2", "step", "time 2"]));
}

#[test]
fn timers_fire_when_due_and_set_the_alarm() {
    let mut rig = Rig::new([]);
    rig.head.script.borrow_mut().next_timer_ms = Some(40);
    rig.step(1);
    rig.head.script.borrow_mut().steps.extend([Progress::Idle(Some(60)), Progress::Worked]);
    assert_eq!(rig.step(39), said("Wait(Some(40))", &["step", "time 39", "flush"]), "the earlier of the two");
    rig.head.script.borrow_mut().next_timer_ms = Some(90);
    assert_eq!(rig.step(40).1[..2], ["time 40", "step"], "before anything is read");
}

#[test]
fn the_clock_is_read_before_a_source_is_cut() {
    let mut rig = Rig::new([]);
    assert_eq!(rig.deliver(TaskMessage::Trigger(barrier(5))), ["time 7", "barrier 5"]);
    let [TaskOutput::Frozen, TaskOutput::Snapshot { barrier: b, alignment_ms: 0, .. }] =
        rig.outputs.as_slice()
    else {
        panic!()
    };
    assert_eq!(b.checkpoint, CheckpointId(5));
}

#[test]
fn alignment_is_timed_from_the_first_barrier_to_the_last() {
    let mut rig = Rig::new([Progress::Aligning, Progress::Worked, Progress::Aligned(barrier(5))]);
    for now in [10, 20, 35] {
        rig.step(now);
    }
    let [TaskOutput::Frozen, TaskOutput::Snapshot { alignment_ms: 25, .. }] = rig.outputs.as_slice() else {
        panic!("{:?}", rig.outputs)
    };
    // An alignment that was given up does not count for the next one.
    let mut rig = Rig::new([Progress::Aligning, Progress::Aligned(barrier(6))]);
    rig.step(10);
    assert_eq!(rig.deliver(TaskMessage::Aborted(CheckpointId(5))), ["Aborted(CheckpointId(5))"]);
    rig.step(35);
    let [TaskOutput::Frozen, TaskOutput::Snapshot { alignment_ms: 0, .. }] = rig.outputs.as_slice() else {
        panic!("{:?}", rig.outputs)
    };
}

#[test]
fn it_drains_takes_part_in_checkpoints_and_ends_only_when_told() {
    let mut rig = Rig::new([Progress::NeedSplit, Progress::Ended]);
    rig.step(1);
    assert!(matches!(rig.outputs.as_slice(), [TaskOutput::NeedSplit(uid)] if uid.as_str() == "read"));
    assert_eq!(rig.deliver(TaskMessage::Split(None)), ["Split(None)"]);
    assert_eq!(rig.step(2), said("Ready", &["step", "flush"]));
    assert!(matches!(rig.outputs.as_slice(), [_, TaskOutput::Drained]));
    assert_eq!(rig.step(3).0, "Wait(None)");
    rig.deliver(TaskMessage::Trigger(barrier(1)));
    assert_eq!(rig.deliver(TaskMessage::Completed(CheckpointId(1))), ["completed 1"]);
    rig.deliver(TaskMessage::Finish);
    assert_eq!(rig.step(4), said("Finished", &[]));
}

#[test]
fn a_panic_becomes_an_error_that_names_the_subtask() {
    let mut rig = Rig::new([]);
    rig.head.script.borrow_mut().panics = true;
    let e = rig.task.step(1, &mut rig.outputs).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::RestartJob);
    assert_eq!(e.to_string(), "subtask 2 of 2 of 'read': user code panicked: told to panic");
}

#[test]
fn a_barrier_that_overtakes_is_acted_on_also_while_nothing_can_be_sent() {
    let mut rig = Rig::new([]);
    rig.head.script.borrow_mut().blocked = true;
    rig.head.script.borrow_mut().ahead.extend([Progress::Aligning, Progress::Idle(Some(40))]);
    assert_eq!(rig.step(10), said("Ready", &[]));
    assert_eq!(rig.step(11), said("Wait(Some(40))", &[]), "it is to look again then");
    rig.head.script.borrow_mut().ahead.extend([Progress::Overtaken(barrier(2)), Progress::Idle(None)]);
    assert_eq!(rig.step(40), said("Ready", &["barrier 2"]));
    assert!(matches!(rig.outputs.as_slice(), [TaskOutput::Frozen]), "records in flight are missing");
    assert_eq!(rig.step(41), said("Wait(None)", &[]));
    rig.head.script.borrow_mut().ahead.extend([Progress::Collected(CheckpointId(2))]);
    assert_eq!(rig.step(50), said("Ready", &["in flight"]));
    let [_, TaskOutput::Snapshot { barrier: b, alignment_ms: 40, .. }] = rig.outputs.as_slice() else {
        panic!("{:?}", rig.outputs)
    };
    assert_eq!(*b, barrier(2));
}

#[test]
fn what_was_in_flight_for_an_aborted_checkpoint_is_not_reported() {
    let mut rig = Rig::new([]);
    rig.head.script.borrow_mut().ahead.extend([Progress::Overtaken(barrier(2))]);
    rig.step(1);
    rig.deliver(TaskMessage::Aborted(CheckpointId(2)));
    rig.head.script.borrow_mut().ahead.extend([Progress::Collected(CheckpointId(2))]);
    rig.step(2);
    assert!(matches!(rig.outputs.as_slice(), [TaskOutput::Frozen]));
}

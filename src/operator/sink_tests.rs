//! A sink operator around a writer that counts and a committer that writes down what it is told.

use super::*;
use crate::error::Error;
use crate::id::Attempt;
use crate::operator::ChainSnapshot;
use crate::operator::test_chain::barrier;
use std::cell::RefCell;
use std::rc::Rc;

/// What was published, in order, and the next thing that cannot be.
#[derive(Default)]
struct Outside {
    published: Vec<String>,
    refuses: Option<String>,
    /// What each clean-up was told to keep.
    kept: Vec<Vec<String>>,
}

type Shared = Rc<RefCell<Outside>>;

/// Joins the records since the last barrier.
#[derive(Default)]
struct Joiner(Vec<String>);

impl SinkWriter for Joiner {
    type Record = u64;
    type Committable = String;

    fn write(&mut self, n: u64, _timestamp: Timestamp) -> Result<()> {
        self.0.push(n.to_string());
        Ok(())
    }

    fn prepare_commit(&mut self) -> Result<Vec<String>> {
        let part = std::mem::take(&mut self.0).join("+");
        Ok(if part.is_empty() { Vec::new() } else { vec![part] })
    }
}

struct Publisher(Shared);

impl Committer<String> for Publisher {
    fn clean_up(&mut self, kept: &[String]) -> Result<()> {
        self.0.borrow_mut().kept.push(kept.to_vec());
        Ok(())
    }

    fn commit(&mut self, part: &String) -> Result<()> {
        let mut outside = self.0.borrow_mut();
        if outside.refuses.as_ref() == Some(part) {
            return Err(Error::restart_job("not now"));
        }
        outside.published.push(part.clone());
        Ok(())
    }
}

struct Rig {
    sink: SinkOperator<u64, String>,
    outside: Shared,
}

impl Rig {
    fn new(restored: &RestoredState) -> Self {
        let subtask = SubtaskInfo {
            operator: "table".into(),
            index: 0,
            parallelism: 2,
            max_parallelism: 8,
            attempt: Attempt(1),
        };
        let outside = Shared::default();
        let (writer, committer) = (Box::new(Joiner::default()), Box::new(Publisher(outside.clone())));
        let uid = OperatorUid("table".into());
        let sink = SinkOperator::new(uid, subtask, writer, committer, restored, CrashPoints::none()).unwrap();
        Self { sink, outside }
    }

    fn write(&mut self, n: u64) {
        self.sink.emit(n, 0).unwrap();
    }

    /// The state that checkpoint `n` keeps.
    fn barrier(&mut self, n: u64) -> OperatorState {
        let mut snapshot = ChainSnapshot::default();
        let barrier = barrier(n);
        self.sink.control(&mut Control::Barrier { barrier, snapshot: &mut snapshot }).unwrap();
        snapshot.operators.pop().unwrap().state
    }

    fn completed(&mut self, n: u64) -> Result<()> {
        self.sink.control(&mut Control::Completed(CheckpointId(n)))
    }

    fn published(&self) -> Vec<String> {
        self.outside.borrow().published.clone()
    }
}

fn kept_in(state: &OperatorState) -> Vec<String> {
    RestoredState::deal(vec![state.clone()], 0, 1).list(PENDING).unwrap()
}

#[test]
fn output_is_published_when_its_checkpoint_completes_and_no_other() {
    let mut rig = Rig::new(&RestoredState::default());
    rig.write(1);
    rig.write(2);
    let first = rig.barrier(1);
    rig.write(3);
    rig.barrier(2);
    rig.write(4);
    assert_eq!((kept_in(&first), rig.published()), (vec!["1+2".to_owned()], Vec::new()));
    rig.completed(1).unwrap();
    assert_eq!(rig.published(), ["1+2"]);
    rig.completed(2).unwrap();
    assert_eq!(rig.published(), ["1+2", "3"]);
    // Told again, it has nothing left.
    rig.completed(2).unwrap();
    assert_eq!(rig.published(), ["1+2", "3"]);
    assert_eq!(kept_in(&rig.barrier(3)), ["4"], "what is published is no state any more");
}

#[test]
fn what_an_aborted_checkpoint_prepared_belongs_to_the_next_one() {
    let mut rig = Rig::new(&RestoredState::default());
    rig.write(1);
    rig.barrier(1);
    rig.write(2);
    // Checkpoint 1 is given up; the state of checkpoint 2 must hold its output too.
    let second = rig.barrier(2);
    assert_eq!(kept_in(&second), ["1", "2"]);
    rig.completed(2).unwrap();
    assert_eq!(rig.published(), ["1", "2"]);
}

#[test]
fn a_restored_sink_publishes_its_share_first_and_cleans_up_around_the_share_of_all() {
    let state = |part: &str| {
        let mut state = OperatorState::default();
        state.put_list(PENDING, [part]).unwrap();
        state
    };
    let restored = RestoredState::deal(vec![state("mine"), state("theirs")], 0, 2);
    let rig = Rig::new(&restored);
    assert_eq!(rig.published(), ["mine"]);
    assert_eq!(rig.outside.borrow().kept, [["mine", "theirs"]]);
}

#[test]
fn a_commit_that_fails_is_an_error_that_names_the_operator_and_is_not_forgotten() {
    let mut rig = Rig::new(&RestoredState::default());
    rig.write(1);
    rig.barrier(1);
    rig.outside.borrow_mut().refuses = Some("1".into());
    assert_eq!(rig.completed(1).unwrap_err().to_string(), "operator 'table': not now");
    assert_eq!(kept_in(&rig.barrier(2)), ["1"]);
    rig.outside.borrow_mut().refuses = None;
    rig.completed(2).unwrap();
    assert_eq!(rig.published(), ["1"]);
}

//! Files that checkpoints share: what may be named again, and how long it is kept.

use super::tests::{complete, failure, running, subtasks, trigger};
use super::*;
use crate::checkpoint::{OperatorHandles, StateFileKind};
use crate::id::OperatorUid;
use std::collections::BTreeSet;

pub(super) fn file(checkpoint: CheckpointId, name: &str) -> StateHandle {
    StateHandle {
        kind: StateFileKind::Keyed,
        id: name.into(),
        path: format!("chk-{checkpoint}/{name}"),
        length: 10,
        crc32: 0,
        checkpoint,
        written_by: None,
    }
}

/// Acknowledges for everybody; one subtask of `count` names these files.
pub(super) fn ack_with(
    c: &mut Coordinator,
    id: CheckpointId,
    files: &[StateHandle],
    now: u64,
) -> Vec<CheckpointAction> {
    let mut actions = Vec::new();
    for subtask in subtasks() {
        let mut snapshot = SubtaskSnapshot::default();
        if subtask.vertex.0 == 1 && subtask.index == 0 {
            let operator = OperatorUid("count".into());
            snapshot.operators.push(OperatorHandles { operator, states: Vec::new(), files: files.to_vec() });
        }
        actions.extend(c.on_ack(id, subtask, snapshot, || format!("n{id}"), now));
    }
    actions
}

pub(super) fn complete_with(c: &mut Coordinator, id: CheckpointId, files: &[StateHandle], now: u64) -> Sweep {
    assert!(ack_with(c, id, files, now).iter().any(|a| matches!(a, CheckpointAction::Commit(_))));
    match &c.on_committed(now)[..] {
        [CheckpointAction::Completed(_), CheckpointAction::Sweep(sweep), ..] => sweep.clone(),
        other => panic!("{other:?}"),
    }
}

fn paths(files: &[StateHandle]) -> BTreeSet<String> {
    files.iter().map(|f| f.path.clone()).collect()
}

pub(super) fn base_of(
    c: &mut Coordinator,
    kind: CheckpointKind,
    now: u64,
) -> (CheckpointId, Option<CheckpointId>) {
    let barrier = c.trigger(kind, Vec::new(), || "n".into(), now);
    (barrier.checkpoint, barrier.base)
}

#[test]
fn a_base_that_is_no_longer_retained_is_kept_while_a_checkpoint_builds_on_it() {
    let config = CheckpointConfig { max_concurrent: 3, ..CheckpointConfig::every_ms(100) };
    let mut c = running(config);
    let one = trigger(&mut c, 100).unwrap();
    let old = [file(one, "a"), file(one, "b")];
    complete_with(&mut c, one, &old, 110);
    let (two, base) = base_of(&mut c, CheckpointKind::Periodic, 200);
    assert_eq!(base, Some(one));
    let (three, base) = base_of(&mut c, CheckpointKind::Periodic, 210);
    assert_eq!(base, Some(one));
    // The second names none of the first's files; the third, which is still under way, may.
    let new = [file(two, "c")];
    let sweep = complete_with(&mut c, two, &new, 220);
    assert_eq!(sweep.keep, [one, two, three].into());
    assert_eq!(sweep.keep_files, paths(&[old.as_slice(), &new].concat()));
    let (four, base) = base_of(&mut c, CheckpointKind::Periodic, 230);
    assert_eq!(base, Some(two));
    let mixed = [file(three, "d"), old[1].clone()];
    let sweep = complete_with(&mut c, three, &mixed, 240);
    assert_eq!(sweep.keep, [two, three, four].into(), "the first has served its time, the second is a base");
    assert_eq!(sweep.keep_files, paths(&[mixed.as_slice(), &new].concat()));
    // What is given up needs no base any more.
    c.on_decline(four, &failure(), 250);
    let (five, _) = base_of(&mut c, CheckpointKind::Periodic, 300);
    let sweep = complete_with(&mut c, five, &[file(five, "e")], 310);
    assert_eq!((sweep.keep, sweep.keep_files), ([five].into(), paths(&[file(five, "e")])));
}

#[test]
fn a_commit_under_way_keeps_its_base() {
    let config = CheckpointConfig { max_concurrent: 3, ..CheckpointConfig::every_ms(100) };
    let mut c = running(config);
    let one = trigger(&mut c, 100).unwrap();
    let old = file(one, "a");
    complete_with(&mut c, one, std::slice::from_ref(&old), 110);
    let (two, _) = base_of(&mut c, CheckpointKind::Periodic, 200);
    let (three, _) = base_of(&mut c, CheckpointKind::Periodic, 210);
    ack_with(&mut c, two, &[file(two, "b")], 220);
    ack_with(&mut c, three, std::slice::from_ref(&old), 230);
    // The second is durable; the third is in the queue behind it.
    match &c.on_committed(240)[1] {
        CheckpointAction::Sweep(sweep) => assert!(sweep.keep_files.contains(&old.path), "{sweep:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_the_base_does_not_have_voids_the_checkpoint() {
    let mut c = running(CheckpointConfig { tolerable_failures: 9, ..CheckpointConfig::every_ms(100) });
    let one = trigger(&mut c, 100).unwrap();
    complete_with(&mut c, one, &[file(one, "a")], 110);
    let two = trigger(&mut c, 200).unwrap();
    complete_with(&mut c, two, &[file(two, "b")], 210);
    let three = trigger(&mut c, 300).unwrap();
    // It was named once, and is deleted by now.
    let actions = ack_with(&mut c, three, &[file(one, "a")], 310);
    assert!(
        matches!(&actions[..], [CheckpointAction::Abort { checkpoint, why, .. }]
            if *checkpoint == three && why.contains("chk-1/a") && why.contains("base, which is 2")),
        "{actions:?}"
    );
}

#[test]
fn savepoints_and_what_another_job_has_are_no_base() {
    let mut c = running(CheckpointConfig::every_ms(100));
    assert_eq!(base_of(&mut c, CheckpointKind::Periodic, 100), (CheckpointId(1), None));
    complete(&mut c, CheckpointId(1), 110);
    let (save, base) = base_of(&mut c, CheckpointKind::Savepoint, 200);
    assert_eq!(base, None);
    complete(&mut c, save, 210);
    let (_, base) = base_of(&mut c, CheckpointKind::Periodic, 300);
    assert_eq!(base, Some(CheckpointId(1)));
    // A new leader knows what is retained; a job that starts from another one's checkpoint retains nothing.
    c.stop(0);
    c.load(&Loaded::default());
    c.start(Attempt(2), 400);
    assert_eq!(base_of(&mut c, CheckpointKind::Periodic, 500).1, None);
}

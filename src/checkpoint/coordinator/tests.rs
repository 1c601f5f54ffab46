//! The coordinator alone: a table of its rules, and random histories.

use super::*;
use crate::checkpoint::{Retention, SavepointMode};
use crate::graph::{OperatorInfo, OperatorKind, Vertex};
use crate::id::{OperatorUid, VertexId};
use proptest::prelude::*;
use std::collections::BTreeSet;

pub(super) fn graph(parallelism: u32) -> JobGraph {
    let vertex = |id: u32, uid: &str, kind| Vertex {
        id: VertexId(id),
        name: uid.into(),
        parallelism,
        parallelism_is_explicit: false,
        slot_sharing_group: "default".into(),
        operators: vec![OperatorInfo {
            uid: OperatorUid(uid.into()),
            uid_is_explicit: true,
            name: uid.into(),
            max_parallelism: 128,
            max_parallelism_is_explicit: false,
            kind,
            chained_after: None,
        }],
    };
    JobGraph {
        name: "t".into(),
        vertices: vec![vertex(0, "read", OperatorKind::Source), vertex(1, "count", OperatorKind::Keyed)],
        edges: Vec::new(),
    }
}

pub(super) fn subtasks() -> Vec<SubtaskId> {
    (0..2).flat_map(|v| (0..2).map(move |index| SubtaskId { vertex: VertexId(v), index })).collect()
}

pub(super) fn due(kind: CheckpointKind) -> Option<Due> {
    Some(Due::Checkpoint(kind))
}

pub(super) fn running(config: CheckpointConfig) -> Coordinator {
    let mut c = Coordinator::new(config, graph(2), JobId::from("j".to_owned()), LeaderEpoch(1)).unwrap();
    c.load(&Loaded { record: 1, ..Loaded::default() });
    c.start(Attempt(1), 0);
    c
}

pub(super) fn trigger(c: &mut Coordinator, now: u64) -> Option<CheckpointId> {
    match c.due(now)? {
        Due::Checkpoint(kind) => Some(c.trigger(kind, Vec::new(), || "x".into(), now).checkpoint),
        Due::Drain => {
            c.drain_sent();
            c.request_final();
            trigger(c, now)
        }
    }
}

pub(super) fn ack(
    c: &mut Coordinator,
    id: CheckpointId,
    subtask: SubtaskId,
    now: u64,
) -> Vec<CheckpointAction> {
    c.on_ack(id, subtask, SubtaskSnapshot::default(), || format!("n{id}"), now)
}

pub(super) fn ack_all(c: &mut Coordinator, id: CheckpointId, now: u64) -> Vec<CheckpointAction> {
    subtasks().into_iter().flat_map(|s| ack(c, id, s, now)).collect()
}

pub(super) fn complete(c: &mut Coordinator, id: CheckpointId, now: u64) -> Vec<CheckpointAction> {
    ack_all(c, id, now);
    c.on_committed(now)
}

/// What a store that is away says.
pub(super) fn away() -> Failure {
    Failure { kind: ErrorKind::Retry, message: "no".into() }
}

pub(super) fn failure() -> Failure {
    Failure { kind: ErrorKind::RestartJob, message: "no".into() }
}

#[test]
fn is_complete_only_when_durable() {
    let mut c = running(CheckpointConfig::every_ms(100));
    assert_eq!((trigger(&mut c, 99), c.next_deadline_ms()), (None, Some(100)));
    let id = trigger(&mut c, 100).unwrap();
    for s in &subtasks()[..3] {
        assert_eq!(ack(&mut c, id, *s, 110), []);
    }
    let actions = ack(&mut c, id, subtasks()[3], 120);
    assert!(matches!(&actions[..], [CheckpointAction::Commit(commit)]
        if commit.record == 2 && commit.manifest.checkpoint == id && commit.manifest.operators.len() == 2));
    assert_eq!(c.newest_completed(), None);
    let done = c.on_committed(130);
    assert!(
        matches!(&done[..], [CheckpointAction::Completed(d), CheckpointAction::Sweep(s)]
        if d.duration_ms == 30 && s.keep.contains(&id)),
        "{done:?}"
    );
    assert_eq!(c.newest_completed(), Some(id));
    assert_eq!(c.on_committed(131), []);
}

/// Also of one that fails there is what the subtasks did that had acknowledged it.
#[test]
fn the_history_says_what_was_uploaded_and_where_the_time_went() {
    let config = CheckpointConfig { tolerable_failures: 9, ..CheckpointConfig::every_ms(100) };
    let mut c = running(config);
    let snapshot = |id: CheckpointId, subtask: SubtaskId| {
        let uid = OperatorUid(if subtask.vertex.0 == 0 { "read" } else { "count" }.into());
        let name = format!("{subtask}");
        let file = StateHandle {
            kind: crate::checkpoint::StateFileKind::Operator,
            path: format!("chk-{id}/{}", subtask.index),
            id: name,
            length: 10,
            crc32: 0,
            checkpoint: id,
            written_by: None,
        };
        let handles =
            crate::checkpoint::OperatorHandles { operator: uid, states: Vec::new(), files: vec![file] };
        let timings = SubtaskTimings { sync_us: u64::from(subtask.index) + 1, ..Default::default() };
        SubtaskSnapshot { operators: vec![handles], timings }
    };
    for (at, acks) in [(100, 3), (250, 2), (400, 4)] {
        let id = trigger(&mut c, at).unwrap();
        for s in &subtasks()[..acks] {
            c.on_ack(id, *s, snapshot(id, *s), || "n".into(), at + 1);
        }
        match acks {
            3 => _ = c.on_decline(id, &failure(), at + 2),
            2 => _ = c.stop(at + 2),
            _ => _ = c.on_committed(at + 2),
        }
        c.start(Attempt(2), at + 50);
    }
    let found: Vec<_> = c
        .history()
        .entries()
        .map(|e| {
            let times = e.subtasks.iter().map(|s| (s.vertex.as_str(), s.index, s.timings.sync_us));
            (e.failure.as_deref(), e.uploaded_bytes, times.collect::<Vec<_>>())
        })
        .collect();
    let all = [("read", 0, 1), ("read", 1, 2), ("count", 0, 1), ("count", 1, 2)];
    assert_eq!(
        found,
        [
            (Some("no"), 30, all[..3].to_vec()),
            (Some("the attempt ended"), 20, all[..2].to_vec()),
            (None, 40, all.to_vec())
        ]
    );
}

#[test]
fn interval_pause_and_concurrency_hold_triggers_back() {
    let pause = CheckpointConfig { min_pause_ms: 500, ..CheckpointConfig::every_ms(100) };
    let mut c = running(pause);
    let id = trigger(&mut c, 100).unwrap();
    assert_eq!(trigger(&mut c, 250), None);
    complete(&mut c, id, 300);
    assert_eq!((trigger(&mut c, 799), c.next_deadline_ms()), (None, Some(800)));
    assert!(trigger(&mut c, 800).is_some());

    let two = CheckpointConfig { max_concurrent: 2, ..CheckpointConfig::every_ms(100) };
    let mut c = running(two);
    let (a, b) = (trigger(&mut c, 100).unwrap(), trigger(&mut c, 200).unwrap());
    assert_eq!(trigger(&mut c, 300), None);
    // The younger one is acknowledged first: the older one is void.
    let actions = ack_all(&mut c, b, 310);
    assert!(
        matches!(&actions[..], [CheckpointAction::Abort { checkpoint, .. }, CheckpointAction::Commit(_)] if *checkpoint == a)
    );
    assert_eq!(ack_all(&mut c, a, 320), []);
    assert_eq!(c.counters().late, 4);
}

#[test]
fn failures_in_a_row_fail_the_job_beyond_what_is_tolerated() {
    let config =
        CheckpointConfig { tolerable_failures: 1, timeout_ms: 50, ..CheckpointConfig::every_ms(100) };
    let mut c = running(config);
    let id = trigger(&mut c, 100).unwrap();
    ack(&mut c, id, subtasks()[0], 110);
    assert_eq!(c.on_tick(149), []);
    let timed_out = c.on_tick(150);
    assert!(
        matches!(&timed_out[..], [CheckpointAction::Abort { why, .. }] if why.contains("subtask 2 of 2 of '")),
        "{timed_out:?}"
    );
    // A success in between counts from the start again.
    let id = trigger(&mut c, 200).unwrap();
    complete(&mut c, id, 210);
    let id = trigger(&mut c, 300).unwrap();
    assert_eq!(c.on_decline(id, &failure(), 310).len(), 1);
    assert_eq!(c.on_decline(id, &failure(), 311), []);
    let id = trigger(&mut c, 400).unwrap();
    let last = c.on_decline(id, &failure(), 410);
    assert!(
        matches!(&last[1], CheckpointAction::Fail(f) if f.kind == ErrorKind::RestartJob && f.message.contains("no"))
    );
}

#[test]
fn a_commit_of_unknown_outcome_is_repeated_unchanged() {
    let config =
        CheckpointConfig { timeout_ms: 1_000, tolerable_failures: 1, ..CheckpointConfig::every_ms(100) };
    let mut c = running(config);
    let id = trigger(&mut c, 100).unwrap();
    let first = ack_all(&mut c, id, 110);
    assert!(matches!(&c.on_commit_failed(&away(), 120)[..], [CheckpointAction::StoreAway { .. }]));
    assert_eq!(c.on_tick(319), []);
    assert_eq!(c.on_tick(320), first);
    assert_eq!(c.on_commit_failed(&away(), 330), [], "said once");
    // It outlives the timeout, and goes on being repeated.
    let late = c.on_tick(1_110);
    assert!(matches!(&late[..], [CheckpointAction::Stalled { .. }, CheckpointAction::Commit(_)]), "{late:?}");
    assert!(matches!(&c.on_tick(2_110)[..], [CheckpointAction::Stalled { .. }]));
    assert!(matches!(&c.on_committed(2_120)[0], CheckpointAction::Completed(d) if d.checkpoint == id));
}

#[test]
fn a_commit_that_is_refused_is_no_completed_checkpoint_and_the_next_one_takes_its_place() {
    let mut c = running(CheckpointConfig { tolerable_failures: 1, ..CheckpointConfig::every_ms(100) });
    let id = trigger(&mut c, 100).unwrap();
    ack_all(&mut c, id, 110);
    let refused = c.on_commit_refused(&failure(), 120);
    assert!(
        matches!(&refused[..], [CheckpointAction::Abort { checkpoint, .. }] if *checkpoint == id),
        "{refused:?}"
    );
    assert_eq!((c.newest_completed(), c.counters().completed, c.counters().aborted), (None, 0, 1));
    let id = trigger(&mut c, 200).unwrap();
    let commit = ack_all(&mut c, id, 210);
    assert!(matches!(&commit[..], [CheckpointAction::Commit(commit)] if commit.record == 2), "{commit:?}");
    c.on_committed(220);
    assert_eq!(c.newest_completed(), Some(id));
}

#[test]
fn a_store_that_is_away_is_said_once_and_does_not_count_against_the_job() {
    let mut c = running(CheckpointConfig { tolerable_failures: 0, ..CheckpointConfig::every_ms(100) });
    let (mut now, mut alarms) = (0, 0);
    for _ in 0..10_000 {
        now += 100;
        let id = trigger(&mut c, now).unwrap();
        let actions = c.on_decline(id, &away(), now + 10);
        assert!(matches!(&actions[0], CheckpointAction::Abort { quiet: true, .. }));
        alarms += actions.iter().filter(|a| matches!(a, CheckpointAction::StoreAway { .. })).count();
        assert!(!actions.iter().any(|a| matches!(a, CheckpointAction::Fail(_))));
    }
    assert_eq!(alarms, 1);
    let id = trigger(&mut c, now + 100).unwrap();
    let done = complete(&mut c, id, now + 110);
    assert!(
        done.iter().any(|a| matches!(a, CheckpointAction::StoreBack { missed: 10_000, after_ms }
            if *after_ms == now)),
        "{done:?}"
    );
    // The next outage is news again.
    let id = trigger(&mut c, now + 200).unwrap();
    assert!(
        c.on_decline(id, &away(), now + 210).iter().any(|a| matches!(a, CheckpointAction::StoreAway { .. }))
    );
}

#[test]
fn an_error_of_the_store_that_repeating_does_not_cure_fails_the_job() {
    for kind in [ErrorKind::Data, ErrorKind::Config, ErrorKind::RestartJob] {
        let mut c = running(CheckpointConfig::every_ms(100));
        let id = trigger(&mut c, 100).unwrap();
        ack_all(&mut c, id, 110);
        let failure = Failure { kind, message: "no".into() };
        assert_eq!(c.on_commit_failed(&failure, 120), [CheckpointAction::Fail(failure.clone())]);
    }
}

#[test]
fn retains_n() {
    let mut c = running(CheckpointConfig { retained: 2, ..CheckpointConfig::every_ms(100) });
    let mut ids = Vec::new();
    let mut last = Vec::new();
    for n in 1..=4 {
        let id = trigger(&mut c, n * 1_000).unwrap();
        ids.push(id);
        last = complete(&mut c, id, n * 1_000 + 10);
    }
    let keep: BTreeSet<_> = [ids[2], ids[3]].into();
    assert!(
        matches!(&last[1], CheckpointAction::Sweep(s) if s.keep == keep && s.newest == ids[3]),
        "{last:?}"
    );
}

#[test]
fn the_final_one_waits_for_others_runs_alone_and_is_tried_again() {
    let mut c = running(CheckpointConfig { tolerable_failures: 3, ..CheckpointConfig::every_ms(100) });
    let periodic = trigger(&mut c, 100).unwrap();
    c.request_final();
    assert_eq!(c.due(200), None);
    complete(&mut c, periodic, 210);
    assert_eq!(c.due(210), due(CheckpointKind::Final), "nobody waits for a job that has nothing left to do");
    let id = trigger(&mut c, 5_000).unwrap();
    assert_eq!(trigger(&mut c, 9_000), None);
    c.on_decline(id, &failure(), 9_000);
    assert_eq!(
        (c.due(9_999), c.due(10_000)),
        (None, due(CheckpointKind::Final)),
        "a failed one is not repeated at once"
    );
    let id = trigger(&mut c, 10_000).unwrap();
    let done = complete(&mut c, id, 10_010);
    assert!(matches!(&done[0], CheckpointAction::Completed(d) if d.kind == CheckpointKind::Final));

    // Also where two periodic ones may be under way at once.
    let mut c = running(CheckpointConfig { max_concurrent: 2, ..CheckpointConfig::every_ms(100) });
    let periodic = trigger(&mut c, 100).unwrap();
    c.request_final();
    assert_eq!(c.due(200), None);
    complete(&mut c, periodic, 210);
    assert_eq!(c.due(210), due(CheckpointKind::Final));
}

#[test]
fn ids_rise_across_stop_start_and_load() {
    let mut c = running(CheckpointConfig::every_ms(100));
    let a = trigger(&mut c, 100).unwrap();
    assert_eq!(c.stop(0).checkpoints, [a]);
    c.load(&Loaded { record: 9, highest: CheckpointId(40), ..Loaded::default() });
    c.start(Attempt(2), 200);
    assert_eq!(trigger(&mut c, 300), Some(CheckpointId(41)));
    assert_eq!(ack_all(&mut c, a, 310), []);
    c.stop(0);
    c.load(&Loaded { record: 9, highest: CheckpointId(3), ..Loaded::default() });
    c.start(Attempt(3), 400);
    assert_eq!(trigger(&mut c, 500), Some(CheckpointId(42)));
}

#[test]
fn nothing_is_deleted_while_a_retained_manifest_is_unreadable() {
    let mut c = running(CheckpointConfig {
        retained: 2,
        retention: Retention::Never,
        ..CheckpointConfig::every_ms(100)
    });
    c.load(&Loaded {
        record: 5,
        older: vec![(CheckpointId(3), None)],
        highest: CheckpointId(3),
        ..Loaded::default()
    });
    let id = trigger(&mut c, 100).unwrap();
    assert_eq!(complete(&mut c, id, 110).len(), 1);
    let id = trigger(&mut c, 200).unwrap();
    assert!(matches!(complete(&mut c, id, 210)[1], CheckpointAction::Sweep(_)));
}

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Ack(u64, usize),
    Foreign(u64),
    Decline(u64),
    Answer(u8),
    Restart,
    Savepoint(SavepointMode),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1u64..120).prop_map(Step::Pass),
        12 => (0u64..4, 0usize..4).prop_map(|(back, s)| Step::Ack(back, s)),
        1 => (0u64..4).prop_map(Step::Foreign),
        1 => (0u64..4).prop_map(Step::Decline),
        4 => (0u8..6).prop_map(Step::Answer),
        1 => Just(Step::Restart),
        1 => prop_oneof![
            4 => Just(SavepointMode::Continue), 1 => Just(SavepointMode::Stop), 1 => Just(SavepointMode::Drain)
        ].prop_map(Step::Savepoint),
    ]
}

proptest! {
    #[test]
    fn no_history_completes_twice_or_without_all_acknowledgements(
        steps in prop::collection::vec(step(), 1..250),
        max_concurrent in 1u32..4,
    ) {
        let config = CheckpointConfig {
            max_concurrent, timeout_ms: 400, tolerable_failures: 1_000, retained: 2, ..CheckpointConfig::every_ms(50)
        };
        let mut c = running(config);
        let mut now = 0;
        let mut newest = 0u64;
        let mut acked: BTreeMap<CheckpointId, BTreeSet<SubtaskId>> = BTreeMap::new();
        let mut open: BTreeSet<CheckpointId> = BTreeSet::new();
        let mut completed: Vec<CheckpointId> = Vec::new();
        let mut in_store: Option<CheckpointId> = None;
        let mut attempt = 1;
        let (mut asked, mut answered) = (0, BTreeSet::new());
        let mut away_said = false;
        for step in steps {
            let mut actions = match step {
                Step::Pass(ms) => { now += ms; c.on_tick(now) }
                Step::Ack(back, s) => {
                    let id = CheckpointId(newest.saturating_sub(back));
                    if open.contains(&id) {
                        acked.entry(id).or_default().insert(subtasks()[s]);
                    }
                    ack(&mut c, id, subtasks()[s], now)
                }
                Step::Foreign(back) => {
                    let foreign = SubtaskId { vertex: VertexId(9), index: 7 };
                    ack(&mut c, CheckpointId(newest.saturating_sub(back)), foreign, now)
                }
                Step::Decline(back) => c.on_decline(CheckpointId(newest.saturating_sub(back)), &failure(), now),
                Step::Answer(how) if in_store.is_some() => {
                    match how {
                        0 => { in_store = None; c.on_commit_failed(&away(), now) }
                        1 => { in_store = None; c.on_commit_refused(&failure(), now) }
                        _ => { in_store = None; c.on_committed(now) }
                    }
                }
                Step::Answer(_) => Vec::new(),
                Step::Restart => {
                    let mut stopped = c.stop(0);
                    for id in stopped.checkpoints { open.remove(&id); }
                    in_store = None;
                    attempt += 1;
                    stopped.actions.extend(c.load(&Loaded { record: c.last_record, ..Loaded::default() }));
                    c.start(Attempt(attempt), now);
                    stopped.actions
                }
                Step::Savepoint(mode) => {
                    asked += 1;
                    c.request_savepoint(SavepointRequest { id: asked, target: "/t".into(), mode })
                }
            };
            for action in actions.drain(..) {
                match action {
                    CheckpointAction::Commit(commit) => {
                        let id = commit.manifest.checkpoint;
                        prop_assert!(in_store.is_none(), "two commits at once");
                        prop_assert_eq!(acked.get(&id).map_or(0, BTreeSet::len), 4, "incomplete {}", id);
                        prop_assert_eq!(commit.retained.last(), Some(&id));
                        prop_assert!(commit.manifest.kind != CheckpointKind::Savepoint);
                        in_store = Some(id);
                    }
                    CheckpointAction::WriteSavepoint(manifest) => {
                        prop_assert!(in_store.is_none(), "two commits at once");
                        prop_assert_eq!(acked.get(&manifest.checkpoint).map_or(0, BTreeSet::len), 4);
                        prop_assert_eq!(manifest.kind, CheckpointKind::Savepoint);
                        in_store = Some(manifest.checkpoint);
                    }
                    CheckpointAction::SavepointDone { request, .. }
                    | CheckpointAction::SavepointFailed { request, .. } => {
                        prop_assert!(request <= asked && answered.insert(request), "{request} answered twice");
                    }
                    CheckpointAction::Discard { .. } => {}
                    CheckpointAction::Inherit(_) | CheckpointAction::Inherited(_) => {
                        prop_assert!(false, "nothing was restored");
                    }
                    CheckpointAction::Completed(d) => {
                        prop_assert!(open.remove(&d.checkpoint), "{} was not under way", d.checkpoint);
                        prop_assert!(completed.last().is_none_or(|l| *l < d.checkpoint), "out of order");
                        completed.push(d.checkpoint);
                    }
                    CheckpointAction::Abort { checkpoint, .. } => {
                        prop_assert!(open.remove(&checkpoint), "{} given up twice", checkpoint);
                    }
                    CheckpointAction::Sweep(s) => {
                        prop_assert_eq!(Some(s.newest), c.newest_completed());
                        prop_assert!(s.keep.contains(&s.newest));
                    }
                    CheckpointAction::StoreAway { .. } => prop_assert!(!std::mem::replace(&mut away_said, true)),
                    CheckpointAction::StoreBack { .. } => prop_assert!(std::mem::take(&mut away_said)),
                    CheckpointAction::Stalled { .. } | CheckpointAction::Fail(_) => {}
                }
            }
            while let Some(id) = trigger(&mut c, now) {
                prop_assert!(id.0 > newest, "ids must rise");
                newest = id.0;
                open.insert(id);
                prop_assert!(open.len() <= max_concurrent as usize);
            }
            if let Some(at) = c.next_deadline_ms() {
                prop_assert!(c.due(now).is_none() || at <= now);
            }
        }
        // Every request has one answer, at the latest at the end.
        let stopped = c.stop(0);
        for id in stopped.checkpoints { open.remove(&id); }
        prop_assert!(open.is_empty());
        for action in stopped.actions.into_iter().chain(c.refuse_savepoints()) {
            if let CheckpointAction::SavepointDone { request, .. } | CheckpointAction::SavepointFailed { request, .. } = action {
                prop_assert!(answered.insert(request));
            }
        }
        prop_assert_eq!(answered.len() as u64, asked);
        let counts = c.counters();
        prop_assert_eq!(counts.triggered, counts.completed + counts.aborted);
    }
}

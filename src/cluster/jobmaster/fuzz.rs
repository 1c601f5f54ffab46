//! Random events against the jobmaster: it never panics, never deploys beside live subtasks, always ends.

use super::tests::{graph, numbers};
use super::*;
use crate::checkpoint::{
    CheckpointConfig, Loaded, SavepointMode, SavepointRequest, StoreRequest, SubtaskSnapshot,
};
use crate::cluster::RestartStrategyConfig;
use crate::id::{JobId, LeaderEpoch, VertexId};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Join(u32),
    Lose(u32),
    Say(u8, u8, bool),
    Reply(u8),
    Pass(u64),
    Savepoint(SavepointMode),
    Rescale(u32),
    Cancel,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u32..3).prop_map(Step::Join),
        1 => (0u32..6).prop_map(Step::Lose),
        24 => (0u8..10, 0u8..9, prop::bool::weighted(0.95)).prop_map(|(e, s, now)| Step::Say(e, s, now)),
        8 => (0u8..12).prop_map(Step::Reply),
        5 => (1u64..3_000).prop_map(Step::Pass),
        1 => prop_oneof![
            3 => Just(SavepointMode::Continue), 1 => Just(SavepointMode::Stop), 1 => Just(SavepointMode::Drain)
        ].prop_map(Step::Savepoint),
        1 => (0u32..5).prop_map(Step::Rescale),
        1 => prop::bool::weighted(0.1).prop_map(|c| if c { Step::Cancel } else { Step::Pass(1) }),
    ]
}

fn reply(request: &StoreRequest, how: u8) -> StoreReply {
    let failed = |kind| StoreReply::Failed(Failure { kind, message: "no".into() });
    match (how, request) {
        (0, _) => failed(ErrorKind::Retry),
        (1, _) => failed(ErrorKind::Data),
        (2, _) => StoreReply::Deleted(0),
        (_, StoreRequest::LoadLatest { .. }) => {
            StoreReply::Loaded(Box::new(Loaded { record: 1, ..Loaded::default() }))
        }
        (_, StoreRequest::Commit(_)) => StoreReply::Committed,
        (_, StoreRequest::Inherit(_)) => StoreReply::Inherited,
        (_, StoreRequest::WriteSavepoint(_)) => StoreReply::SavepointWritten,
        (_, StoreRequest::Sweep(_) | StoreRequest::Dispose(_) | StoreRequest::DiscardSavepoint { .. }) => {
            StoreReply::Deleted(1)
        }
        (_, StoreRequest::WriteHistory { .. }) => StoreReply::HistoryWritten,
        (_, StoreRequest::CheckLeader { .. }) => StoreReply::Leads,
        (_, StoreRequest::WriteStatus(_)) => StoreReply::StatusWritten,
    }
}

proptest! {
    #[test]
    fn any_history_is_survived_and_can_be_cancelled(
        steps in prop::collection::vec(step(), 1..300), seed: u64, min_parallelism in prop::option::of(1u32..3),
        regions in 1usize..4,
    ) {
        let mut config = JobMasterConfig::new(JobId::from("j".to_owned()), LeaderEpoch(1), graph(2));
        config.checkpoint = CheckpointConfig { tolerable_failures: 2, ..CheckpointConfig::every_ms(500) };
        config.restart = RestartStrategyConfig::default();
        config.seed = seed;
        if regions > 1 {
            config.graph.edges.clear();
        }
        if regions > 2 {
            config.graph.vertices[1].slot_sharing_group = "own".into();
        }
        (config.min_parallelism, config.settle_ms) = (min_parallelism, 1_000);
        let mut master = JobMaster::new(config, numbers()).unwrap();
        let (mut now, mut next_worker, mut newest) = (0u64, 0u32, 0u64);
        let mut requests: Vec<(RequestId, StoreRequest)> = Vec::new();
        let mut live: BTreeSet<(Attempt, SubtaskId)> = BTreeSet::new();
        let mut done = false;
        let (mut asked, mut answered) = (0, BTreeSet::new());
        let (mut rescales_asked, mut rescales_answered) = (0, BTreeSet::new());
        let cleanup = (0..60).flat_map(|_| [Step::Pass(200_000), Step::Reply(9), Step::Reply(9)]);
        for step in steps.into_iter().chain([Step::Cancel]).chain(cleanup) {
            let events = match step {
                Step::Join(slots) => {
                    next_worker += 1;
                    vec![JobEvent::WorkerJoined { worker: WorkerId(next_worker), slots }]
                }
                Step::Lose(back) => {
                    let worker = WorkerId(next_worker.saturating_sub(back));
                    live.retain(|(_, s)| master.placement.get(s).map(|p| p.worker) != Some(worker));
                    vec![JobEvent::WorkerLost { worker, why: "gone".into() }]
                }
                Step::Say(event, subtask, current) => {
                    let subtask = SubtaskId { vertex: VertexId(u32::from(subtask) % 2), index: u32::from(subtask) / 2 };
                    let worker = master.placement.get(&subtask).map_or(WorkerId(1), |p| p.worker);
                    let own = master.placement.get(&subtask).map_or(master.attempt(), |p| p.attempt);
                    let attempt = if current { own } else { Attempt(own.0.saturating_sub(1)) };
                    let failure = Failure { kind: ErrorKind::RestartJob, message: "boom".into() };
                    let checkpoint = CheckpointId(newest);
                    let event = match event {
                        0..=2 => SubtaskEvent::Ready,
                        3 => SubtaskEvent::SplitRequest { operator: OperatorUid("read".into()) },
                        4 | 5 => SubtaskEvent::Acknowledge { checkpoint, snapshot: SubtaskSnapshot::default() },
                        6 => SubtaskEvent::Drained,
                        7 => SubtaskEvent::Decline { checkpoint, reason: failure },
                        8 => SubtaskEvent::Canceled,
                        _ => SubtaskEvent::Failed(failure),
                    };
                    if matches!(event, SubtaskEvent::Canceled | SubtaskEvent::Failed(_)) {
                        live.remove(&(attempt, subtask));
                    }
                    vec![JobEvent::Worker(FromWorker { worker, attempt, subtask, event })]
                }
                Step::Reply(how) => match requests.pop() {
                    Some((request, body)) => vec![JobEvent::Store { request, reply: reply(&body, how) }],
                    None => continue,
                },
                Step::Pass(ms) => {
                    now += ms;
                    vec![JobEvent::Tick]
                }
                Step::Savepoint(mode) => {
                    if done {
                        continue;
                    }
                    asked += 1;
                    vec![JobEvent::Savepoint(SavepointRequest { id: asked, target: "/t".into(), mode })]
                }
                Step::Rescale(parallelism) => {
                    if done {
                        continue;
                    }
                    rescales_asked += 1;
                    vec![JobEvent::Rescale { request: rescales_asked, parallelism }]
                }
                Step::Cancel => vec![JobEvent::Cancel],
            };
            for event in events {
                for action in master.handle(event, now) {
                    prop_assert!(!done, "an action after the end");
                    match action {
                        JobAction::Send { message: ToWorker::Deploy { attempt, subtasks, .. }, .. } => {
                            let is_new = |s: &SubtaskId| live.iter().all(|(a, l)| l != s || *a == attempt);
                            prop_assert!(subtasks.iter().all(|s| is_new(&s.subtask)), "twice at once: {live:?}");
                            live.extend(subtasks.iter().map(|s| (attempt, s.subtask)));
                        }
                        JobAction::Send { message: ToWorker::TriggerCheckpoint { barrier, .. }, .. } => {
                            prop_assert!(barrier.checkpoint.0 >= newest);
                            newest = barrier.checkpoint.0;
                        }
                        JobAction::Event(
                            JobNotice::SavepointCompleted { request, .. } | JobNotice::SavepointFailed { request, .. },
                        ) => prop_assert!(answered.insert(request), "{request} answered twice"),
                        JobAction::Event(
                            JobNotice::Rescaled { request: Some(request), .. } | JobNotice::RescaleFailed { request, .. },
                        ) => prop_assert!(rescales_answered.insert(request), "rescale {request} answered twice"),
                        JobAction::Send { .. } | JobAction::Event(_) => {}
                        JobAction::Store { request, body } => requests.push((request, body)),
                        JobAction::Abandon { worker, .. } => {
                            live.retain(|(_, s)| master.placement.get(s).map(|p| p.worker) != Some(worker));
                        }
                        JobAction::Done(_) => done = true,
                    }
                }
            }
        }
        prop_assert!(done, "stuck in {:?}", master.status());
        prop_assert_eq!(rescales_answered.len() as u64, rescales_asked, "every rescale asked for is answered");
        prop_assert_eq!(answered.len() as u64, asked, "every savepoint asked for is answered");
    }
}

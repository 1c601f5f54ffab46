//! Restoring by table: which graphs may start from which checkpoint.

use super::*;
use crate::error::ErrorKind;
use crate::graph::{JobGraph, OperatorInfo, OperatorKind, Vertex};
use crate::id::{Attempt, CheckpointId, JobId, LeaderEpoch, OperatorUid, SubtaskId, VertexId};

fn operator(uid: &str, max: u16, explicit: bool) -> OperatorInfo {
    let kind = if uid == "read" { OperatorKind::Source } else { OperatorKind::Keyed };
    OperatorInfo {
        uid: OperatorUid(uid.into()),
        uid_is_explicit: uid != "derived",
        name: format!("name of {uid}"),
        max_parallelism: max,
        max_parallelism_is_explicit: explicit,
        kind,
        chained_after: None,
    }
}

fn graph(parallelism: u32, operators: Vec<OperatorInfo>) -> JobGraph {
    let vertex = Vertex { id: VertexId(0), name: "v".into(), parallelism, operators };
    JobGraph { name: "g".into(), vertices: vec![vertex], edges: Vec::new() }
}

/// `read` and `count`, written by two subtasks, 128 key groups.
fn manifest() -> Manifest {
    let state = |uid: &str| OperatorState {
        uid: OperatorUid(uid.into()),
        name: format!("name of {uid}"),
        parallelism: 2,
        max_parallelism: 128,
        subtasks: (0..2)
            .map(|i| OperatorHandles {
                operator: OperatorUid(uid.into()),
                files: vec![StateHandle {
                    kind: StateFileKind::Keyed,
                    id: format!("{uid}-{i}"),
                    path: format!("chk-3/{uid}-{i}"),
                    length: 1,
                    crc32: 0,
                    checkpoint: CheckpointId(3),
                }],
            })
            .collect(),
    };
    Manifest {
        format: MANIFEST_FORMAT,
        job: JobId::from("old".to_owned()),
        checkpoint: CheckpointId(3),
        leader_epoch: LeaderEpoch(1),
        attempt: Attempt(1),
        nonce: "n".into(),
        kind: CheckpointKind::Periodic,
        triggered_at_ms: 0,
        completed_at_ms: 0,
        operators: vec![state("read"), state("count")],
        enumerators: vec![EnumeratorState { operator: OperatorUid("read".into()), state: vec![7] }],
        subtasks: Vec::new(),
        location: None,
    }
}

fn plan(graph: &JobGraph, allow: bool) -> Result<RestorePlan, (ErrorKind, String)> {
    plan_restore(&manifest(), "/old", graph, allow).map_err(|e| (e.kind(), e.to_string()))
}

#[test]
fn every_subtask_gets_all_old_subtasks_of_its_chain() {
    for parallelism in [1, 2, 5] {
        let p = plan(
            &graph(parallelism, vec![operator("read", 128, false), operator("count", 128, true)]),
            false,
        )
        .unwrap();
        assert_eq!(p.subtasks.len(), parallelism as usize);
        for restore in p.subtasks.values() {
            assert_eq!((restore.checkpoint, restore.base.as_str()), (CheckpointId(3), "/old"));
            let seen: Vec<_> =
                restore.operators.iter().map(|o| (o.operator.as_str(), o.subtasks.len())).collect();
            assert_eq!(seen, [("read", 2), ("count", 2)]);
            assert_eq!(restore.operators[1].subtasks[1].files[0].path, "chk-3/count-1");
        }
        assert_eq!(p.enumerators.values().next(), Some(&vec![7]));
        assert!(p.warnings.is_empty() && p.key_groups.is_empty());
    }
}

#[test]
fn state_without_owner_is_refused_with_a_table_unless_allowed() {
    let g = graph(2, vec![operator("read", 128, false), operator("derived", 128, false)]);
    let (kind, message) = plan(&g, false).unwrap_err();
    assert_eq!(kind, ErrorKind::Config);
    for part in
        ["checkpoint 3", "without owner", "count", "name of count", "in program", "derived from its position"]
    {
        assert!(message.contains(part), "{part} is missing: {message}");
    }
    let warnings = plan(&g, true).unwrap().warnings;
    assert!(warnings[0].contains("count") && warnings[1].contains("derived"), "{warnings:?}");
    // The enumerator's state counts as state, too.
    assert!(plan(&graph(2, vec![operator("count", 128, false)]), false).unwrap_err().1.contains("read"));
}

#[test]
fn key_groups_are_adopted_or_refused_and_never_reinterpreted() {
    let with = |parallelism, max, explicit| {
        graph(parallelism, vec![operator("read", 128, false), operator("count", max, explicit)])
    };
    let adopted = with(2, 256, false);
    let p = plan(&adopted, false).unwrap();
    assert_eq!(p.key_groups.get(&OperatorUid("count".into())), Some(&128));
    assert_eq!(p.adopt(&adopted).vertices[0].operators[1].max_parallelism, 128);
    assert!(plan(&with(2, 256, true), false).unwrap_err().1.contains("128 key groups"));
    assert!(plan(&with(200, 256, false), false).unwrap_err().1.contains("parallelism 200"));
    assert!(plan(&with(128, 256, false), false).is_ok());
}

#[test]
fn an_index_beyond_the_old_parallelism_is_planned_for() {
    let p =
        plan(&graph(3, vec![operator("read", 128, false), operator("count", 128, false)]), false).unwrap();
    assert!(p.subtasks.contains_key(&SubtaskId { vertex: VertexId(0), index: 2 }));
}

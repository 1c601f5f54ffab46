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
    let vertex = Vertex {
        id: VertexId(0),
        name: "v".into(),
        parallelism,
        parallelism_is_explicit: false,
        slot_sharing_group: String::new(),
        operators,
    };
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
                states: vec![format!("state of {uid}")],
                files: vec![StateHandle {
                    kind: StateFileKind::Keyed,
                    id: format!("{uid}-{i}"),
                    path: format!("chk-3/{uid}-{i}"),
                    length: 1,
                    crc32: 0,
                    checkpoint: CheckpointId(3),
                    written_by: None,
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
    let plan = plan_restore(&manifest(), "/old", graph, allow);
    let plan = plan.map(|p| RestorePlan { warnings: p.warnings.iter().map(|w| bars(w)).collect(), ..p });
    plan.map_err(|e| (e.kind(), bars(&e.to_string())))
}

/// A text with a bar in front of every cell of its tables.
fn bars(text: &str) -> String {
    let cells = |line: &str| match line.strip_prefix("  ") {
        Some(row) => row.split("  ").filter(|c| !c.is_empty()).map(|c| format!("| {} ", c.trim())).collect(),
        None => format!("{line} "),
    };
    text.lines().map(|line| format!("{}\n", cells(line).trim_end())).collect()
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
    for part in [
        "checkpoint 3",
        "| LEFT OVER: not in the program | count | name of count | 2 | 128 | state of count\n",
        "| matched | read | name of read | 2 | 128 | state of read, splits not handed out\n",
        "| new: starts empty | derived (derived) | name of derived | 2 | 128\n",
        "--allow-non-restored-state",
    ] {
        assert!(message.contains(part), "{part} is missing: {message}");
    }
    let warnings = plan(&g, true).unwrap().warnings;
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    for part in [
        "state of count (name of count) is left behind",
        "operator derived (name of derived) has no state in the checkpoint and starts empty",
        "| left behind: not in the program | count |",
        "| new: starts empty | derived (derived) |",
        "| matched | read |",
    ] {
        assert!(warning.contains(part), "{part} is missing: {warning}");
    }
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
    let refused = |graph: &JobGraph, parts: &[&str]| {
        let (kind, message) = plan(graph, false).unwrap_err();
        assert_eq!(kind, ErrorKind::Config);
        for part in parts {
            assert!(message.contains(part), "{part} is missing: {message}");
        }
    };
    refused(
        &with(2, 256, true),
        &[
            "its state has 128 key groups, the program asks for 256",
            "| INCOMPATIBLE: max parallelism | count | name of count | 2 | 128 -> 256 | state of count\n",
            "| matched | read |",
            "set its max parallelism to 128 or leave it unset",
        ],
    );
    // Every reason is given, not only the first.
    refused(
        &with(200, 256, false),
        &[
            "operator read (name of read): parallelism 200",
            "operator count (name of count): parallelism 200",
            "| INCOMPATIBLE: parallelism | count | name of count | 2 -> 200 |",
            "run it with at most 128 subtasks",
        ],
    );
    assert!(plan(&with(128, 256, false), false).is_ok());
}

#[test]
fn an_index_beyond_the_old_parallelism_is_planned_for() {
    let p =
        plan(&graph(3, vec![operator("read", 128, false), operator("count", 128, false)]), false).unwrap();
    assert!(p.subtasks.contains_key(&SubtaskId { vertex: VertexId(0), index: 2 }));
}

#[test]
fn splits_of_what_is_no_source_any_more_are_left_over() {
    let mut keyed = operator("read", 128, false);
    keyed.kind = OperatorKind::Keyed;
    let g = graph(2, vec![keyed, operator("count", 128, false)]);
    let refused = plan(&g, false).unwrap_err().1;
    assert!(refused.contains("| LEFT OVER: no source any more | read |"), "{refused}");
    let allowed = plan(&g, true).unwrap();
    assert!(allowed.enumerators.is_empty() && allowed.warnings[0].contains("splits of read"));
}

/// Files of older builds do not name their states; what is known of them is said.
#[test]
fn states_without_names_are_counted_by_files() {
    let mut manifest = manifest();
    for subtask in manifest.operators.iter_mut().flat_map(|o| &mut o.subtasks) {
        subtask.states.clear();
    }
    let refused = plan_restore(&manifest, "", &graph(2, vec![operator("read", 128, false)]), false);
    let refused = bars(&refused.unwrap_err().to_string());
    assert!(refused.contains("| count | name of count | 2 | 128 | 2 files\n"), "{refused}");
}

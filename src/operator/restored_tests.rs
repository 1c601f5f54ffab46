//! Who gets what: lists, union lists, broadcast states, watermarks and ended inputs at every parallelism.

use super::*;
use crate::error::ErrorKind;
use crate::function::StoredList;
use proptest::prelude::*;

fn state(watermark: Timestamp, ended: bool, splits: &[u32]) -> OperatorState {
    let mut state = OperatorState { watermark, ended, ..OperatorState::default() };
    state.put_list("splits", splits).unwrap();
    state
}

/// A state with the same elements in a list of each kind.
fn of_each_kind(elements: &[u32]) -> OperatorState {
    let mut state = state(0, false, elements);
    let list = state.lists["splits"].clone();
    for (name, redistribution) in [("union", Redistribution::Union), ("rules", Redistribution::Broadcast)] {
        state.lists.insert(name.into(), StoredList { redistribution, ..list.clone() });
    }
    state
}

/// What a function is given for a list: its part, and the union.
fn given(restored: &RestoredState, name: &str) -> (Vec<u32>, Vec<u32>) {
    let list = restored.lists().remove(name).unwrap();
    let decode = |elements: &[Vec<u8>]| elements.iter().map(|e| codec::decode(e).unwrap()).collect();
    (decode(&list.part.elements), decode(&list.union))
}

#[test]
fn with_the_same_parallelism_each_keeps_its_own_and_unions_are_whole() {
    let mut all = vec![state(5, true, &[1, 2]), state(9, false, &[])];
    all[0].sides_ended = [true, false];
    let second = RestoredState::deal(all.clone(), 1, 2);
    assert_eq!((second.watermark(), second.ended(), second.sides_ended()), (9, false, [false, false]));
    assert!(second.list::<u32>("splits").unwrap().is_empty());
    assert_eq!(second.union_list::<u32>("splits").unwrap(), [1, 2]);
    let first = RestoredState::deal(all, 0, 2);
    assert_eq!((first.watermark(), first.ended(), first.sides_ended()), (5, true, [true, false]));
    assert_eq!(first.list::<u32>("splits").unwrap(), [1, 2]);

    let all = vec![of_each_kind(&[1, 2]), of_each_kind(&[3])];
    let second = RestoredState::deal(all, 1, 2);
    assert_eq!(given(&second, "splits"), (vec![3], vec![]));
    assert_eq!(given(&second, "union"), (vec![3], vec![1, 2, 3]));
    assert_eq!(given(&second, "rules"), (vec![3], vec![]));
}

#[test]
fn broadcast_states_are_copied_from_the_old_subtasks_in_turn() {
    let all: Vec<OperatorState> = [1, 2, 3].map(|n| of_each_kind(&[n, 10 * n])).to_vec();
    let copies = |parallelism| -> Vec<u32> {
        (0..parallelism)
            .map(|index| given(&RestoredState::deal(all.clone(), index, parallelism), "rules").0[0])
            .collect()
    };
    assert_eq!(copies(5), [1, 2, 3, 1, 2]);
    assert_eq!(copies(2), [1, 2]);
    let whole = given(&RestoredState::deal(all, 4, 5), "rules").0;
    assert_eq!(whole, [2, 20]);
}

#[test]
fn a_list_that_only_some_subtasks_had_is_there_for_all_of_them() {
    let all = vec![OperatorState::default(), of_each_kind(&[1])];
    for (index, parallelism) in [(0, 2), (0, 3), (2, 3)] {
        let restored = RestoredState::deal(all.clone(), index, parallelism);
        assert_eq!(given(&restored, "union").1, [1], "subtask {index} of {parallelism}");
        assert_eq!(restored.lists()["splits"].part.element, "u32");
    }
}

#[test]
fn with_another_parallelism_the_lowest_watermark_counts() {
    let both = RestoredState::deal(vec![state(5, true, &[]), state(9, true, &[])], 2, 3);
    assert_eq!((both.watermark(), both.ended()), (5, true));
    assert!(!RestoredState::deal(vec![], 0, 1).ended(), "nothing has ended where nothing was");
}

#[test]
fn what_has_ended_in_some_subtasks_only_has_not_ended_and_their_lists_are_left_out() {
    let mut all = vec![of_each_kind(&[1, 2]), of_each_kind(&[3, 4, 5]), of_each_kind(&[6])];
    all[0].ended = true;
    all[0].sides_ended = [true, true];
    all[1].sides_ended = [true, false];
    all[2].sides_ended = [true, false];
    all[0].watermark = Timestamp::MAX;
    let mut dealt = Vec::new();
    for index in 0..2 {
        let restored = RestoredState::deal(all.clone(), index, 2);
        assert_eq!((restored.watermark(), restored.ended()), (0, false));
        assert_eq!(restored.sides_ended(), [true, false], "the first input has ended everywhere");
        assert_eq!(given(&restored, "union").1, [1, 2, 3, 4, 5, 6]);
        dealt.push(given(&restored, "splits").0);
    }
    assert_eq!(dealt, [vec![3, 5], vec![4, 6]]);
    // Where all have ended, all is kept.
    all.iter_mut().for_each(|state| state.ended = true);
    let restored = RestoredState::deal(all, 0, 2);
    assert_eq!((restored.ended(), given(&restored, "splits").0), (true, vec![1, 3, 5]));
}

#[test]
fn a_list_of_another_type_is_named() {
    let restored = RestoredState::deal(vec![state(0, false, &[1])], 0, 1);
    let e = restored.list::<String>("splits").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Data);
    assert!(e.to_string().contains("operator state 'splits'"), "{e}");
    assert!(restored.list::<u32>("unknown").unwrap().is_empty());
}

proptest! {
    /// Whatever the parallelism before and after: every element is in one subtask, and the shares are even.
    #[test]
    fn every_element_is_dealt_out_once(
        old in proptest::collection::vec(proptest::collection::vec(any::<u32>(), 0..5), 1..6),
        parallelism in 1u32..7,
    ) {
        let states: Vec<OperatorState> = old.iter().map(|splits| state(0, false, splits)).collect();
        let mut shares = Vec::new();
        for index in 0..parallelism {
            let restored = RestoredState::deal(states.clone(), index, parallelism);
            prop_assert_eq!(restored.union_list::<u32>("splits").unwrap(), old.concat());
            shares.push(restored.list::<u32>("splits").unwrap());
        }
        let (least, most) = (shares.iter().map(Vec::len).min(), shares.iter().map(Vec::len).max());
        prop_assert!(old.len() == parallelism as usize || most.unwrap() - least.unwrap() <= 1);
        let mut dealt = shares.concat();
        let mut all = old.concat();
        dealt.sort();
        all.sort();
        prop_assert_eq!(dealt, all);
    }
}

//! Registration, snapshot and restore of operator states, without an operator.

use super::*;
use crate::error::ErrorKind;

/// What a checkpoint holds of them.
fn saved(states: &OperatorStates) -> BTreeMap<String, StoredList> {
    let mut lists = BTreeMap::new();
    states.freeze().unwrap().encode_into(&mut lists).unwrap();
    lists
}

/// As a single subtask is given it back.
fn restored(lists: BTreeMap<String, StoredList>) -> OperatorStates {
    let given = lists.into_iter().map(|(name, part)| {
        let union = part.elements.clone();
        (name, RestoredList { part, union })
    });
    OperatorStates::new(given.collect(), true)
}

fn items<T: State>(list: &OperatorListState<T>) -> Vec<T> {
    list.iter().unwrap().collect()
}

#[test]
fn a_list_is_what_was_put_into_it() {
    let mut list = OperatorStates::default().list::<u32>("l", Redistribution::Split).unwrap();
    assert!(list.is_empty().unwrap());
    list.push(3).unwrap();
    list.extend([1, 2]).unwrap();
    let before = list.iter().unwrap();
    list.push(9).unwrap();
    assert_eq!(before.collect::<Vec<_>>(), [3, 1, 2], "an iterator does not see later changes");
    assert_eq!((items(&list), list.len().unwrap()), (vec![3, 1, 2, 9], 4));
    let doubled = list.iter().unwrap().map(|n| n * 2);
    list.replace(doubled).unwrap();
    assert_eq!(items(&list), [6, 2, 4, 18]);
    let other = list.clone();
    let inner = std::cell::Cell::new(None);
    list.extend((0..1).inspect(|_| inner.set(Some(other.len().map_err(|e| e.kind()))))).unwrap();
    assert_eq!(inner.take(), Some(Err(ErrorKind::Config)), "used while it is being changed");
    list.clear().unwrap();
    assert_eq!(other.len().unwrap(), 0);
}

#[test]
fn a_broadcast_state_is_a_map_that_is_written_through_its_view() {
    let mut states = OperatorStates::new(BTreeMap::new(), true);
    let rules = states.broadcast::<String, u32>("rules").unwrap();
    let mut writable = crate::function::WritableBroadcastState::new(&rules);
    for (name, value) in [("b", 2), ("a", 1), ("c", 3)] {
        writable.insert(name.into(), value).unwrap();
    }
    writable.remove(&"c".into()).unwrap();
    assert_eq!(writable.update("a".into(), || 7, |n| std::mem::replace(n, 5)).unwrap(), 1);
    assert_eq!(writable.update("d".into(), || 7, |n| *n).unwrap(), 7);
    let inner = writable.update("d".into(), || 0, |_| rules.get(&"a".into()).map_err(|e| e.kind()));
    assert_eq!(inner.unwrap(), Err(ErrorKind::Config));
    let entries: Vec<(String, u32)> = rules.iter().unwrap().collect();
    assert_eq!(entries, [("a".into(), 5), ("b".into(), 2), ("d".into(), 7)]);
    assert_eq!(rules.with_all(|all| all.range("b".to_string()..).count()).unwrap(), 2);
    assert_eq!((rules.contains_key(&"c".into()).unwrap(), rules.len().unwrap()), (false, 3));
    writable.clear().unwrap();
    assert!(rules.is_empty().unwrap());
}

#[test]
fn what_is_saved_comes_back_and_an_image_does_not_see_later_changes() {
    let mut states = OperatorStates::new(BTreeMap::new(), true);
    let mut list = states.list::<String>("list", Redistribution::Split).unwrap();
    let mut union = states.list::<u8>("union", Redistribution::Union).unwrap();
    let rules = states.broadcast::<(u8, String), Vec<u8>>("rules").unwrap();
    let mut writable = crate::function::WritableBroadcastState::new(&rules);
    list.extend(["x".into(), "y".into()]).unwrap();
    union.push(7).unwrap();
    writable.insert((1, "k\0".into()), vec![1, 2]).unwrap();
    writable.insert((1, "k".into()), vec![]).unwrap();
    let frozen = states.freeze().unwrap();
    list.push("z".into()).unwrap();
    union.clear().unwrap();
    writable.clear().unwrap();
    let mut lists = BTreeMap::new();
    frozen.encode_into(&mut lists).unwrap();

    let mut again = restored(lists);
    assert_eq!(items(&again.list::<String>("list", Redistribution::Split).unwrap()), ["x", "y"]);
    assert_eq!(items(&again.list::<u8>("union", Redistribution::Union).unwrap()), [7]);
    let rules = again.broadcast::<(u8, String), Vec<u8>>("rules").unwrap();
    let entries: Vec<_> = rules.iter().unwrap().collect();
    assert_eq!(entries, [((1, "k".into()), vec![]), ((1, "k\0".into()), vec![1, 2])]);
    let saved = saved(&states);
    assert_eq!(saved["list"].elements.len(), 3);
    let schemas = ["list", "union", "rules"].map(|name| saved[name].schema.as_str());
    assert_eq!(schemas, ["string", "u8", "list<u8>"]);
}

#[test]
fn the_same_name_is_the_same_state_and_another_kind_or_type_is_refused() {
    let mut states = OperatorStates::new(BTreeMap::new(), true);
    let mut first = states.list::<u32>("l", Redistribution::Split).unwrap();
    let second = states.list::<u32>("l", Redistribution::Split).unwrap();
    first.push(4).unwrap();
    assert_eq!(items(&second), [4]);
    let lists = saved(&states);
    for (mut states, place) in [(states, ""), (restored(lists), " in the checkpoint")] {
        let refusals = [
            (states.list::<i32>("l", Redistribution::Split).map(drop), "list of i32"),
            (states.list::<u32>("l", Redistribution::Union).map(drop), "union list of u32"),
            (states.broadcast::<u32, String>("l").map(drop), "broadcast state of (u32, String)"),
        ];
        for (refusal, asked) in refusals {
            let e = refusal.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Config);
            let message = format!("'l' is a list of u32{place} and is asked for as a {asked}");
            assert!(e.to_string().contains(&message), "{e}");
        }
        assert_eq!(items(&states.list::<u32>("l", Redistribution::Split).unwrap()), [4], "it is still there");
    }
}

#[test]
fn a_broadcast_state_needs_a_broadcast_input() {
    let e = OperatorStates::default().broadcast::<u32, u32>("rules").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Config);
    assert!(e.to_string().contains("'rules'") && e.to_string().contains("broadcast input"), "{e}");
}

#[test]
fn what_nobody_asks_for_is_kept_as_it_is() {
    let mut states = OperatorStates::new(BTreeMap::new(), true);
    states.list::<u32>("asked", Redistribution::Split).unwrap().push(1).unwrap();
    states.list::<u32>("left", Redistribution::Union).unwrap().push(2).unwrap();
    let lists = saved(&states);
    let mut again = restored(lists.clone());
    again.list::<u32>("asked", Redistribution::Split).unwrap();
    assert_eq!(saved(&again), lists);
}

#[test]
fn damaged_elements_are_refused_by_name() {
    for (redistribution, element) in
        [(Redistribution::Split, "String"), (Redistribution::Broadcast, "(u64, String)")]
    {
        let (element, elements) = (element.into(), vec![vec![255; 3]]);
        let list = StoredList { redistribution, element, schema: String::new(), elements };
        let mut states = restored(BTreeMap::from([("l".to_owned(), list)]));
        let refused = match redistribution {
            Redistribution::Broadcast => states.broadcast::<u64, String>("l").map(drop),
            _ => states.list::<String>("l", redistribution).map(drop),
        };
        let e = refused.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Data);
        assert!(e.to_string().contains("operator state 'l'"), "{e}");
    }
}

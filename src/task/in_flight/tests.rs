//! Records in flight as bytes, and dealt out to another number of subtasks.

use super::*;
use crate::function::NO_TIMESTAMP;
use proptest::prelude::*;
use tidegate_state::{key_group_of, range_of};

const KEY_GROUPS: u16 = 16;

fn channel(partitioning: Partitioning, sender: u32, elements: &[InFlightElement<'_>]) -> InFlightChannel {
    let edge = EdgeName { from: OperatorUid("from".into()), side_output: None, input: None, number: 0 };
    let mut bytes = Vec::new();
    elements.iter().for_each(|element| element.put(&mut bytes));
    ChannelName { edge, partitioning, sender, senders: 2 }.with(bytes)
}

fn record(hash: Option<u64>, value: &[u8]) -> InFlightElement<'_> {
    InFlightElement::Record { timestamp: 7, hash, value }
}

fn new_subtask(index: u32, parallelism: u32) -> NewSubtask {
    let key_groups = range_of(index, parallelism, KEY_GROUPS).unwrap();
    NewSubtask { index, parallelism, key_groups, max_parallelism: KEY_GROUPS }
}

fn values(parts: &[InFlight]) -> Vec<Vec<u8>> {
    let elements = parts.iter().flat_map(|part| &part.channels).flat_map(InFlightChannel::elements);
    let value = |element| match element {
        Ok(InFlightElement::Record { value, .. }) => value.to_vec(),
        other => panic!("{other:?}"),
    };
    elements.map(value).collect()
}

#[test]
fn elements_come_back_as_they_were() {
    let all = [
        record(None, b"one"),
        InFlightElement::Watermark(-5),
        InFlightElement::Record { timestamp: NO_TIMESTAMP, hash: Some(u64::MAX), value: b"" },
    ];
    let channel = channel(Partitioning::Hash, 0, &all);
    assert_eq!(channel.elements().collect::<Result<Vec<_>>>().unwrap(), all);
    let whole = [1, 7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, b'o', b'n', b'e'];
    assert_eq!(channel.elements[..16], whole, "the format is documented");
    for cut in 1..channel.elements.len() {
        let cut = InFlightChannel { elements: channel.elements[..cut].to_vec(), ..channel.clone() };
        assert!(cut.elements().count() <= 3, "it ends");
    }
    let unknown = InFlightChannel { elements: vec![9; 40], ..channel };
    let said = unknown.elements().next().unwrap().unwrap_err().to_string();
    assert!(said.contains("no element 9"), "{said}");
    assert_eq!(unknown.elements().count(), 1);
}

#[test]
fn records_that_nobody_deals_out_are_refused() {
    for (partitioning, hash) in
        [(Partitioning::Hash, None), (Partitioning::Broadcast, None), (Partitioning::Rebalance, Some(1))]
    {
        let channels = vec![channel(partitioning, 0, &[record(hash, b"x")])];
        let said = deal(vec![InFlight { channels, ..InFlight::default() }], new_subtask(0, 2)).unwrap_err();
        assert!(said.to_string().contains("cannot be dealt out"), "{said}");
    }
}

proptest! {
    /// Every record goes to exactly one subtask, keyed ones to the owner of their key group; those of a key stay in order.
    #[test]
    fn every_record_goes_to_one_subtask_in_order(
        old in prop::collection::vec(prop::collection::vec(any::<Option<u64>>(), 0..30), 1..4),
        parallelism in 1u32..6,
    ) {
        let mut number = 0u32;
        let mut sent = Vec::new();
        let all: Vec<InFlight> = old
            .iter()
            .map(|records| {
                let mut channels = Vec::new();
                for (sender, hash) in (0..).zip(records) {
                    let partitioning = if hash.is_some() { Partitioning::Hash } else { Partitioning::Rebalance };
                    let value = number.to_be_bytes();
                    let elements = [InFlightElement::Watermark(3), record(*hash, &value)];
                    channels.push(channel(partitioning, sender, &elements));
                    sent.push((value.to_vec(), *hash));
                    number += 1;
                }
                InFlight { channels, ..InFlight::default() }
            })
            .collect();
        let mut dealt = Vec::new();
        for index in 0..parallelism {
            let to = new_subtask(index, parallelism);
            let share = values(&deal(all.clone(), to).unwrap());
            prop_assert!(share.is_sorted(), "in order");
            for value in &share {
                let (_, hash) = sent.iter().find(|(sent, _)| sent == value).unwrap();
                if let Some(hash) = hash {
                    prop_assert!(to.key_groups.contains(key_group_of(*hash, KEY_GROUPS)));
                }
            }
            dealt.extend(share);
        }
        dealt.sort();
        prop_assert_eq!(dealt, sent.into_iter().map(|(value, _)| value).collect::<Vec<_>>());
    }
}

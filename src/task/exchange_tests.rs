//! The sending side of an exchange: which channel a record takes, in which order things leave, what is kept back.

use super::*;
use crate::checkpoint::{Barrier, CheckpointKind};
use crate::function::NO_TIMESTAMP;
use crate::id::{CheckpointId, VertexId};
use crate::task::ends::ReceiveEnd;
use crate::task::hub::CHANNEL_BYTES;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Wake;

const MAX_PARALLELISM: u16 = 16;

#[derive(Default)]
struct Wakes(AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn channel(edge: usize, from: SubtaskId, to: SubtaskId) -> ChannelId {
    ChannelId { edge, from, to }
}

fn id(vertex: u32, index: u32) -> SubtaskId {
    SubtaskId { vertex: VertexId(vertex), index }
}

struct Ends {
    writer: Box<dyn Operator<u64>>,
    receivers: Vec<ReceiveEnd<u64>>,
    wakes: Arc<Wakes>,
}

fn ends(partitioning: Partitioning, channels: u32) -> Ends {
    let (hub, wakes) = (ExchangeHub::default(), Arc::new(Wakes::default()));
    let targets: Vec<SubtaskId> = (0..channels).map(|index| id(1, index)).collect();
    let exchange = TypedExchange {
        partitioning,
        hash: |n: &u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        record: PhantomData,
    };
    let waker = Waker::from(wakes.clone());
    let writer = exchange.writer(&hub, 0, id(0, 0), &targets, MAX_PARALLELISM, &waker).unwrap();
    let writer = *writer.downcast::<Box<dyn Operator<u64>>>().unwrap();
    let receivers = targets.iter().map(|to| hub.receiver(channel(0, id(0, 0), *to)).unwrap()).collect();
    Ends { writer, receivers, wakes }
}

/// Everything in a channel, as text: records one by one.
fn received(receiver: &ReceiveEnd<u64>) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(element) = receiver.try_receive().unwrap() {
        match element {
            Element::Batch(mut batch) => {
                assert!(!batch.is_empty() && batch.bytes > 0);
                all.extend(batch.values.drain(..).map(|n| n.to_string()));
            }
            Element::Watermark(w) => all.push(format!("watermark {w}")),
            Element::Idle(idle) => all.push(format!("idle {idle}")),
            Element::Barrier(b) => all.push(format!("barrier {}", b.checkpoint)),
            Element::End => all.push("end".into()),
        }
    }
    all
}

fn flush(writer: &mut Box<dyn Operator<u64>>) {
    writer.control(&mut Control::Flush).unwrap();
}

fn is_blocked(writer: &mut Box<dyn Operator<u64>>) -> bool {
    let mut blocked = false;
    writer.control(&mut Control::Drain(&mut blocked)).unwrap();
    blocked
}

#[test]
fn a_batch_leaves_when_it_is_full_or_flushed() {
    let Ends { mut writer, receivers, .. } = ends(Partitioning::Forward, 1);
    (0..BATCH_RECORDS as u64 - 1).for_each(|n| writer.emit(n, NO_TIMESTAMP).unwrap());
    assert_eq!(received(&receivers[0]).len(), 0);
    writer.emit(7, NO_TIMESTAMP).unwrap();
    assert_eq!(received(&receivers[0]).len(), BATCH_RECORDS);
    writer.emit(8, NO_TIMESTAMP).unwrap();
    assert!(received(&receivers[0]).is_empty());
    flush(&mut writer);
    flush(&mut writer);
    assert_eq!(received(&receivers[0]), ["8"]);
}

#[test]
fn everything_else_leaves_behind_the_records_before_it_on_every_channel() {
    let Ends { mut writer, receivers, .. } = ends(Partitioning::Rebalance, 2);
    let barrier = Barrier::new(CheckpointId(3), CheckpointKind::Periodic, 0);
    let mut snapshot = crate::operator::ChainSnapshot::default();
    writer.emit(1, NO_TIMESTAMP).unwrap();
    writer.emit(2, NO_TIMESTAMP).unwrap();
    writer.watermark(10).unwrap();
    writer.emit(3, NO_TIMESTAMP).unwrap();
    writer.control(&mut Control::Barrier { barrier, snapshot: &mut snapshot }).unwrap();
    writer.control(&mut Control::Idle(true)).unwrap();
    writer.control(&mut Control::EndOfInput).unwrap();
    assert_eq!(received(&receivers[0]), ["1", "watermark 10", "3", "barrier 3", "idle true", "end"]);
    assert_eq!(received(&receivers[1]), ["2", "watermark 10", "barrier 3", "idle true", "end"]);
    assert!(snapshot.operators.is_empty());
}

#[test]
fn a_key_takes_the_channel_of_its_key_group_and_its_hash_goes_with_it() {
    let Ends { mut writer, receivers, .. } = ends(Partitioning::Hash, 3);
    (0..200u64).for_each(|n| writer.emit(n, n as i64).unwrap());
    flush(&mut writer);
    let mut seen = 0;
    for (index, receiver) in receivers.iter().enumerate() {
        let Some(Element::Batch(mut batch)) = receiver.try_receive().unwrap() else {
            panic!("channel {index} is empty")
        };
        batch
            .drain_each(|n, time, hash| {
                assert_eq!((hash, time), (n.wrapping_mul(0x9e37_79b9_7f4a_7c15), n as i64));
                let group = key_group_of(hash, MAX_PARALLELISM);
                assert_eq!(subtask_of(group, 3, MAX_PARALLELISM) as usize, index);
                seen += 1;
                Ok::<_, ()>(())
            })
            .unwrap();
    }
    assert_eq!(seen, 200);
}

#[test]
fn what_does_not_fit_waits_in_order_and_the_sender_is_woken() {
    let Ends { mut writer, receivers, wakes } = ends(Partitioning::Forward, 1);
    let mut sent = 0u64;
    while !is_blocked(&mut writer) {
        (0..BATCH_RECORDS as u64).for_each(|n| writer.emit(sent + n, NO_TIMESTAMP).unwrap());
        sent += BATCH_RECORDS as u64;
        assert!(sent as usize * size_of::<u64>() <= 4 * CHANNEL_BYTES, "never blocked");
    }
    // The barrier is not to overtake the records that wait before it.
    writer.watermark(5).unwrap();
    assert!(is_blocked(&mut writer));
    assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    let mut all = received(&receivers[0]);
    assert!((all.len() as u64) < sent);
    assert!(wakes.0.load(Ordering::Relaxed) > 0, "there is room again");
    assert!(!is_blocked(&mut writer));
    all.extend(received(&receivers[0]));
    let expected: Vec<String> = (0..sent).map(|n| n.to_string()).chain(["watermark 5".into()]).collect();
    assert_eq!(all, expected);
}

/// Fills the channel of a writer until something is held back; how many records were emitted.
fn fill(writer: &mut Box<dyn Operator<u64>>) -> u64 {
    let mut sent = 0;
    while !is_blocked(writer) {
        (0..BATCH_RECORDS as u64).for_each(|n| writer.emit(sent + n, NO_TIMESTAMP).unwrap());
        sent += BATCH_RECORDS as u64;
    }
    sent
}

fn overtake(writer: &mut Box<dyn Operator<u64>>) {
    let barrier = Barrier::new(CheckpointId(3), CheckpointKind::Periodic, 0);
    let barrier = Barrier { unaligned_after_ms: Some(0), ..barrier };
    let mut snapshot = crate::operator::ChainSnapshot::default();
    writer.control(&mut Control::Barrier { barrier, snapshot: &mut snapshot }).unwrap();
}

#[test]
fn a_barrier_that_overtakes_is_announced_with_all_that_was_held_back_in_front_of_it() {
    let Ends { mut writer, receivers, .. } = ends(Partitioning::Rebalance, 1);
    let announcement = Arc::new(std::sync::atomic::AtomicBool::new(false));
    receivers[0].set_announcement(announcement.clone());
    let sent = fill(&mut writer);
    writer.emit(sent, NO_TIMESTAMP).unwrap();
    overtake(&mut writer);
    assert!(announcement.load(Ordering::Relaxed));
    assert_eq!(receivers[0].take_announced().len(), 1);
    let mut ahead = 0;
    let count = |element: &Element<u64>| match element {
        Element::Batch(batch) => ahead += batch.len() as u64,
        other => panic!("{other:?}"),
    };
    receivers[0].overtaken(CheckpointId(3), count).unwrap();
    assert_eq!(ahead, sent + 1);
    assert!(is_blocked(&mut writer), "the channel holds more than it should");
    let all = received(&receivers[0]);
    assert_eq!((all.len() as u64, all.last().unwrap().as_str()), (sent + 2, "barrier 3"));
    assert!(!is_blocked(&mut writer));
}

#[test]
fn on_exchanges_that_cannot_be_overtaken_the_barrier_waits_for_its_turn() {
    for partitioning in [Partitioning::Forward, Partitioning::Broadcast] {
        let Ends { mut writer, receivers, .. } = ends(partitioning, 1);
        let sent = fill(&mut writer);
        overtake(&mut writer);
        assert!(receivers[0].take_announced().is_empty());
        assert!((received(&receivers[0]).len() as u64) < sent, "{partitioning:?}");
    }
}

#[test]
fn broadcast_waits_for_its_slowest_channel_only_there() {
    let Ends { mut writer, receivers, .. } = ends(Partitioning::Broadcast, 2);
    let mut fast = 0;
    while !is_blocked(&mut writer) {
        (0..BATCH_RECORDS as u64).for_each(|n| writer.emit(n, NO_TIMESTAMP).unwrap());
        fast += received(&receivers[0]).len();
    }
    assert!(is_blocked(&mut writer), "the second channel is full");
    let mut slow = received(&receivers[1]).len();
    assert!(!is_blocked(&mut writer));
    slow += received(&receivers[1]).len();
    assert_eq!((fast + received(&receivers[0]).len(), fast % BATCH_RECORDS), (slow, 0));
}

#[test]
fn the_ends_of_a_channel_meet_whichever_comes_first() {
    let hub = ExchangeHub::default();
    let rx: ReceiveEnd<u64> = hub.receiver(channel(2, id(0, 0), id(1, 0))).unwrap();
    let tx: SendEnd<u64> = hub.sender(channel(2, id(0, 0), id(1, 0))).unwrap();
    assert!(tx.try_send(Element::Watermark(1)).is_ok());
    assert!(matches!(rx.try_receive(), Ok(Some(Element::Watermark(1)))));
    let _tx: SendEnd<u64> = hub.sender(channel(3, id(0, 0), id(1, 0))).unwrap();
    let wrong = hub.receiver::<String>(channel(3, id(0, 0), id(1, 0))).err().unwrap();
    assert_eq!(wrong.kind(), crate::error::ErrorKind::Bug);
}

//! A gate over real channels.

use super::*;
use crate::checkpoint::CheckpointKind;
use crate::function::{MAX_WATERMARK, NO_TIMESTAMP, NO_WATERMARK};
use crate::graph::Partitioning;
use crate::id::CheckpointId;
use crate::operator::Batch;
use crate::operator::test_chain::{Journal, Recorder};
use crate::task::EdgeName;
use crate::task::channel::{Sender, channel};

fn gate(channels: usize) -> (Vec<Sender<u64>>, GateHead<u64>, Journal) {
    gate_of(&vec![None; channels])
}

/// A channel of the only exchange there is.
fn name(partitioning: Partitioning) -> ChannelName {
    let edge = EdgeName { from: OperatorUid("from".into()), side_output: None, input: None, number: 0 };
    ChannelName { edge, partitioning, sender: 0, senders: 1 }
}

fn start(in_flight: Vec<InFlight>) -> GateStart {
    GateStart { uid: OperatorUid("to".into()), watermark: NO_WATERMARK, in_flight }
}

/// A gate with one channel per entry, each of the input named.
fn gate_of(sides: &[Option<InputSide>]) -> (Vec<Sender<u64>>, GateHead<u64>, Journal) {
    let inlet = |side: &Option<InputSide>| {
        let (sender, receiver) = channel(1 << 20);
        let receiver = ReceiveEnd::Local(receiver);
        (sender, GateChannel { receiver, side: *side, name: name(Partitioning::Hash) })
    };
    let (senders, channels) = sides.iter().map(inlet).unzip();
    let journal = Journal::default();
    let gate = GateHead::new(channels, Box::new(Recorder(journal.clone())), start(Vec::new())).unwrap();
    (senders, gate, journal)
}

fn send(sender: &Sender<u64>, values: &[u64]) {
    let mut batch = Batch::default();
    values.iter().for_each(|n| batch.push(*n, NO_TIMESTAMP));
    batch.bytes = 1;
    assert!(sender.try_send(Element::Batch(batch)).is_ok());
}

fn barrier(n: u64) -> Barrier {
    Barrier::new(CheckpointId(n), CheckpointKind::Periodic, 0)
}

fn send_barrier(sender: &Sender<u64>, n: u64) {
    assert!(sender.try_send(Element::Barrier(barrier(n))).is_ok());
}

/// Steps until there is nothing more to read; the progress made on the way.
fn run(gate: &mut GateHead<u64>) -> Vec<Progress> {
    let mut all = Vec::new();
    loop {
        match gate.step(0).unwrap() {
            Progress::Idle(None) => return all,
            Progress::Worked => {}
            other => all.push(other),
        }
    }
}

#[test]
fn channels_take_turns() {
    let (senders, mut gate, journal) = gate(2);
    for n in [1, 2] {
        send(&senders[0], &[n]);
        send(&senders[1], &[10 + n]);
    }
    run(&mut gate);
    assert_eq!(journal.take(), ["1", "11", "2", "12"]);
}

#[test]
fn nothing_behind_a_barrier_is_read_before_all_have_come() {
    let (senders, mut gate, journal) = gate(3);
    send_barrier(&senders[0], 1);
    send(&senders[0], &[100]);
    send(&senders[1], &[1]);
    assert_eq!(run(&mut gate), [Progress::Aligning]);
    assert_eq!(journal.take(), ["1"]);
    send(&senders[2], &[2]);
    send_barrier(&senders[2], 1);
    send(&senders[2], &[200]);
    assert_eq!(run(&mut gate), []);
    send_barrier(&senders[1], 1);
    assert_eq!(gate.step(0).unwrap(), Progress::Aligned(barrier(1)));
    assert_eq!(journal.take(), ["2"]);
    run(&mut gate);
    let mut rest = journal.take();
    rest.sort();
    assert_eq!(rest, ["100", "200"]);
}

#[test]
fn an_ended_channel_still_delivers_barriers() {
    let (senders, mut gate, journal) = gate(2);
    assert!(senders[0].try_send(Element::End).is_ok());
    send_barrier(&senders[0], 1);
    send(&senders[1], &[1]);
    assert_eq!(run(&mut gate), [Progress::Aligning]);
    send_barrier(&senders[1], 1);
    assert_eq!(run(&mut gate), [Progress::Aligned(barrier(1))]);
    assert_eq!(journal.take(), ["1"]);
}

#[test]
fn an_aborted_checkpoint_lets_the_blocked_channels_go() {
    let (senders, mut gate, journal) = gate(2);
    send_barrier(&senders[0], 1);
    send(&senders[0], &[1]);
    assert_eq!(run(&mut gate), [Progress::Aligning]);
    gate.event(HeadEvent::Aborted(CheckpointId(1))).unwrap();
    assert_eq!(run(&mut gate), []);
    assert_eq!(journal.take(), ["1"]);
}

#[test]
fn the_end_comes_once_with_the_last_channel_behind_the_last_watermark() {
    let (senders, mut gate, journal) = gate(2);
    assert!(senders[0].try_send(Element::End).is_ok());
    assert_eq!(run(&mut gate), []);
    send(&senders[1], &[1]);
    assert!(senders[1].try_send(Element::End).is_ok());
    assert_eq!(run(&mut gate), [Progress::Ended]);
    assert_eq!(journal.take(), ["1", &format!("watermark {MAX_WATERMARK}"), "end of input"]);
    send_barrier(&senders[0], 9);
    send_barrier(&senders[1], 9);
    assert_eq!(
        run(&mut gate),
        [Progress::Aligning, Progress::Aligned(barrier(9))],
        "the final checkpoint follows"
    );
}

#[test]
fn time_and_idleness_are_combined_over_the_channels() {
    let (senders, mut gate, journal) = gate(2);
    let send = |channel: usize, element| assert!(senders[channel].try_send(element).is_ok());
    send(0, Element::Watermark(10));
    run(&mut gate);
    send(1, Element::Idle(true));
    run(&mut gate);
    assert_eq!(journal.take(), ["watermark 10"]);
    send(0, Element::Idle(true));
    run(&mut gate);
    send(1, Element::Idle(false));
    send(1, Element::Watermark(20));
    run(&mut gate);
    assert_eq!(journal.take(), ["idle true", "idle false", "watermark 20"]);
}

#[test]
fn an_aligned_barrier_goes_down_the_chain() {
    let (_senders, mut gate, journal) = gate(1);
    gate.barrier(barrier(4), &mut ChainSnapshot::default()).unwrap();
    assert_eq!(journal.take(), ["barrier 4"]);
}

#[test]
fn each_of_two_inputs_ends_with_the_last_of_its_channels() {
    let (first, second) = (Some(InputSide::First), Some(InputSide::Second));
    let (senders, mut gate, journal) = gate_of(&[first, second, first]);
    let mut end = |channel: usize| {
        assert!(senders[channel].try_send(Element::End).is_ok());
        let progress = run(&mut gate);
        (progress, journal.take())
    };
    assert_eq!(end(0), (vec![], vec![]));
    assert_eq!(end(2), (vec![], vec!["end of First".into()]));
    let (progress, entries) = end(1);
    assert_eq!(progress, [Progress::Ended]);
    let all = [format!("watermark {MAX_WATERMARK}"), "end of Second".into(), "end of input".into()];
    assert_eq!(entries, all);
}

/// A gate whose channels are of several exchanges of one sender each, restored with what was in flight.
fn gate_over(
    exchanges: &[Partitioning],
    in_flight: Vec<InFlight>,
) -> Result<(Vec<Sender<u64>>, GateHead<u64>, Journal)> {
    let inlet = |(number, partitioning): (u32, &Partitioning)| {
        let (sender, receiver) = channel(1 << 20);
        let mut name = name(*partitioning);
        name.edge.number = number;
        (sender, GateChannel { receiver: ReceiveEnd::Local(receiver), side: None, name })
    };
    let (senders, channels) = (0..).zip(exchanges).map(inlet).unzip();
    let journal = Journal::default();
    let gate = GateHead::new(channels, Box::new(Recorder(journal.clone())), start(in_flight))?;
    Ok((senders, gate, journal))
}

const HASH: Partitioning = Partitioning::Hash;

fn overtaking(n: u64) -> Barrier {
    Barrier { unaligned_after_ms: Some(0), ..barrier(n) }
}

fn overtake(sender: &Sender<u64>, n: u64, held_back: &[u64]) {
    let mut batch = Batch::default();
    held_back.iter().for_each(|n| batch.push_hashed(*n, 7, *n));
    let held_back = (!batch.is_empty()).then_some(Element::Batch(batch));
    sender.overtake(held_back.into_iter(), overtaking(n));
}

/// Takes the cut as a subtask does, and says what was in flight then.
fn cut(gate: &mut GateHead<u64>, n: u64) -> ChainSnapshot {
    assert_eq!(gate.look_ahead(0).unwrap(), Progress::Overtaken(overtaking(n)));
    let mut snapshot = ChainSnapshot::default();
    gate.barrier(overtaking(n), &mut snapshot).unwrap();
    snapshot
}

fn collected(gate: &mut GateHead<u64>, n: u64, mut snapshot: ChainSnapshot) -> InFlight {
    assert_eq!(gate.look_ahead(0).unwrap(), Progress::Collected(CheckpointId(n)));
    gate.put_in_flight(&mut snapshot);
    let own = snapshot.operators.pop().unwrap();
    assert_eq!(own.uid, OperatorUid("to".into()));
    own.in_flight.unwrap().unwrap()
}

#[test]
fn a_barrier_takes_the_cut_ahead_of_what_waits_and_that_is_in_flight() {
    let (senders, mut gate, journal) = gate_over(&[HASH; 2], Vec::new()).unwrap();
    send(&senders[0], &[1]);
    assert_eq!(gate.look_ahead(0).unwrap(), Progress::Idle(None));
    gate.step(0).unwrap();
    send(&senders[0], &[2]);
    assert!(senders[0].try_send(Element::Watermark(9)).is_ok());
    assert!(senders[0].try_send(Element::Idle(true)).is_ok());
    overtake(&senders[0], 1, &[3]);
    send(&senders[0], &[100]);
    send(&senders[1], &[4]);
    let snapshot = cut(&mut gate, 1);
    assert_eq!(journal.take(), ["1", "barrier 1"]);
    // The other channel has not delivered: what comes there is in flight, too.
    run(&mut gate);
    send(&senders[1], &[5]);
    overtake(&senders[1], 1, &[6]);
    assert_eq!(journal.take(), ["4", "2", "3", "100"]);
    let in_flight = collected(&mut gate, 1, snapshot);
    run(&mut gate);
    assert_eq!(journal.take(), ["5", "6"]);

    // Another gate starts from it: what was in flight comes before anything new, idleness is forgotten.
    let (senders, mut gate, journal) = gate_over(&[HASH; 2], vec![in_flight]).unwrap();
    send(&senders[1], &[200]);
    run(&mut gate);
    assert_eq!(journal.take(), ["2", "3", "4", "5", "6", "200"]);
    assert!(senders[1].try_send(Element::Watermark(5)).is_ok());
    run(&mut gate);
    assert_eq!(journal.take(), ["watermark 5"], "the watermark in flight counts");
}

#[test]
fn what_was_restored_and_not_yet_processed_is_in_flight_again() {
    let (senders, mut gate, _) = gate_over(&[HASH], Vec::new()).unwrap();
    overtake(&senders[0], 1, &[1, 2]);
    let snapshot = cut(&mut gate, 1);
    let in_flight = collected(&mut gate, 1, snapshot);
    let (senders, mut gate, journal) = gate_over(&[HASH], vec![in_flight.clone()]).unwrap();
    overtake(&senders[0], 2, &[]);
    let snapshot = cut(&mut gate, 2);
    assert_eq!(collected(&mut gate, 2, snapshot), in_flight);
    assert_eq!(journal.take(), ["barrier 2"]);
    run(&mut gate);
    assert_eq!(journal.take(), ["1", "2"]);
}

#[test]
fn a_channel_that_cannot_be_overtaken_is_waited_for() {
    let (senders, mut gate, journal) = gate_over(&[HASH, Partitioning::Broadcast], Vec::new()).unwrap();
    send(&senders[0], &[1]);
    overtake(&senders[0], 1, &[]);
    send(&senders[1], &[10]);
    assert_eq!(gate.look_ahead(0).unwrap(), Progress::Aligning);
    assert_eq!(gate.look_ahead(0).unwrap(), Progress::Idle(None));
    gate.step(0).unwrap();
    gate.step(0).unwrap();
    send(&senders[0], &[100]);
    assert_eq!(journal.take(), ["1", "10"]);
    assert_eq!(run(&mut gate), []);
    assert!(senders[1].try_send(Element::Barrier(overtaking(1))).is_ok());
    assert_eq!(gate.step(0).unwrap(), Progress::Aligned(overtaking(1)));
    assert_eq!(journal.take(), Vec::<String>::new());
}

#[test]
fn records_of_another_type_or_exchange_are_refused() {
    let (senders, mut gate, _) = gate_over(&[HASH], Vec::new()).unwrap();
    overtake(&senders[0], 1, &[1]);
    let snapshot = cut(&mut gate, 1);
    let in_flight = collected(&mut gate, 1, snapshot);
    let refused = |in_flight, exchanges: &[Partitioning]| {
        gate_over(exchanges, vec![in_flight]).err().map(|e| e.to_string()).unwrap_or_default()
    };
    let said = refused(in_flight.clone(), &[Partitioning::Rebalance]);
    assert!(said.contains("from operator 'from'") && said.contains("Hash in the checkpoint"), "{said}");
    let other = InFlight { schema: "string".into(), record: "String".into(), ..in_flight.clone() };
    let said = refused(other, &[HASH]);
    assert!(said.contains("String in the checkpoint and u64 in the program"), "{said}");
    let mut other = in_flight;
    other.channels[0].edge.from = OperatorUid("gone".into());
    let said = refused(other, &[HASH]);
    assert!(said.contains("from operator 'gone'") && said.contains("no such exchange"), "{said}");
}

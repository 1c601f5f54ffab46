//! A gate over real channels.

use super::*;
use crate::checkpoint::CheckpointKind;
use crate::function::{MAX_WATERMARK, NO_TIMESTAMP, NO_WATERMARK};
use crate::id::CheckpointId;
use crate::operator::Batch;
use crate::operator::test_chain::{Journal, Recorder};
use crate::task::channel::{Sender, channel};

fn gate(channels: usize) -> (Vec<Sender<u64>>, GateHead<u64>, Journal) {
    gate_of(&vec![None; channels])
}

/// A gate with one channel per entry, each of the input named.
fn gate_of(sides: &[Option<InputSide>]) -> (Vec<Sender<u64>>, GateHead<u64>, Journal) {
    let inlet = |side: &Option<InputSide>| {
        let (sender, receiver) = channel(1 << 20);
        (sender, (ReceiveEnd::Local(receiver), *side))
    };
    let (senders, channels) = sides.iter().map(inlet).unzip();
    let journal = Journal::default();
    (senders, GateHead::new(channels, Box::new(Recorder(journal.clone())), NO_WATERMARK), journal)
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

//! Alignment as a table of events, and against a model of channels.

use super::*;
use crate::checkpoint::CheckpointKind;
use proptest::prelude::*;

/// Channels none of which can be overtaken.
fn aligned(channels: usize) -> Aligner {
    Aligner::new(vec![false; channels])
}

fn barrier(n: u64) -> Barrier {
    Barrier::new(CheckpointId(n), CheckpointKind::Periodic, 0)
}

#[test]
fn blocks_what_is_ahead_until_the_last_barrier() {
    let mut a = aligned(3);
    assert_eq!(a.on_barrier(1, barrier(4), 0), Alignment::Waiting);
    assert!(a.is_blocked(1) && !a.is_blocked(0) && !a.is_blocked(2));
    assert_eq!(a.on_barrier(0, barrier(4), 0), Alignment::Waiting);
    assert_eq!(a.on_barrier(2, barrier(4), 0), Alignment::Complete(barrier(4)));
    assert!((0..3).all(|c| !a.is_blocked(c)));
}

#[test]
fn an_aborted_checkpoint_unblocks_and_its_late_barriers_are_dropped() {
    let mut a = aligned(2);
    a.on_barrier(0, barrier(1), 0);
    a.on_aborted(CheckpointId(1));
    assert!(!a.is_blocked(0));
    assert_eq!(a.on_barrier(1, barrier(1), 0), Alignment::Waiting);
    assert!(!a.is_blocked(1), "a late barrier of an aborted checkpoint must not block");
    a.on_barrier(0, barrier(2), 0);
    assert_eq!(a.on_barrier(1, barrier(2), 0), Alignment::Complete(barrier(2)));
}

#[test]
fn aborting_a_younger_checkpoint_leaves_the_older_alignment_alone() {
    let mut a = aligned(2);
    a.on_barrier(0, barrier(1), 0);
    a.on_aborted(CheckpointId(2));
    assert!(a.is_blocked(0));
    assert_eq!(a.on_barrier(1, barrier(1), 0), Alignment::Complete(barrier(1)));
    assert_eq!(a.on_barrier(0, barrier(2), 0), Alignment::Waiting);
    assert!(!a.is_blocked(0));
}

#[test]
fn a_newer_barrier_overtakes_an_unfinished_alignment() {
    let mut a = aligned(2);
    a.on_barrier(0, barrier(1), 0);
    // Channel 0 is blocked; the barrier of checkpoint 2 comes in on channel 1, whose barrier 1 was never sent.
    assert_eq!(a.on_barrier(1, barrier(2), 0), Alignment::Waiting);
    assert!(!a.is_blocked(0) && a.is_blocked(1));
    assert_eq!(a.on_barrier(0, barrier(2), 0), Alignment::Complete(barrier(2)));
}

fn counted(n: u64) -> Barrier {
    Barrier { blocking: false, ..barrier(n) }
}

#[test]
fn at_least_once_blocks_nothing_and_completes_with_the_last_barrier() {
    let mut a = aligned(2);
    assert_eq!(a.on_barrier(0, counted(1), 0), Alignment::Waiting);
    assert!(a.is_aligning() && !a.is_blocked(0));
    // The channel that is not blocked delivers the next one before the other has delivered the first.
    assert_eq!(a.on_barrier(0, counted(2), 0), Alignment::Waiting);
    assert_eq!(a.on_barrier(1, counted(1), 0), Alignment::Complete(counted(1)));
    assert_eq!(a.on_barrier(1, counted(2), 0), Alignment::Complete(counted(2)));
    assert!(!a.is_aligning());
    a.on_barrier(0, counted(3), 0);
    a.on_aborted(CheckpointId(3));
    assert_eq!(a.on_barrier(1, counted(3), 0), Alignment::Waiting);
    assert!(!a.is_aligning());
}

#[test]
fn a_savepoint_is_aligned_between_counted_checkpoints() {
    let mut a = aligned(2);
    a.on_barrier(0, counted(1), 0);
    assert_eq!(a.on_barrier(0, barrier(2), 0), Alignment::Waiting);
    assert!(a.is_blocked(0));
    assert_eq!(a.on_barrier(1, barrier(2), 0), Alignment::Complete(barrier(2)));
    assert_eq!(a.on_barrier(1, counted(1), 0), Alignment::Waiting, "overtaken");
}

proptest! {
    /// However the channels interleave, a checkpoint completes exactly when its last barrier arrives, and no
    /// channel is read past its barrier before that.
    #[test]
    fn completes_each_checkpoint_once_and_never_reads_past_a_barrier(
        channels in 1usize..6,
        order in proptest::collection::vec(0usize..6, 0..400),
    ) {
        let mut a = aligned(channels);
        let mut delivered = vec![0u64; channels];
        let mut completed = 0;
        for pick in order {
            let channel = pick % channels;
            if a.is_blocked(channel) {
                continue;
            }
            prop_assert_eq!(delivered[channel], completed, "read past the cut");
            delivered[channel] += 1;
            match a.on_barrier(channel, barrier(delivered[channel]), 0) {
                Alignment::Complete(b) => {
                    completed += 1;
                    prop_assert_eq!(b, barrier(completed));
                    prop_assert!(delivered.iter().all(|d| *d == completed));
                }
                Alignment::Waiting => prop_assert!(delivered.contains(&completed)),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}

/// A barrier that overtakes `after` milliseconds after its trigger, which was at 100.
fn overtaking(n: u64, after: u64) -> Barrier {
    Barrier { unaligned_after_ms: Some(after), triggered_at_ms: 100, ..barrier(n) }
}

#[test]
fn a_barrier_that_overtakes_makes_the_cut_and_the_rest_is_collected() {
    let mut a = Aligner::new(vec![true; 3]);
    assert_eq!(a.on_announced(1, &overtaking(4, 0), 100), Alignment::Overtake(overtaking(4, 0)));
    assert!((0..3).all(|channel| !a.is_blocked(channel)));
    assert_eq!([0, 1, 2].map(|channel| a.is_collecting(channel)), [true, false, true]);
    assert_eq!(a.take_collected(), None);
    assert_eq!(a.on_announced(0, &overtaking(4, 0), 100), Alignment::Last(0, CheckpointId(4)));
    assert_eq!(a.on_barrier(1, overtaking(4, 0), 100), Alignment::Waiting, "it was announced");
    // Delivered before its announcement was seen.
    assert_eq!(a.on_barrier(2, overtaking(4, 0), 100), Alignment::Waiting);
    assert_eq!(a.take_collected(), Some(CheckpointId(4)));
    assert_eq!(a.on_announced(2, &overtaking(4, 0), 100), Alignment::Waiting, "late");
    assert_eq!((a.take_collected(), a.is_aligning()), (None, false));
}

#[test]
fn channels_that_cannot_be_overtaken_are_waited_for() {
    let mut a = Aligner::new(vec![true, false, true]);
    assert_eq!(a.on_announced(0, &overtaking(1, 0), 100), Alignment::Waiting);
    assert!(a.is_aligning() && a.overtakes_at_ms().is_none());
    // What it has overtaken was processed meanwhile.
    assert_eq!(a.on_barrier(0, overtaking(1, 0), 100), Alignment::Waiting);
    assert!(a.is_blocked(0), "nothing behind the barrier before the cut");
    assert_eq!(a.on_barrier(1, overtaking(1, 0), 100), Alignment::Overtake(overtaking(1, 0)));
    assert_eq!([0, 1, 2].map(|channel| a.is_collecting(channel)), [false, false, true]);
    assert!((0..3).all(|channel| !a.is_blocked(channel)));
}

#[test]
fn an_aligned_checkpoint_overtakes_when_its_time_has_come() {
    let mut a = Aligner::new(vec![true; 2]);
    assert_eq!(a.on_announced(0, &overtaking(1, 50), 120), Alignment::Waiting);
    assert_eq!(a.overtakes_at_ms(), Some(150));
    assert_eq!(a.on_barrier(0, overtaking(1, 50), 140), Alignment::Waiting);
    assert!(a.is_blocked(0));
    assert_eq!(a.on_time(149), Alignment::Waiting);
    assert_eq!(a.on_time(150), Alignment::Overtake(overtaking(1, 50)));
    assert_eq!([0, 1].map(|channel| a.is_collecting(channel)), [false, true]);
    // In time, it stays aligned.
    assert_eq!(a.on_announced(1, &overtaking(1, 50), 151), Alignment::Last(1, CheckpointId(1)));
    assert_eq!(a.take_collected(), Some(CheckpointId(1)));
    for channel in [0, 1] {
        a.on_announced(channel, &overtaking(2, 50), 120);
    }
    assert_eq!(a.on_barrier(0, overtaking(2, 50), 130), Alignment::Waiting);
    assert_eq!(a.on_barrier(1, overtaking(2, 50), 130), Alignment::Complete(overtaking(2, 50)));
    assert_eq!((a.overtakes_at_ms(), a.take_collected()), (None, None));
}

#[test]
fn what_was_given_up_is_not_collected() {
    let mut a = Aligner::new(vec![true; 2]);
    a.on_announced(0, &overtaking(1, 0), 100);
    a.on_aborted(CheckpointId(1));
    assert!(!a.is_collecting(1));
    assert_eq!(a.on_announced(1, &overtaking(1, 0), 100), Alignment::Waiting);
    assert_eq!(a.take_collected(), None);
    // The barrier of the next one says that the one before never came.
    assert_eq!(a.on_announced(0, &overtaking(2, 0), 100), Alignment::Overtake(overtaking(2, 0)));
    assert_eq!(a.on_announced(1, &overtaking(3, 0), 100), Alignment::Overtake(overtaking(3, 0)));
    assert!(a.is_collecting(0) && !a.is_collecting(1));
    assert_eq!(a.on_announced(0, &overtaking(2, 0), 100), Alignment::Waiting, "abandoned");
    assert_eq!(a.on_announced(0, &overtaking(3, 0), 100), Alignment::Last(0, CheckpointId(3)));
}

#[test]
fn a_savepoint_is_aligned_behind_what_is_collected() {
    let mut a = Aligner::new(vec![true; 2]);
    assert_eq!(a.on_announced(0, &overtaking(1, 0), 100), Alignment::Overtake(overtaking(1, 0)));
    assert_eq!(a.on_barrier(0, overtaking(1, 0), 100), Alignment::Waiting);
    assert_eq!(a.on_barrier(0, barrier(2), 100), Alignment::Waiting);
    assert!(a.is_blocked(0) && a.is_collecting(1));
    assert_eq!(a.on_barrier(1, overtaking(1, 0), 100), Alignment::Waiting);
    assert_eq!(a.take_collected(), Some(CheckpointId(1)));
    assert_eq!(a.on_barrier(1, barrier(2), 100), Alignment::Complete(barrier(2)));
}

/// What channels hold, and what has become of it.
#[derive(Debug, Default)]
struct Model {
    /// Per channel, what waits: numbers of records, or a barrier.
    queues: Vec<std::collections::VecDeque<Result<u64, u64>>>,
    announced: Vec<Vec<u64>>,
    processed: std::collections::BTreeSet<u64>,
    /// Collected for the checkpoint under way.
    collected: std::collections::BTreeSet<u64>,
    /// Processed at the cut.
    at_cut: std::collections::BTreeSet<u64>,
    /// Sent before the barrier of the checkpoint.
    before: std::collections::BTreeSet<u64>,
}

impl Model {
    /// As a gate does.
    fn act(&mut self, a: &Aligner, alignment: &Alignment) {
        let in_front = |queue: &std::collections::VecDeque<Result<u64, u64>>, id: u64| {
            let at = queue.iter().position(|element| *element == Err(id)).unwrap_or(0);
            queue.iter().take(at).filter_map(|element| element.ok()).collect::<Vec<_>>()
        };
        match alignment {
            Alignment::Overtake(b) => {
                self.at_cut = self.processed.clone();
                self.collected.clear();
                for (channel, queue) in self.queues.iter().enumerate() {
                    if !a.is_collecting(channel) {
                        self.collected.extend(in_front(queue, b.checkpoint.0));
                    }
                }
            }
            Alignment::Last(channel, id) => self.collected.extend(in_front(&self.queues[*channel], id.0)),
            Alignment::Complete(_) => {
                self.at_cut = self.processed.clone();
                self.collected.clear();
            }
            Alignment::Waiting => {}
        }
    }
}

proptest! {
    /// However channels, announcements and time interleave: what was processed at the cut and what was collected are
    /// together exactly what was sent before the barriers, and nothing is in both.
    #[test]
    fn the_cut_and_what_is_in_flight_are_what_was_sent_before_the_barriers(
        overtakable in proptest::collection::vec(any::<bool>(), 1..5),
        after in 0u64..40,
        steps in proptest::collection::vec((0u8..5, 0usize..5), 0..400),
    ) {
        let channels = overtakable.len();
        let mut a = Aligner::new(overtakable.clone());
        let mut m = Model {
            queues: vec![Default::default(); channels],
            announced: vec![Vec::new(); channels],
            ..Model::default()
        };
        let (mut next, mut now, mut sent_barrier) = (0, 100, vec![false; channels]);
        let (mut id, mut completed, mut complete) = (1, 0, false);
        for (step, channel) in steps {
            let channel = channel % channels;
            let barrier = Barrier { triggered_at_ms: 100, ..overtaking(id, after) };
            let mut alignment = Alignment::Waiting;
            match step {
                0 => {
                    m.queues[channel].push_back(Ok(next));
                    if !sent_barrier[channel] {
                        m.before.insert(next);
                    }
                    next += 1;
                }
                1 if !sent_barrier[channel] => {
                    sent_barrier[channel] = true;
                    m.queues[channel].push_back(Err(id));
                    if overtakable[channel] {
                        m.announced[channel].push(id);
                    }
                }
                2 if m.announced[channel].pop().is_some() => {
                    alignment = a.on_announced(channel, &barrier, now);
                }
                3 => {
                    now += 1;
                    alignment = a.on_time(now);
                }
                _ if !a.is_blocked(channel) => match m.queues[channel].pop_front() {
                    Some(Ok(record)) => {
                        if a.is_collecting(channel) {
                            m.collected.insert(record);
                        }
                        m.processed.insert(record);
                    }
                    Some(Err(of)) if of == id => alignment = a.on_barrier(channel, barrier, now),
                    _ => {}
                },
                _ => {}
            }
            m.act(&a, &alignment);
            complete |= matches!(alignment, Alignment::Complete(_));
            if complete || a.take_collected().is_some() {
                prop_assert!(sent_barrier.iter().all(|sent| *sent));
                prop_assert!(m.at_cut.is_disjoint(&m.collected), "processed and in flight");
                let whole: std::collections::BTreeSet<_> = m.at_cut.union(&m.collected).copied().collect();
                prop_assert_eq!(&whole, &m.before);
                // The next checkpoint.
                completed += 1;
                id += 1;
                now = 100;
                complete = false;
                sent_barrier.fill(false);
                m.announced.iter_mut().for_each(Vec::clear);
                m.before.clear();
                m.before.extend(0..next);
            }
        }
        prop_assert!(completed <= id);
    }
}

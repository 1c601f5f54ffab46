//! Both ends of a channel between processes, with the connection played by hand.

use super::*;
use crate::function::NO_TIMESTAMP;
use crate::id::{SubtaskId, VertexId};
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Wake;

#[derive(Default)]
struct Wakes(AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wakes {
    fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

fn batch(text: &str, records: usize) -> Element<String> {
    let mut batch = Batch::default();
    (0..records).for_each(|_| batch.push(text.to_owned(), NO_TIMESTAMP));
    Element::Batch(batch)
}

/// What stands in an outbox.
fn frames(outbox: &Outbox) -> VecDeque<Frame> {
    let mut state = locked(&outbox.state);
    state.watermarks.clear();
    std::mem::take(&mut state.frames)
}

struct Ends {
    outbound: Outbound,
    outbox: Arc<Outbox>,
    inbound: Inbound,
    back: Arc<Outbox>,
}

impl Ends {
    fn new() -> Self {
        let (outbox, back) = (Arc::new(Outbox::default()), Arc::new(Outbox::default()));
        let inbound = Inbound::default();
        inbound.open(3, back.clone()).unwrap();
        let subtask = |vertex| SubtaskId { vertex: VertexId(vertex), index: 0 };
        let id = ChannelId { edge: 0, from: subtask(0), to: subtask(1) };
        let outbound = Outbound::open(3, Attempt(1), id, outbox.clone());
        assert_eq!(frames(&outbox), [Frame::Open { channel: 3, attempt: Attempt(1), id }]);
        Self { outbound, outbox, inbound, back }
    }

    /// Carries everything over, in both directions.
    fn carry(&self) {
        for frame in frames(&self.outbox) {
            match frame {
                Frame::Element { channel: 3, kind, body } => self.inbound.deliver(kind, body).unwrap(),
                Frame::Overrun { channel: 3, bytes } => self.inbound.expect_overrun(bytes),
                other => panic!("{other:?}"),
            }
        }
        for frame in frames(&self.back) {
            if let Frame::Credit { channel: 3, bytes } = frame {
                self.outbound.credit.grant(bytes);
            }
        }
    }

    fn receive(&self) -> Option<Element<String>> {
        self.inbound.try_receive(Batch::default).unwrap()
    }

    /// Whether a batch of so many KiB was taken.
    fn send(&self, kib: usize) -> bool {
        matches!(self.outbound.try_send(batch(&"x".repeat(1024), kib)).unwrap(), Sent::Taken(Some(_)))
    }
}

#[test]
fn records_wait_for_credit_and_control_elements_do_not() {
    let ends = Ends::new();
    let wakes = Arc::new(Wakes::default());
    ends.outbound.set_waker(wakes.clone().into());
    let mut sent = 0;
    while ends.send(20) {
        sent += 1;
        assert!(sent < 100, "never out of credit");
    }
    assert!(matches!(ends.outbound.try_send(Element::<String>::Watermark(5)), Ok(Sent::Taken(None))));
    ends.carry();
    let mut received = 0;
    while let Some(element) = ends.receive() {
        received += 1;
        match element {
            Element::Batch(batch) => assert_eq!((batch.len(), received <= sent), (20, true)),
            Element::Watermark(5) => assert_eq!(received, sent + 1, "in order"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((received, wakes.count()), (sent + 1, 0));
    assert!(!ends.send(1), "the credit is not there yet");
    ends.carry();
    assert_eq!(wakes.count(), 1);
    assert!(ends.send(1));
}

/// However little is taken at once, a sender that waits gets its credit back.
#[test]
fn a_channel_never_stands_still() {
    let ends = Ends::new();
    for _ in 0..1000 {
        while ends.send(7) {}
        ends.carry();
        while ends.receive().is_some() {}
        ends.carry();
        assert!(ends.send(1), "stands still");
        ends.carry();
    }
}

#[test]
fn a_broken_connection_wakes_both_ends_and_fails_them() {
    let ends = Ends::new();
    let wakes = Arc::new(Wakes::default());
    ends.outbound.set_waker(wakes.clone().into());
    ends.inbound.set_waker(wakes.clone().into());
    assert!(ends.send(1));
    ends.carry();
    let why: Arc<str> = "the cable is cut".into();
    ends.outbound.credit.break_off(&why);
    ends.inbound.break_off(&why);
    assert_eq!(wakes.count(), 3, "one for the element, one for each end");
    let sent = ends.outbound.try_send(Element::<String>::End).map(|_| ());
    let received = ends.inbound.try_receive::<String>(Batch::default).map(|_| ());
    for failed in [sent, received] {
        let e = failed.unwrap_err();
        assert!(e.kind() == crate::error::ErrorKind::RestartJob && e.to_string().contains("cable"), "{e}");
    }
}

#[test]
fn a_sender_that_ends_closes_its_channel() {
    let ends = Ends::new();
    drop(ends.outbound);
    assert_eq!(frames(&ends.outbox), [Frame::Close { channel: 3 }]);
}

#[test]
fn an_outbox_hands_out_everything_in_order_until_it_is_broken() {
    let outbox = Outbox::default();
    (0..3).for_each(|channel| outbox.put(Frame::Close { channel }));
    let mut taken = VecDeque::new();
    assert!(futures::executor::block_on(outbox.take_all(&mut taken)));
    assert_eq!(taken, [0, 1, 2].map(|channel| Frame::Close { channel }));
    outbox.put(Frame::Close { channel: 9 });
    outbox.break_off(&"over".into());
    outbox.put(Frame::Close { channel: 10 });
    assert!(!futures::executor::block_on(outbox.take_all(&mut VecDeque::new())));
}

/// Without the limit a sender that does not keep count would fill the memory of the receiver.
#[test]
fn records_without_credit_are_refused_by_name() {
    let ends = Ends::new();
    while ends.send(20) {}
    ends.carry();
    let piece = vec![0; 1000];
    let e = ends.inbound.deliver(ElementKind::Batch, piece.clone()).unwrap_err().to_string();
    assert!(e.contains("for which there was no credit"), "{e}");
    // What was announced is taken, and no more than that.
    ends.inbound.expect_overrun(1500);
    assert!(ends.inbound.deliver(ElementKind::Batch, piece.clone()).is_ok());
    assert!(ends.inbound.deliver(ElementKind::Batch, piece.clone()).is_ok());
    assert!(ends.inbound.deliver(ElementKind::Batch, piece).is_err());
}

/// Pieces of a batch larger than the window, and records that a barrier overtakes, are announced: the receiver takes them,
/// and counts on as before.
#[test]
fn what_goes_beyond_the_credit_is_announced() {
    let ends = Ends::new();
    for round in 0..50 {
        assert!(ends.send(3000), "3 MB in one batch");
        assert!(!ends.send(1));
        let barrier = Barrier::new(CheckpointId(round), crate::checkpoint::CheckpointKind::Periodic, 0);
        ends.outbound.overtake([batch(&"x".repeat(1024), 700)].into_iter(), barrier).unwrap();
        ends.carry();
        let (mut records, mut barriers) = (0, 0);
        while let Some(element) = ends.receive() {
            match element {
                Element::Batch(batch) => records += batch.len(),
                Element::Barrier(_) => barriers += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((records, barriers), (3700, 1));
        ends.carry();
        while ends.send(20) {}
        ends.carry();
        while ends.receive().is_some() {}
        ends.carry();
    }
}

#[test]
fn a_channel_is_opened_once() {
    let ends = Ends::new();
    let e = ends.inbound.open(4, Arc::default()).unwrap_err().to_string();
    assert!(e.contains("opened for a second time"), "{e}");
}

/// However long neither the connection nor the receiver takes anything.
#[test]
fn watermarks_and_idleness_do_not_pile_up() {
    let ends = Ends::new();
    let say = |element: Element<String>| _ = ends.outbound.try_send(element).unwrap();
    for time in 0..1000 {
        say(Element::Watermark(time));
    }
    assert_eq!(locked(&ends.outbox.state).frames.len(), 1);
    for time in 1000..100_000 {
        say(Element::Watermark(time));
        if time % 10 == 0 {
            say(Element::Idle(true));
            say(Element::Idle(false));
        }
        ends.carry();
    }
    assert!(locked(&ends.inbound.state).queue.len() < 5);
    assert!(ends.send(1));
    say(Element::Watermark(100_000));
    ends.carry();
    let mut last = None;
    while let Some(element) = ends.receive() {
        last = Some(element);
    }
    assert!(matches!(last, Some(Element::Watermark(100_000))), "{last:?}");
    assert_eq!(locked(&ends.inbound.state).controls, 0);
}

#[test]
fn what_cannot_be_replaced_piles_up_to_a_limit() {
    let ends = Ends::new();
    let barrier = |id| {
        let barrier = Barrier::new(CheckpointId(id), crate::checkpoint::CheckpointKind::Periodic, 0);
        let mut body = Vec::new();
        wire::encode_control(&Element::<String>::Barrier(barrier), &mut body).unwrap();
        ends.inbound.deliver(ElementKind::Barrier, body)
    };
    (0..MOST_CONTROLS as u64).for_each(|id| barrier(id).unwrap());
    let e = barrier(0).unwrap_err().to_string();
    assert!(e.contains("have not been taken"), "{e}");
}

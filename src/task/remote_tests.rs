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
    std::mem::take(&mut locked(&outbox.state).frames)
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
        inbound.open(3, back.clone());
        let subtask = |vertex| SubtaskId { vertex: VertexId(vertex), index: 0 };
        let id = ChannelId { edge: 0, from: subtask(0), to: subtask(1) };
        let outbound = Outbound::open(3, Attempt(1), id, outbox.clone());
        assert_eq!(frames(&outbox), [Frame::Open { channel: 3, attempt: Attempt(1), id }]);
        Self { outbound, outbox, inbound, back }
    }

    /// Carries everything over, in both directions.
    fn carry(&self) {
        for frame in frames(&self.outbox) {
            if let Frame::Element { channel: 3, kind, body } = frame {
                self.inbound.deliver(kind, body);
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

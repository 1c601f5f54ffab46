//! Watermarks and signs of idleness that nobody has taken yet: what a later one makes needless goes, so that a receiver that
//! does not read is not flooded by a sender that says nothing else.
//!
//! Nothing is put past a record, a barrier or the end. What the gate makes of the rest is the same at the end of it, and so
//! is the highest event time it reaches on the way.

use crate::task::wire::ElementKind;
use std::collections::VecDeque;

type Queued = (ElementKind, Vec<u8>);

fn is_watermark(queued: Option<&Queued>) -> bool {
    queued.is_some_and(|(kind, _)| *kind == ElementKind::Watermark)
}

fn is_idle(queued: Option<&Queued>, idle: bool) -> bool {
    queued.is_some_and(|(kind, body)| *kind == ElementKind::Idle && *body == [u8::from(idle)])
}

/// Appends an element.
pub(crate) fn push(queue: &mut VecDeque<Queued>, kind: ElementKind, body: Vec<u8>) {
    let element = (kind, body);
    let one = Some(&element);
    if is_watermark(one) {
        if is_watermark(queue.back()) {
            queue.pop_back();
        } else if is_idle(queue.back(), false) && is_watermark(before_last(queue)) {
            // The channel is active, so the watermark in between says nothing that the new one does not.
            let active = queue.pop_back();
            queue.pop_back();
            if !is_idle(queue.back(), false) {
                queue.extend(active);
            }
        }
    } else if is_idle(one, true) && is_idle(queue.back(), true) {
        return;
    } else if is_idle(one, false) {
        // Active again before anybody has seen that it was idle. The other way round the gate may have seen the last of a
        // channel's event time in between.
        if is_idle(queue.back(), true) {
            queue.pop_back();
        }
        if is_idle(queue.back(), false) {
            return;
        }
    }
    queue.push_back(element);
}

fn before_last(queue: &VecDeque<Queued>) -> Option<&Queued> {
    queue.len().checked_sub(2).and_then(|at| queue.get(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::{NO_WATERMARK, Timestamp};
    use crate::task::valve::Valve;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Say {
        Watermark(Timestamp),
        Idle(bool),
        Records,
    }

    fn queued(say: Say) -> Queued {
        match say {
            Say::Watermark(w) => (ElementKind::Watermark, w.to_le_bytes().to_vec()),
            Say::Idle(idle) => (ElementKind::Idle, vec![u8::from(idle)]),
            Say::Records => (ElementKind::Batch, vec![]),
        }
    }

    fn pushed(all: &[Say]) -> VecDeque<Queued> {
        let mut queue = VecDeque::new();
        for (kind, body) in all.iter().copied().map(queued) {
            push(&mut queue, kind, body);
        }
        queue
    }

    /// What a sender says: watermarks rise, and come while it is active.
    fn stream() -> impl Strategy<Value = Vec<Say>> {
        proptest::collection::vec(0..5u8, 0..40).prop_map(|draws| {
            let (mut time, mut active) = (0, true);
            let mut said = Vec::new();
            for draw in draws {
                match draw {
                    0 => said.extend(active.then_some(Say::Records)),
                    1 | 2 => {
                        active = !active;
                        said.push(Say::Idle(!active));
                    }
                    _ if active => {
                        time += 10;
                        said.push(Say::Watermark(time));
                    }
                    _ => {}
                }
            }
            said
        })
    }

    /// The event time a gate has reached at each of the channel's records, and at the end.
    fn event_times(queue: &VecDeque<Queued>, other: Timestamp, other_idle: bool) -> Vec<Timestamp> {
        let (mut valve, mut now, mut seen) = (Valve::new(2, NO_WATERMARK), NO_WATERMARK, Vec::new());
        now = valve.on_watermark(1, other).watermark.unwrap_or(now);
        now = valve.on_idle(1, other_idle).watermark.unwrap_or(now);
        for (kind, body) in queue {
            let risen = match kind {
                ElementKind::Watermark => {
                    valve
                        .on_watermark(0, Timestamp::from_le_bytes(body.as_slice().try_into().unwrap()))
                        .watermark
                }
                ElementKind::Idle => valve.on_idle(0, *body == [1]).watermark,
                _ => {
                    seen.push(now);
                    None
                }
            };
            now = risen.unwrap_or(now);
        }
        let active = valve.on_idle(1, true);
        seen.push(active.watermark.unwrap_or(now));
        seen
    }

    proptest! {
        /// Never later than the sender has said, since that could make records late; nor earlier, where nobody else
        /// decides.
        #[test]
        fn a_gate_reaches_the_same_event_time(said in stream(), other in 0..400i64, other_idle: bool) {
            let all: VecDeque<Queued> = said.iter().copied().map(queued).collect();
            let kept = event_times(&pushed(&said), other, other_idle);
            let whole = event_times(&all, other, other_idle);
            prop_assert_eq!(kept.len(), whole.len());
            for (kept, whole) in kept.iter().zip(&whole) {
                prop_assert!(kept <= whole);
                if other_idle {
                    prop_assert_eq!(kept, whole);
                }
            }
        }

        #[test]
        fn what_is_kept_between_two_records_is_little(said in stream()) {
            let kept = pushed(&said);
            let records = said.iter().filter(|say| **say == Say::Records).count();
            prop_assert!(kept.len() <= records + 4 * (records + 1), "{kept:?}");
        }
    }

    #[test]
    fn nothing_is_put_past_records_and_every_kind_is_kept_where_it_counts() {
        use Say::{Idle, Records, Watermark};
        for (said, kept) in [
            (vec![Watermark(1), Watermark(2)], vec![Watermark(2)]),
            (vec![Watermark(1), Records, Watermark(2)], vec![Watermark(1), Records, Watermark(2)]),
            (vec![Watermark(1), Idle(true)], vec![Watermark(1), Idle(true)]),
            (vec![Idle(true), Idle(false)], vec![Idle(false)]),
            (vec![Idle(false), Watermark(3), Idle(true)], vec![Idle(false), Watermark(3), Idle(true)]),
            (vec![Watermark(1), Idle(true), Idle(false), Watermark(2)], vec![Idle(false), Watermark(2)]),
            (vec![Idle(true), Records, Idle(false)], vec![Idle(true), Records, Idle(false)]),
            (vec![Watermark(1), Idle(true), Watermark(2)], vec![Watermark(1), Idle(true), Watermark(2)]),
        ] {
            assert_eq!(pushed(&said), kept.into_iter().map(queued).collect::<VecDeque<_>>(), "{said:?}");
        }
    }
}

//! For fuzzing: everything that the bytes of a connection go through, without the connection.

use super::frame::{self, FrameSums, HEADER, Hello, Message};
use crate::checkpoint::{Barrier, CheckpointKind};
use crate::error::Result;
use crate::function::NO_TIMESTAMP;
use crate::id::{Attempt, CheckpointId, SubtaskId, VertexId};
use crate::operator::Batch;
use crate::task::channel::Element;
use crate::task::hub::ChannelId;
use crate::task::remote::Frame;
use crate::task::wire;
use futures::executor::block_on;

/// Of the only connection here.
fn sums() -> FrameSums {
    FrameSums::new(0, 0, 0)
}

/// Reads messages until the bytes end, and decodes the elements among them as those of a channel of strings and of one of
/// numbers.
pub(crate) fn read_all(mut bytes: &[u8]) -> Result<()> {
    let mut sums = sums();
    while let Some(message) = block_on(frame::read(&mut bytes, &mut sums))? {
        if let Message::Frame(Frame::Element { kind, body, .. }) = message {
            _ = wire::decode::<u64>(kind, &body, Batch::default());
            wire::decode::<String>(kind, &body, Batch::default())?;
        }
    }
    Ok(())
}

/// Puts the right checksum into every frame, as far as the lengths make sense.
pub(crate) fn repair(mut bytes: &mut [u8]) {
    let mut sums = sums();
    while let Some((header, rest)) = bytes.split_first_chunk_mut::<HEADER>() {
        let [l0, l1, l2, l3, ..] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let Some((body, rest)) = rest.split_at_mut_checked(length) else { break };
        let (of_header, place) = header.split_at_mut(HEADER - 4);
        place.copy_from_slice(&sums.next(of_header, body).to_le_bytes());
        bytes = rest;
    }
}

/// What the sender of records writes, and what comes back.
pub(crate) fn examples() -> Result<[Vec<u8>; 2]> {
    let subtask = |vertex, index| SubtaskId { vertex: VertexId(vertex), index };
    let id = ChannelId { edge: 3, from: subtask(1, 2), to: subtask(4, 500) };
    let element = |kind, body| Message::Frame(Frame::Element { channel: 7, kind, body });
    let mut sent = vec![
        Message::Hello(Hello { job: "words-1".into(), secret: "sesame".into() }),
        Message::Frame(Frame::Open { channel: 7, attempt: Attempt(2), id }),
    ];
    let (mut plain, mut keyed) = (Batch::default(), Batch::default());
    for n in 0..20i64 {
        plain.push(format!("word {n}"), if n % 3 == 0 { NO_TIMESTAMP } else { n * 1000 });
        keyed.push_hashed("x".repeat(n as usize * 10), n, n as u64 * 0x9e37_79b9);
    }
    for batch in [plain, keyed] {
        let mut body = Vec::new();
        wire::encode_batch(&batch, 0, &mut body)?;
        sent.push(element(wire::ElementKind::Batch, body));
    }
    let barrier = Barrier::new(CheckpointId(7), CheckpointKind::Savepoint, 5);
    let controls: [Element<String>; 4] =
        [Element::Watermark(12_345), Element::Idle(true), Element::Barrier(barrier), Element::End];
    for control in controls {
        let mut body = Vec::new();
        let kind = wire::encode_control(&control, &mut body)?;
        sent.push(element(kind, body));
    }
    sent.push(Message::Frame(Frame::Overrun { channel: 7, bytes: 300_000 }));
    sent.extend([Message::Ping, Message::Frame(Frame::Close { channel: 7 })]);
    let back = [
        Message::Welcome,
        Message::Frame(Frame::Credit { channel: 7, bytes: 131_072 }),
        Message::Ping,
        Message::Refused("this taskmanager runs job words-2, not words-1".into()),
    ];
    Ok([written(&sent)?, written(&back)?])
}

fn written(messages: &[Message]) -> Result<Vec<u8>> {
    let (mut bytes, mut sums) = (Vec::new(), sums());
    messages.iter().try_for_each(|message| block_on(frame::write(&mut bytes, &mut sums, message)))?;
    Ok(bytes)
}

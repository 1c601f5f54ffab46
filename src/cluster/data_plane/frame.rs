//! Frames as bytes.
//!
//! ```text
//! u32 length of the body | u8 kind | u32 channel | u32 checksum | body
//! ```
//!
//! The checksum also covers what connection a frame is of, and its place there: see [`FrameSums`].

use crate::error::{Error, Result};
use crate::id::Attempt;
use crate::task::hub::ChannelId;
use crate::task::remote::Frame;
use crate::task::wire::ElementKind;
use serde::{Deserialize, Serialize};
use tidegate_state::codec;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(super) const HEADER: usize = 13;
/// Largest body in bytes: a batch of one value of the largest size.
const LARGEST_BODY: u32 = (256 << 20) + (1 << 20);
/// Bodies are read in steps of so many bytes: what a damaged length announces is not allocated.
const READ_AT_ONCE: usize = 1 << 20;

const OPEN: u8 = 16;
const CREDIT: u8 = 17;
const CLOSE: u8 = 18;
const PING: u8 = 19;
const OVERRUN: u8 = 20;
const HELLO: u8 = 32;
const WELCOME: u8 = 33;
const REFUSED: u8 = 34;

/// Everything that can travel.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Of a channel.
    Frame(Frame),
    /// Nothing but a sign of life.
    Ping,
    /// First from the side that connects.
    Hello(Hello),
    /// First from the other side.
    Welcome,
    /// Instead of `Welcome`: why not.
    Refused(String),
}

/// Who connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) job: String,
    pub(super) secret: String,
}

/// Checksums of the frames of one direction of a connection, in their order. One that is missing, comes twice, in another
/// place or from another connection has a wrong one.
#[derive(Clone, Debug)]
pub(super) struct FrameSums {
    /// Where every sum starts.
    connection: crc32fast::Hasher,
    /// Frames so far.
    frames: u64,
}

impl FrameSums {
    /// Of the connection between ends that have greeted with these nonces; `direction` is 0 to the receiver of records and 1
    /// back.
    pub(super) fn new(sender: u64, receiver: u64, direction: u8) -> Self {
        let mut connection = crc32fast::Hasher::new();
        connection.update(&sender.to_le_bytes());
        connection.update(&receiver.to_le_bytes());
        connection.update(&[direction]);
        Self { connection, frames: 0 }
    }

    /// The sum of the next frame.
    pub(super) fn next(&mut self, header: &[u8], body: &[u8]) -> u32 {
        let mut sum = self.connection.clone();
        sum.update(&self.frames.to_le_bytes());
        sum.update(header);
        sum.update(body);
        self.frames += 1;
        sum.finalize()
    }
}

/// Writes a message; small ones end up in the writer's buffer.
pub(super) async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    sums: &mut FrameSums,
    message: &Message,
) -> Result<()> {
    let mut small = Vec::new();
    let (kind, channel, body): (u8, u32, &[u8]) = match message {
        Message::Frame(Frame::Element { channel, kind, body }) => (*kind as u8, *channel, body),
        Message::Frame(Frame::Open { channel, attempt, id }) => {
            codec::encode(&(attempt, id), &mut small)?;
            (OPEN, *channel, &small)
        }
        Message::Frame(Frame::Credit { channel, bytes }) => {
            small.extend_from_slice(&bytes.to_le_bytes());
            (CREDIT, *channel, &small)
        }
        Message::Frame(Frame::Overrun { channel, bytes }) => {
            small.extend_from_slice(&bytes.to_le_bytes());
            (OVERRUN, *channel, &small)
        }
        Message::Frame(Frame::Close { channel }) => (CLOSE, *channel, &[]),
        Message::Ping => (PING, 0, &[]),
        Message::Hello(hello) => {
            codec::encode(hello, &mut small)?;
            (HELLO, 0, &small)
        }
        Message::Welcome => (WELCOME, 0, &[]),
        Message::Refused(why) => (REFUSED, 0, why.as_bytes()),
    };
    let length = u32::try_from(body.len()).ok().filter(|length| *length <= LARGEST_BODY);
    let length =
        length.ok_or_else(|| Error::data(format!("a frame of {} bytes is too large", body.len())))?;
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(&length.to_le_bytes());
    header.push(kind);
    header.extend_from_slice(&channel.to_le_bytes());
    let sum = sums.next(&header, body);
    header.extend_from_slice(&sum.to_le_bytes());
    to.write_all(&header).await?;
    to.write_all(body).await?;
    Ok(())
}

/// Reads the next message; none at the end of the stream.
///
/// # Errors
/// A data error for bytes that are no frame; those of the stream.
pub(super) async fn read(
    from: &mut (impl AsyncRead + Unpin),
    sums: &mut FrameSums,
) -> Result<Option<Message>> {
    let mut header = [0u8; HEADER];
    let mut filled = 0;
    while filled < HEADER {
        match from.read(header.get_mut(filled..).unwrap_or_default()).await? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(Error::data("a frame ends too early")),
            more => filled += more,
        }
    }
    let [l0, l1, l2, l3, kind, c0, c1, c2, c3, s0, s1, s2, s3] = header;
    let (length, channel) = (u32::from_le_bytes([l0, l1, l2, l3]), u32::from_le_bytes([c0, c1, c2, c3]));
    if length > LARGEST_BODY {
        return Err(Error::data(format!("a frame that claims {length} bytes")));
    }
    let mut body = Vec::with_capacity((length as usize).min(READ_AT_ONCE));
    let read = from.take(u64::from(length)).read_to_end(&mut body).await?;
    if read < length as usize {
        return Err(Error::data("a frame ends too early"));
    }
    let number = sums.frames;
    if sums.next(header.get(..9).unwrap_or_default(), &body) != u32::from_le_bytes([s0, s1, s2, s3]) {
        return Err(Error::data(format!(
            "a frame is damaged, or not the one that is due here: the checksum of frame {number} does not match"
        )));
    }
    message(kind, channel, body).map(Some)
}

fn message(kind: u8, channel: u32, body: Vec<u8>) -> Result<Message> {
    if let Some(kind) = ElementKind::from_number(kind) {
        return Ok(Message::Frame(Frame::Element { channel, kind, body }));
    }
    let empty =
        |message| if body.is_empty() { Ok(message) } else { Err(Error::data("a body where none belongs")) };
    match kind {
        OPEN => {
            let (attempt, id) = codec::decode::<(Attempt, ChannelId)>(&body)?;
            Ok(Message::Frame(Frame::Open { channel, attempt, id }))
        }
        CREDIT => match body.as_slice().try_into() {
            Ok(bytes) => Ok(Message::Frame(Frame::Credit { channel, bytes: u32::from_le_bytes(bytes) })),
            Err(_) => Err(Error::data("credit takes four bytes")),
        },
        OVERRUN => match body.as_slice().try_into() {
            Ok(bytes) => Ok(Message::Frame(Frame::Overrun { channel, bytes: u64::from_le_bytes(bytes) })),
            Err(_) => Err(Error::data("an overrun takes eight bytes")),
        },
        CLOSE => empty(Message::Frame(Frame::Close { channel })),
        PING => empty(Message::Ping),
        HELLO => Ok(Message::Hello(codec::decode(&body)?)),
        WELCOME => empty(Message::Welcome),
        REFUSED => Ok(Message::Refused(String::from_utf8_lossy(&body).into_owned())),
        other => Err(Error::data(format!("no frame is of kind {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{SubtaskId, VertexId};
    use futures::executor::block_on;

    fn messages() -> Vec<Message> {
        let subtask = |vertex, index| SubtaskId { vertex: VertexId(vertex), index };
        let id = ChannelId { edge: 3, from: subtask(1, 2), to: subtask(4, 500) };
        vec![
            Message::Hello(Hello { job: "words-1".into(), secret: "sesame".into() }),
            Message::Welcome,
            Message::Refused("another job".into()),
            Message::Frame(Frame::Open { channel: 7, attempt: Attempt(2), id }),
            Message::Frame(Frame::Element { channel: 7, kind: ElementKind::Batch, body: vec![1; 3_000_000] }),
            Message::Frame(Frame::Element { channel: 7, kind: ElementKind::End, body: vec![] }),
            Message::Frame(Frame::Credit { channel: 7, bytes: 70_000 }),
            Message::Frame(Frame::Overrun { channel: 7, bytes: 1 << 40 }),
            Message::Frame(Frame::Close { channel: 7 }),
            Message::Ping,
        ]
    }

    fn sums() -> FrameSums {
        FrameSums::new(1, 2, 0)
    }

    fn bytes_of(messages: &[Message]) -> Vec<u8> {
        let (mut bytes, mut sums) = (Vec::new(), sums());
        block_on(async {
            for message in messages {
                write(&mut bytes, &mut sums, message).await.unwrap();
            }
        });
        bytes
    }

    /// The messages in the bytes, up to what is wrong with them.
    fn read_back(mut bytes: &[u8], mut sums: FrameSums) -> (Vec<Message>, Option<Error>) {
        let mut found = Vec::new();
        loop {
            match block_on(read(&mut bytes, &mut sums)) {
                Ok(Some(message)) => found.push(message),
                Ok(None) => return (found, None),
                Err(e) => return (found, Some(e)),
            }
        }
    }

    #[test]
    fn every_message_arrives_as_it_was() {
        let sent = messages();
        let (found, wrong) = read_back(&bytes_of(&sent), sums());
        assert!(found == sent && wrong.is_none(), "{wrong:?}");
    }

    #[test]
    fn a_flipped_bit_and_a_torn_frame_are_found() {
        let small: Vec<Message> =
            messages().into_iter().filter(|m| bytes_of(std::slice::from_ref(m)).len() < 1000).collect();
        for message in small {
            let whole = bytes_of(&[message]);
            for bit in 0..whole.len() * 8 {
                let mut damaged = whole.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert!(read_back(&damaged, sums()).1.is_some(), "bit {bit} of {whole:?}");
            }
            for length in 1..whole.len() {
                assert!(read_back(&whole[..length], sums()).1.is_some());
            }
        }
    }

    /// What a proxy or a bug might do to whole frames.
    #[test]
    fn a_frame_that_is_missing_or_comes_twice_or_too_early_is_found() {
        let batch =
            |n| Message::Frame(Frame::Element { channel: 7, kind: ElementKind::Batch, body: vec![n] });
        let sent: Vec<Message> = (0..4).map(batch).collect();
        let whole = bytes_of(&sent);
        let frames: Vec<&[u8]> = whole.chunks(whole.len() / 4).collect();
        for order in [vec![0, 2, 3], vec![0, 1, 1, 2, 3], vec![0, 2, 1, 3], vec![1, 2, 3]] {
            let bytes = order.iter().map(|n| frames[*n]).collect::<Vec<_>>().concat();
            let (found, wrong) = read_back(&bytes, sums());
            assert!(sent.starts_with(&found) && found.len() < 3, "{order:?}: {found:?}");
            let e = wrong.expect("found").to_string();
            assert!(e.contains("not the one that is due here"), "{order:?}: {e}");
        }
    }

    #[test]
    fn frames_of_another_connection_or_direction_are_found() {
        let whole = bytes_of(&[Message::Ping]);
        assert_eq!(read_back(&whole, sums()).0, [Message::Ping]);
        for other in [FrameSums::new(1, 3, 0), FrameSums::new(3, 2, 0), FrameSums::new(1, 2, 1)] {
            assert!(read_back(&whole, other).1.is_some());
        }
    }
}

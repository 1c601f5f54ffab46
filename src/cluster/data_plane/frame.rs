//! Frames as bytes.
//!
//! ```text
//! u32 length of the body | u8 kind | u32 channel | u32 CRC32 of the nine bytes before and the body | body
//! ```

use crate::error::{Error, Result};
use crate::id::Attempt;
use crate::task::hub::ChannelId;
use crate::task::remote::Frame;
use crate::task::wire::ElementKind;
use serde::{Deserialize, Serialize};
use tidegate_state::codec;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// First bytes of a connection, with the version of all that follows.
pub(super) const GREETING: &[u8; 8] = b"tidedat1";
pub(super) const HEADER: usize = 13;
/// Largest body in bytes: a batch of one value of the largest size.
const LARGEST_BODY: u32 = (256 << 20) + (1 << 20);
/// Bodies are read in steps of so many bytes: what a damaged length announces is not allocated.
const READ_AT_ONCE: usize = 1 << 20;

const OPEN: u8 = 16;
const CREDIT: u8 = 17;
const CLOSE: u8 = 18;
const PING: u8 = 19;
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

/// Writes a message; small ones end up in the writer's buffer.
pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), message: &Message) -> Result<()> {
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
    let checksum = checksum(&header, body);
    header.extend_from_slice(&checksum.to_le_bytes());
    to.write_all(&header).await?;
    to.write_all(body).await?;
    Ok(())
}

pub(super) fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(body);
    hasher.finalize()
}

/// Reads the next message; none at the end of the stream.
///
/// # Errors
/// A data error for bytes that are no frame; those of the stream.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<Message>> {
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
    if checksum(header.get(..9).unwrap_or_default(), &body) != u32::from_le_bytes([s0, s1, s2, s3]) {
        return Err(Error::data("a frame is damaged: its CRC32 does not match"));
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
            Message::Frame(Frame::Close { channel: 7 }),
            Message::Ping,
        ]
    }

    fn bytes_of(messages: &[Message]) -> Vec<u8> {
        let mut bytes = Vec::new();
        block_on(async {
            for message in messages {
                write(&mut bytes, message).await.unwrap();
            }
        });
        bytes
    }

    #[test]
    fn every_message_arrives_as_it_was() {
        let sent = messages();
        let bytes = bytes_of(&sent);
        let mut rest = bytes.as_slice();
        for message in sent {
            assert_eq!(block_on(read(&mut rest)).unwrap(), Some(message));
        }
        assert_eq!(block_on(read(&mut rest)).unwrap(), None);
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
                assert!(block_on(read(&mut damaged.as_slice())).is_err(), "bit {bit} of {whole:?}");
            }
            for length in 1..whole.len() {
                assert!(block_on(read(&mut &whole[..length])).is_err());
            }
        }
    }
}

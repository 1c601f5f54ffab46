//! Elements of a channel as bytes: what leaves a process, or is put into a checkpoint. Byte by byte in
//! docs/formats/data-frames.md.

use crate::checkpoint::Barrier;
use crate::error::{Error, Result};
use crate::function::{Data, Timestamp};
use crate::operator::Batch;
use crate::task::channel::Element;
use tidegate_state::codec::{self, Codec};

/// A batch is cut into pieces of at least so many bytes.
const PIECE_BYTES: usize = 256 << 10;
/// Most records of one piece.
const MOST_RECORDS: u32 = 1 << 20;

const HAS_TIMESTAMPS: u8 = 1;
const HAS_HASHES: u8 = 2;

/// What an encoded element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ElementKind {
    Batch = 1,
    Watermark = 2,
    Idle = 3,
    Barrier = 4,
    End = 5,
}

impl ElementKind {
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [Self::Batch, Self::Watermark, Self::Idle, Self::Barrier, Self::End]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// Appends records of `batch`, from the `first` on, until the piece is large enough or there is none left; returns where
/// the next piece begins.
///
/// # Errors
/// A data error if a record cannot be serialised.
pub(crate) fn encode_batch<T: Data>(batch: &Batch<T>, first: usize, out: &mut Vec<u8>) -> Result<usize> {
    let start = out.len();
    let (timestamps, hashes) = (batch.timestamps(), batch.hashes());
    let flags = if timestamps.is_empty() { 0 } else { HAS_TIMESTAMPS }
        | if hashes.is_empty() { 0 } else { HAS_HASHES };
    out.extend_from_slice(&[0; 4]);
    out.push(flags);
    let mut end = first;
    for value in batch.values.iter().skip(first) {
        codec::encode(value, out)?;
        end += 1;
        if out.len() - start >= PIECE_BYTES {
            break;
        }
    }
    let count = ((end - first) as u32).to_le_bytes();
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&count);
    }
    timestamps.iter().take(end).skip(first).for_each(|t| out.extend_from_slice(&t.to_le_bytes()));
    hashes.iter().take(end).skip(first).for_each(|h| out.extend_from_slice(&h.to_le_bytes()));
    Ok(end)
}

/// Reads a piece into an empty batch and says how many bytes it had, which stand for its size.
///
/// # Errors
/// A data error if the bytes are not records of type `T`.
pub(crate) fn decode_batch<T: Data>(bytes: &[u8], batch: &mut Batch<T>) -> Result<()> {
    let mut rest = bytes;
    let count = u32::from_le_bytes(take(&mut rest)?);
    let [flags] = take(&mut rest)?;
    if count > MOST_RECORDS || flags > HAS_TIMESTAMPS | HAS_HASHES {
        return Err(Error::data(format!("not a batch: {count} records, flags {flags}")));
    }
    let (values, timestamps, hashes) = batch.columns_mut();
    // Room for no more than came: a small value may take one byte here and many in memory.
    values.reserve((count as usize).min(rest.len() / size_of::<T>().max(1)));
    for _ in 0..count {
        values.push(Codec::Bincode.decode_front(&mut rest)?);
    }
    if flags & HAS_TIMESTAMPS != 0 {
        let column = take_column(&mut rest, count)?;
        timestamps.extend(column.map(Timestamp::from_le_bytes));
    }
    if flags & HAS_HASHES != 0 {
        hashes.extend(take_column(&mut rest, count)?.map(u64::from_le_bytes));
    }
    batch.bytes = bytes.len();
    if rest.is_empty() { Ok(()) } else { Err(Error::data("bytes are left over behind a batch")) }
}

/// Appends the body of an element that is no batch.
pub(crate) fn encode_control<T>(element: &Element<T>, out: &mut Vec<u8>) -> Result<ElementKind> {
    Ok(match element {
        Element::Batch(_) => return Err(Error::bug("a batch is no control element")),
        Element::Watermark(watermark) => {
            out.extend_from_slice(&watermark.to_le_bytes());
            ElementKind::Watermark
        }
        Element::Idle(idle) => {
            out.push(u8::from(*idle));
            ElementKind::Idle
        }
        Element::Barrier(barrier) => {
            codec::encode(barrier, out)?;
            ElementKind::Barrier
        }
        Element::End => ElementKind::End,
    })
}

/// The element of such a kind with such a body. `empty` is used if it is a batch.
///
/// # Errors
/// A data error if the body is not of the kind, or not of the record type.
pub(crate) fn decode<T: Data>(kind: ElementKind, mut body: &[u8], empty: Batch<T>) -> Result<Element<T>> {
    let element = match kind {
        ElementKind::Batch => {
            let mut batch = empty;
            decode_batch(body, &mut batch)?;
            return Ok(Element::Batch(batch));
        }
        ElementKind::Watermark => Element::Watermark(Timestamp::from_le_bytes(take(&mut body)?)),
        ElementKind::Idle => match take(&mut body)? {
            [0] => Element::Idle(false),
            [1] => Element::Idle(true),
            [other] => return Err(Error::data(format!("{other} says neither idle nor active"))),
        },
        ElementKind::Barrier => Element::Barrier(Codec::Bincode.decode_front::<Barrier>(&mut body)?),
        ElementKind::End => Element::End,
    };
    if body.is_empty() {
        Ok(element)
    } else {
        Err(Error::data(format!("bytes are left over behind {kind:?}")))
    }
}

/// Reads the body of a barrier.
///
/// # Errors
/// A data error if it is none.
pub(crate) fn decode_barrier(body: &[u8]) -> Result<Barrier> {
    codec::decode(body)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N]> {
    match bytes.split_first_chunk::<N>() {
        Some((taken, rest)) => {
            *bytes = rest;
            Ok(*taken)
        }
        None => Err(Error::data("an element of a channel ends too early")),
    }
}

/// Takes `count` numbers of eight bytes.
fn take_column<'a>(bytes: &mut &'a [u8], count: u32) -> Result<impl Iterator<Item = [u8; 8]> + 'a> {
    let length = count as usize * 8;
    let (column, rest) =
        bytes.split_at_checked(length).ok_or_else(|| Error::data("a batch ends too early"))?;
    *bytes = rest;
    Ok(column.as_chunks::<8>().0.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::CheckpointKind;
    use crate::function::NO_TIMESTAMP;
    use crate::id::CheckpointId;
    use proptest::prelude::*;

    type Row = (String, Timestamp, u64);

    fn rows(mut batch: Batch<String>) -> Vec<Row> {
        let mut rows = Vec::new();
        let drained = batch.drain_each(|value, timestamp, hash| {
            rows.push((value, timestamp, hash));
            Ok::<_, ()>(())
        });
        drained.unwrap();
        rows
    }

    fn batch_of(rows: &[Row], hashed: bool) -> Batch<String> {
        let mut batch = Batch::default();
        for (value, timestamp, hash) in rows {
            match hashed {
                true => batch.push_hashed(value.clone(), *timestamp, *hash),
                false => batch.push(value.clone(), *timestamp),
            }
        }
        batch
    }

    fn through_bytes(batch: &Batch<String>) -> Vec<Row> {
        let (mut all, mut next) = (Vec::new(), 0);
        while next < batch.len() {
            let mut bytes = Vec::new();
            next = encode_batch(batch, next, &mut bytes).unwrap();
            let Element::Batch(piece) = decode(ElementKind::Batch, &bytes, Batch::default()).unwrap() else {
                panic!("not a batch")
            };
            all.extend(rows(piece));
        }
        all
    }

    proptest! {
        #[test]
        fn records_arrive_as_they_were(
            sent in proptest::collection::vec((".{0,20}", prop_oneof![Just(NO_TIMESTAMP), any::<i64>()], any::<u64>()), 1..50),
            hashed: bool,
        ) {
            let expected: Vec<Row> =
                sent.iter().map(|(v, t, h)| (v.clone(), *t, if hashed { *h } else { 0 })).collect();
            prop_assert_eq!(through_bytes(&batch_of(&sent, hashed)), expected);
        }

        #[test]
        fn other_bytes_are_an_error_or_an_element(kind in 1u8..6, bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let kind = ElementKind::from_number(kind).unwrap();
            _ = decode::<String>(kind, &bytes, Batch::default());
            _ = decode::<()>(kind, &bytes, Batch::default());
        }
    }

    #[test]
    fn a_batch_that_claims_more_records_than_it_has_takes_no_room_for_them() {
        let mut bytes = MOST_RECORDS.to_le_bytes().to_vec();
        bytes.extend(vec![u8::MAX; 100_000]);
        let mut batch = Batch::<String>::default();
        assert!(decode_batch(&bytes, &mut batch).is_err());
        assert!(batch.values.capacity() * size_of::<String>() <= bytes.len());
    }

    #[test]
    fn a_large_batch_goes_in_pieces() {
        let large: Vec<Row> = (0..100u64).map(|n| ("x".repeat(10_000), n as i64, n)).collect();
        let batch = batch_of(&large, true);
        let mut bytes = Vec::new();
        let next = encode_batch(&batch, 0, &mut bytes).unwrap();
        assert!(next < 30 && bytes.len() < PIECE_BYTES + 11_000, "{next} records in {} bytes", bytes.len());
        assert_eq!(through_bytes(&batch), large);
    }

    #[test]
    fn everything_else_arrives_as_it_was() {
        let barrier = Barrier::new(CheckpointId(7), CheckpointKind::Savepoint, 5);
        let elements =
            [Element::<u8>::Watermark(-3), Element::Idle(true), Element::Barrier(barrier), Element::End];
        for element in elements {
            let mut bytes = Vec::new();
            let kind = encode_control(&element, &mut bytes).unwrap();
            let back = decode::<u8>(kind, &bytes, Batch::default()).unwrap();
            assert_eq!(format!("{back:?}"), format!("{element:?}"));
            bytes.push(0);
            assert!(decode::<u8>(kind, &bytes, Batch::default()).is_err());
        }
    }
}

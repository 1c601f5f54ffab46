//! Messages as bytes: codec 1 between members of a cluster, JSON with the commands of people, whose `tidegate` may be of
//! another release.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use tidegate_state::codec;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Bytes;

/// Largest message: a deployment names every file of a checkpoint.
pub(super) const LARGEST_MESSAGE: usize = 256 << 20;

/// How a message is written. It knows its place in its direction of a stream, from 0.
pub(super) trait Form: Send + 'static {
    fn encode<T: Serialize>(message: &T, number: u64) -> Result<Vec<u8>, String>;
    fn decode<T: DeserializeOwned>(bytes: &[u8], number: u64) -> Result<T, String>;
}

/// Codec 1, behind the CRC32 of its place and of itself: what is damaged, missing or there twice is found.
#[derive(Debug)]
pub(super) struct One;

fn checksum(body: &[u8], number: u64) -> [u8; 4] {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&number.to_le_bytes());
    sum.update(body);
    sum.finalize().to_le_bytes()
}

impl Form for One {
    fn encode<T: Serialize>(message: &T, number: u64) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        codec::encode(message, &mut body).map_err(|e| e.to_string())?;
        let mut bytes = checksum(&body, number).to_vec();
        bytes.append(&mut body);
        Ok(bytes)
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8], number: u64) -> Result<T, String> {
        match bytes.split_first_chunk() {
            Some((sum, body)) if *sum == checksum(body, number) => {
                codec::decode(body).map_err(|e| format!("message {number} cannot be read: {e}"))
            }
            _ => Err(format!(
                "a message is damaged, or not the one that is due here: the checksum of message {number} does not match"
            )),
        }
    }
}

/// JSON.
#[derive(Debug)]
pub(super) struct Json;

impl Form for Json {
    fn encode<T: Serialize>(message: &T, _number: u64) -> Result<Vec<u8>, String> {
        serde_json::to_vec(message).map_err(|e| e.to_string())
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8], _number: u64) -> Result<T, String> {
        serde_json::from_slice(bytes).map_err(|e| e.to_string())
    }
}

/// A stream that sends `Out` and receives `In`, or one direction of it.
#[derive(Debug)]
pub(super) struct Messages<F, Out, In> {
    types: PhantomData<fn(F, Out) -> In>,
    /// Messages so far.
    count: u64,
}

impl<F, Out, In> Default for Messages<F, Out, In> {
    fn default() -> Self {
        Self { types: PhantomData, count: 0 }
    }
}

impl<F, Out, In> Codec for Messages<F, Out, In>
where
    F: Form,
    Out: Serialize + Send + 'static,
    In: DeserializeOwned + Send + 'static,
{
    type Encode = Out;
    type Decode = In;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<F: Form, Out: Serialize, In> Encoder for Messages<F, Out, In> {
    type Item = Out;
    type Error = Status;

    fn encode(&mut self, message: Out, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let bytes = F::encode(&message, self.count).map_err(Status::internal)?;
        self.count += 1;
        bytes::BufMut::put(to, Bytes::from(bytes));
        Ok(())
    }
}

impl<F: Form, Out, In: DeserializeOwned> Decoder for Messages<F, Out, In> {
    type Item = In;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<In>, Status> {
        let length = bytes::Buf::remaining(from);
        let bytes = bytes::Buf::copy_to_bytes(from, length);
        let message = F::decode(&bytes, self.count).map_err(Status::invalid_argument)?;
        self.count += 1;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(number: u64) -> Vec<u8> {
        One::encode(&("a message".to_owned(), 7u32), number).unwrap()
    }

    fn read(bytes: &[u8], number: u64) -> Result<(String, u32), String> {
        One::decode(bytes, number)
    }

    #[test]
    fn a_message_arrives_as_it_was() {
        assert_eq!(read(&bytes(3), 3), Ok(("a message".to_owned(), 7)));
    }

    #[test]
    fn a_message_that_is_damaged_or_out_of_place_is_named() {
        let whole = bytes(3);
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let e = read(&damaged, 3).unwrap_err();
            assert!(e.contains("the checksum of message 3 does not match"), "{e}");
        }
        for length in 0..whole.len() {
            assert!(read(&whole[..length], 3).is_err());
        }
        // One before it is missing, or it came already.
        assert!(read(&whole, 2).is_err() && read(&whole, 4).is_err());
    }
}

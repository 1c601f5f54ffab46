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

/// How a message is written.
pub(super) trait Form: Send + 'static {
    fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, String>;
    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String>;
}

/// Codec 1.
#[derive(Debug)]
pub(super) struct One;

impl Form for One {
    fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        codec::encode(message, &mut bytes).map_err(|e| e.to_string())?;
        Ok(bytes)
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
        codec::decode(bytes).map_err(|e| e.to_string())
    }
}

/// JSON.
#[derive(Debug)]
pub(super) struct Json;

impl Form for Json {
    fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, String> {
        serde_json::to_vec(message).map_err(|e| e.to_string())
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
        serde_json::from_slice(bytes).map_err(|e| e.to_string())
    }
}

/// A stream that sends `Out` and receives `In`.
#[derive(Debug)]
pub(super) struct Messages<F, Out, In>(PhantomData<fn(F, Out) -> In>);

impl<F, Out, In> Default for Messages<F, Out, In> {
    fn default() -> Self {
        Self(PhantomData)
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
        bytes::BufMut::put(to, Bytes::from(F::encode(&message).map_err(Status::internal)?));
        Ok(())
    }
}

impl<F: Form, Out, In: DeserializeOwned> Decoder for Messages<F, Out, In> {
    type Item = In;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<In>, Status> {
        let length = bytes::Buf::remaining(from);
        let bytes = bytes::Buf::copy_to_bytes(from, length);
        F::decode(&bytes).map(Some).map_err(Status::invalid_argument)
    }
}

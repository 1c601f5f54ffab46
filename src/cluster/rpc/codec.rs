//! Messages of the control plane as bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use tidegate_state::codec;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Bytes;

/// Largest message: a deployment names every file of a checkpoint.
pub(super) const LARGEST_MESSAGE: usize = 256 << 20;

/// Codec 1 on a stream that sends `Out` and receives `In`.
#[derive(Debug)]
pub(super) struct Codec1<Out, In>(PhantomData<fn(Out) -> In>);

impl<Out, In> Default for Codec1<Out, In> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Out: Serialize + Send + 'static, In: DeserializeOwned + Send + 'static> Codec for Codec1<Out, In> {
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

impl<Out: Serialize, In> Encoder for Codec1<Out, In> {
    type Item = Out;
    type Error = Status;

    fn encode(&mut self, message: Out, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let mut bytes = Vec::new();
        codec::encode(&message, &mut bytes).map_err(|e| Status::internal(e.to_string()))?;
        bytes::BufMut::put(to, Bytes::from(bytes));
        Ok(())
    }
}

impl<Out, In: DeserializeOwned> Decoder for Codec1<Out, In> {
    type Item = In;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<In>, Status> {
        let length = bytes::Buf::remaining(from);
        let bytes = bytes::Buf::copy_to_bytes(from, length);
        codec::decode(&bytes).map(Some).map_err(|e| Status::invalid_argument(e.to_string()))
    }
}

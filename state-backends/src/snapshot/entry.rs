//! What the directory says about a state before it says where its rows are.

use crate::codec::{Codec, put_bytes, take_bytes};
use crate::descriptor::{StateDescriptor, StateKind};
use crate::schema::Schema;
use crate::ttl::TtlTime;
use crate::{Error, Result};

/// Appends name, kind, codec, time to live, types, schema and fingerprint.
pub(super) fn put_descriptor(state: &StateDescriptor, out: &mut Vec<u8>) {
    put_bytes(state.name.as_bytes(), out);
    out.extend_from_slice(&[state.kind as u8, state.codec as u8, state.ttl.map_or(0, |time| time as u8)]);
    put_bytes(state.namespace_type.as_bytes(), out);
    put_bytes(state.user_key_type.as_bytes(), out);
    put_bytes(state.value_type.as_bytes(), out);
    put_bytes(state.schema.to_string().as_bytes(), out);
    out.extend_from_slice(&state.schema.fingerprint().to_le_bytes());
}

/// Reads what [`put_descriptor`] wrote and moves `input` behind it.
pub(super) fn take_descriptor(input: &mut &[u8]) -> Result<StateDescriptor> {
    let name = take_text(input)?;
    take_rest(input, &name).map_err(|e| e.at(format!("state `{name}`")))
}

fn take_rest(input: &mut &[u8], name: &str) -> Result<StateDescriptor> {
    let [kind, codec, ttl] = take(input)?;
    let ttl = TtlTime::from_number(ttl)?;
    let (kind, codec) = (StateKind::from_number(kind)?, Codec::from_number(codec)?);
    let namespace_type = take_text(input)?;
    let (user_key_type, value_type) = (take_text(input)?, take_text(input)?);
    let schema = Schema::parse(&take_text(input)?)?;
    let fingerprint = u64::from_le_bytes(take(input)?);
    if fingerprint != schema.fingerprint() {
        return Err(Error::data(format!(
            "the fingerprint of its schema is {:016x}, the file says {fingerprint:016x}",
            schema.fingerprint()
        )));
    }
    Ok(StateDescriptor {
        name: name.to_owned(),
        kind,
        codec,
        namespace_type,
        user_key_type,
        value_type,
        schema,
        ttl,
    })
}

pub(super) fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N]> {
    let (head, rest) = input
        .split_first_chunk::<N>()
        .ok_or_else(|| Error::data("the directory of a snapshot ends early"))?;
    *input = rest;
    Ok(*head)
}

pub(super) fn take_text(input: &mut &[u8]) -> Result<String> {
    let bytes = take_bytes(input)?;
    String::from_utf8(bytes.to_vec())
        .map_err(|e| Error::data("a name in a snapshot is not UTF-8").with_source(e))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn comes_back_and_no_cut_or_changed_byte_of_it_is_taken_for_another_shape() {
        // Its schema has names: another letter in one of them makes another schema.
        let state = StateDescriptor::new::<Option<Duration>>("s", StateKind::List, Codec::Postcard).unwrap();
        let mut bytes = Vec::new();
        put_descriptor(&state, &mut bytes);
        let mut input = bytes.as_slice();
        assert_eq!(take_descriptor(&mut input).unwrap(), state);
        assert!(input.is_empty());
        for cut in 0..bytes.len() {
            assert!(take_descriptor(&mut &bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            if let Ok(read) = take_descriptor(&mut bad.as_slice()) {
                assert!(read.schema.is_read_as(&state.schema), "byte {at}: {}", read.schema);
            }
        }
    }
}

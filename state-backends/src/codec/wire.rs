//! Varints and lengths, as the snapshot format and the tables use them.

use crate::{Error, Result};

/// Appends `value` in seven-bit groups, the lowest first, the top bit saying that more follow.
pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads what [`put_varint`] wrote and moves `bytes` behind it.
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or_else(|| Error::data("the bytes end inside a number"))?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Error::data("a number is longer than 64 bits"))
}

/// Appends the length of `bytes` as a varint, then `bytes`.
pub(crate) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Reads what [`put_bytes`] wrote and moves `bytes` behind it.
pub(crate) fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = take_varint(bytes)?;
    let split = usize::try_from(length).ok().and_then(|length| bytes.split_at_checked(length));
    let (head, rest) = split
        .ok_or_else(|| Error::data(format!("{length} bytes are announced, {} are there", bytes.len())))?;
    *bytes = rest;
    Ok(head)
}

/// Appends what `write` writes, preceded by its length as a varint. Short content, the usual case, is not moved.
pub(crate) fn put_with_length(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    let start = out.len();
    out.push(0);
    write(out)?;
    let length = out.len() - start - 1;
    if length < 0x80 {
        out[start] = length as u8;
    } else {
        let mut prefix = Vec::with_capacity(10);
        put_varint(length as u64, &mut prefix);
        out.splice(start..=start, prefix);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_and_lengths() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(value, &mut out);
            let mut rest = out.as_slice();
            assert_eq!(take_varint(&mut rest).unwrap(), value);
            assert!(rest.is_empty());
            assert!(take_varint(&mut &out[..out.len() - 1]).is_err());
        }
        assert!(take_varint(&mut [0xff; 11].as_slice()).is_err());
        for length in [0usize, 127, 128, 70_000] {
            let mut out = vec![1];
            put_with_length(&mut out, |o| {
                o.extend(std::iter::repeat_n(7, length));
                Ok(())
            })
            .unwrap();
            assert_eq!(take_bytes(&mut &out[1..]).unwrap(), vec![7; length]);
            assert!(take_bytes(&mut &out[1..out.len() - 1]).is_err());
        }
    }
}

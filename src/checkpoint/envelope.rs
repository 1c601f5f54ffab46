//! The envelope of every small control file: one line of text that says what follows, how long it is and what its
//! CRC32 is, then a JSON body.
//!
//! ```text
//! tidegate-manifest 1 <body length> <crc32, eight hex digits>\n
//! {...}
//! ```
//!
//! Invariant: length and checksum are verified before a byte reaches the JSON parser.

use crate::error::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Version of the envelopes written.
pub(crate) const VERSION: u32 = 1;

/// Longest header line read.
const MAX_HEADER: usize = 128;

/// Wraps `body` as a file of `kind`, for example `tidegate-manifest`.
pub(crate) fn seal<T: Serialize>(kind: &str, body: &T) -> Result<Vec<u8>> {
    let mut json = serde_json::to_vec_pretty(body)
        .map_err(|e| Error::bug(format!("cannot encode a {kind}")).with_source(e))?;
    json.push(b'\n');
    Ok(wrap(kind, &json))
}

/// Puts the header of a file of `kind` in front of a body.
pub(crate) fn wrap(kind: &str, body: &[u8]) -> Vec<u8> {
    let mut out = format!("{kind} {VERSION} {} {:08x}\n", body.len(), crc32fast::hash(body)).into_bytes();
    out.extend_from_slice(body);
    out
}

/// Unwraps a file of `kind`; errors name `path`.
pub(crate) fn open<T: DeserializeOwned>(kind: &str, bytes: &[u8], path: &str) -> Result<T> {
    unwrap(kind, bytes).map_err(|e| e.at(path))
}

fn unwrap<T: DeserializeOwned>(kind: &str, bytes: &[u8]) -> Result<T> {
    if bytes.is_empty() {
        return Err(Error::data("the file is empty"));
    }
    let end = bytes
        .iter()
        .take(MAX_HEADER)
        .position(|&b| b == b'\n')
        .ok_or_else(|| Error::data(format!("not a {kind} file: no header line")))?;
    let (header, body) = (bytes.get(..end).unwrap_or_default(), bytes.get(end + 1..).unwrap_or_default());
    let header = std::str::from_utf8(header)
        .map_err(|_| Error::data(format!("not a {kind} file: header is no text")))?;
    let fields: Vec<&str> = header.split(' ').collect();
    let &[found, version, length, crc] = fields.as_slice() else {
        return Err(Error::data(format!("not a {kind} file: header has {} fields, not 4", fields.len())));
    };
    if found != kind {
        return Err(Error::data(format!("not a {kind} file but a {found:?}")));
    }
    if version.parse() != Ok(VERSION) {
        return Err(Error::data(format!("{kind} version {version:?}; this build reads version {VERSION}"))
            .hint("written by another release: use a matching build"));
    }
    if length.parse() != Ok(body.len()) {
        return Err(Error::data(format!("{} bytes after the header instead of {length:?}", body.len())));
    }
    let actual = crc32fast::hash(body);
    if u32::from_str_radix(crc, 16) != Ok(actual) {
        return Err(Error::data(format!("checksum is {actual:08x} instead of {crc:?}")));
    }
    serde_json::from_slice(body)
        .map_err(|e| Error::data(format!("body of the {kind} is malformed")).with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn is_readable_and_comes_back() {
        let sealed = seal("tidegate-test", &vec![1, 2]).unwrap();
        let text = String::from_utf8(sealed.clone()).unwrap();
        assert!(text.starts_with("tidegate-test 1 "), "{text}");
        assert_eq!(open::<Vec<u8>>("tidegate-test", &sealed, "p").unwrap(), [1, 2]);
        assert!(open::<Vec<u8>>("tidegate-other", &sealed, "p").is_err());
    }

    proptest! {
        #[test]
        fn any_changed_byte_and_any_cut_is_found(at in 0usize..1000, flip in 1u8..=255, cut in 0usize..1000) {
            let sealed = seal("tidegate-test", &(0..100).collect::<Vec<u32>>()).unwrap();
            let mut bad = sealed.clone();
            let at = at % bad.len();
            bad[at] ^= flip;
            // Hex digits may change case and nothing else.
            if let Ok(read) = open::<Vec<u32>>("tidegate-test", &bad, "the/path") {
                prop_assert_eq!(read, (0..100).collect::<Vec<u32>>());
                prop_assert_eq!(flip, 0x20);
            }
            let error = open::<Vec<u32>>("tidegate-test", &sealed[..cut % sealed.len()], "the/path").unwrap_err();
            prop_assert_eq!(error.kind(), ErrorKind::Data);
            prop_assert!(error.to_string().starts_with("the/path: "));
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(open::<Vec<u32>>("tidegate-test", &bytes, "p").is_err());
        }
    }
}

//! SHA-256 of a program: what a job runs is named by it.

use crate::error::{Error, Result};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

/// Bytes read at once.
const PIECE: usize = 64 << 10;

/// The SHA-256 of a program's bytes, in hex.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProgramHash(String);

impl ProgramHash {
    /// Copies what is read, and returns its hash.
    pub(super) fn of_copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<Self> {
        let mut context = Context::new(&SHA256);
        let mut piece = vec![0; PIECE];
        loop {
            let length = match from.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            let read = piece.get(..length).unwrap_or_default();
            context.update(read);
            to.write_all(read)?;
        }
        Ok(Self(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// 64 hex digits in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProgramHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ProgramHash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(Error::config(format!("'{text}' is no SHA-256")).hint("write 64 hex digits, as sha256sum prints"))
    }
}

impl TryFrom<String> for ProgramHash {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<ProgramHash> for String {
    fn from(hash: ProgramHash) -> Self {
        hash.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_that_of_the_standard_and_what_is_read_is_copied() {
        let mut copy = Vec::new();
        let hash = ProgramHash::of_copy(&mut &b"abc"[..], &mut copy).unwrap();
        assert_eq!(
            hash.as_str(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "FIPS 180-2, appendix B.1"
        );
        assert_eq!(copy, b"abc");
        assert_eq!(hash.to_string().to_uppercase().parse::<ProgramHash>().unwrap(), hash);
        for wrong in ["", "../../../etc/passwd", &"g".repeat(64), &"a".repeat(63)] {
            assert!(wrong.parse::<ProgramHash>().is_err(), "{wrong}");
        }
    }
}

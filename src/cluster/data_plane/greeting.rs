//! The first bytes of a connection, in both directions. Their layout stays as it is whatever the version, so that members of
//! different releases can tell each other.
//!
//! ```text
//! "tidedat" | u8 version, a digit | u64 nonce
//! ```

use super::frame::FrameSums;
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicU64, Ordering};

const MAGIC: &[u8; 7] = b"tidedat";
/// Version of all that follows.
const VERSION: u8 = b'2';
pub(super) const GREETING_BYTES: usize = 16;

/// Makes numbers that no other connection has, as far as chance goes.
#[derive(Debug)]
pub(crate) struct Nonces(AtomicU64);

impl Nonces {
    /// `seed` must be one that no other process has had.
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// The next one: SplitMix64.
    fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut n = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    }
}

/// What one end begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    version: u8,
    nonce: u64,
}

impl Greeting {
    pub(super) fn new(nonces: &Nonces) -> Self {
        Self { version: VERSION, nonce: nonces.next() }
    }

    pub(super) fn to_bytes(self) -> [u8; GREETING_BYTES] {
        let [m0, m1, m2, m3, m4, m5, m6] = *MAGIC;
        let [n0, n1, n2, n3, n4, n5, n6, n7] = self.nonce.to_le_bytes();
        [m0, m1, m2, m3, m4, m5, m6, self.version, n0, n1, n2, n3, n4, n5, n6, n7]
    }

    /// # Errors
    /// A data error if whoever has sent this speaks of something else.
    pub(super) fn from_bytes(bytes: [u8; GREETING_BYTES]) -> Result<Self> {
        let [m0, m1, m2, m3, m4, m5, m6, version, n0, n1, n2, n3, n4, n5, n6, n7] = bytes;
        if [m0, m1, m2, m3, m4, m5, m6] != *MAGIC {
            return Err(Error::data("it does not speak the protocol of taskmanagers").hint(
                "is there anything else at this address, or encrypted by cluster.tls at one end only?",
            ));
        }
        Ok(Self { version, nonce: u64::from_le_bytes([n0, n1, n2, n3, n4, n5, n6, n7]) })
    }

    /// Whether both ends can understand each other.
    ///
    /// # Errors
    /// A config error that names both versions.
    pub(super) fn check_version(self) -> Result<()> {
        if self.version == VERSION {
            return Ok(());
        }
        let [theirs, ours] = [self.version, VERSION].map(char::from);
        Err(Error::config(format!("it speaks version {theirs:?} of the data frames, this process {ours:?}"))
            .hint("start all members from the same release"))
    }
}

/// The sums of what goes to the receiver and of what comes back, by the greetings of sender and receiver.
pub(super) fn sums(sender: Greeting, receiver: Greeting) -> [FrameSums; 2] {
    [0, 1].map(|direction| FrameSums::new(sender.nonce, receiver.nonce, direction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_strangers_are_told_apart() {
        let ours = Greeting::new(&Nonces::new(7));
        assert_eq!(Greeting::from_bytes(ours.to_bytes()).unwrap(), ours);
        assert!(ours.check_version().is_ok());
        let e = Greeting { version: b'9', ..ours }.check_version().unwrap_err().to_string();
        assert!(e.contains("version '9' of the data frames, this process '2'"), "{e}");
        assert!(Greeting::from_bytes(*b"GET / HTTP/1.1\r\n").is_err());
    }

    #[test]
    fn nonces_do_not_repeat() {
        let nonces = Nonces::new(7);
        let mut made: Vec<u64> = (0..1000).map(|_| nonces.next()).collect();
        made.sort_unstable();
        made.dedup();
        assert_eq!(made.len(), 1000);
    }
}

//! Keys: what a stream is partitioned by, how a key is hashed and how it is laid out on disk.
//!
//! Two byte forms exist and both are part of the format of a checkpoint, so neither may ever change:
//!
//! - the **ordered form** ([`Key::encode_ordered`]): comparing the bytes of two keys gives the same answer as
//!   comparing the keys, and no form is a prefix of another, so forms can be concatenated and still be parsed;
//! - the **hash** ([`Key::hash64`]): XXH3-64 with seed 0. A lone string or byte string hashes its raw bytes, every
//!   other key its ordered form. It decides the key group, hence the subtask, and it finds the entry in a table.

mod encoding;
mod key_type;
mod prefix;

pub use key_type::KeyType;
pub use prefix::KeyPrefix;

use std::cell::Cell;
use std::fmt::Debug;

use xxhash_rust::xxh3::xxh3_64;

use crate::Result;

/// A type that can partition a stream and address keyed state.
///
/// Implemented for integers, `bool`, `char`, `String`, `Vec<u8>`, `()`, `Option` and tuples of two to four. There is
/// no implementation for floats (`NaN` has no place in an order) nor for hash maps (no order at all).
pub trait Key: Clone + Eq + Ord + Debug + Send + Sync + 'static {
    /// Appends the ordered form of the key. The order of the bytes must be that of [`Ord`], and no key's form
    /// may be a prefix of another's.
    fn encode_ordered(&self, out: &mut Vec<u8>);

    /// Reads one key from the front of `bytes` and moves `bytes` behind it.
    ///
    /// # Errors
    /// [`ErrorKind::Data`](crate::ErrorKind::Data) if `bytes` does not start with the ordered form of a key.
    fn decode_ordered(bytes: &mut &[u8]) -> Result<Self>;

    /// The least of all keys.
    fn least() -> Self;

    /// The stable hash of the key. Equal keys have equal hashes in every process, version and platform.
    fn hash64(&self) -> u64 {
        hash_ordered(|out| self.encode_ordered(out))
    }
}

/// A borrowed view that hashes like the [`Key`] it can be turned into: `str` for `String`, `[u8]` for `Vec<u8>`, and
/// every key for itself. It lets a record be keyed by a slice of itself without an allocation.
pub trait BorrowedKey: ToOwned {
    /// The hash of the owned key, see [`Key::hash64`].
    fn hash64(&self) -> u64;
}

impl<K: Key> BorrowedKey for K {
    fn hash64(&self) -> u64 {
        Key::hash64(self)
    }
}

impl BorrowedKey for str {
    fn hash64(&self) -> u64 {
        xxh3_64(self.as_bytes())
    }
}

impl BorrowedKey for [u8] {
    fn hash64(&self) -> u64 {
        xxh3_64(self)
    }
}

/// Hashes what `encode` writes, through a buffer that the thread keeps.
fn hash_ordered(encode: impl FnOnce(&mut Vec<u8>)) -> u64 {
    thread_local! {
        static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    SCRATCH.with(|scratch| {
        let mut buffer = scratch.take();
        buffer.clear();
        encode(&mut buffer);
        let hash = xxh3_64(&buffer);
        scratch.set(buffer);
        hash
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_the_published_ones() {
        assert_eq!(Key::hash64(&String::from("key-1")), 0x2d29_f133_6b02_29f9);
        assert_eq!(BorrowedKey::hash64("key-1"), 0x2d29_f133_6b02_29f9);
        assert_eq!(BorrowedKey::hash64(b"key-1".as_slice()), 0x2d29_f133_6b02_29f9);
        assert_eq!(Key::hash64(&()), 0x2d06_8005_38d3_94c2, "nothing hashes as the empty string");
        assert_eq!(Key::hash64(&7u32), xxh3_64(&[0, 0, 0, 7]));
        assert_eq!(Key::hash64(&-1i16), xxh3_64(&[0x7f, 0xff]));
        assert_eq!(Key::hash64(&(1u8, String::from("a"))), xxh3_64(&[1, b'a', 0, 1]));
    }
}

//! The part of a row key that the rows of one key have in common: key group and key, without namespace, user key or
//! time. Files and memtables have a bloom filter of these, so that to go through the map of a key opens only files that
//! have rows of the key.
//!
//! The ordered form of a key says itself where it ends, so a row key can be cut without knowing the state.

use std::panic::catch_unwind;

use super::cold::GROUP_BYTES;
use crate::descriptor::short_type_name;
use crate::key::Key;

/// How the row keys of a database are cut.
#[derive(Clone)]
#[cfg_attr(not(feature = "rocksdb"), expect(dead_code, reason = "only RocksDB has such filters"))]
pub(super) struct RowPrefix {
    key_type: String,
    /// What is before the end of the key; all if that is not there.
    pub(super) cut: fn(&[u8]) -> &[u8],
    /// Whether group and key are all there.
    pub(super) contains_key: fn(&[u8]) -> bool,
}

impl RowPrefix {
    /// For keys of type `K`.
    pub(super) fn of<K: Key>() -> Self {
        let contains_key = |bytes: &[u8]| key_end::<K>(bytes).is_some();
        Self { key_type: short_type_name::<K>(), cut: cut::<K>, contains_key }
    }

    /// What Rust calls the type of the keys.
    pub(super) fn key_type(&self) -> &str {
        &self.key_type
    }
}

fn cut<K: Key>(row_key: &[u8]) -> &[u8] {
    &row_key[..key_end::<K>(row_key).unwrap_or(row_key.len())]
}

/// Length of key group and key; none if they are not all there.
fn key_end<K: Key>(row_key: &[u8]) -> Option<usize> {
    let key = row_key.get(GROUP_BYTES..)?;
    // RocksDB calls this, and nothing may unwind through it.
    let rest = catch_unwind(|| {
        let mut rest = key;
        K::decode_ordered(&mut rest).is_ok().then_some(rest.len())
    });
    Some(row_key.len().saturating_sub(rest.ok()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_keys_are_cut_behind_the_key() {
        let mut row_key = vec![0, 7];
        String::from("ab").encode_ordered(&mut row_key);
        let end = row_key.len();
        5u32.encode_ordered(&mut row_key);
        assert_eq!(cut::<String>(&row_key), &row_key[..end]);
        let prefix = RowPrefix::of::<String>();
        assert!((prefix.contains_key)(&row_key) && (prefix.contains_key)(&row_key[..end]));
        for short in 0..end {
            assert!(!(prefix.contains_key)(&row_key[..short]), "{short} bytes");
            assert_eq!(cut::<String>(&row_key[..short]), &row_key[..short]);
        }
        assert!((RowPrefix::of::<()>().contains_key)(&[0, 7]));
    }
}

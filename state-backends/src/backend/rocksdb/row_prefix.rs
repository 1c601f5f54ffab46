//! The part of a row key that the rows of one key have in common: key group and key, without namespace, user key or
//! time. Files and memtables have a bloom filter of these, so that to go through the map of a key opens only files that
//! have rows of the key.
//!
//! The ordered form of a key says itself where it ends, so a row key can be cut without knowing the state.

use std::panic::catch_unwind;

use rocksdb::SliceTransform;

use super::GROUP_BYTES;
use crate::descriptor::short_type_name;
use crate::key::Key;

/// How the row keys of a database are cut.
#[derive(Clone)]
pub(in crate::backend) struct RowPrefix {
    name: String,
    cut: fn(&[u8]) -> &[u8],
    contains_key: fn(&[u8]) -> bool,
}

impl RowPrefix {
    /// For keys of type `K`.
    pub(in crate::backend) fn of<K: Key>() -> Self {
        // A file says what its filter was made with. One made with another function is not asked.
        let name = format!("tidegate.key.{}", short_type_name::<K>());
        Self { name, cut: cut::<K>, contains_key: |bytes| key_end::<K>(bytes).is_some() }
    }

    /// As RocksDB wants it.
    pub(super) fn transform(&self) -> SliceTransform {
        SliceTransform::create(self.name.as_str(), self.cut, Some(self.contains_key))
    }

    /// Whether all that begins with `bytes` has one prefix.
    pub(super) fn covers(&self, bytes: &[u8]) -> bool {
        (self.contains_key)(bytes)
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
        assert!(prefix.covers(&row_key) && prefix.covers(&row_key[..end]));
        for short in 0..end {
            assert!(!prefix.covers(&row_key[..short]), "{short} bytes");
            assert_eq!(cut::<String>(&row_key[..short]), &row_key[..short]);
        }
        assert!(RowPrefix::of::<()>().covers(&[0, 7]));
    }
}

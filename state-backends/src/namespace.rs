//! Namespaces: a second part of the address of state, behind the key. Windows keep their state in them.
//!
//! State in a namespace is ordinary state whose key is a pair, [`Namespaced`]: the same tables, the same rows, the ordered
//! form of the namespace behind that of the key. The pair has the key group of the key.

use std::fmt;
use std::rc::Rc;

use crate::Result;
use crate::context::KeyContext;
use crate::key::Key;

/// The bits of a hash that choose the key group.
const GROUP_BITS: u64 = 0x0000_ffff_ffff_0000;

/// A key and a namespace of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespaced<K, N> {
    /// The key.
    pub key: K,
    /// The namespace.
    pub namespace: N,
}

impl<K: Key, N: Key> Key for Namespaced<K, N> {
    fn encode_ordered(&self, out: &mut Vec<u8>) {
        self.key.encode_ordered(out);
        self.namespace.encode_ordered(out);
    }

    fn decode_ordered(bytes: &mut &[u8]) -> Result<Self> {
        Ok(Self { key: K::decode_ordered(bytes)?, namespace: N::decode_ordered(bytes)? })
    }

    fn least() -> Self {
        Self { key: K::least(), namespace: N::least() }
    }

    fn hash64(&self) -> u64 {
        spaced_hash(self.key.hash64(), self.namespace.hash64())
    }
}

/// The hash of a key in a namespace. It leads to the key group of the key, and is otherwise as good as any.
#[inline]
pub(crate) fn spaced_hash(key: u64, namespace: u64) -> u64 {
    // Multiplied, so that equal namespaces within each other do not cancel out.
    let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ namespace;
    (key & GROUP_BITS) | (mixed & !GROUP_BITS)
}

/// The namespaces of type `N`: which one is current, beside the current key, for all states that were registered
/// [within them](crate::KeyedBackend::within). Clones are the same.
///
/// A namespace is current until the key changes. Before one is set for the key, states within namespaces fail with
/// [`ErrorKind::Config`](crate::ErrorKind::Config).
pub struct Namespaces<K: Key, N: Key> {
    keys: Rc<KeyContext<K>>,
    pub(crate) context: Rc<KeyContext<Namespaced<K, N>>>,
}

impl<K: Key, N: Key> Namespaces<K, N> {
    pub(crate) fn new(keys: &Rc<KeyContext<K>>) -> Self {
        let context = Rc::new(KeyContext::spaced(keys));
        keys.follow(Rc::clone(&context));
        Self { keys: Rc::clone(keys), context }
    }

    /// Whether they are namespaces of the keys of this context.
    pub(crate) fn are_of(&self, keys: &Rc<KeyContext<K>>) -> bool {
        Rc::ptr_eq(&self.keys, keys)
    }

    /// Makes `namespace` the current one of the current key.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if there is no current key.
    #[inline]
    pub fn set_current(&self, namespace: N) -> Result<()> {
        let key = self.keys.current()?;
        self.context.set_spaced(&*key, self.keys.position().hash, namespace)
    }
}

impl<K: Key, N: Key> Clone for Namespaces<K, N> {
    fn clone(&self) -> Self {
        Self { keys: Rc::clone(&self.keys), context: Rc::clone(&self.context) }
    }
}

impl<K: Key, N: Key> fmt::Debug for Namespaces<K, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespaces").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_group::key_group_of;
    use std::collections::BTreeSet;

    #[test]
    fn a_namespace_keeps_the_key_group_and_spreads_the_rest() {
        let mut hashes = BTreeSet::new();
        for key in 0..20u64 {
            for namespace in 0..1000i64 {
                for time in [namespace, 7] {
                    let spaced = Namespaced { key: Namespaced { key, namespace }, namespace: time };
                    assert_eq!(key_group_of(spaced.hash64(), 128), key_group_of(key.hash64(), 128));
                    hashes.insert(spaced.hash64());
                }
            }
        }
        // Time 7 of namespace 7 comes twice. 32 bits vary per key: a few of 2000 may meet.
        assert!(hashes.len() >= 20 * 1999 - 3, "{} hashes", hashes.len());
        let low: BTreeSet<u8> = hashes.iter().map(|hash| *hash as u8).collect();
        let tags: BTreeSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
        assert_eq!((low.len(), tags.len()), (256, 128));
    }
}

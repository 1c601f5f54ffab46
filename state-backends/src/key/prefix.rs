//! Beginnings of keys: what a part of an ordered map is asked for by.

use super::Key;

/// What keys of type `K` can begin with: a `str` for `String`, a `[u8]` for `Vec<u8>`, the first fields of a tuple
/// (`(a,)` for `(A, B)`). The keys that do follow each other in the order of keys.
pub trait KeyPrefix<K: Key> {
    /// The least key that begins so.
    fn least(&self) -> K;

    /// Whether `key` begins so.
    fn begins(&self, key: &K) -> bool;
}

impl KeyPrefix<String> for str {
    fn least(&self) -> String {
        self.to_owned()
    }

    fn begins(&self, key: &String) -> bool {
        key.starts_with(self)
    }
}

impl KeyPrefix<Vec<u8>> for [u8] {
    fn least(&self) -> Vec<u8> {
        self.to_owned()
    }

    fn begins(&self, key: &Vec<u8>) -> bool {
        key.starts_with(self)
    }
}

macro_rules! tuple_prefixes {
    ($(($($name:ident $index:tt),*) ($($rest:ident),*))*) => {$(
        impl<$($name: Key,)* $($rest: Key),*> KeyPrefix<($($name,)* $($rest,)*)> for ($($name,)*) {
            fn least(&self) -> ($($name,)* $($rest,)*) {
                ($(self.$index.clone(),)* $($rest::least(),)*)
            }

            fn begins(&self, key: &($($name,)* $($rest,)*)) -> bool {
                $(self.$index == key.$index)&&*
            }
        }
    )*};
}

tuple_prefixes! {
    (A 0) (B)
    (A 0) (B, C)
    (A 0, B 1) (C)
    (A 0) (B, C, D)
    (A 0, B 1) (C, D)
    (A 0, B 1, C 2) (D)
}

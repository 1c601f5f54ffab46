//! Types that reject some values, values as bytes, chains of versions that look alike, and paths in messages.

use std::net::Ipv4Addr;
use std::num::NonZeroU32;

use super::*;

#[test]
fn a_type_may_reject_some_values_of_the_old_shape_but_not_all() {
    versions! {
        old { pub struct Order { pub pieces: u32 } }
        new { pub struct Order { pub pieces: std::num::NonZeroU32, #[serde(default)] pub paid: bool } }
    }
    let pieces = NonZeroU32::new(3).unwrap();
    becomes_inside(old::Order { pieces: 3 }, new::Order { pieces, paid: false });
    let e = evolve::<_, new::Order>(&old::Order { pieces: 0 }, &StateOptions::new()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Data, "the value, not the type: {e}");
    // None of the strings it is tried with has an `@`.
    refused::<_, Address>("a@b".to_owned(), &["no address"]);
}

#[test]
fn nothing_reads_a_shape_that_has_no_values() {
    #[derive(Clone, Serialize, Deserialize)]
    enum Never {}
    #[derive(Clone, Serialize, Deserialize)]
    struct Old {
        _never: Never,
    }
    let options = StateOptions::<u64>::new();
    let e = options.reading(&described::<Old>(&StateOptions::new()), &described(&options)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Config, "{e}");
}

/// Bytes as such.
#[derive(Clone, Debug, PartialEq)]
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Blob;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Blob, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(Blob(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

#[test]
fn bytes_and_lists_of_bytes_become_each_other() {
    becomes_inside(Blob(vec![1, 200]), vec![1u8, 200]);
    becomes_inside(vec![1u8, 200], Blob(vec![1, 200]));
    becomes_inside((Blob(vec![7]), 1u8), (Blob(vec![7]), 1u16));
    becomes(Blob(vec![1, 200]), vec![1u32, 200]);
    refused::<_, Blob>(vec![1u16], &["[0]`: a u16 cannot be read as u8"]);
    refused::<_, Blob>("text".to_owned(), &["a string cannot be read as bytes"]);
}

/// The first element of a list of one.
#[derive(Clone, Debug, PartialEq)]
struct First(u8);

impl Serialize for First {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        [self.0].as_slice().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for First {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = First;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of one")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<First, A::Error> {
                Ok(First(seq.next_element()?.unwrap_or_default()))
            }
        }
        deserializer.deserialize_seq(Visitor)
    }
}

#[test]
fn no_element_is_left_over() {
    becomes([7u8], First(7));
    refused::<_, First>([7u8, 8], &["1 elements are left over"]);
}

#[test]
fn types_choose_the_form_that_the_codecs_have() {
    versions! {
        old { pub struct Host { pub address: std::net::Ipv4Addr } }
        new { pub struct Host { pub address: std::net::Ipv4Addr, #[serde(default)] pub port: u16 } }
    }
    let address = Ipv4Addr::new(10, 0, 0, 7);
    becomes_inside(old::Host { address }, new::Host { address, port: 0 });
}

#[test]
fn the_content_of_a_variant_is_not_dropped() {
    versions! {
        old { pub enum Event { Click(u8), Key { code: u16 }, Wheel } }
        new { pub enum Event { Click, Key, Wheel } }
    }
    refused::<_, new::Event>(
        old::Event::Wheel,
        &["variant `Click` had a u8 as its content and now has none"],
    );
}

#[test]
fn keys_and_variants_that_differ_are_named_with_their_path() {
    versions! {
        old { pub enum Event { A, B(u64), C(u8, u64) } }
        new { pub enum Event { A, B(u32), C(u8, u32) } }
        half { pub enum Event { A, B(u64), C(u8, u32) } }
    }
    refused::<_, BTreeMap<u32, u8>>(BTreeMap::from([(1u64, 2u8)]), &["`[key]`: a u64 cannot be read as u32"]);
    refused::<_, new::Event>(old::Event::A, &["`B`: a u64 cannot be read as u32"]);
    refused::<_, half::Event>(old::Event::A, &["`C[1]`: a u64 cannot be read as u32"]);
}

/// Two versions in a row look alike: a count, and a count from one on.
fn alike() -> StateOptions<Wide> {
    StateOptions::new()
        .migrations(Migrations::<u32>::new().then(|n| Ok(n + 1)).then(|n: u32| Ok(Wide { total: n.into() })))
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wide {
    total: u64,
}

#[test]
fn of_versions_that_look_alike_the_newest_is_taken() {
    assert_eq!(evolve(&7u32, &alike()).unwrap(), Wide { total: 7 });
    assert_eq!(evolve(&7u16, &alike()).unwrap(), Wide { total: 7 }, "also if it is only readable by them");
}

#[test]
fn a_migration_reads_the_old_codec_and_writes_the_new_one() {
    // The codecs differ in numbers of this size.
    for codec in [Codec::Bincode, Codec::Postcard] {
        let options = alike().codec(codec);
        assert_eq!(evolve(&70_000u32, &options).unwrap(), Wide { total: 70_000 });
        assert_eq!(evolve(&7_000u16, &options).unwrap(), Wide { total: 7_000 });
        assert_eq!(evolve_stored(&70_000u32, &options).unwrap(), Wide { total: 70_000 });
    }
}

#[test]
fn what_the_type_reads_by_itself_is_not_migrated_by_a_version_that_only_could() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Other {
        total: u32,
    }
    let migrations = Migrations::<Other>::new().then(|old| Ok(Wide { total: u64::from(old.total) * 10 }));
    let options = StateOptions::new().migrations(migrations);
    #[derive(Clone, Serialize, Deserialize)]
    struct Old {
        total: u16,
    }
    assert_eq!(evolve(&Old { total: 7 }, &options).unwrap(), Wide { total: 7 });
    assert_eq!(evolve(&Other { total: 7 }, &options).unwrap(), Wide { total: 70 });
}

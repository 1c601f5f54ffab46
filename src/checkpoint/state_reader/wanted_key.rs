//! The key that a person asks for: from its text to its place in a snapshot.

use crate::error::{Error, Result};
use serde_json::Value as Json;
use std::str::FromStr;
use tidegate_state::schema::Value;
use tidegate_state::{KeyGroup, KeyGroupRange, KeyType, key_group_of};

/// One key of an operator, whose type is known once the first snapshot is.
#[derive(Debug)]
pub(super) struct WantedKey {
    text: String,
    max_parallelism: u16,
    place: Option<Place>,
}

/// Where a key is.
#[derive(Debug)]
struct Place {
    ordered: Vec<u8>,
    /// None if the type of the keys is not known: then it can be in any.
    group: Option<KeyGroup>,
}

impl WantedKey {
    pub(super) fn new(text: &str, max_parallelism: u16) -> Self {
        Self { text: text.to_owned(), max_parallelism, place: None }
    }

    /// Which of these key groups the key can be in.
    pub(super) fn range(
        &mut self,
        own: KeyGroupRange,
        key_type: impl FnOnce() -> Result<String>,
    ) -> Result<Option<KeyGroupRange>> {
        let place = match self.place.take() {
            Some(place) => place,
            None => Place::new(&self.text, &key_type()?, self.max_parallelism)?,
        };
        let range = match place.group {
            None => Some(own),
            Some(group) if own.contains(group) => Some(KeyGroupRange { start: group.0, end: group.0 + 1 }),
            Some(_) => None,
        };
        self.place = Some(place);
        Ok(range)
    }

    /// The ordered form of the key; empty before its type is known.
    pub(super) fn ordered(&self) -> &[u8] {
        self.place.as_ref().map_or(&[], |place| &place.ordered)
    }
}

impl Place {
    fn new(text: &str, name: &str, max_parallelism: u16) -> Result<Self> {
        let refuse = |why: &str| Error::config(format!("{text:?} is not a key of type {name}")).hint(why);
        let Some(key_type) = KeyType::parse(name) else {
            let ordered = bytes(text);
            let ordered = ordered.filter(|bytes| !bytes.is_empty());
            let why = "write a key of a program's own type as 0x and its ordered form in hex";
            return Ok(Self { ordered: ordered.ok_or_else(|| refuse(why))?, group: None });
        };
        let why =
            "write strings as they are, numbers in decimal, byte strings as 0x.., options and tuples as JSON";
        let key = from_text(&key_type, text).ok_or_else(|| refuse(why))?;
        let mut ordered = Vec::new();
        key_type.encode_ordered(&key, &mut ordered)?;
        let group = Some(key_group_of(key_type.hash64(&key)?, max_parallelism));
        Ok(Self { ordered, group })
    }
}

/// `0x` and an even number of digits.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x")?.as_bytes();
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let pairs = digits.chunks(2).map(|pair| match *pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

fn number<T: FromStr>(text: &str, value: impl FnOnce(T) -> Value) -> Option<Value> {
    text.parse().ok().map(value)
}

/// What stands alone is written as it is, what has parts as JSON.
fn from_text(key_type: &KeyType, text: &str) -> Option<Value> {
    Some(match key_type {
        KeyType::Unit if text == "()" => Value::Unit,
        KeyType::Bool => return number(text, Value::Bool),
        KeyType::I8 => return number(text, Value::I8),
        KeyType::I16 => return number(text, Value::I16),
        KeyType::I32 => return number(text, Value::I32),
        KeyType::I64 => return number(text, Value::I64),
        KeyType::I128 => return number(text, Value::I128),
        KeyType::U8 => return number(text, Value::U8),
        KeyType::U16 => return number(text, Value::U16),
        KeyType::U32 => return number(text, Value::U32),
        KeyType::U64 => return number(text, Value::U64),
        KeyType::U128 => return number(text, Value::U128),
        KeyType::Char => return number(text, Value::Char),
        KeyType::String => Value::String(text.to_owned()),
        KeyType::Bytes => Value::Bytes(bytes(text)?),
        composed => return from_json(composed, &serde_json::from_str(text).ok()?),
    })
}

fn from_json(key_type: &KeyType, json: &Json) -> Option<Value> {
    match (key_type, json) {
        (KeyType::Unit, Json::Null) => Some(Value::Unit),
        (KeyType::Option(_), Json::Null) => Some(Value::None),
        (KeyType::Option(inner), json) => Some(Value::Some(Box::new(from_json(inner, json)?))),
        (KeyType::Tuple(types), Json::Array(fields)) if types.len() == fields.len() => {
            let fields = types.iter().zip(fields).map(|(field, json)| from_json(field, json));
            Some(Value::Tuple(fields.collect::<Option<_>>()?))
        }
        (KeyType::Tuple(_) | KeyType::Unit, _) => None,
        (leaf, Json::String(text)) => from_text(leaf, text),
        (KeyType::String | KeyType::Char | KeyType::Bytes, _) => None,
        (leaf, Json::Number(_) | Json::Bool(_)) => from_text(leaf, &json.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_state::Key;

    const MAX: u16 = 128;

    /// The text leads to where the key is.
    fn leads_to<K: Key>(text: &str, name: &str, key: K) {
        let place = Place::new(text, name, MAX).unwrap();
        let mut ordered = Vec::new();
        key.encode_ordered(&mut ordered);
        assert_eq!(place.ordered, ordered, "{text}");
        assert_eq!(place.group, Some(key_group_of(key.hash64(), MAX)), "{text}");
    }

    #[test]
    fn texts_lead_to_the_keys_that_they_name() {
        leads_to("-7", "i32", -7i32);
        leads_to("340282366920938463463374607431768211455", "u128", u128::MAX);
        leads_to("a \"b\"", "String", "a \"b\"".to_owned());
        leads_to("0x00ff", "Vec<u8>", vec![0u8, 255]);
        leads_to("true", "bool", true);
        leads_to("x", "char", 'x');
        leads_to("null", "Option<u8>", None::<u8>);
        leads_to("7", "Option<u8>", Some(7u8));
        leads_to(
            "[\"a\", [18446744073709551615, null], \"0x01\", false]",
            "(String, (u64, Option<i8>), Vec<u8>, bool)",
            ("a".to_owned(), (u64::MAX, None::<i8>), vec![1u8], false),
        );
    }

    #[test]
    fn a_key_of_an_unknown_type_can_be_in_any_group() {
        let mut key = WantedKey::new("0x0102", MAX);
        let own = KeyGroupRange { start: 3, end: 9 };
        assert_eq!(key.range(own, || Ok("Own".into())).unwrap(), Some(own));
        assert_eq!(key.ordered(), [1, 2]);
    }

    #[test]
    fn a_key_of_a_known_type_is_in_one_group() {
        let mut key = WantedKey::new("7", MAX);
        let group = key_group_of(7u64.hash64(), MAX).0;
        let one = KeyGroupRange { start: group, end: group + 1 };
        let range = key.range(KeyGroupRange::all(MAX), || Ok("u64".into())).unwrap();
        assert_eq!(range, Some(one));
        let unasked = || -> Result<String> { panic!("the type is known") };
        assert_eq!(key.range(KeyGroupRange { start: group + 1, end: MAX }, unasked).unwrap(), None);
    }

    #[test]
    fn other_texts_are_refused_with_the_type_and_how_to_write_it() {
        for (text, name) in [
            ("256", "u8"),
            ("x", "i64"),
            ("0x1", "Vec<u8>"),
            ("a", "Vec<u8>"),
            ("xy", "char"),
            ("[1]", "(u8, u8)"),
            ("[1, \"x\"]", "(u8, u8)"),
            ("[1, 2]", "(u8, String)"),
            ("7", "Own"),
            ("0x", "Own"),
        ] {
            let e = Place::new(text, name, MAX).unwrap_err().to_string();
            assert!(e.contains(name) && e.contains("write"), "{e}");
        }
    }
}

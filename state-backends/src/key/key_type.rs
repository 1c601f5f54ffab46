//! A key type known only by its name, as a snapshot has it: enough to read and write keys of the types that come with
//! Tidegate, without the program that wrote them.

use xxhash_rust::xxh3::xxh3_64;

use super::Key;
use crate::schema::Value;
use crate::{Error, Result};

/// How deep options and tuples may be nested in a name.
const MAX_DEPTH: usize = 16;

/// The type of a key, out of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The variants say what they are.
#[non_exhaustive]
pub enum KeyType {
    Unit,
    Bool,
    I8,
    I16,
    I32,
    I64,
    I128,
    U8,
    U16,
    U32,
    U64,
    U128,
    Char,
    String,
    /// `Vec<u8>`.
    Bytes,
    Option(Box<KeyType>),
    Tuple(Vec<KeyType>),
}

impl KeyType {
    /// The type that Rust calls `name`, without paths; `None` for types that do not come with Tidegate.
    pub fn parse(name: &str) -> Option<Self> {
        let mut rest = name;
        let parsed = parse(&mut rest, MAX_DEPTH)?;
        rest.is_empty().then_some(parsed)
    }

    /// Reads one key in ordered form from the front of `bytes` and moves `bytes` behind it.
    ///
    /// # Errors
    /// [`ErrorKind::Data`](crate::ErrorKind::Data) if `bytes` does not start with a key of this type.
    pub fn decode_ordered(&self, bytes: &mut &[u8]) -> Result<Value> {
        Ok(match self {
            Self::Unit => Value::Unit,
            Self::Bool => Value::Bool(Key::decode_ordered(bytes)?),
            Self::I8 => Value::I8(Key::decode_ordered(bytes)?),
            Self::I16 => Value::I16(Key::decode_ordered(bytes)?),
            Self::I32 => Value::I32(Key::decode_ordered(bytes)?),
            Self::I64 => Value::I64(Key::decode_ordered(bytes)?),
            Self::I128 => Value::I128(Key::decode_ordered(bytes)?),
            Self::U8 => Value::U8(Key::decode_ordered(bytes)?),
            Self::U16 => Value::U16(Key::decode_ordered(bytes)?),
            Self::U32 => Value::U32(Key::decode_ordered(bytes)?),
            Self::U64 => Value::U64(Key::decode_ordered(bytes)?),
            Self::U128 => Value::U128(Key::decode_ordered(bytes)?),
            Self::Char => Value::Char(Key::decode_ordered(bytes)?),
            Self::String => Value::String(Key::decode_ordered(bytes)?),
            Self::Bytes => Value::Bytes(Key::decode_ordered(bytes)?),
            Self::Option(inner) => match bool::decode_ordered(bytes)? {
                true => Value::Some(Box::new(inner.decode_ordered(bytes)?)),
                false => Value::None,
            },
            Self::Tuple(types) => {
                let fields = types.iter().map(|field| field.decode_ordered(bytes));
                Value::Tuple(fields.collect::<Result<_>>()?)
            }
        })
    }

    /// Appends the ordered form of a key.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the value is not one of this type.
    pub fn encode_ordered(&self, key: &Value, out: &mut Vec<u8>) -> Result<()> {
        match (self, key) {
            (Self::Unit, Value::Unit) => {}
            (Self::Bool, Value::Bool(key)) => key.encode_ordered(out),
            (Self::I8, Value::I8(key)) => key.encode_ordered(out),
            (Self::I16, Value::I16(key)) => key.encode_ordered(out),
            (Self::I32, Value::I32(key)) => key.encode_ordered(out),
            (Self::I64, Value::I64(key)) => key.encode_ordered(out),
            (Self::I128, Value::I128(key)) => key.encode_ordered(out),
            (Self::U8, Value::U8(key)) => key.encode_ordered(out),
            (Self::U16, Value::U16(key)) => key.encode_ordered(out),
            (Self::U32, Value::U32(key)) => key.encode_ordered(out),
            (Self::U64, Value::U64(key)) => key.encode_ordered(out),
            (Self::U128, Value::U128(key)) => key.encode_ordered(out),
            (Self::Char, Value::Char(key)) => key.encode_ordered(out),
            (Self::String, Value::String(key)) => key.encode_ordered(out),
            (Self::Bytes, Value::Bytes(key)) => key.encode_ordered(out),
            (Self::Option(_), Value::None) => false.encode_ordered(out),
            (Self::Option(inner), Value::Some(key)) => {
                true.encode_ordered(out);
                inner.encode_ordered(key, out)?;
            }
            (Self::Tuple(types), Value::Tuple(fields)) if types.len() == fields.len() => {
                types.iter().zip(fields).try_for_each(|(field, key)| field.encode_ordered(key, out))?;
            }
            (_, other) => {
                return Err(Error::config(format!("{} is not a key of type {self:?}", other.kind())));
            }
        }
        Ok(())
    }

    /// The [hash](Key::hash64) of a key.
    ///
    /// # Errors
    /// Those of [`encode_ordered`](Self::encode_ordered).
    pub fn hash64(&self, key: &Value) -> Result<u64> {
        match (self, key) {
            (Self::String, Value::String(key)) => Ok(key.hash64()),
            (Self::Bytes, Value::Bytes(key)) => Ok(Key::hash64(key)),
            _ => {
                let mut ordered = Vec::new();
                self.encode_ordered(key, &mut ordered)?;
                Ok(xxh3_64(&ordered))
            }
        }
    }
}

fn parse(rest: &mut &str, depth: usize) -> Option<KeyType> {
    let depth = depth.checked_sub(1)?;
    if take(rest, "()") {
        return Some(KeyType::Unit);
    }
    if take(rest, "(") {
        let mut fields = vec![parse(rest, depth)?];
        while take(rest, ", ") {
            fields.push(parse(rest, depth)?);
        }
        return (take(rest, ")") && fields.len() > 1).then_some(KeyType::Tuple(fields));
    }
    if take(rest, "Option<") {
        let inner = parse(rest, depth)?;
        return take(rest, ">").then(|| KeyType::Option(Box::new(inner)));
    }
    if take(rest, "Vec<u8>") {
        return Some(KeyType::Bytes);
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let (word, behind) = rest.split_at_checked(end)?;
    *rest = behind;
    Some(match word {
        "bool" => KeyType::Bool,
        "i8" => KeyType::I8,
        "i16" => KeyType::I16,
        "i32" => KeyType::I32,
        "i64" => KeyType::I64,
        "i128" => KeyType::I128,
        "u8" => KeyType::U8,
        "u16" => KeyType::U16,
        "u32" => KeyType::U32,
        "u64" => KeyType::U64,
        "u128" => KeyType::U128,
        "char" => KeyType::Char,
        "String" => KeyType::String,
        _ => return None,
    })
}

fn take(rest: &mut &str, text: &str) -> bool {
    rest.strip_prefix(text).map(|behind| *rest = behind).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::short_type_name;

    /// Whether the name alone leads to the same bytes and the same hash as the type.
    fn agrees<K: Key>(key: K, value: Value) {
        let by_name = KeyType::parse(&short_type_name::<K>()).unwrap();
        let (mut typed, mut named) = (Vec::new(), Vec::new());
        key.encode_ordered(&mut typed);
        by_name.encode_ordered(&value, &mut named).unwrap();
        assert_eq!(typed, named);
        assert_eq!(by_name.hash64(&value).unwrap(), key.hash64(), "{value:?}");
        typed.push(7);
        let mut rest = typed.as_slice();
        assert_eq!(by_name.decode_ordered(&mut rest).unwrap(), value);
        assert_eq!(rest, [7]);
    }

    #[test]
    fn a_name_reads_writes_and_hashes_as_its_type_does() {
        agrees((), Value::Unit);
        agrees(true, Value::Bool(true));
        agrees(-1i8, Value::I8(-1));
        agrees(-2i16, Value::I16(-2));
        agrees(i32::MIN, Value::I32(i32::MIN));
        agrees(-5i64, Value::I64(-5));
        agrees(i128::MAX, Value::I128(i128::MAX));
        agrees(200u8, Value::U8(200));
        agrees(40_000u16, Value::U16(40_000));
        agrees(7u32, Value::U32(7));
        agrees(u64::MAX, Value::U64(u64::MAX));
        agrees(u128::MAX - 1, Value::U128(u128::MAX - 1));
        agrees('é', Value::Char('é'));
        agrees("a\0b".to_owned(), Value::String("a\0b".into()));
        agrees(vec![0u8, 255, 1], Value::Bytes(vec![0, 255, 1]));
        agrees(None::<u8>, Value::None);
        agrees(
            (Some("x".to_owned()), (1u8, 'c', false)),
            Value::Tuple(vec![
                Value::Some(Box::new(Value::String("x".into()))),
                Value::Tuple(vec![Value::U8(1), Value::Char('c'), Value::Bool(false)]),
            ]),
        );
    }

    #[test]
    fn other_names_are_not_known() {
        let deep = "Option<".repeat(100_000) + "u8" + &">".repeat(100_000);
        for name in
            ["", "Strings", "User", "f64", "Vec<u16>", "(u8,)", "(u8, User)", "u8)", "Option<u8", &deep]
        {
            assert_eq!(KeyType::parse(name), None, "{}", &name[..name.len().min(20)]);
        }
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        let pair = KeyType::parse("(u8, String)").unwrap();
        for value in [Value::U8(1), Value::Tuple(vec![Value::U8(1)]), Value::Unit] {
            assert!(pair.encode_ordered(&value, &mut Vec::new()).is_err());
            assert!(pair.hash64(&value).is_err());
        }
    }
}

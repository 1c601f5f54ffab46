//! A value of any type as a tree.

use std::sync::Arc;

use serde::ser::{Serialize, SerializeMap, Serializer};

/// The name of a field or variant.
pub type Name = Arc<str>;

/// A value of any type: what bytes say, read with the schema of their writer.
///
/// It serialises as a reader expects it who does not know the type: structs as maps by field name, variants without
/// content as their name and others as a map of name and content, options as the value or nothing. A map whose keys
/// are not strings, numbers, characters or booleans is a list of pairs.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // The variants say what they are.
#[non_exhaustive]
pub enum Value {
    Unit,
    Bool(bool),
    I8(i8),
    I16(i16),
    I32(i32),
    I64(i64),
    I128(i128),
    U8(u8),
    U16(u16),
    U32(u32),
    U64(u64),
    U128(u128),
    F32(f32),
    F64(f64),
    Char(char),
    String(String),
    Bytes(Vec<u8>),
    /// An absent option.
    None,
    /// A present option.
    Some(Box<Value>),
    Seq(Vec<Value>),
    /// In the order in which it was written.
    Map(Vec<(Value, Value)>),
    /// A tuple, tuple struct or array.
    Tuple(Vec<Value>),
    Struct(Vec<(Name, Value)>),
    /// The variant of an enum and its content: [`Unit`](Value::Unit) if it has none, the value itself if it is one,
    /// otherwise a [`Tuple`](Value::Tuple) or [`Struct`](Value::Struct).
    Variant(Name, Box<Value>),
}

impl Value {
    /// What it is, for messages.
    pub(crate) fn kind(&self) -> String {
        let word = match self {
            Self::Unit => "()",
            Self::Bool(_) => "a bool",
            Self::I8(_) => "an i8",
            Self::I16(_) => "an i16",
            Self::I32(_) => "an i32",
            Self::I64(_) => "an i64",
            Self::I128(_) => "an i128",
            Self::U8(_) => "a u8",
            Self::U16(_) => "a u16",
            Self::U32(_) => "a u32",
            Self::U64(_) => "a u64",
            Self::U128(_) => "a u128",
            Self::F32(_) => "an f32",
            Self::F64(_) => "an f64",
            Self::Char(_) => "a char",
            Self::String(_) => "a string",
            Self::Bytes(_) => "bytes",
            Self::None | Self::Some(_) => "an option",
            Self::Seq(_) => "a list",
            Self::Map(_) => "a map",
            Self::Struct(_) => "a struct",
            Self::Variant(..) => "an enum",
            Self::Tuple(values) => return format!("a tuple of {}", values.len()),
        };
        word.to_owned()
    }

    /// Whether it can be the key of a map in a format like JSON.
    fn is_plain(&self) -> bool {
        !matches!(
            self,
            Self::Unit
                | Self::Bytes(_)
                | Self::F32(_)
                | Self::F64(_)
                | Self::None
                | Self::Some(_)
                | Self::Seq(_)
                | Self::Map(_)
                | Self::Tuple(_)
                | Self::Struct(_)
                | Self::Variant(..)
        )
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unit | Self::None => serializer.serialize_unit(),
            Self::Bool(v) => serializer.serialize_bool(*v),
            Self::I8(v) => serializer.serialize_i8(*v),
            Self::I16(v) => serializer.serialize_i16(*v),
            Self::I32(v) => serializer.serialize_i32(*v),
            Self::I64(v) => serializer.serialize_i64(*v),
            Self::I128(v) => serializer.serialize_i128(*v),
            Self::U8(v) => serializer.serialize_u8(*v),
            Self::U16(v) => serializer.serialize_u16(*v),
            Self::U32(v) => serializer.serialize_u32(*v),
            Self::U64(v) => serializer.serialize_u64(*v),
            Self::U128(v) => serializer.serialize_u128(*v),
            Self::F32(v) => serializer.serialize_f32(*v),
            Self::F64(v) => serializer.serialize_f64(*v),
            Self::Char(v) => serializer.serialize_char(*v),
            Self::String(v) => serializer.serialize_str(v),
            Self::Bytes(v) => serializer.serialize_bytes(v),
            Self::Some(v) => v.serialize(serializer),
            Self::Seq(values) | Self::Tuple(values) => serializer.collect_seq(values),
            Self::Map(entries) if entries.iter().all(|(key, _)| key.is_plain()) => {
                serializer.collect_map(entries.iter().map(|(key, value)| (key, value)))
            }
            Self::Map(entries) => serializer.collect_seq(entries.iter().map(|(key, value)| [key, value])),
            Self::Struct(fields) => {
                serializer.collect_map(fields.iter().map(|(name, value)| (&**name, value)))
            }
            Self::Variant(name, content) if **content == Self::Unit => serializer.serialize_str(name),
            Self::Variant(name, content) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry(&**name, content)?;
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_well_as_json() {
        let map = |key: Value| Value::Map(vec![(key, Value::U8(1))]);
        let value = Value::Struct(vec![
            ("z".into(), Value::Some(Box::new(Value::I64(-1)))),
            ("a".into(), Value::None),
            ("click".into(), Value::Variant("Click".into(), Box::new(Value::Unit))),
            ("key".into(), Value::Variant("Key".into(), Box::new(Value::Tuple(vec![Value::Char('x')])))),
            ("plain".into(), map(Value::U16(7))),
            ("pairs".into(), map(Value::Tuple(vec![Value::Bool(true), Value::U8(2)]))),
            ("big".into(), Value::U128(u128::MAX)),
            ("bytes".into(), Value::Bytes(vec![0, 255])),
        ]);
        assert_eq!(
            serde_json::to_string(&value).unwrap(),
            "{\"z\":-1,\"a\":null,\"click\":\"Click\",\"key\":{\"Key\":[\"x\"]},\"plain\":{\"7\":1},\
             \"pairs\":[[[true,2],1]],\"big\":340282366920938463463374607431768211455,\"bytes\":[0,255]}"
        );
    }
}

//! A tree to a value of a type: a deserialiser that knows the names and types of its data, so that serde's own
//! attributes (`default`, `alias`, `rename`, `other`) decide what becomes of fields and variants that have changed.
//!
//! It is strict: a number becomes another type of number only if that holds every number of the old type, and no kind
//! of value becomes another kind, except that a value may become an option of it.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::{Name, Value};

/// Reads a `T` from a tree that may have been written as another type.
pub(crate) fn project<T: DeserializeOwned>(value: Value) -> Result<T, Mismatch> {
    T::deserialize(Projection(value))
}

/// Why a tree is not a value of a type.
#[derive(Debug)]
pub(crate) struct Mismatch(Box<Inner>);

#[derive(Debug)]
struct Inner {
    message: String,
    /// Innermost first.
    path: Vec<String>,
    /// Whether only this value is refused, and another of the same shape may be accepted.
    value_only: bool,
}

impl Mismatch {
    fn new(message: String, value_only: bool) -> Self {
        Self(Box::new(Inner { message, path: Vec::new(), value_only }))
    }

    fn kinds(value: &Value, expected: &dyn Expected) -> Self {
        Self::new(format!("{} cannot be read as {expected}", value.kind()), false)
    }

    /// Adds the part of the value in which it happened.
    fn inside(mut self, part: impl Into<String>) -> Self {
        self.0.path.push(part.into());
        self
    }

    pub(crate) fn value_only(&self) -> bool {
        self.0.value_only
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.path.is_empty() {
            let path: String = self.0.path.iter().rev().map(String::as_str).collect();
            write!(f, "`{}`: ", path.trim_start_matches('.'))?;
        }
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Mismatch {}

impl serde::de::Error for Mismatch {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string(), true)
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("{found} cannot be read as {expected}"), false)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::new(format!("{length} elements cannot be read as {expected}"), false)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("there is no variant `{variant}` any more, only {}", list(expected)), false)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("there is no field `{field}` any more, only {}", list(expected)), false)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("field `{field}` is new and has no default"), false)
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(format!("two old fields are `{field}`"), false)
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { format!("`{}`", names.join("`, `")) }
}

/// The deserialiser of one value.
struct Projection(Value);

/// A value as any number: where it fits by its type, not by its size.
enum Number {
    Unsigned(u128, u32),
    Signed(i128, u32),
}

impl Value {
    fn number(&self) -> Option<Number> {
        Some(match *self {
            Self::U8(v) => Number::Unsigned(v.into(), 8),
            Self::U16(v) => Number::Unsigned(v.into(), 16),
            Self::U32(v) => Number::Unsigned(v.into(), 32),
            Self::U64(v) => Number::Unsigned(v.into(), 64),
            Self::U128(v) => Number::Unsigned(v, 128),
            Self::I8(v) => Number::Signed(v.into(), 8),
            Self::I16(v) => Number::Signed(v.into(), 16),
            Self::I32(v) => Number::Signed(v.into(), 32),
            Self::I64(v) => Number::Signed(v.into(), 64),
            Self::I128(v) => Number::Signed(v, 128),
            _ => return None,
        })
    }
}

/// A method per type of integer, which takes every integer whose type fits, whatever its value is.
macro_rules! integers {
    ($($method:ident $visit:ident $int:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            let is_signed = <$int>::MIN != 0;
            match self.0.number() {
                Some(Number::Unsigned(v, bits)) if bits <= <$int>::BITS - u32::from(is_signed) => {
                    visitor.$visit(v as $int)
                }
                Some(Number::Signed(v, bits)) if is_signed && bits <= <$int>::BITS => visitor.$visit(v as $int),
                _ => Err(Mismatch::kinds(&self.0, &visitor)),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Projection {
    type Error = Mismatch;

    integers! {
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_u128 visit_u128 u128;
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_i128 visit_i128 i128;
    }

    /// An integer of up to 16 bits has a float of 32 bits that is equal to it.
    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match (&self.0, self.0.number()) {
            (Value::F32(v), _) => visitor.visit_f32(*v),
            (_, Some(Number::Unsigned(v, ..=16))) => visitor.visit_f32(v as f32),
            (_, Some(Number::Signed(v, ..=16))) => visitor.visit_f32(v as f32),
            _ => Err(Mismatch::kinds(&self.0, &visitor)),
        }
    }

    /// An integer of up to 32 bits has a float of 64 bits that is equal to it.
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match (&self.0, self.0.number()) {
            (Value::F64(v), _) => visitor.visit_f64(*v),
            (Value::F32(v), _) => visitor.visit_f64(f64::from(*v)),
            (_, Some(Number::Unsigned(v, ..=32))) => visitor.visit_f64(v as f64),
            (_, Some(Number::Signed(v, ..=32))) => visitor.visit_f64(v as f64),
            _ => Err(Mismatch::kinds(&self.0, &visitor)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Bool(v) => visitor.visit_bool(v),
            other => Err(Mismatch::kinds(&other, &visitor)),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Char(v) => visitor.visit_char(v),
            other => Err(Mismatch::kinds(&other, &visitor)),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::String(v) => visitor.visit_string(v),
            Value::Char(v) => visitor.visit_char(v),
            other => Err(Mismatch::kinds(&other, &visitor)),
        }
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_byte_buf(visitor)
    }

    /// Bytes and a list of bytes become each other.
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Bytes(v) => visitor.visit_byte_buf(v),
            Value::Seq(values) => sequence(values, visitor),
            other => Err(Mismatch::kinds(&other, &visitor)),
        }
    }

    /// What is no option becomes one.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::None => visitor.visit_none(),
            Value::Some(v) => visitor.visit_some(Projection(*v)),
            other => visitor.visit_some(Projection(other)),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Unit => visitor.visit_unit(),
            other => Err(Mismatch::kinds(&other, &visitor)),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.deserialize_unit(visitor)
    }

    /// A newtype and its content become each other.
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    /// An array becomes a list.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Seq(values) | Value::Tuple(values) => sequence(values, visitor),
            Value::Bytes(bytes) => sequence(bytes.into_iter().map(Value::U8).collect(), visitor),
            other => Err(Mismatch::kinds(&other, &visitor)),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Tuple(values) if values.len() == length => sequence(values, visitor),
            other => Err(Mismatch::kinds(&other, &visitor)),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Map(entries) => {
                let mut access = Entries { entries: entries.into_iter(), value: None };
                visitor.visit_map(&mut access)
            }
            other => Err(Mismatch::kinds(&other, &visitor)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Struct(fields) => visitor.visit_map(Fields { fields: fields.into_iter(), value: None }),
            other => Err(Mismatch::kinds(&other, &visitor)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        match self.0 {
            Value::Variant(name, content) => visitor.visit_enum(VariantOf { name, content: *content }),
            other => Err(Mismatch::kinds(&other, &visitor)),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_string(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        Err(Mismatch::new(format!("the codecs cannot read {}", &visitor as &dyn Expected), false))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }

    /// As the codecs: types choose the same form as when they were written.
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Hands over all values, and insists that all are taken.
fn sequence<'de, V: Visitor<'de>>(values: Vec<Value>, visitor: V) -> Result<V::Value, Mismatch> {
    let mut access = Elements { values: values.into_iter().enumerate() };
    let result = visitor.visit_seq(&mut access)?;
    match access.values.len() {
        0 => Ok(result),
        left => Err(Mismatch::new(format!("{left} elements are left over"), false)),
    }
}

struct Elements {
    values: std::iter::Enumerate<std::vec::IntoIter<Value>>,
}

impl<'de> SeqAccess<'de> for &mut Elements {
    type Error = Mismatch;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Mismatch> {
        let Some((i, value)) = self.values.next() else { return Ok(None) };
        seed.deserialize(Projection(value)).map(Some).map_err(|e| e.inside(format!("[{i}]")))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.values.len())
    }
}

struct Entries {
    entries: std::vec::IntoIter<(Value, Value)>,
    value: Option<Value>,
}

impl<'de> MapAccess<'de> for &mut Entries {
    type Error = Mismatch;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Mismatch> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(Projection(key)).map(Some).map_err(|e| e.inside("[key]"))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Mismatch> {
        let value = self.value.take().ok_or_else(|| Mismatch::custom("a value is read before its key"))?;
        seed.deserialize(Projection(value)).map_err(|e| e.inside("[value]"))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

/// The fields of a struct by name.
struct Fields {
    fields: std::vec::IntoIter<(Name, Value)>,
    value: Option<(Name, Value)>,
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Mismatch;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Mismatch> {
        let Some((name, value)) = self.fields.next() else { return Ok(None) };
        let key: StrDeserializer<'_, Mismatch> = (*name).into_deserializer();
        let key = seed.deserialize(key)?;
        self.value = Some((name, value));
        Ok(Some(key))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Mismatch> {
        let field = self.value.take().ok_or_else(|| Mismatch::custom("a field is read before its name"))?;
        seed.deserialize(Projection(field.1)).map_err(|e| e.inside(format!(".{}", field.0)))
    }
}

struct VariantOf {
    name: Name,
    content: Value,
}

impl<'de> EnumAccess<'de> for VariantOf {
    type Error = Mismatch;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Mismatch> {
        let name: StrDeserializer<'_, Mismatch> = (*self.name).into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl VariantOf {
    fn expect(&self, content: &str) -> Mismatch {
        let (name, found) = (&self.name, self.content.kind());
        Mismatch::new(format!("variant `{name}` had {found} as its content and now has {content}"), false)
    }
}

impl<'de> VariantAccess<'de> for VariantOf {
    type Error = Mismatch;

    fn unit_variant(self) -> Result<(), Mismatch> {
        if self.content == Value::Unit { Ok(()) } else { Err(self.expect("none")) }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Mismatch> {
        let name = self.name;
        seed.deserialize(Projection(self.content)).map_err(|e| e.inside(format!(".{name}")))
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Mismatch> {
        let name = self.name;
        Projection(self.content).deserialize_tuple(length, visitor).map_err(|e| e.inside(format!(".{name}")))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        let name = self.name;
        Projection(self.content)
            .deserialize_struct("", fields, visitor)
            .map_err(|e| e.inside(format!(".{name}")))
    }
}

//! Bytes to a tree, led by a schema: what the codecs' own deserialisers are asked for is what the type would have
//! asked them for.

use std::cell::Cell;
use std::fmt;

use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::{Content, Schema, Shape, Value};
use crate::codec::Codec;
use crate::{Error, Result};

/// How deep values may be nested.
const MAX_DEPTH: usize = 128;

/// How many elements may take no bytes, so that a few bytes cannot announce an endless list of nothing.
const MAX_EMPTY_ELEMENTS: usize = 1 << 16;

pub(super) fn decode(schema: &Schema, codec: Codec, bytes: &[u8]) -> Result<Value> {
    let elements = Cell::new(bytes.len().saturating_add(MAX_EMPTY_ELEMENTS));
    let reading = Reading { schema, shape: &schema.root, elements: &elements, depth: MAX_DEPTH };
    codec.decode_with(reading, bytes).map_err(|e| Error::data("bytes do not fit their schema").with_source(e))
}

/// Reads one value of a shape.
#[derive(Clone, Copy)]
struct Reading<'a> {
    schema: &'a Schema,
    shape: &'a Shape,
    /// How many elements of lists and maps may still come.
    elements: &'a Cell<usize>,
    depth: usize,
}

impl<'a> Reading<'a> {
    fn of(self, shape: &'a Shape) -> Self {
        Self { shape, ..self }
    }

    fn content(&self, number: usize) -> &'a Content {
        self.schema.types.get(number).map_or(&Content::Unit, |named| &named.content)
    }

    fn element<E: serde::de::Error>(&self) -> Result<(), E> {
        match self.elements.get().checked_sub(1) {
            Some(left) => {
                self.elements.set(left);
                Ok(())
            }
            None => Err(E::custom("more elements are announced than there are bytes")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Reading<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(mut self, d: D) -> Result<Value, D::Error> {
        self.depth =
            self.depth.checked_sub(1).ok_or_else(|| D::Error::custom("values are nested too deeply"))?;
        match self.shape {
            Shape::Unit => <()>::deserialize(d).map(|()| Value::Unit),
            Shape::Bool => bool::deserialize(d).map(Value::Bool),
            Shape::I8 => i8::deserialize(d).map(Value::I8),
            Shape::I16 => i16::deserialize(d).map(Value::I16),
            Shape::I32 => i32::deserialize(d).map(Value::I32),
            Shape::I64 => i64::deserialize(d).map(Value::I64),
            Shape::I128 => i128::deserialize(d).map(Value::I128),
            Shape::U8 => u8::deserialize(d).map(Value::U8),
            Shape::U16 => u16::deserialize(d).map(Value::U16),
            Shape::U32 => u32::deserialize(d).map(Value::U32),
            Shape::U64 => u64::deserialize(d).map(Value::U64),
            Shape::U128 => u128::deserialize(d).map(Value::U128),
            Shape::F32 => f32::deserialize(d).map(Value::F32),
            Shape::F64 => f64::deserialize(d).map(Value::F64),
            Shape::Char => char::deserialize(d).map(Value::Char),
            Shape::String => String::deserialize(d).map(Value::String),
            Shape::Bytes => d.deserialize_byte_buf(Tree(self)),
            Shape::Option(_) => d.deserialize_option(Tree(self)),
            Shape::Seq(_) => d.deserialize_seq(Tree(self)),
            Shape::Map(..) => d.deserialize_map(Tree(self)),
            Shape::Tuple(shapes) => d.deserialize_tuple(shapes.len(), Tree(self)),
            Shape::Array(_, count) => d.deserialize_tuple(*count, Tree(self)),
            Shape::Named(number) => match self.content(*number) {
                Content::Unit => Ok(Value::Unit),
                Content::Newtype(inner) => self.of(inner).deserialize(d),
                Content::Tuple(shapes) => d.deserialize_tuple(shapes.len(), Tree(self)),
                Content::Struct(fields) => d.deserialize_tuple(fields.len(), Tree(self)),
                Content::Enum(_) => d.deserialize_enum("", &[], Tree(self)),
            },
            Shape::Opaque(name) => Err(D::Error::custom(format!("the shape of {name} is not known"))),
        }
    }
}

/// Builds what one shape is made of.
struct Tree<'a>(Reading<'a>);

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what its schema says")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(bytes.to_vec()))
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Value, E> {
        Ok(Value::Bytes(bytes))
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::None)
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        match self.0.shape {
            Shape::Option(inner) => self.0.of(inner).deserialize(d).map(|value| Value::Some(Box::new(value))),
            _ => Err(D::Error::custom("an option was not expected")),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let reading = self.0;
        match reading.shape {
            Shape::Seq(inner) => {
                let mut values = Vec::new();
                while let Some(value) = seq.next_element_seed(reading.of(inner))? {
                    reading.element()?;
                    values.push(value);
                }
                Ok(Value::Seq(values))
            }
            Shape::Tuple(shapes) => all(reading, shapes.iter(), &mut seq).map(Value::Tuple),
            Shape::Array(inner, count) => {
                all(reading, std::iter::repeat_n(&**inner, *count), &mut seq).map(Value::Tuple)
            }
            Shape::Named(number) => fields(reading, reading.content(*number), &mut seq),
            _ => Err(A::Error::custom("a sequence was not expected")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let Shape::Map(key_shape, value_shape) = self.0.shape else {
            return Err(A::Error::custom("a map was not expected"));
        };
        let mut entries = Vec::new();
        while let Some(key) = map.next_key_seed(self.0.of(key_shape))? {
            self.0.element()?;
            entries.push((key, map.next_value_seed(self.0.of(value_shape))?));
        }
        Ok(Value::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Value, A::Error> {
        let reading = self.0;
        let Shape::Named(number) = reading.shape else {
            return Err(A::Error::custom("an enum was not expected"));
        };
        let Content::Enum(variants) = reading.content(*number) else {
            return Err(A::Error::custom("an enum was not expected"));
        };
        let (index, access) = data.variant::<u32>()?;
        let variant = variants.get(index as usize).ok_or_else(|| {
            A::Error::custom(format!("there are {} variants, the value has number {index}", variants.len()))
        })?;
        let content = match &variant.content {
            Content::Unit | Content::Enum(_) => access.unit_variant().map(|()| Value::Unit),
            Content::Newtype(inner) => access.newtype_variant_seed(reading.of(inner)),
            Content::Tuple(shapes) => access.tuple_variant(shapes.len(), Payload(reading, &variant.content)),
            // Only the number of the names is looked at; it is that of the static names of a type.
            Content::Struct(fields) => access.tuple_variant(fields.len(), Payload(reading, &variant.content)),
        }?;
        Ok(Value::Variant(variant.name.clone(), Box::new(content)))
    }
}

/// Builds the content of a tuple variant or struct variant.
struct Payload<'a>(Reading<'a>, &'a Content);

impl<'de> Visitor<'de> for Payload<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the content of a variant")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        fields(self.0, self.1, &mut seq)
    }
}

fn fields<'de, A: SeqAccess<'de>>(
    reading: Reading<'_>,
    content: &Content,
    seq: &mut A,
) -> Result<Value, A::Error> {
    match content {
        Content::Tuple(shapes) => all(reading, shapes.iter(), seq).map(Value::Tuple),
        Content::Struct(fields) => {
            let values = all(reading, fields.iter().map(|(_, shape)| shape), seq)?;
            Ok(Value::Struct(fields.iter().map(|(name, _)| name.clone()).zip(values).collect()))
        }
        _ => Err(A::Error::custom("fields were not expected")),
    }
}

fn all<'de, 's, A: SeqAccess<'de>>(
    reading: Reading<'_>,
    shapes: impl Iterator<Item = &'s Shape>,
    seq: &mut A,
) -> Result<Vec<Value>, A::Error> {
    let mut values = Vec::new();
    for shape in shapes {
        reading.element()?;
        let next = seq.next_element_seed(Reading { shape, ..reading })?;
        values.push(next.ok_or_else(|| A::Error::custom("a field is missing"))?);
    }
    Ok(values)
}

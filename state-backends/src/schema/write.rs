//! A tree to bytes, led by a schema: the codecs' own serialisers are told what the type would have told them.

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeTuple, SerializeTupleVariant, Serializer,
};

use super::{Content, Schema, Shape, Value};
use crate::Result;
use crate::codec::Codec;

pub(super) fn encode(schema: &Schema, codec: Codec, value: &Value, out: &mut Vec<u8>) -> Result<()> {
    codec.encode(&Writing { schema, shape: &schema.root, value }, out)
}

/// A value about to be written in a shape.
struct Writing<'a> {
    schema: &'a Schema,
    shape: &'a Shape,
    value: &'a Value,
}

impl<'a> Writing<'a> {
    fn of(&self, shape: &'a Shape, value: &'a Value) -> Self {
        Self { schema: self.schema, shape, value }
    }

    fn mismatch<S: Serializer>(&self) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom(format!("{} does not fit the schema", self.value.kind())))
    }

    fn tuple<S: Serializer>(
        &self,
        serializer: S,
        shapes: impl ExactSizeIterator<Item = &'a Shape>,
        values: impl ExactSizeIterator<Item = &'a Value>,
    ) -> Result<S::Ok, S::Error> {
        if shapes.len() != values.len() {
            return self.mismatch::<S>();
        }
        let mut tuple = serializer.serialize_tuple(shapes.len())?;
        for (shape, value) in shapes.zip(values) {
            tuple.serialize_element(&self.of(shape, value))?;
        }
        tuple.end()
    }

    fn content<S: Serializer>(&self, serializer: S, content: &'a Content) -> Result<S::Ok, S::Error> {
        match (content, self.value) {
            (Content::Unit, Value::Unit) => serializer.serialize_unit(),
            (Content::Newtype(shape), value) => self.of(shape, value).serialize(serializer),
            (Content::Tuple(shapes), Value::Tuple(values)) => {
                self.tuple(serializer, shapes.iter(), values.iter())
            }
            (Content::Struct(fields), Value::Struct(values)) if same_names(fields, values) => {
                self.tuple(serializer, fields.iter().map(|(_, s)| s), values.iter().map(|(_, v)| v))
            }
            (Content::Enum(variants), Value::Variant(name, value)) => {
                let found = variants.iter().enumerate().find(|(_, variant)| variant.name == *name);
                let Some((index, variant)) = found else { return self.mismatch::<S>() };
                self.of(self.shape, value).variant(serializer, index as u32, &variant.content)
            }
            _ => self.mismatch::<S>(),
        }
    }

    fn variant<S: Serializer>(
        &self,
        serializer: S,
        index: u32,
        content: &'a Content,
    ) -> Result<S::Ok, S::Error> {
        let (shapes, values): (Vec<_>, Vec<_>) = match (content, self.value) {
            (Content::Unit, Value::Unit) => return serializer.serialize_unit_variant("", index, ""),
            (Content::Newtype(shape), value) => {
                return serializer.serialize_newtype_variant("", index, "", &self.of(shape, value));
            }
            (Content::Tuple(shapes), Value::Tuple(values)) if shapes.len() == values.len() => {
                (shapes.iter().collect(), values.iter().collect())
            }
            (Content::Struct(fields), Value::Struct(values)) if same_names(fields, values) => {
                (fields.iter().map(|(_, s)| s).collect(), values.iter().map(|(_, v)| v).collect())
            }
            _ => return self.mismatch::<S>(),
        };
        let mut variant = serializer.serialize_tuple_variant("", index, "", shapes.len())?;
        for (shape, value) in shapes.into_iter().zip(values) {
            variant.serialize_field(&self.of(shape, value))?;
        }
        variant.end()
    }
}

fn same_names(fields: &[(super::Name, Shape)], values: &[(super::Name, Value)]) -> bool {
    fields.len() == values.len() && fields.iter().zip(values).all(|((name, _), (other, _))| name == other)
}

impl Serialize for Writing<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.shape, self.value) {
            (Shape::Unit, Value::Unit) => serializer.serialize_unit(),
            (Shape::Bool, Value::Bool(v)) => serializer.serialize_bool(*v),
            (Shape::I8, Value::I8(v)) => serializer.serialize_i8(*v),
            (Shape::I16, Value::I16(v)) => serializer.serialize_i16(*v),
            (Shape::I32, Value::I32(v)) => serializer.serialize_i32(*v),
            (Shape::I64, Value::I64(v)) => serializer.serialize_i64(*v),
            (Shape::I128, Value::I128(v)) => serializer.serialize_i128(*v),
            (Shape::U8, Value::U8(v)) => serializer.serialize_u8(*v),
            (Shape::U16, Value::U16(v)) => serializer.serialize_u16(*v),
            (Shape::U32, Value::U32(v)) => serializer.serialize_u32(*v),
            (Shape::U64, Value::U64(v)) => serializer.serialize_u64(*v),
            (Shape::U128, Value::U128(v)) => serializer.serialize_u128(*v),
            (Shape::F32, Value::F32(v)) => serializer.serialize_f32(*v),
            (Shape::F64, Value::F64(v)) => serializer.serialize_f64(*v),
            (Shape::Char, Value::Char(v)) => serializer.serialize_char(*v),
            (Shape::String, Value::String(v)) => serializer.serialize_str(v),
            (Shape::Bytes, Value::Bytes(v)) => serializer.serialize_bytes(v),
            (Shape::Option(_), Value::None) => serializer.serialize_none(),
            (Shape::Option(shape), Value::Some(v)) => serializer.serialize_some(&self.of(shape, v)),
            (Shape::Seq(shape), Value::Seq(values)) => {
                let mut seq = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    seq.serialize_element(&self.of(shape, value))?;
                }
                seq.end()
            }
            (Shape::Map(key_shape, value_shape), Value::Map(entries)) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(&self.of(key_shape, key), &self.of(value_shape, value))?;
                }
                map.end()
            }
            (Shape::Tuple(shapes), Value::Tuple(values)) => {
                self.tuple(serializer, shapes.iter(), values.iter())
            }
            (Shape::Array(shape, count), Value::Tuple(values)) => {
                self.tuple(serializer, (0..*count).map(|_| &**shape), values.iter())
            }
            (Shape::Named(number), _) => match self.schema.types.get(*number) {
                Some(named) => self.content(serializer, &named.content),
                None => self.mismatch::<S>(),
            },
            _ => self.mismatch::<S>(),
        }
    }
}

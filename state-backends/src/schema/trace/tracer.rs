//! The deserialiser that answers everything with made-up values and notes what it was asked for.

use std::any::type_name;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::{Exploration, Trace, opaque_name, unreadable};
use crate::schema::samples::{BYTE_LENGTHS, CHARS, NUMBERS, STRINGS};
use crate::schema::text::MAX_ARRAY;
use crate::schema::{Content, Name, Shape};

/// A pass has failed; the trace knows why.
#[derive(Debug)]
pub(super) struct Fault;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a made-up value was rejected")
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl Trace {
    /// Makes one value and notes its shape.
    pub(super) fn seed<'de, S: DeserializeSeed<'de>>(
        &mut self,
        shape: &mut Shape,
        seed: S,
        candidate: usize,
        smallest: bool,
    ) -> Result<S::Value, Fault> {
        let key = type_name::<S::Value>();
        if self.opaque.contains(key) {
            *shape = Shape::Opaque(opaque_name(key));
            self.is_hopeless = true;
            return Err(Fault);
        }
        let candidate = self.candidate(key, candidate);
        self.sites.push(key);
        let result = seed.deserialize(Tracer { trace: self, shape, candidate, smallest });
        if result.is_ok() {
            self.sites.pop();
        } else if self.blame(key) {
            self.opaque.insert(key);
        }
        result
    }

    fn cannot_be_read<T>(&mut self, whole: &str, why: &str) -> Result<T, Fault> {
        self.is_blamed = true;
        let reason = unreadable(&self.sites, whole, why);
        self.unreadable.get_or_insert(reason);
        Err(Fault)
    }
}

/// Makes one value.
struct Tracer<'t> {
    trace: &'t mut Trace,
    shape: &'t mut Shape,
    /// The set of made-up values.
    candidate: usize,
    /// Whether the value has to be the smallest there is.
    smallest: bool,
}

impl Tracer<'_> {
    /// Makes the elements of a tuple or the fields of a struct.
    fn elements<'de, V: Visitor<'de>>(
        &mut self,
        length: usize,
        smallest: bool,
        visitor: V,
    ) -> Result<(V::Value, Vec<Shape>), Fault> {
        let mut shapes = Vec::new();
        let value = visitor.visit_seq(Elements {
            trace: self.trace,
            shapes: &mut shapes,
            length,
            candidate: self.candidate,
            smallest,
        })?;
        Ok((value, shapes))
    }

    /// Makes a struct of any kind, whose content `make` makes and describes.
    fn named<R>(
        mut self,
        key: &'static str,
        name: &str,
        make: impl FnOnce(&mut Self, bool) -> Result<(R, Content), Fault>,
    ) -> Result<R, Fault> {
        let (number, smallest) = self.trace.enter(key, name, self.smallest)?;
        *self.shape = Shape::Named(number);
        let made = make(&mut self, smallest);
        self.trace.leave(smallest);
        let (value, content) = made?;
        if self.trace.learn(number, content) {
            return Ok(value);
        }
        // What it holds depends on the values: no schema says that.
        self.trace.is_hopeless = true;
        Err(Fault)
    }
}

/// Numbers of the set of made-up values.
macro_rules! numbers {
    ($($method:ident $visit:ident $shape:ident $number:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            *self.shape = Shape::$shape;
            visitor.$visit(NUMBERS[self.candidate] as $number)
        }
    )*};
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Fault;

    numbers! {
        deserialize_u8 visit_u8 U8 u8;
        deserialize_u16 visit_u16 U16 u16;
        deserialize_u32 visit_u32 U32 u32;
        deserialize_u64 visit_u64 U64 u64;
        deserialize_u128 visit_u128 U128 u128;
        deserialize_i8 visit_i8 I8 i8;
        deserialize_i16 visit_i16 I16 i16;
        deserialize_i32 visit_i32 I32 i32;
        deserialize_i64 visit_i64 I64 i64;
        deserialize_i128 visit_i128 I128 i128;
        deserialize_f32 visit_f32 F32 f32;
        deserialize_f64 visit_f64 F64 f64;
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        *self.shape = Shape::Bool;
        visitor.visit_bool(self.candidate % 2 == 1)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        *self.shape = Shape::Char;
        visitor.visit_char(CHARS[self.candidate])
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        *self.shape = Shape::String;
        visitor.visit_string(STRINGS[self.candidate].to_owned())
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_byte_buf(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        *self.shape = Shape::Bytes;
        visitor.visit_byte_buf(vec![0; BYTE_LENGTHS[self.candidate]])
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let key = type_name::<V::Value>();
        if self.trace.hollow.contains(key) {
            *self.shape = Shape::Option(Box::new(Shape::Opaque(opaque_name(key))));
            return visitor.visit_none();
        }
        if self.smallest {
            *self.shape = Shape::Option(Box::new(Shape::unknown()));
            return visitor.visit_none();
        }
        let mut shape = Shape::unknown();
        let candidate = self.trace.candidate(key, self.candidate);
        let inner = Tracer { trace: &mut *self.trace, shape: &mut shape, candidate, smallest: false };
        let result = visitor.visit_some(inner);
        if result.is_err() && self.trace.blame(key) {
            self.trace.hollow.insert(key);
        }
        *self.shape = Shape::Option(Box::new(shape));
        result
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        *self.shape = Shape::Unit;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.named(type_name::<V::Value>(), name, |_, _| Ok((visitor.visit_unit()?, Content::Unit)))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.named(type_name::<V::Value>(), name, |this, smallest| {
            let mut shape = Shape::unknown();
            let (trace, candidate) = (&mut *this.trace, this.candidate);
            let value =
                visitor.visit_newtype_struct(Tracer { trace, shape: &mut shape, candidate, smallest })?;
            Ok((value, Content::Newtype(shape)))
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let mut shape = Shape::unknown();
        let (trace, candidate) = (self.trace, self.candidate);
        let left = usize::from(!self.smallest);
        let result = visitor.visit_seq(OneElement { trace, shape: &mut shape, left, candidate });
        *self.shape = Shape::Seq(Box::new(shape));
        result
    }

    fn deserialize_tuple<V: Visitor<'de>>(mut self, length: usize, visitor: V) -> Result<V::Value, Fault> {
        let smallest = self.smallest;
        let (value, shapes) = self.elements(length, smallest, visitor)?;
        *self.shape = Shape::tuple(shapes);
        Ok(value)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.named(type_name::<V::Value>(), name, |this, smallest| {
            let (value, shapes) = this.elements(length, smallest, visitor)?;
            Ok((value, Content::Tuple(shapes)))
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let (mut key, mut value) = (Shape::unknown(), Shape::unknown());
        let (trace, candidate) = (self.trace, self.candidate);
        let left = usize::from(!self.smallest);
        let access = OneEntry { trace, key: &mut key, value: &mut value, left, candidate };
        let result = visitor.visit_map(access);
        *self.shape = Shape::Map(Box::new(key), Box::new(value));
        result
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.named(type_name::<V::Value>(), name, |this, smallest| {
            let (value, shapes) = this.elements(fields.len(), smallest, visitor)?;
            Ok((value, struct_content(fields, shapes)))
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let key = type_name::<V::Value>();
        let (number, smallest) = self.trace.enter(key, name, self.smallest)?;
        *self.shape = Shape::Named(number);
        let traced = &mut self.trace.types[number];
        if !std::mem::replace(&mut traced.is_known, true) {
            traced.named.content = Content::Enum(Vec::new());
            traced.variants = vec![Exploration::Unseen; variants.len()];
        }
        let Some(index) = self.trace.choose(number, smallest) else {
            if smallest {
                self.trace.try_another_ending();
            } else {
                self.trace.is_hopeless = true;
            }
            return Err(Fault);
        };
        if let (true, Some((_, choice))) = (smallest, self.trace.smallest.last_mut()) {
            *choice = Some(index);
        }
        let (mut content, mut exists) = (Content::Unit, false);
        let candidate = self.trace.candidate(key, self.candidate);
        let access = OneVariant {
            trace: &mut *self.trace,
            content: &mut content,
            exists: &mut exists,
            index: index as u32,
            candidate,
            smallest,
        };
        let result = visitor.visit_enum(access);
        let trace = self.trace;
        trace.leave(smallest);
        if result.is_ok() {
            let state = if smallest { Exploration::Unseen } else { Exploration::Seen };
            if trace.learn_variant(number, index, content, state, variants) {
                return result;
            }
            trace.is_hopeless = true;
        } else if !exists {
            // The names that are left are aliases.
            trace.types[number].variants.truncate(index);
            trace.is_blamed = true;
        } else if trace.is_hopeless && !std::mem::replace(&mut trace.is_blamed, true) {
            let opaque = match content {
                Content::Newtype(shape @ Shape::Opaque(_)) => shape,
                _ => Shape::unknown(),
            };
            trace.learn_variant(number, index, Content::Newtype(opaque), Exploration::Dead, variants);
        }
        Err(Fault)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        self.trace
            .cannot_be_read(type_name::<V::Value>(), "is read by names (#[serde(flatten)] or #[serde(tag)]?)")
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        self.trace.cannot_be_read(
            type_name::<V::Value>(),
            "asks the format for its type (#[serde(untagged)], #[serde(tag)], or a value of any type?)",
        )
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_any(visitor)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Names as the type gives them, or numbers if some of them are aliases. The observer finds the right ones.
fn struct_content(fields: &[&str], shapes: Vec<Shape>) -> Content {
    let is_plain = fields.len() == shapes.len();
    let name = |i: usize| {
        fields.get(i).filter(|_| is_plain).map_or_else(|| i.to_string().into(), |n| Name::from(*n))
    };
    Content::Struct(shapes.into_iter().enumerate().map(|(i, shape)| (name(i), shape)).collect())
}

/// The elements of a tuple, or as many fields of a struct as the type takes.
struct Elements<'t> {
    trace: &'t mut Trace,
    shapes: &'t mut Vec<Shape>,
    length: usize,
    candidate: usize,
    smallest: bool,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        if self.length > MAX_ARRAY {
            self.trace.is_hopeless = true;
            return Err(Fault);
        }
        if self.shapes.len() == self.length {
            return Ok(None);
        }
        let mut shape = Shape::unknown();
        let value = self.trace.seed(&mut shape, seed, self.candidate, self.smallest)?;
        self.shapes.push(shape);
        Ok(Some(value))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.length - self.shapes.len().min(self.length))
    }
}

/// A list of one element, or of none.
struct OneElement<'t> {
    trace: &'t mut Trace,
    shape: &'t mut Shape,
    left: usize,
    candidate: usize,
}

impl<'de> SeqAccess<'de> for OneElement<'_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let key = type_name::<S::Value>();
        if self.left == 0 {
            return Ok(None);
        }
        self.left = 0;
        if self.trace.opaque.contains(key) {
            *self.shape = Shape::Opaque(opaque_name(key));
            return Ok(None);
        }
        self.trace.seed(self.shape, seed, self.candidate, false).map(Some)
    }
}

/// A map of one entry, or of none.
struct OneEntry<'t> {
    trace: &'t mut Trace,
    key: &'t mut Shape,
    value: &'t mut Shape,
    left: usize,
    candidate: usize,
}

impl<'de> MapAccess<'de> for OneEntry<'_> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left = 0;
        self.trace.seed(self.key, seed, self.candidate, false).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        self.trace.seed(self.value, seed, self.candidate, false)
    }
}

/// The variant with a number.
struct OneVariant<'t> {
    trace: &'t mut Trace,
    content: &'t mut Content,
    /// Set once the type accepts the number.
    exists: &'t mut bool,
    index: u32,
    candidate: usize,
    smallest: bool,
}

impl<'de> EnumAccess<'de> for OneVariant<'_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Fault> {
        let value = seed.deserialize(IntoDeserializer::<Fault>::into_deserializer(self.index))?;
        *self.exists = true;
        Ok((value, self))
    }
}

impl OneVariant<'_> {
    fn elements<'de, V: Visitor<'de>>(
        &mut self,
        length: usize,
        visitor: V,
    ) -> Result<(V::Value, Vec<Shape>), Fault> {
        let mut shape = Shape::unknown();
        let (trace, candidate, smallest) = (&mut *self.trace, self.candidate, self.smallest);
        Tracer { trace, shape: &mut shape, candidate, smallest }.elements(length, smallest, visitor)
    }
}

impl<'de> VariantAccess<'de> for OneVariant<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        let mut shape = Shape::unknown();
        let result = self.trace.seed(&mut shape, seed, self.candidate, self.smallest);
        *self.content = Content::Newtype(shape);
        result
    }

    fn tuple_variant<V: Visitor<'de>>(mut self, length: usize, visitor: V) -> Result<V::Value, Fault> {
        let (value, shapes) = self.elements(length, visitor)?;
        *self.content = Content::Tuple(shapes);
        Ok(value)
    }

    fn struct_variant<V: Visitor<'de>>(
        mut self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let (value, shapes) = self.elements(fields.len(), visitor)?;
        *self.content = struct_content(fields, shapes);
        Ok(value)
    }
}

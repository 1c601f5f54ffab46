//! Watches a value being serialised: learns the names that are written, which only `Serialize` knows, and finds
//! where something else is written than the schema, traced through `Deserialize`, expects to be read.

use std::fmt;

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::{Content, NamedType, Schema, Shape};

/// Puts the names that `value` writes into the schema; an error says where what it writes is not what the schema
/// says.
pub(super) fn observe<T: Serialize>(schema: &mut Schema, value: &T) -> Result<(), String> {
    let Schema { root, types } = schema;
    value.serialize(Observer { types, shape: root.clone() }).map_err(|Disagreement(reason)| reason)
}

#[derive(Debug)]
struct Disagreement(String);

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Disagreement {}

impl serde::ser::Error for Disagreement {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

type Observed = Result<(), Disagreement>;

struct Observer<'a> {
    types: &'a mut Vec<NamedType>,
    shape: Shape,
}

/// What a compound writes.
enum Parts {
    /// Nobody knows.
    Any,
    /// Any number of the same.
    Same(Shape),
    Entries(Shape, Shape),
    /// These, one after the other.
    Each(std::vec::IntoIter<Shape>),
}

struct Compound<'a> {
    types: &'a mut Vec<NamedType>,
    parts: Parts,
    /// The number of a struct and, of an enum, of the variant, whose field names are learned.
    named: Option<(usize, Option<usize>)>,
    written: usize,
}

impl<'a> Observer<'a> {
    fn disagree<R>(&self, written: &str) -> Result<R, Disagreement> {
        let Self { types, shape } = self;
        let read = match shape {
            Shape::Named(number) => format!("`{}`", types[*number].name),
            shape => Schema { root: shape.clone(), types: types.to_vec() }.to_string(),
        };
        Err(Disagreement(format!("it writes {written} where it reads {read}")))
    }

    fn primitive(self, shape: Shape, written: &str) -> Observed {
        if matches!(self.shape, Shape::Opaque(_)) || self.shape == shape {
            Ok(())
        } else {
            self.disagree(written)
        }
    }

    fn compound(self, parts: Parts) -> Compound<'a> {
        Compound { types: self.types, parts, named: None, written: 0 }
    }

    /// A struct of any kind: its name is learned, its content watched.
    fn named(self, name: &str, written: &str) -> Result<(Self, Option<(usize, Content)>), Disagreement> {
        match self.shape {
            Shape::Opaque(_) => Ok((self, None)),
            Shape::Named(number) if !matches!(self.types[number].content, Content::Enum(_)) => {
                name.clone_into(&mut self.types[number].name);
                let content = self.types[number].content.clone();
                Ok((self, Some((number, content))))
            }
            _ => self.disagree(written),
        }
    }

    /// A variant of an enum: the names are learned.
    fn variant(
        self,
        name: &str,
        index: u32,
        variant: &str,
    ) -> Result<(Self, Option<(usize, Content)>), Disagreement> {
        let Shape::Named(number) = self.shape else {
            let opaque = matches!(self.shape, Shape::Opaque(_));
            return if opaque { Ok((self, None)) } else { self.disagree("an enum") };
        };
        let named = &mut self.types[number];
        let Content::Enum(variants) = &mut named.content else { return self.disagree("an enum") };
        let Some(known) = variants.get_mut(index as usize) else {
            return Err(Disagreement(format!(
                "it writes variant `{variant}` of `{name}` as number {index} and does not read that"
            )));
        };
        known.name = variant.into();
        let content = known.content.clone();
        name.clone_into(&mut named.name);
        Ok((self, Some((number, content))))
    }
}

/// Primitives are written as they are read.
macro_rules! primitives {
    ($($method:ident $shape:ident $value:ty;)*) => {$(
        fn $method(self, _: $value) -> Observed {
            self.primitive(Shape::$shape, stringify!($value))
        }
    )*};
}

impl<'a> Serializer for Observer<'a> {
    type Ok = ();
    type Error = Disagreement;
    type SerializeSeq = Compound<'a>;
    type SerializeTuple = Compound<'a>;
    type SerializeTupleStruct = Compound<'a>;
    type SerializeTupleVariant = Compound<'a>;
    type SerializeMap = Compound<'a>;
    type SerializeStruct = Compound<'a>;
    type SerializeStructVariant = Compound<'a>;

    primitives! {
        serialize_bool Bool bool;
        serialize_i8 I8 i8;
        serialize_i16 I16 i16;
        serialize_i32 I32 i32;
        serialize_i64 I64 i64;
        serialize_i128 I128 i128;
        serialize_u8 U8 u8;
        serialize_u16 U16 u16;
        serialize_u32 U32 u32;
        serialize_u64 U64 u64;
        serialize_u128 U128 u128;
        serialize_f32 F32 f32;
        serialize_f64 F64 f64;
        serialize_char Char char;
        serialize_str String &str;
        serialize_bytes Bytes &[u8];
    }

    fn serialize_none(self) -> Observed {
        match self.shape {
            Shape::Option(_) | Shape::Opaque(_) => Ok(()),
            _ => self.disagree("an option"),
        }
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Observed {
        match self.shape {
            Shape::Option(inner) => value.serialize(Observer { types: self.types, shape: *inner }),
            Shape::Opaque(_) => Ok(()),
            _ => self.disagree("an option"),
        }
    }

    fn serialize_unit(self) -> Observed {
        self.primitive(Shape::Unit, "()")
    }

    fn serialize_unit_struct(self, name: &'static str) -> Observed {
        match self.named(name, "a struct without fields")? {
            (_, None | Some((_, Content::Unit))) => Ok(()),
            (this, _) => this.disagree("a struct without fields"),
        }
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Observed {
        match self.named(name, "a newtype")? {
            (this, Some((_, Content::Newtype(shape)))) => {
                value.serialize(Observer { types: this.types, shape })
            }
            (_, None) => Ok(()),
            (this, _) => this.disagree("a newtype"),
        }
    }

    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Observed {
        match self.variant(name, index, variant)? {
            (_, None | Some((_, Content::Unit))) => Ok(()),
            (this, _) => this.disagree("a variant without content"),
        }
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Observed {
        match self.variant(name, index, variant)? {
            (this, Some((_, Content::Newtype(shape)))) => {
                value.serialize(Observer { types: this.types, shape })
            }
            (_, None) => Ok(()),
            (this, _) => this.disagree("a variant of one value"),
        }
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Compound<'a>, Disagreement> {
        let parts = match &self.shape {
            Shape::Seq(inner) if length.is_some() => Parts::Same((**inner).clone()),
            Shape::Opaque(_) => Parts::Any,
            _ => return self.disagree("a list"),
        };
        Ok(self.compound(parts))
    }

    fn serialize_tuple(self, length: usize) -> Result<Compound<'a>, Disagreement> {
        let parts = match &self.shape {
            Shape::Tuple(shapes) if shapes.len() == length => Parts::Each(shapes.clone().into_iter()),
            Shape::Array(inner, count) if *count == length => Parts::Same((**inner).clone()),
            Shape::Opaque(_) => Parts::Any,
            _ => return self.disagree("a tuple"),
        };
        Ok(self.compound(parts))
    }

    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Compound<'a>, Disagreement> {
        match self.named(name, "a tuple struct")? {
            (this, None) => Ok(this.compound(Parts::Any)),
            (this, Some((_, Content::Tuple(shapes)))) => Ok(this.compound(Parts::Each(shapes.into_iter()))),
            (this, _) => this.disagree("a tuple struct"),
        }
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Compound<'a>, Disagreement> {
        match self.variant(name, index, variant)? {
            (this, None) => Ok(this.compound(Parts::Any)),
            (this, Some((_, Content::Tuple(shapes)))) => Ok(this.compound(Parts::Each(shapes.into_iter()))),
            (this, Some((_, Content::Newtype(Shape::Opaque(_))))) => Ok(this.compound(Parts::Any)),
            (this, _) => this.disagree("a variant of several values"),
        }
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Compound<'a>, Disagreement> {
        let parts = match &self.shape {
            Shape::Map(key, value) if length.is_some() => Parts::Entries((**key).clone(), (**value).clone()),
            Shape::Opaque(_) => Parts::Any,
            _ => return self.disagree("a map"),
        };
        Ok(self.compound(parts))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Compound<'a>, Disagreement> {
        match self.named(name, "a struct with fields")? {
            (this, None) => Ok(this.compound(Parts::Any)),
            (this, Some((number, Content::Struct(fields)))) => {
                let shapes: Vec<Shape> = fields.into_iter().map(|(_, shape)| shape).collect();
                let mut compound = this.compound(Parts::Each(shapes.into_iter()));
                compound.named = Some((number, None));
                Ok(compound)
            }
            (this, _) => this.disagree("a struct with fields"),
        }
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Compound<'a>, Disagreement> {
        match self.variant(name, index, variant)? {
            (this, None | Some((_, Content::Newtype(Shape::Opaque(_))))) => Ok(this.compound(Parts::Any)),
            (this, Some((number, Content::Struct(fields)))) => {
                let shapes: Vec<Shape> = fields.into_iter().map(|(_, shape)| shape).collect();
                let mut compound = this.compound(Parts::Each(shapes.into_iter()));
                compound.named = Some((number, Some(index as usize)));
                Ok(compound)
            }
            (this, _) => this.disagree("a variant with fields"),
        }
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

impl Compound<'_> {
    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Observed {
        let shape = match &mut self.parts {
            Parts::Any => return Ok(()),
            Parts::Same(shape) | Parts::Entries(_, shape) => shape.clone(),
            Parts::Each(shapes) => {
                shapes.next().ok_or_else(|| Disagreement("it writes more fields than it reads".into()))?
            }
        };
        self.written += 1;
        value.serialize(Observer { types: &mut *self.types, shape })
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Observed {
        if let Some((number, variant)) = self.named {
            let content = match (&mut self.types[number].content, variant) {
                (Content::Enum(variants), Some(variant)) => &mut variants[variant].content,
                (content, _) => content,
            };
            if let Content::Struct(fields) = content
                && let Some((known, _)) = fields.get_mut(self.written)
            {
                *known = name.into();
            }
        }
        self.part(value).map_err(|Disagreement(reason)| Disagreement(format!("field `{name}`: {reason}")))
    }

    fn skipped(&self, name: &'static str) -> Observed {
        Err(Disagreement(format!(
            "it leaves out field `{name}` of some values (#[serde(skip_serializing_if)])"
        )))
    }

    fn finish(self) -> Observed {
        match self.parts {
            Parts::Each(left) if left.len() > 0 => {
                Err(Disagreement(format!("it writes {} fields fewer than it reads", left.len())))
            }
            _ => Ok(()),
        }
    }
}

impl SerializeSeq for Compound<'_> {
    type Ok = ();
    type Error = Disagreement;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Observed {
        self.part(value)
    }

    fn end(self) -> Observed {
        self.finish()
    }
}

impl SerializeTuple for Compound<'_> {
    type Ok = ();
    type Error = Disagreement;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Observed {
        self.part(value)
    }

    fn end(self) -> Observed {
        self.finish()
    }
}

impl SerializeTupleStruct for Compound<'_> {
    type Ok = ();
    type Error = Disagreement;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Observed {
        self.part(value)
    }

    fn end(self) -> Observed {
        self.finish()
    }
}

impl SerializeTupleVariant for Compound<'_> {
    type Ok = ();
    type Error = Disagreement;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Observed {
        self.part(value)
    }

    fn end(self) -> Observed {
        self.finish()
    }
}

impl SerializeMap for Compound<'_> {
    type Ok = ();
    type Error = Disagreement;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Observed {
        let Parts::Entries(shape, _) = &self.parts else { return Ok(()) };
        key.serialize(Observer { types: &mut *self.types, shape: shape.clone() })
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Observed {
        self.part(value)
    }

    fn end(self) -> Observed {
        self.finish()
    }
}

impl SerializeStruct for Compound<'_> {
    type Ok = ();
    type Error = Disagreement;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Observed {
        self.field(name, value)
    }

    fn skip_field(&mut self, name: &'static str) -> Observed {
        self.skipped(name)
    }

    fn end(self) -> Observed {
        self.finish()
    }
}

impl SerializeStructVariant for Compound<'_> {
    type Ok = ();
    type Error = Disagreement;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Observed {
        self.field(name, value)
    }

    fn skip_field(&mut self, name: &'static str) -> Observed {
        self.skipped(name)
    }

    fn end(self) -> Observed {
        self.finish()
    }
}

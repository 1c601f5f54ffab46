//! Values of a schema to try a reader with, so that one look decides whether it can read all there are.
//!
//! Together the samples of a schema hold, at every place, every variant of an enum, an option both absent and present,
//! and a list and map both empty and with an element.

use std::cell::Cell;

use super::{Content, Schema, Shape, Value};

/// How many sets of primitive values there are. A type that rejects those of one set may accept another's.
pub(crate) const CANDIDATES: usize = 4;

/// The numbers of the sets.
pub(super) const NUMBERS: [u8; CANDIDATES] = [0, 1, 2, 100];
pub(super) const CHARS: [char; CANDIDATES] = ['a', 'b', '0', 'A'];
pub(super) const STRINGS: [&str; CANDIDATES] = ["", "a", "0", "A"];
pub(super) const BYTE_LENGTHS: [usize; CANDIDATES] = [0, 16, 4, 32];

/// How many nodes all samples together may have.
const MAX_NODES: usize = 1 << 20;

/// Samples with primitive values of set `candidate`; none if a part has no known shape or no finite value, or if they
/// would be too large.
pub(crate) fn samples(schema: &Schema, candidate: usize) -> Vec<Value> {
    if schema.unknown_part().is_some() || candidate >= CANDIDATES {
        return Vec::new();
    }
    let mut sampler = Sampler { schema, candidate, active: Vec::new(), nodes: Cell::new(MAX_NODES) };
    let samples = sampler.shape(&schema.root);
    if sampler.nodes.get() == 0 { Vec::new() } else { samples }
}

struct Sampler<'a> {
    schema: &'a Schema,
    candidate: usize,
    /// The types that are being sampled.
    active: Vec<usize>,
    /// How many nodes may still be made; 0 once there were too many.
    nodes: Cell<usize>,
}

impl Sampler<'_> {
    /// Whether so many nodes more are allowed.
    fn spend(&self, nodes: usize) -> bool {
        let left = self.nodes.get().saturating_sub(nodes);
        self.nodes.set(left);
        left > 0
    }

    /// The first sample is the smallest. Empty if there is none.
    fn shape(&mut self, shape: &Shape) -> Vec<Value> {
        if !self.spend(1) {
            return Vec::new();
        }
        match shape {
            Shape::Option(inner) => {
                let mut samples = vec![Value::None];
                samples.extend(self.shape(inner).into_iter().map(|value| Value::Some(Box::new(value))));
                samples
            }
            Shape::Seq(inner) => {
                let mut samples = vec![Value::Seq(Vec::new())];
                samples.extend(self.shape(inner).into_iter().map(|value| Value::Seq(vec![value])));
                samples
            }
            Shape::Map(key, value) => {
                let entries = vec![self.shape(key), self.shape(value)];
                let mut samples = vec![Value::Map(Vec::new())];
                samples.extend(self.together(entries).into_iter().filter_map(|mut entry| {
                    let (value, key) = (entry.pop()?, entry.pop()?);
                    Some(Value::Map(vec![(key, value)]))
                }));
                samples
            }
            Shape::Tuple(shapes) => self.fields(shapes.iter()).into_iter().map(Value::Tuple).collect(),
            Shape::Array(inner, count) => {
                let samples = self.shape(inner);
                samples.into_iter().map_while(|value| self.repeated(value, *count)).collect()
            }
            Shape::Named(number) => self.named(*number),
            primitive => self.primitive(primitive).into_iter().collect(),
        }
    }

    fn named(&mut self, number: usize) -> Vec<Value> {
        let Some(named) = self.schema.types.get(number) else { return Vec::new() };
        if self.active.contains(&number) {
            return self.smallest(&Shape::Named(number), &mut Vec::new()).into_iter().collect();
        }
        self.active.push(number);
        let samples = match &named.content {
            Content::Enum(variants) => variants
                .iter()
                .flat_map(|variant| {
                    let contents = self.content(&variant.content).into_iter();
                    contents.map(|content| Value::Variant(variant.name.clone(), Box::new(content)))
                })
                .collect(),
            content => self.content(content),
        };
        self.active.pop();
        samples
    }

    fn content(&mut self, content: &Content) -> Vec<Value> {
        match content {
            Content::Unit | Content::Enum(_) => vec![Value::Unit],
            Content::Newtype(shape) => self.shape(shape),
            Content::Tuple(shapes) => self.fields(shapes.iter()).into_iter().map(Value::Tuple).collect(),
            Content::Struct(fields) => {
                let samples = self.fields(fields.iter().map(|(_, shape)| shape));
                let names = || fields.iter().map(|(name, _)| name.clone());
                samples.into_iter().map(|values| Value::Struct(names().zip(values).collect())).collect()
            }
        }
    }

    fn fields<'s>(&mut self, shapes: impl Iterator<Item = &'s Shape>) -> Vec<Vec<Value>> {
        let samples = shapes.map(|shape| self.shape(shape)).collect();
        self.together(samples)
    }

    /// Every sample of every field, all fields at the same time: as many as the field with the most has.
    fn together(&mut self, fields: Vec<Vec<Value>>) -> Vec<Vec<Value>> {
        if fields.iter().any(Vec::is_empty) {
            return Vec::new();
        }
        let most = fields.iter().map(Vec::len).max().unwrap_or(1);
        let sample = |i: usize| -> Vec<Value> {
            fields.iter().filter_map(|field| field.get(i.min(field.len() - 1)).cloned()).collect()
        };
        (0..most).map(sample).take_while(|values| self.spend(values.iter().map(nodes).sum())).collect()
    }

    fn repeated(&self, value: Value, count: usize) -> Option<Value> {
        self.spend(nodes(&value).saturating_mul(count)).then(|| Value::Tuple(vec![value; count]))
    }

    /// A finite value, if there is one without one of the types in `outside`.
    fn smallest(&self, shape: &Shape, outside: &mut Vec<usize>) -> Option<Value> {
        if !self.spend(1) {
            return None;
        }
        match shape {
            Shape::Option(_) => Some(Value::None),
            Shape::Seq(_) => Some(Value::Seq(Vec::new())),
            Shape::Map(..) => Some(Value::Map(Vec::new())),
            Shape::Tuple(shapes) => self.smallest_of(shapes.iter(), outside).map(Value::Tuple),
            Shape::Array(inner, count) => {
                self.smallest(inner, outside).and_then(|value| self.repeated(value, *count))
            }
            Shape::Named(number) => {
                let named = self.schema.types.get(*number)?;
                if outside.contains(number) {
                    return None;
                }
                outside.push(*number);
                let value = match &named.content {
                    Content::Enum(variants) => variants.iter().find_map(|variant| {
                        let content = self.smallest_content(&variant.content, outside)?;
                        Some(Value::Variant(variant.name.clone(), Box::new(content)))
                    }),
                    content => self.smallest_content(content, outside),
                };
                outside.pop();
                value
            }
            primitive => self.primitive(primitive),
        }
    }

    fn smallest_content(&self, content: &Content, outside: &mut Vec<usize>) -> Option<Value> {
        match content {
            Content::Unit | Content::Enum(_) => Some(Value::Unit),
            Content::Newtype(shape) => self.smallest(shape, outside),
            Content::Tuple(shapes) => self.smallest_of(shapes.iter(), outside).map(Value::Tuple),
            Content::Struct(fields) => {
                let values = self.smallest_of(fields.iter().map(|(_, shape)| shape), outside)?;
                Some(Value::Struct(fields.iter().map(|(name, _)| name.clone()).zip(values).collect()))
            }
        }
    }

    fn smallest_of<'s>(
        &self,
        mut shapes: impl Iterator<Item = &'s Shape>,
        outside: &mut Vec<usize>,
    ) -> Option<Vec<Value>> {
        shapes.try_fold(Vec::new(), |mut values, shape| {
            values.push(self.smallest(shape, outside)?);
            Some(values)
        })
    }

    fn primitive(&self, shape: &Shape) -> Option<Value> {
        let number = NUMBERS[self.candidate];
        Some(match shape {
            Shape::Unit => Value::Unit,
            Shape::Bool => Value::Bool(self.candidate % 2 == 1),
            Shape::I8 => Value::I8(number as i8),
            Shape::I16 => Value::I16(number.into()),
            Shape::I32 => Value::I32(number.into()),
            Shape::I64 => Value::I64(number.into()),
            Shape::I128 => Value::I128(number.into()),
            Shape::U8 => Value::U8(number),
            Shape::U16 => Value::U16(number.into()),
            Shape::U32 => Value::U32(number.into()),
            Shape::U64 => Value::U64(number.into()),
            Shape::U128 => Value::U128(number.into()),
            Shape::F32 => Value::F32(number.into()),
            Shape::F64 => Value::F64(number.into()),
            Shape::Char => Value::Char(CHARS[self.candidate]),
            Shape::String => Value::String(STRINGS[self.candidate].to_owned()),
            Shape::Bytes => Value::Bytes(vec![0xff; BYTE_LENGTHS[self.candidate].max(1)]),
            _ => return None,
        })
    }
}

/// How many nodes a value has.
fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Some(value) | Value::Variant(_, value) => nodes(value),
        Value::Seq(values) | Value::Tuple(values) => values.iter().map(nodes).sum(),
        Value::Map(entries) => entries.iter().map(|(key, value)| nodes(key) + nodes(value)).sum(),
        Value::Struct(fields) => fields.iter().map(|(_, value)| nodes(value)).sum(),
        _ => 0,
    }
}

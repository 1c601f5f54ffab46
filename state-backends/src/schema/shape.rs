//! What a schema is made of.

use super::Name;

/// What one value looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
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
    F32,
    F64,
    Char,
    String,
    Bytes,
    Option(Box<Shape>),
    Seq(Box<Shape>),
    Map(Box<Shape>, Box<Shape>),
    Tuple(Vec<Shape>),
    /// A tuple of equal shapes.
    Array(Box<Shape>, usize),
    /// The type with this number.
    Named(usize),
    /// A type that could not be traced; only its name is known, and nothing at all if that is empty.
    Opaque(String),
}

impl Shape {
    /// What has not been seen yet.
    pub(super) fn unknown() -> Self {
        Self::Opaque(String::new())
    }

    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Opaque(name) if name.is_empty())
    }

    /// A tuple, or an array if its elements are equal.
    pub(super) fn tuple(shapes: Vec<Self>) -> Self {
        match shapes.split_first() {
            Some((first, rest)) if !rest.is_empty() && rest.iter().all(|shape| shape == first) => {
                Self::Array(Box::new(first.clone()), shapes.len())
            }
            _ => Self::Tuple(shapes),
        }
    }

    /// The shapes right inside.
    pub(super) fn inner(&self) -> Vec<&Self> {
        match self {
            Self::Option(inner) | Self::Seq(inner) | Self::Array(inner, _) => vec![inner],
            Self::Map(key, value) => vec![key, value],
            Self::Tuple(shapes) => shapes.iter().collect(),
            _ => Vec::new(),
        }
    }

    pub(super) fn inner_mut(&mut self) -> Vec<&mut Self> {
        match self {
            Self::Option(inner) | Self::Seq(inner) | Self::Array(inner, _) => vec![inner],
            Self::Map(key, value) => vec![key, value],
            Self::Tuple(shapes) => shapes.iter_mut().collect(),
            _ => Vec::new(),
        }
    }

    pub(super) fn unknown_part(&self) -> Option<&str> {
        match self {
            Self::Opaque(name) => Some(name),
            _ => self.inner().into_iter().find_map(Self::unknown_part),
        }
    }

    /// Adds what another look at the same place has shown. `false` if the two contradict each other.
    pub(super) fn merge(&mut self, other: Self) -> bool {
        if other.is_unknown() {
            return true;
        }
        match (self, other) {
            (this, other) if this.is_unknown() => {
                *this = other;
                true
            }
            (Self::Option(this), Self::Option(other)) | (Self::Seq(this), Self::Seq(other)) => {
                this.merge(*other)
            }
            (Self::Array(this, n), Self::Array(other, m)) => *n == m && this.merge(*other),
            (Self::Map(key, value), Self::Map(other_key, other_value)) => {
                key.merge(*other_key) && value.merge(*other_value)
            }
            (Self::Tuple(these), Self::Tuple(others)) => merge_all(these, others),
            (this, other) => *this == other,
        }
    }
}

fn merge_all(these: &mut [Shape], others: Vec<Shape>) -> bool {
    these.len() == others.len() && these.iter_mut().zip(others).all(|(this, other)| this.merge(other))
}

/// A struct or an enum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedType {
    pub(crate) name: String,
    pub(crate) content: Content,
}

/// What a struct or a variant holds, or that the type is an enum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Unit,
    Newtype(Shape),
    Tuple(Vec<Shape>),
    Struct(Vec<(Name, Shape)>),
    /// The variants in the order of their indices. None of them holds an `Enum`.
    Enum(Vec<Variant>),
}

/// One variant of an enum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) name: Name,
    pub(crate) content: Content,
}

impl Content {
    /// All shapes in it, those of all variants for an enum.
    pub(super) fn shapes(&self) -> Vec<&Shape> {
        match self {
            Self::Unit => Vec::new(),
            Self::Newtype(shape) => vec![shape],
            Self::Tuple(shapes) => shapes.iter().collect(),
            Self::Struct(fields) => fields.iter().map(|(_, shape)| shape).collect(),
            Self::Enum(variants) => variants.iter().flat_map(|variant| variant.content.shapes()).collect(),
        }
    }

    pub(super) fn shapes_mut(&mut self) -> Vec<&mut Shape> {
        match self {
            Self::Unit => Vec::new(),
            Self::Newtype(shape) => vec![shape],
            Self::Tuple(shapes) => shapes.iter_mut().collect(),
            Self::Struct(fields) => fields.iter_mut().map(|(_, shape)| shape).collect(),
            Self::Enum(variants) => {
                variants.iter_mut().flat_map(|variant| variant.content.shapes_mut()).collect()
            }
        }
    }

    /// Like [`Shape::merge`], for everything but enums.
    pub(super) fn merge(&mut self, other: Self) -> bool {
        match (self, other) {
            (Self::Unit, Self::Unit) => true,
            (Self::Newtype(this), Self::Newtype(other)) => this.merge(other),
            (Self::Tuple(these), Self::Tuple(others)) => merge_all(these, others),
            (Self::Struct(these), Self::Struct(others)) => {
                these.len() == others.len()
                    && these.iter_mut().zip(others).all(|((_, this), (_, other))| this.merge(other))
            }
            _ => false,
        }
    }
}
